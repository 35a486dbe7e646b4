from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse, stats
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from embryo.core import schema
from embryo.core.edit import Edit
from embryo.core.errors import ConfigError
from embryo.datasets.synthetic import FATES, PANEL, Embryo, Measurement, Params, fates, generate, observe, simulate
from embryo.datasets.synthetic.measurement import design, draw_counts

TIMES = (0.0, 2.0, 4.0)


@pytest.fixture(scope="module")
def pair(small: Params) -> dict[str, Embryo]:
    edits = (Edit("tail", fraction=0.5),)
    return {
        "wt-0": simulate(small, seed=1, times_h=TIMES),
        "mosaic-0": simulate(small, seed=1, edits=edits, times_h=TIMES),
    }


@pytest.fixture(scope="module")
def seen(pair: dict[str, Embryo]) -> AnnData:
    return observe(pair, seed=0)


def rows(adata: AnnData, embryo: str, t_h: float) -> np.ndarray:
    return ((adata.obs["embryo"] == embryo) & (adata.obs["time"] == t_h)).to_numpy()


@pytest.mark.parametrize(
    "dials",
    [
        {},
        {"tracks": True},
        {"velocity": "noisy", "hidden": ("middle", "ligand")},
        {"random_pose": False, "velocity": "known"},
        {"destructive": True, "n_genes": len(PANEL)},
    ],
    ids=str,
)
def test_every_dial_keeps_the_contract(pair: dict[str, Embryo], dials: dict) -> None:
    needs = schema.Needs(counts=True, space=True, cell_types=True, tracks=dials.get("tracks", False))
    assert schema.check(observe(pair, Measurement(**dials), seed=1), needs) == []


def test_without_tracks_the_check_says_so(seen: AnnData) -> None:
    assert schema.check(seen, schema.Needs(tracks=True))


def test_counts_follow_the_negative_binomial_law() -> None:
    """Mean, variance, share of zeros and whole distribution against scipy, dropout included."""
    n, mu, dispersion, dropout = 40_000, 6.0, 0.3, 0.2
    drawn = draw_counts(np.full((n, 1), mu), dispersion=dispersion, dropout=dropout, rng=np.random.default_rng(0))
    counts = drawn.toarray()[:, 0]
    law = stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mu))
    assert law.mean() == pytest.approx(mu)
    assert law.var() == pytest.approx(mu + dispersion * mu**2)
    variance = (1 - dropout) * law.var() + dropout * (1 - dropout) * mu**2
    assert abs(counts.mean() - (1 - dropout) * mu) < 4 * np.sqrt(variance / n)
    assert counts.var() == pytest.approx(variance, rel=0.05)
    zeros = dropout + (1 - dropout) * law.pmf(0)
    assert abs((counts == 0).mean() - zeros) < 4 * np.sqrt(zeros / n)
    values = np.arange(1, 25)
    expected = n * np.r_[zeros, (1 - dropout) * law.pmf(values), (1 - dropout) * law.sf(24)]
    observed = np.r_[(counts == 0).sum(), [(counts == v).sum() for v in values], (counts > 24).sum()]
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_counts_are_whole_sparse_and_the_same_in_x(seen: AnnData) -> None:
    counts = seen.layers["counts"]
    assert sparse.issparse(counts)
    assert counts.format == "csr"
    assert counts.dtype == np.float32
    assert (counts.data == np.round(counts.data)).all()
    assert counts.data.min() > 0
    assert (counts != seen.X).nnz == 0
    assert seen.shape[1] == 300
    assert tuple(seen.var_names[: len(PANEL)]) == PANEL


def test_circuit_counts_mean_the_true_expression(pair: dict[str, Embryo]) -> None:
    """Mean count of gene j is depth times (leak + mean g_j), in the whole embryo, without batch and dropout."""
    plain = Measurement(batch_sd=0.0, size_sd=0.0, dropout=0.0, counts_per_unit=50.0)
    adata = observe({"wt-0": pair["wt-0"]}, plain, seed=3)
    at_end = adata[rows(adata, "wt-0", 4.0)]
    counts = at_end.layers["counts"][:, : len(PANEL)].toarray()
    expected = 50.0 * (0.02 + at_end.obsm["truth_g"])
    error = (counts - expected).mean(0) / np.sqrt((expected + 0.1 * expected**2).sum(0)) * len(counts)
    assert abs(error).max() < 4.5


def test_readouts_mix_one_to_three_circuit_genes() -> None:
    genes = design(Measurement())
    readout = np.array([name.startswith("readout") for name in genes.names])
    used = (genes.loadings[readout] > 0).sum(1)
    assert readout.sum() > 180
    assert used.min() == 1
    assert used.max() == 3
    assert genes.loadings.min() == 0
    assert not genes.loadings[~readout][len(PANEL) :].any()


def test_readouts_are_the_same_for_all_embryos_and_dials() -> None:
    whole, hiding = design(Measurement()), design(Measurement(hidden=("tail",), counts_per_unit=3.0))
    kept = [i for i, name in enumerate(whole.names) if name != "tail"]
    assert hiding.names == tuple(whole.names[i] for i in kept)
    np.testing.assert_array_equal(hiding.loadings, whole.loadings[kept])
    assert not np.array_equal(design(Measurement(loading_seed=1)).loadings, whole.loadings)


def test_hidden_genes_are_seen_nowhere_but_in_the_truth(pair: dict[str, Embryo]) -> None:
    adata = observe(pair, Measurement(hidden=("middle", "ligand"), velocity="known"), seed=0)
    left = [gene for gene in PANEL if gene not in ("middle", "ligand")]
    assert "middle" not in adata.var_names
    assert list(adata.uns["embryo"]["circuit_genes"]) == left
    assert adata.obsm["velocity_panel"].shape[1] == len(left)
    assert adata.obsm["truth_g"].shape[1] == len(PANEL)


def test_poses_are_proper_and_recovered_from_the_truth(seen: AnnData) -> None:
    """Kabsch (scipy) from body to raw positions gives the recorded pose, exactly."""
    for name in ("wt-0", "mosaic-0"):
        pose = seen.uns["truth_pose"][name]
        assert np.linalg.det(pose["rotation"]) == pytest.approx(1)
        cells = (seen.obs["embryo"] == name).to_numpy()
        raw, body = seen.obsm["spatial"][cells], seen.obsm["truth_x"][cells]
        found, residual = Rotation.align_vectors(raw - raw.mean(0), body - body.mean(0))
        assert residual < 1e-6
        np.testing.assert_allclose(found.as_matrix(), pose["rotation"], atol=1e-9)
        np.testing.assert_allclose(raw.mean(0) - pose["rotation"] @ body.mean(0), pose["translation"], atol=1e-9)
    a, b = (seen.uns["truth_pose"][name]["rotation"] for name in ("wt-0", "mosaic-0"))
    assert not np.allclose(a, b)


def test_rotations_are_uniform(pair: dict[str, Embryo]) -> None:
    """Haar measure: each entry of R has mean 0 and variance 1/3."""
    one = replace(pair["wt-0"], snapshots=pair["wt-0"].snapshots[:1])
    few = Measurement(n_genes=len(PANEL))
    poses = observe({str(k): one for k in range(200)}, few, seed=5).uns["truth_pose"]
    entries = np.array([pose["rotation"] for pose in poses.values()])
    assert abs(entries.mean(0)).max() < 4.5 * np.sqrt(1 / 3 / 200)
    assert abs(entries.var(0) - 1 / 3).max() < 0.12


def test_velocities_turn_with_the_pose_and_noise_is_as_large_as_said(pair: dict[str, Embryo]) -> None:
    known = observe(pair, Measurement(velocity="known", tracks=True), seed=2)
    noisy = observe(pair, Measurement(velocity="noisy", velocity_noise=0.3, tracks=True), seed=2)
    cells = rows(known, "wt-0", 4.0)
    truth, turn = pair["wt-0"].at(4.0), known.uns["truth_pose"]["wt-0"]["rotation"]
    np.testing.assert_allclose(known.obsm["velocity_spatial"][cells] @ turn, truth.dx, atol=1e-9)
    np.testing.assert_array_equal(known.obsm["velocity_panel"][cells], truth.dg)
    off_g = (noisy.obsm["velocity_panel"] - known.obsm["velocity_panel"])[cells]
    off_x = (noisy.obsm["velocity_spatial"] - known.obsm["velocity_spatial"])[cells]
    assert off_g.std() == pytest.approx(0.3, rel=0.05)
    assert off_x.std() == pytest.approx(0.3 * np.sqrt((truth.dx**2).mean()), rel=0.1)
    assert "velocity_panel" not in observe(pair, seed=2).obsm


def test_tracks_name_cells_and_mothers(pair: dict[str, Embryo]) -> None:
    adata = observe(pair, Measurement(tracks=True), seed=0)
    wild_type = adata.obs[adata.obs["embryo"] == "wt-0"]
    start, end = (set(wild_type["cell"][wild_type["time"] == t]) for t in (0.0, 4.0))
    stayed = start & end
    assert 0.5 * len(start) < len(stayed) < len(start)
    for _, row in wild_type[wild_type["time"] == 4.0].iterrows():
        assert row["parent"] == row["cell"][:-1] if row["cell"][-1] in "ab" else row["parent"] == ""


def test_hidden_tracks_leak_neither_names_nor_order(pair: dict[str, Embryo], seen: AnnData) -> None:
    assert not (seen.obs["parent"] != "").any()
    names = seen.obs.groupby("embryo", observed=True)["cell"]
    assert (names.nunique() == names.size()).all()
    for t_h in TIMES:
        body, truth = seen[rows(seen, "wt-0", t_h)].obsm["truth_x"], pair["wt-0"].at(t_h).x
        distance, place = cKDTree(truth).query(body)
        assert not distance.any()
        assert len(set(place.tolist())) == len(truth)
        assert abs(np.corrcoef(place, np.arange(len(place)))[0, 1]) < 5 / np.sqrt(len(place))


def test_annotation_and_truth_are_those_of_the_simulation(pair: dict[str, Embryo]) -> None:
    adata = observe(pair, Measurement(tracks=True), seed=0)
    for name, embryo in pair.items():
        for t_h in TIMES:
            cells, snapshot = rows(adata, name, t_h), embryo.at(t_h)
            np.testing.assert_array_equal(adata.obs["cell_type"][cells].to_numpy(), fates(snapshot.g))
            np.testing.assert_array_equal(adata.obsm["truth_g"][cells], snapshot.g)
            np.testing.assert_array_equal(adata.obsm["truth_mutant"][cells, 0].astype(bool), snapshot.mutant)
    assert set(adata.obs["cell_type"].cat.categories) <= set(FATES)
    assert dict(adata.obs.groupby("embryo", observed=True)["perturbation"].first()) == {
        "wt-0": "",
        "mosaic-0": "knockout tail",
    }


def test_an_embryo_is_seen_alike_whoever_lies_beside_it(pair: dict[str, Embryo], seen: AnnData) -> None:
    alone = observe({"mosaic-0": pair["mosaic-0"]}, seed=0)
    together = seen[seen.obs["embryo"] == "mosaic-0"]
    assert (alone.layers["counts"] != together.layers["counts"]).nnz == 0
    np.testing.assert_array_equal(alone.obsm["spatial"], together.obsm["spatial"])
    other = observe({"mosaic-0": pair["mosaic-0"]}, seed=1)
    assert not np.array_equal(other.obsm["spatial"], alone.obsm["spatial"])


def test_batches_shift_genes_by_their_spread(pair: dict[str, Embryo]) -> None:
    """The same embryo under two names: log ratios of well-counted genes spread by sqrt(2) batch_sd."""
    dials = Measurement(batch_sd=0.5, size_sd=0.0, dropout=0.0, counts_per_unit=200.0)
    adata = observe({"a": pair["wt-0"], "b": pair["wt-0"]}, dials, seed=4)
    means = [np.asarray(adata[rows(adata, name, 4.0)].X.mean(0)).ravel() for name in "ab"]
    ratio = np.log(means[0] / means[1])
    assert ratio.std() == pytest.approx(np.sqrt(2) * 0.5, rel=0.15)


def test_a_destructive_experiment_sees_each_embryo_once(small: Params) -> None:
    dials = Measurement(destructive=True, n_genes=len(PANEL))
    adata = generate(n_embryos=2, seed=0, times_h=(0.0, 1.0), params=small, measurement=dials)
    times = adata.obs.groupby("embryo", observed=True)["time"]
    assert (times.nunique() == 1).all()
    assert sorted(times.first()) == [0.0, 0.0, 1.0, 1.0]


def test_generate_pairs_embryos_by_number(small: Params) -> None:
    few = Measurement(n_genes=len(PANEL), tracks=True)
    control = generate(n_embryos=2, seed=3, times_h=(0.0, 1.0), params=small, measurement=few)
    edits = (Edit("tail"),)
    edited = generate(n_embryos=2, seed=3, edits=edits, times_h=(0.0, 1.0), params=small, measurement=few)
    assert list(control.obs["embryo"].cat.categories) == ["wt-0", "wt-1"]
    assert list(edited.obs["embryo"].cat.categories) == ["knockout tail-0", "knockout tail-1"]
    for k in range(2):
        a, b = rows(control, f"wt-{k}", 0.0), rows(edited, f"knockout tail-{k}", 0.0)
        np.testing.assert_array_equal(control.obsm["truth_x"][a], edited.obsm["truth_x"][b])
        assert not np.allclose(control.obsm["spatial"][a], edited.obsm["spatial"][b])
    again = generate(n_embryos=2, seed=3, times_h=(0.0, 1.0), params=small, measurement=few)
    assert (again.X != control.X).nnz == 0


def test_observed_embryos_survive_the_disk(seen: AnnData, tmp_path: Path) -> None:
    seen.write_h5ad(tmp_path / "synthetic.h5ad")
    back = anndata.read_h5ad(tmp_path / "synthetic.h5ad")
    assert (back.layers["counts"] != seen.layers["counts"]).nnz == 0
    assert list(back.uns["embryo"]["circuit_genes"]) == list(PANEL)
    assert back.uns["embryo"]["edits"] == seen.uns["embryo"]["edits"]
    np.testing.assert_array_equal(
        back.uns["truth_pose"]["wt-0"]["rotation"], seen.uns["truth_pose"]["wt-0"]["rotation"]
    )


def test_dials_out_of_range_are_refused_all_at_once(pair: dict[str, Embryo]) -> None:
    with pytest.raises(ConfigError) as caught:
        Measurement(n_genes=3, counts_per_unit=0.0, dispersion=0.0, dropout=1.0, hidden=("thyroid",))
    assert len(caught.value.problems) == 5
    with pytest.raises(ConfigError, match="no embryos"):
        observe({}, seed=0)
    with pytest.raises(ConfigError, match="n_embryos = 0"):
        generate(n_embryos=0, seed=0)
