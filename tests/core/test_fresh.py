"""What is present passes; what is absent is named with the verb that writes it, all at once."""

import numpy as np
import pytest
from anndata import AnnData

from embryo.core import fresh, schema
from embryo.core.errors import StaleError


def test_present_slots_pass_and_absent_ones_are_named_with_their_cure() -> None:
    adata = AnnData(np.zeros((3, 2), np.float32))
    fresh.require(adata)
    with pytest.raises(StaleError) as caught:
        fresh.require(adata, schema.EMBED, schema.ALIGNED, "mine")
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    for said in ("X_embed", "embryo.embed.cells", "spatial_aligned", "embryo.reconstruct.body_frame", "'mine'"):
        assert said in text
    adata.obsm[schema.EMBED] = np.zeros((3, 1))
    fresh.require(adata, schema.EMBED)
    with pytest.raises(StaleError, match="X_panel"):
        fresh.require(adata, schema.EMBED, schema.PANEL)
