"""Embryos drawn with replacement, whole."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from embryo import fit
from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.fit.bootstrap import ORIGIN


def cells(*, own: bool = False) -> AnnData:
    """Three embryos of ten cells at three times, seen at all of them or each at one."""
    t, who = np.repeat([0.0, 1.0, 2.0], 30), np.tile(np.repeat(["a", "b", "c"], 10), 3)
    name = np.char.add(who, t.astype(int).astype(str)) if own else who
    obs = pd.DataFrame({schema.TIME: t, schema.EMBRYO: name}, index=[f"cell {k}" for k in range(90)])
    return AnnData(obs=obs, obsm={schema.PANEL: np.arange(90.0)[:, None]}, uns={schema.META: {"panel": ["g"]}})


@pytest.mark.parametrize("own", [False, True])
def test_embryos_are_drawn_whole(own: bool) -> None:
    adata = cells(own=own)
    before = adata.obs.copy()
    several = [fit.drawn(adata, seed) for seed in range(6)]
    for made in several:
        sizes = made.obs.groupby([schema.TIME, schema.EMBRYO], observed=True).size()
        assert (sizes == 10).all()
        assert sizes.groupby(schema.TIME).size().tolist() == [3, 3, 3]
        first = made.obs[schema.EMBRYO].astype(str).str.partition(" (")[0].to_numpy()
        source = before.iloc[made.obsm[schema.PANEL][:, 0].astype(int)]
        assert (source[schema.EMBRYO].to_numpy() == first).all()
        assert (source[schema.TIME].to_numpy() == made.obs[schema.TIME].to_numpy()).all()
    kinds = {tuple(sorted(made.obs[schema.EMBRYO].astype(str).unique())) for made in several}
    assert len(kinds) > 1
    assert any(" (2)" in "".join(names) for names in kinds)
    pd.testing.assert_frame_equal(adata.obs, before)
    pd.testing.assert_frame_equal(fit.drawn(adata, 3).obs, several[3].obs)


def test_embryos_of_all_times_stay_together() -> None:
    made = fit.drawn(cells(), 1)
    names = [set(made.obs.loc[made.obs[schema.TIME] == t, schema.EMBRYO].astype(str)) for t in (0.0, 1.0, 2.0)]
    assert names[0] == names[1] == names[2]


def test_one_embryo_is_nothing_to_draw_from() -> None:
    adata = cells()[:70]
    with pytest.raises(SchemaError, match="one embryo at 2 h"):
        fit.drawn(adata, 0)


def test_copies_say_of_which_embryo_they_are() -> None:
    for seed in range(30):
        own = fit.drawn(cells(), seed)
        first = own.obs[schema.EMBRYO].astype(str).str.replace(r" \(\d+\)$", "", regex=True)
        assert (own.obs[ORIGIN].astype(str) == first).all()
