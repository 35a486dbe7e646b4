from time import process_time

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo import datasets
from embryo.core import schema
from embryo.core.errors import DataError, FrameError, SchemaError, StaleError
from embryo.reconstruct import body_frame, motion, rigid, to_raw


def aligned(adata, **words):
    return body_frame(adata, copy=True, **words)


def rows(adata, embryo):
    return (adata.obs["embryo"] == embryo).to_numpy()


def turned(adata, embryo, turn, shift):
    """Return a copy with one embryo in another pose."""
    other = adata.copy()
    other.obsm["spatial"][rows(adata, embryo)] = adata.obsm["spatial"][rows(adata, embryo)] @ turn.T + shift
    return other


def test_named_cells_without_noise_fall_together_and_stay_rigid(tracked):
    adata = tracked()
    before = adata.obsm["spatial"].copy()
    body = aligned(adata)
    x = body.obsm["spatial_aligned"]
    for embryo in ("e1", "e2"):
        np.testing.assert_allclose(x[rows(adata, embryo)], x[rows(adata, "e0")], atol=1e-8)
    fit = rigid(adata.obsm["truth"], x)
    np.testing.assert_allclose(fit(adata.obsm["truth"]), x, atol=1e-8)
    np.testing.assert_array_equal(adata.obsm["spatial"], before)
    assert schema.ALIGNED not in adata.obsm
    assert adata.uns["embryo"]["frame"] == "raw"


def test_what_is_written(tracked):
    adata = tracked(noise_um=1.0)
    assert body_frame(adata, reference="e1") is None
    meta = adata.uns["embryo"]
    assert (meta["frame"], meta["reference"], meta["time_unit"]) == ("body", "e1", "h")
    for embryo in ("e0", "e1", "e2"):
        moved = motion(adata, embryo)
        here = rows(adata, embryo)
        assert np.linalg.det(moved.rotation) == pytest.approx(1)
        np.testing.assert_allclose(moved(adata.obsm["spatial"][here]), adata.obsm["spatial_aligned"][here])
        np.testing.assert_allclose(to_raw(adata.obsm["spatial_aligned"][here], moved), adata.obsm["spatial"][here])
    residual = meta["residuals"]["e0"]
    assert (residual["method"], residual["to"], residual["pairs"], residual["mirrored"]) == ("names", "e1", 240, False)
    between = np.linalg.norm(
        adata.obsm["spatial_aligned"][rows(adata, "e0")] - adata.obsm["spatial_aligned"][rows(adata, "e1")], axis=1
    )
    assert residual["median_um"] == pytest.approx(np.median(between))
    assert residual["mirrored_um"] > 3 * residual["median_um"]
    assert meta["residuals"]["e1"]["method"] == "axes"
    assert list(schema.check(adata)) == []


def test_the_reference_lies_on_its_own_axes(tracked):
    body = aligned(tracked(), reference="e0")
    x = body.obsm["spatial_aligned"][rows(body, "e0")]
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-9)
    covariance = np.cov(x.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-8)
    assert (np.diff(np.diag(covariance)) < 0).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), embryo=st.sampled_from(["e0", "e1", "e2"]))
def test_a_rigid_motion_of_any_embryo_changes_nothing(tracked, pose, seed, embryo):
    adata = tracked(cells=25, times=3, seed=seed, noise_um=1.0)
    moved = turned(adata, embryo, *pose(np.random.default_rng(seed)))
    np.testing.assert_allclose(
        aligned(moved).obsm["spatial_aligned"], aligned(adata).obsm["spatial_aligned"], atol=1e-6
    )


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(tracked, seed):
    adata = tracked(cells=20, times=3, seed=seed, noise_um=1.0)
    order = np.random.default_rng(seed).permutation(adata.n_obs)
    shuffled = aligned(adata[order].copy())
    np.testing.assert_allclose(
        shuffled.obsm["spatial_aligned"], aligned(adata).obsm["spatial_aligned"][order], atol=1e-7
    )


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_a_subset_of_the_cells_gives_the_same_motion(tracked, seed):
    adata = tracked(embryos=2, cells=30, times=3, seed=seed)
    rng = np.random.default_rng(seed)
    part = aligned(adata[(rng.random(adata.n_obs) < 0.6) | rows(adata, "e0")].copy(), reference="e0")
    whole = aligned(adata, reference="e0")
    np.testing.assert_allclose(motion(part, "e1").rotation, motion(whole, "e1").rotation, atol=1e-8)
    np.testing.assert_allclose(motion(part, "e1").translation, motion(whole, "e1").translation, atol=1e-6)


def test_a_mirrored_embryo_is_flagged_and_not_mirrored_back(tracked):
    adata = tracked(noise_um=1.0)
    right = aligned(adata, reference="e0").uns["embryo"]["residuals"]["e1"]
    adata.obsm["spatial"][rows(adata, "e1")] *= [1, 1, -1]
    body = aligned(adata, reference="e0")
    wrong = body.uns["embryo"]["residuals"]["e1"]
    assert np.linalg.det(motion(body, "e1").rotation) == pytest.approx(1)
    assert wrong["mirrored"]
    assert not body.uns["embryo"]["residuals"]["e2"]["mirrored"]
    assert wrong["median_um"] > 3 * right["median_um"]
    assert wrong["mirrored_um"] == pytest.approx(right["median_um"], rel=0.1)


@pytest.mark.parametrize("until", [1.0, {"e1": 1.0}])
def test_the_future_of_a_held_out_embryo_has_no_say(tracked, until):
    adata = tracked(noise_um=1.0)
    adata.uns["embryo"]["named"] = True
    other = adata.copy()
    later = rows(adata, "e1") & (adata.obs["time"] > 1.0).to_numpy()
    other.obsm["spatial"][later] = np.random.default_rng(1).normal(size=(later.sum(), 3)) * 70
    one, two = (aligned(a, until_h=until) for a in (adata, other))
    np.testing.assert_array_equal(one.obsm["spatial_aligned"][~later], two.obsm["spatial_aligned"][~later])
    np.testing.assert_allclose(motion(two, "e1")(other.obsm["spatial"][later]), two.obsm["spatial_aligned"][later])
    free_one, free_two = aligned(adata), aligned(other)
    assert not np.allclose(motion(free_one, "e1").rotation, motion(free_two, "e1").rotation, atol=1e-4)


def test_observations_at_nearly_the_same_time_are_paired(tracked):
    shifted = tracked(embryos=2, lag_h=0.1)
    np.testing.assert_array_less(aligned(shifted, tolerance_h=0.15).uns["embryo"]["residuals"]["e1"]["median_um"], 1e-6)
    with pytest.raises(FrameError, match="no expression, and no shared cell names"):
        aligned(shifted, tolerance_h=0.05)


def test_names_that_mean_other_cells_are_not_trusted(body, posed, degrees):
    adata = posed(body(600, 1), body(500, 2))
    rng = np.random.default_rng(3)
    adata.obs["cell"] = np.concatenate([rng.permutation(600), rng.permutation(500)]).astype(str)
    result = aligned(adata)
    assert result.uns["embryo"]["residuals"]["e1"]["method"] == "expression"
    assert off(result, degrees) < 6


def off(result, degrees):
    """Angle, degrees, by which the frames of two embryos of the same true body differ."""
    true = [rigid(result.obsm["truth"][rows(result, e)], result.obsm["spatial"][rows(result, e)]) for e in ("e0", "e1")]
    both = [motion(result, e).rotation @ t.rotation for e, t in zip(("e0", "e1"), true, strict=True)]
    return degrees(*both)


def test_unnamed_embryos_are_aligned_by_expression(body, posed, degrees):
    result = aligned(posed(body(1500, 1), body(1200, 2)))
    assert off(result, degrees) < 4
    residuals = result.uns["embryo"]["residuals"]
    assert residuals["e1"]["method"] == "expression"
    assert residuals["e1"]["to"] == "e0"
    assert not residuals["e1"]["mirrored"]


def test_an_embedding_is_used_where_there_is_one(body, posed, degrees):
    adata = posed(body(600, 1), body(500, 2))
    adata.obsm["X_embed"] = np.asarray(adata.X, dtype=np.float32)
    adata.X = np.zeros_like(adata.X)  # says nothing
    assert off(aligned(adata), degrees) < 8


@pytest.mark.parametrize("seed", range(3))
def test_unnamed_alignment_does_not_depend_on_poses(body, posed, pose, seed):
    adata = posed(body(250, seed), body(220, seed + 9), seed=seed)
    for embryo in ("e0", "e1"):
        moved = turned(adata, embryo, *pose(np.random.default_rng(seed)))
        np.testing.assert_allclose(
            aligned(moved).obsm["spatial_aligned"], aligned(adata).obsm["spatial_aligned"], atol=1e-4
        )


def test_each_embryo_is_laid_on_the_nearest_in_time(body, posed):
    bodies = [body(200, k) for k in range(4)]
    result = aligned(posed(*bodies, times_h=[3.0, 1.0, 2.0, 9.0]), reference="e1")
    residuals = result.uns["embryo"]["residuals"]
    assert {k: str(v["to"]) for k, v in residuals.items()} == {"e0": "e2", "e1": "e1", "e2": "e1", "e3": "e0"}


def test_withheld_cells_do_not_enter_the_components_of_expression(body, posed):
    early, late = body(200, 1), body(150, 2)
    adata = posed((np.vstack([early[0], late[0]]), np.vstack([early[1], late[1]])), body(220, 3))
    adata.obs["time"] = np.r_[np.full(200, 1.0), np.full(150, 2.0), np.full(220, 1.0)]
    other = adata.copy()
    other.X[200:350] = 9.0
    one, two = (aligned(a, until_h={"e0": 1.0}, reference="e1") for a in (adata, other))
    np.testing.assert_array_equal(one.obsm["spatial_aligned"], two.obsm["spatial_aligned"])


def test_one_embryo_without_a_column_goes_onto_its_axes(tracked):
    adata = tracked(embryos=1)
    del adata.obs["embryo"]
    body = aligned(adata)
    np.testing.assert_allclose(body.obsm["spatial_aligned"].mean(0), 0, atol=1e-9)
    assert body.uns["embryo"]["reference"] == "embryo"


def test_flat_embryos_are_aligned_in_their_plane(tracked, pose):
    adata = tracked()
    del adata.obsm["spatial"]
    flat = adata.obsm["truth"][:, :2].copy()
    for k in range(3):
        turn, shift = pose(np.random.default_rng(k), 2)
        flat[rows(adata, f"e{k}")] = flat[rows(adata, f"e{k}")] @ turn.T + shift
    adata.obsm["spatial"] = flat
    x = aligned(adata).obsm["spatial_aligned"]
    assert x.shape == (adata.n_obs, 2)
    np.testing.assert_allclose(x[rows(adata, "e2")], x[rows(adata, "e0")], atol=1e-8)


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")  # anndata, about its own default
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_motions_survive_the_disk(tracked, tmp_path, suffix):
    adata = aligned(tracked(noise_um=1.0))
    path = tmp_path / f"body.{suffix}"
    adata.write_h5ad(path) if suffix == "h5ad" else adata.write_zarr(path)
    again = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    np.testing.assert_array_equal(motion(again, "e2").rotation, motion(adata, "e2").rotation)
    assert float(again.uns["embryo"]["residuals"]["e2"]["median_um"]) > 0


def test_what_is_wrong_is_said_at_once(tracked):
    adata = tracked()
    adata.obsm["spatial"][3, 1] = np.nan
    del adata.obs["time"]
    with pytest.raises(SchemaError) as error:
        body_frame(adata)
    assert "NaN" in str(error.value)
    assert 'no usable obs["time"]' in str(error.value)
    assert schema.ALIGNED not in adata.obsm


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"reference": "e9"}, "reference 'e9'"),
        ({"until_h": {"e9": 1.0, "f": 2.0}}, "2 problems"),
        ({"until_h": {"e1": -1.0}}, "no cell of embryo e1 up to -1.0 h"),
    ],
)
def test_unknown_embryos_are_named(tracked, words, says):
    with pytest.raises(SchemaError, match=says):
        body_frame(tracked(), **words)


def test_every_embryo_that_cannot_be_aligned_is_named(tracked):
    adata = tracked()
    adata.obs["cell"] = [f"{e}-{c}" for e, c in zip(adata.obs["embryo"], adata.obs["cell"], strict=True)]
    with pytest.raises(FrameError) as error:
        body_frame(adata, reference="e0")
    assert [str(p).split(":")[0] for p in error.value.problems] == ["found embryo e1", "found embryo e2"]
    assert schema.ALIGNED not in adata.obsm
    assert adata.uns["embryo"]["frame"] == "raw"


def test_a_name_that_no_store_can_hold_is_refused(tracked):
    adata = tracked(embryos=1)
    adata.obs["embryo"] = "a/b"
    with pytest.raises(SchemaError, match="embryos with / in their names: a/b"):
        body_frame(adata)


def test_a_motion_that_was_never_made(tracked):
    with pytest.raises(StaleError, match="no motion of embryo 'e1'"):
        motion(tracked(), "e1")


def test_127_named_embryos_take_less_than_ten_seconds(tracked):
    adata = tracked(embryos=127, cells=200, times=25, noise_um=2.0)
    start = process_time()
    body_frame(adata)
    assert process_time() - start < 10
    assert np.median([r["median_um"] for r in adata.uns["embryo"]["residuals"].values()]) == pytest.approx(
        2 * np.sqrt(2) * 1.538,
        rel=0.05,  # the median of the chi distribution with three degrees of freedom
    )


@pytest.mark.real
def test_wild_type_worms_agree_to_a_cell_radius():
    try:
        adata = datasets.load("celegans-epic", embryos=4, assemble_from=())  # positions and names only
    except DataError as error:
        pytest.skip(f"celegans-epic is neither in the cache nor in a mirror: {error.problems[0].found}")
    body_frame(adata)
    laid = [r for r in adata.uns["embryo"]["residuals"].values() if r["method"] == "names"]
    assert len(laid) == 3
    assert 1.5 < np.median([r["median_um"] for r in laid]) < 3.5
    assert not any(r["mirrored"] for r in laid)
