import numpy as np
import pytest

from embryo.core.errors import SchemaError, StaleError
from embryo.encoders.contract import columns, require_fitted, require_kind


def test_an_encoder_without_genes_is_not_fitted():
    with pytest.raises(StaleError, match="the pca encoder before fit"):
        require_fitted("pca", ())
    require_fitted("pca", ("a",))


@pytest.mark.parametrize("fitted", ["counts", "log1p", "relative"])
@pytest.mark.parametrize("found", ["counts", "log1p", "relative"])
def test_relative_levels_and_log_counts_do_not_mix(cells, fitted, found):
    adata = cells(5, 4, kind=found)
    if (fitted == "relative") == (found == "relative"):
        require_kind(adata, fitted)
    else:
        with pytest.raises(SchemaError, match=f"expression '{found}' for an encoder fitted on '{fitted}'"):
            require_kind(adata, fitted)


def test_columns_follow_the_names():
    np.testing.assert_array_equal(columns(("a", "b", "c"), ["c", "a", "c"]), [2, 0, 2])
    with pytest.raises(SchemaError, match="2 genes that the encoder does not read: x, y"):
        columns(("alpha", "beta"), ["x", "alpha", "y"])
