import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embryo.core.errors import FrameError, SchemaError
from embryo.encoders.pca import PCA
from embryo.reconstruct.body import shared
from embryo.reconstruct.views import View, embryo_codes, features, views


def test_views_split_the_rows_by_embryo_and_hour(tracked):
    adata = tracked(embryos=3, cells=4, times=3)
    seen = views(adata, {"e1": 0.5})
    assert [v.name for v in seen] == ["e0", "e1", "e2"]
    assert [len(v.rows) for v in seen] == [12, 8, 12]
    for v in seen:
        assert (adata.obs["embryo"].iloc[v.rows] == v.name).all()
        np.testing.assert_array_equal(v.x, adata.obsm["spatial"][v.rows])
        np.testing.assert_array_equal(v.t_h, adata.obs["time"].iloc[v.rows])
    assert max(v.t_h.max() for v in views(adata, 0.5)) == 0.5


def test_cells_have_one_number_in_all_embryos_and_blanks_none(tracked):
    adata = tracked(embryos=2, cells=3, times=1)
    adata.obs["cell"] = ["a", "b", "", "b", None, "c"]
    first, second = views(adata, None)
    assert first.cells[1] == second.cells[0] != first.cells[0]
    assert first.cells[2] == second.cells[1] == -1
    del adata.obs["cell"]
    assert (views(adata, None)[0].cells == -1).all()


def test_rows_without_an_embryo_are_refused(tracked):
    adata = tracked(embryos=2, cells=3, times=1)
    adata.obs.loc["1", "embryo"] = None
    with pytest.raises(SchemaError, match="embryo"):
        embryo_codes(adata)


def test_features_are_the_embedding_or_components_of_the_rows_alone(body, posed):
    adata = posed(body(60, 1), body(50, 2))
    rows = np.arange(10, 70)
    np.testing.assert_allclose(features(adata, rows), PCA(20).fit(adata[rows]).encode(adata[rows]), atol=1e-9)
    adata.obsm["X_embed"] = np.arange(220.0).reshape(110, 2)
    np.testing.assert_array_equal(features(adata, rows), adata.obsm["X_embed"][rows])


def test_nothing_to_align_by_is_said(tracked):
    with pytest.raises(FrameError, match="no expression"):
        features(tracked(), np.arange(3))


observations = st.lists(
    st.tuples(st.integers(-1, 3), st.integers(0, 20)), min_size=1, max_size=12, unique=True
)  # (cell, time in tenths of an hour)


@given(a=observations, b=observations, tolerance=st.sampled_from([0.0, 0.1, 0.25, 5.0]))
def test_shared_cells_are_those_of_a_search_by_hand(a, b, tolerance):
    def view(seen):
        cells, tenths = np.array(seen).T
        return View("e", np.arange(len(seen)), np.zeros((len(seen), 3)), tenths / 10, cells)

    one, two = view(a), view(b)
    rows, partners = shared(one, two, tolerance)
    found = dict(zip(rows.tolist(), partners.tolist(), strict=True))
    for i, (cell, tenth) in enumerate(a):
        gaps = [abs(tenth - other) / 10 for c, other in b if c == cell and cell >= 0]
        if gaps and min(gaps) <= tolerance + 1e-9:
            assert b[found[i]][0] == cell
            assert abs(b[found[i]][1] - tenth) / 10 == pytest.approx(min(gaps))
        else:
            assert i not in found
