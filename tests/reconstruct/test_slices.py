import anndata as ad
import numpy as np
import pandas as pd
import pytest

from embryo.core.errors import FrameError, SchemaError
from embryo.reconstruct import rigid, stack

SECTIONS, THICK_UM = 6, 16.0


@pytest.fixture
def cut(body, pose):
    """Return a body cut along z, every section in a pose of its own, with the true positions."""

    def make(seed=0, n=2400, embryo="a"):
        x, e = body(n, seed)
        number = np.clip((x[:, 2] + 48) // THICK_UM, 0, SECTIONS - 1).astype(int)
        rng = np.random.default_rng(seed)
        flat = np.empty((n, 2))
        for k in range(SECTIONS):
            turn, shift = pose(rng, 2)
            flat[number == k] = x[number == k, :2] @ turn.T + shift
        obs = pd.DataFrame({"slice": number, "time": 1.0, "embryo": embryo}, index=[f"{embryo}{i}" for i in range(n)])
        truth = np.column_stack([x[:, :2], number * THICK_UM])
        return ad.AnnData(
            e, obs=obs, obsm={"spatial": flat, "truth": truth}, uns={"embryo": {"expression": "log1p", "frame": "raw"}}
        )

    return make


def error_um(stacked):
    fit = rigid(stacked.obsm["spatial"], stacked.obsm["truth"])
    return np.median(np.linalg.norm(fit(stacked.obsm["spatial"]) - stacked.obsm["truth"], axis=1))


def test_the_body_is_put_together_again(cut):
    adata = cut()
    stacked = stack(adata, thickness_um=THICK_UM, copy=True)
    assert stacked.obsm["spatial"].shape == (adata.n_obs, 3)
    assert error_um(stacked) < 5
    assert adata.obsm["spatial"].shape == (adata.n_obs, 2)
    assert "slices" not in adata.uns["embryo"]
    slices = stacked.uns["embryo"]["slices"]
    np.testing.assert_allclose(slices["z_um"], np.arange(SECTIONS) * THICK_UM)
    assert list(slices["name"]) == [str(k) for k in range(SECTIONS)]
    assert (slices["median_um"] < 25).all()
    assert slices["thickness_um"] == THICK_UM
    assert stack(adata, thickness_um=THICK_UM) is None
    np.testing.assert_array_equal(adata.obsm["spatial"], stacked.obsm["spatial"])


def test_sections_stay_rigid(cut):
    adata = cut()
    stacked = stack(adata, thickness_um=THICK_UM, copy=True)
    for k in range(SECTIONS):
        here = (adata.obs["slice"] == k).to_numpy()
        before, after = adata.obsm["spatial"][here], stacked.obsm["spatial"][here]
        fit = rigid(before, after[:, :2])
        np.testing.assert_allclose(fit(before), after[:, :2], atol=1e-8)
        assert (after[:, 2] == k * THICK_UM).all()


def test_the_pose_of_a_section_does_not_matter(cut, pose):
    adata = cut(n=600)
    other = adata.copy()
    turn, shift = pose(np.random.default_rng(4), 2)
    here = (adata.obs["slice"] == 3).to_numpy()
    other.obsm["spatial"][here] = adata.obsm["spatial"][here] @ turn.T + shift
    one, two = (stack(a, thickness_um=THICK_UM, copy=True).obsm["spatial"] for a in (adata, other))
    np.testing.assert_allclose(two, one, atol=1e-4)


def test_sections_laid_upside_down_are_named(cut):
    adata = cut()
    adata.obsm["spatial"][adata.obs["slice"].isin([1, 4]).to_numpy(), 0] *= -1
    with pytest.raises(FrameError, match="mirrored sections of a: 1, 4;"):
        stack(adata, thickness_um=THICK_UM)
    assert adata.obsm["spatial"].shape[1] == 2


@pytest.mark.parametrize(
    "rename",
    [
        lambda k: k,
        lambda k: k * 1.0,
        lambda k: f"section {k}",
        lambda k: f"s{k:03d}",
    ],
    ids=["int", "float", "words", "padded"],
)
def test_names_tell_the_order(cut, rename):
    adata = cut(n=500)
    expected = stack(adata, thickness_um=THICK_UM, copy=True).obsm["spatial"]
    adata.obs["slice"] = [rename(k + 7) for k in adata.obs["slice"]]  # from 7 to 12: text alone would put 10 first
    np.testing.assert_allclose(stack(adata, thickness_um=THICK_UM, copy=True).obsm["spatial"], expected)


def test_an_ordered_categorical_tells_the_order(cut):
    adata = cut(n=500)
    expected = stack(adata, thickness_um=THICK_UM, copy=True).obsm["spatial"]
    letters = list("fbdcea")
    adata.obs["slice"] = pd.Categorical([letters[k] for k in adata.obs["slice"]], categories=letters, ordered=True)
    np.testing.assert_allclose(stack(adata, thickness_um=THICK_UM, copy=True).obsm["spatial"], expected)
    adata.obs["slice"] = adata.obs["slice"].astype(str)
    with pytest.raises(SchemaError, match="sections without an order"):
        stack(adata, thickness_um=THICK_UM)


def test_a_lost_section_leaves_a_gap(cut):
    adata = cut(n=1600)
    stacked = stack(adata[adata.obs["slice"] != 3].copy(), thickness_um=THICK_UM, copy=True)
    assert sorted(set(stacked.obsm["spatial"][:, 2] / THICK_UM)) == [0, 1, 2, 4, 5]


def test_each_embryo_is_stacked_by_itself(cut):
    a, b = cut(0, 1000, "a"), cut(1, 1000, "b")
    both = ad.concat([a, b], uns_merge="first")
    stack(both, thickness_um=THICK_UM)
    assert list(both.uns["embryo"]["slices"]["embryo"]) == ["a"] * SECTIONS + ["b"] * SECTIONS
    for embryo in "ab":
        assert error_um(both[both.obs["embryo"] == embryo]) < 7


def test_small_sections_are_named(cut):
    adata = cut(n=600)
    rows = (adata.obs["slice"] != 0) | (adata.obs.groupby("slice").cumcount() < 4)
    with pytest.raises(FrameError, match=r"1 sections of a with few cells: 0 \(4\)"):
        stack(adata[rows.to_numpy()].copy(), thickness_um=THICK_UM)


def test_what_is_wrong_is_said_at_once(cut):
    adata = cut(n=200)
    adata.obsm["spatial"] = np.zeros((200, 3))
    del adata.obs["slice"]
    with pytest.raises(SchemaError) as error:
        stack(adata, thickness_um=0.0)
    text = str(error.value)
    assert "thickness 0.0 µm" in text
    assert "of shape (200, 3)" in text
    assert 'no obs["slice"]' in text


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")  # anndata, about its own default
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_records_survive_the_disk(cut, tmp_path, suffix):
    adata = cut(n=800)
    stack(adata, thickness_um=THICK_UM)
    path = tmp_path / f"body.{suffix}"
    adata.write_h5ad(path) if suffix == "h5ad" else adata.write_zarr(path)
    again = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    assert list(again.uns["embryo"]["slices"]["name"]) == [str(k) for k in range(SECTIONS)]
    np.testing.assert_array_equal(again.obsm["spatial"], adata.obsm["spatial"])
