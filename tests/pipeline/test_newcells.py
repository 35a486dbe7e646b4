"""New cells rolled out with the fields of a run."""

import importlib
import shutil
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from embryo import config as configs
from embryo import fields, fit, pipeline, read, reconstruct
from embryo.core import schema, store
from embryo.core.errors import ConfigError, EmbryoError, FrameError, SchemaError, StoreError
from embryo.fit.circuit import Phase
from embryo.pipeline import newcells, perturbing, rollouts, starts
from embryo.pipeline.folder import RunFolder

GENES = [f"gene{k}" for k in range(12)]


def cells(times: tuple[float, ...], seed: int = 0) -> AnnData:
    """Three embryos whose cells move along x and change from type a to type b."""
    rng = np.random.default_rng(seed)
    n = 3 * 40
    time = np.repeat(times, n)
    kind = np.tile(np.repeat(["a", "b"], n // 2), len(times))
    rate = np.ones((len(time), len(GENES)))
    rate[kind == "b", :6] += 4 + time[kind == "b", None]
    rate[:, 6:] += time[:, None]
    counts = sparse.csr_matrix(rng.poisson(5 * rate).astype(np.float32))
    x = rng.normal(size=(len(time), 3)) * [30, 20, 10] + np.where(kind == "b", 25.0, -25.0)[:, None] * [1, 0, 0]
    obs = pd.DataFrame(
        {
            schema.TIME: time, schema.CELL_TYPE: kind,
            schema.EMBRYO: np.tile(np.repeat(["e0", "e1", "e2"], 40)[rng.permutation(n)], len(times)),
        },
        index=pd.Index([f"c{k}" for k in range(len(time))]),
    )  # fmt: skip
    uns = {schema.META: {"time_unit": "h", "space_unit": "um", "expression": "counts"}}
    var = pd.DataFrame(index=GENES)
    return AnnData(counts, obs=obs, var=var, obsm={schema.SPATIAL: x}, layers={schema.COUNTS: counts}, uns=uns)


@pytest.fixture(autouse=True)
def few_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Circuits of runs are fitted in a few steps: what they read is tested here, not how well they fit."""
    circuits = importlib.import_module("embryo.fit.circuit")
    real, phases = circuits.fit, (Phase(iterations=5), Phase(weak=0.0, windows=(1,), iterations=5, decay=True))

    def quick(series, settings=None, **named):
        return real(series, replace(settings or circuits.Settings(), phases=phases), **named)

    monkeypatch.setattr(circuits, "fit", quick)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run until its fields are fitted, and a file of new cells beside it."""
    folder = tmp_path_factory.mktemp("new")
    read.write(cells((0.0, 1.0, 2.0)), folder / "series.h5ad")
    read.write(cells((0.0,), seed=9), folder / "start.h5ad")
    how = ("seeds=2", "fit.steps=20", "fit.width=16", "embed.dims=3", "couple.max_cells=100", "measure.neighbours=5")
    pipeline.run(configs.source(folder / "series.h5ad", how), folder / "run", until="fit")
    return folder


def test_new_cells_are_rolled_by_every_seed_and_their_ends_are_told(run: Path, tmp_path: Path) -> None:
    text = newcells.roll(run / "run", run / "start.h5ad", tmp_path / "out")
    assert "0 to 2 h, 2 seeds, growth as mass" in text
    ends = [store.read_trajectory(tmp_path / f"out/seed-{seed}.zarr").at(-1) for seed in (0, 1)]
    end = ad.read_h5ad(tmp_path / "out/end.h5ad")
    np.testing.assert_allclose(
        end.obsm[schema.EMBED], np.mean([e.z.numpy() for e in ends], axis=0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(end.obs["mass"], np.mean([e.mass.numpy() for e in ends], axis=0), rtol=1e-4)
    assert (end.obs["disagreement_z"] > 0).all()
    np.testing.assert_allclose(end.obsm[schema.FATE_PROBABILITIES].sum(axis=1), 1)
    assert list(end.obs[schema.TERMINAL_STATES].cat.categories) == ["a", "b"]
    assert list(end.varm[schema.DRIVERS].index) == list(end.var_names)
    assert set(end.obs[schema.TIME]) == {2.0}


@pytest.mark.parametrize("growth", ["mass", "particles"])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_cells_of_an_embryo_of_the_run_are_rolled(run: Path, tmp_path: Path, n: int, growth: str) -> None:
    read.write(cells((0.0,), seed=9)[:n].copy(), tmp_path / "few.h5ad")
    newcells.roll(run / "run", tmp_path / "few.h5ad", tmp_path / "out", overrides=(f"simulate.growth={growth}",))
    end = ad.read_h5ad(tmp_path / "out/end.h5ad")
    assert end.n_obs == n
    assert np.isfinite(end.obsm[schema.ALIGNED]).all()


@pytest.mark.parametrize("n", [1, 9])
def test_few_cells_of_an_unknown_embryo_are_refused_with_the_way_out(run: Path, tmp_path: Path, n: int) -> None:
    few = cells((0.0,), seed=9)[:n].copy()
    few.obs[schema.EMBRYO] = "stranger"
    read.write(few, tmp_path / "few.h5ad")
    with pytest.raises(FrameError, match=rf"stranger: {n} cells; expected at least 10 .*obs\['embryo'\]"):
        newcells.roll(run / "run", tmp_path / "few.h5ad", tmp_path / "out")


def test_they_go_back_where_the_end_lies_before_them(run: Path, tmp_path: Path) -> None:
    said = newcells.roll(run / "run", run / "start.h5ad", tmp_path / "out", until_h=-1.0)
    assert "0 to -1 h" in said
    assert "beyond the times of the run" in said
    times = store.read_trajectory(tmp_path / "out/seed-0.zarr").times_h
    assert bool((times.diff() < 0).all())


def test_particles_divide_and_keep_their_founders(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    resolved = configs.load(run / "run/config.yaml", ("simulate.growth=particles",))
    folder.symlink_to(run / "run", target_is_directory=True)
    (run / "run/config.yaml").write_text(configs.dump(resolved), encoding="utf-8")
    try:
        newcells.roll(folder, run / "start.h5ad", tmp_path / "out", until_h=1.0)
        end = ad.read_h5ad(tmp_path / "out/end.h5ad")
        assert end.n_obs == 120
        with pytest.raises(EmbryoError, match="nobody knows who died"):
            newcells.roll(folder, run / "start.h5ad", tmp_path / "back", until_h=-1.0)
    finally:
        mass = configs.load(run / "run/config.yaml", ("simulate.growth=mass",))
        (run / "run/config.yaml").write_text(configs.dump(mass), encoding="utf-8")


def test_cells_and_runs_that_do_not_fit_are_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="one time to start from"):
        newcells.roll(run / "run", run / "series.h5ad", tmp_path / "out")
    for end, says in ((0.0, "an end before or after"), (float("nan"), "nan")):
        with pytest.raises(EmbryoError, match=says):
            newcells.roll(run / "run", run / "start.h5ad", tmp_path / "out", until_h=end)
    flat = cells((0.0,))
    del flat.obsm[schema.SPATIAL]
    read.write(flat, tmp_path / "flat.h5ad")
    with pytest.raises(SchemaError, match="positions of 0 dimensions"):
        newcells.roll(run / "run", tmp_path / "flat.h5ad", tmp_path / "out")
    with pytest.raises(StoreError, match="a run in 'run'"):
        newcells.roll(run / "run", run / "start.h5ad", run / "run")
    with pytest.raises(StoreError, match="a file 'start"):
        newcells.roll(run / "run", run / "start.h5ad", run / "start.h5ad")
    pipeline.run(configs.source(run / "series.h5ad", ("embed.dims=3",)), tmp_path / "young", until="embed")
    with pytest.raises(StoreError, match="without a fitted field"):
        newcells.roll(tmp_path / "young", run / "start.h5ad", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_whose_source_is_gone_keeps_what_it_has_and_says_so(run: Path, tmp_path: Path) -> None:
    file = shutil.copy(run / "series.h5ad", tmp_path / "series.h5ad")
    how = ("embed.dims=3", "couple.max_cells=100")
    done = pipeline.run(configs.source(Path(file), how), tmp_path / "run", until="couple")
    made, said = dict(done.stages), {}
    (tmp_path / "moved").mkdir()
    shutil.move(file, tmp_path / "moved/series.h5ad")
    again = configs.load(tmp_path / "run/config.yaml")
    assert pipeline.run(again, tmp_path / "run", until="couple", said=said.__setitem__).stages == made
    assert "series.h5ad is no longer there" in said["read"]
    changed = configs.load(tmp_path / "run/config.yaml", ("read.end_h=1",))
    with pytest.raises(EmbryoError):
        pipeline.run(changed, tmp_path / "run", until="couple")
    left = pipeline.RunFolder.open(tmp_path / "run")
    assert left.stages == made
    assert left.config == again
    assert all((left.path / o).exists() for record in made.values() for o in record["outputs"])


def test_a_setting_that_cannot_work_costs_no_results(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "run", tmp_path / "run")
    before = pipeline.RunFolder.open(tmp_path / "run")
    changed = configs.load(tmp_path / "run/config.yaml", ("couple.method=tracks",))
    with pytest.raises(EmbryoError):
        pipeline.run(changed, tmp_path / "run", until="fit")
    left = pipeline.RunFolder.open(tmp_path / "run")
    assert (left.stages, left.config) == (before.stages, before.config)
    assert (left.path / "fields/seed-1.safetensors").is_file()
    assert (left.path / "couplings/000.zarr").is_dir()


def test_fits_that_are_not_those_of_the_config_are_refused_before_anything_is_written(
    run: Path, tmp_path: Path
) -> None:
    for setting, says in (("seeds=3", "whose fit seed 2 are not done"), ("fit.steps=21", "fit seed 0, fit seed 1")):
        shutil.copytree(run / "run", tmp_path / setting)
        changed = configs.load(tmp_path / setting / "config.yaml", (setting,))
        pipeline.run(changed, tmp_path / setting, until="couple")
        with pytest.raises(StoreError, match=says) as told:
            newcells.roll(tmp_path / setting, run / "start.h5ad", tmp_path / "out")
        assert f"embryo fit {tmp_path / setting}" in str(told.value)
        with pytest.raises(StoreError, match=says):
            perturbing.Bench.open(tmp_path / setting, run / "start.h5ad")
    assert not (tmp_path / "out").exists()


def test_settings_of_the_roll_out_hold_for_it_only_and_others_are_refused(run: Path, tmp_path: Path) -> None:
    before = (run / "run/config.yaml").read_bytes()
    how = ("simulate.growth=particles",)
    said = newcells.roll(run / "run", run / "start.h5ad", tmp_path / "out", until_h=1.0, overrides=how)
    assert "growth as particles" in said
    assert (run / "run/config.yaml").read_bytes() == before
    with pytest.raises(ConfigError, match="settings of the section simulate"):
        newcells.roll(run / "run", run / "start.h5ad", tmp_path / "not", overrides=("fit.steps=3",))


def test_a_law_that_reads_neighbours_is_a_setting(run: Path, tmp_path: Path) -> None:
    how = ("seeds=1", "fit.steps=5", "fit.width=8", "fit.neighbours=4", "embed.dims=3", "measure.neighbours=5")
    pipeline.run(configs.source(run / "series.h5ad", how), tmp_path / "run", until="fit")
    law, _ = fields.load(tmp_path / "run/fields/seed-0.safetensors")
    assert isinstance(law, fields.SpatialNetwork)
    assert "1 seeds" in newcells.roll(tmp_path / "run", run / "start.h5ad", tmp_path / "out", until_h=0.5)


@pytest.mark.parametrize(
    ("structure", "kind"), [("matching", fields.FlowNetwork), ("circuit+residual", fields.Regulated)]
)
def test_the_structure_of_the_law_is_a_setting(run: Path, tmp_path: Path, structure: str, kind: type) -> None:
    how = (
        "seeds=1",
        "fit.steps=5",
        "fit.width=8",
        f"fit.structure={structure}",
        "embed.dims=3",
        "measure.neighbours=5",
    )
    pipeline.run(configs.source(run / "series.h5ad", how), tmp_path / "run", until="fit")
    law, _ = fields.load(tmp_path / "run/fields/seed-0.safetensors")
    assert isinstance(law, kind)
    assert (getattr(law, "residual", None) is not None) == structure.endswith("residual")
    assert "1 seeds" in newcells.roll(tmp_path / "run", run / "start.h5ad", tmp_path / "out", until_h=0.5)


@pytest.mark.parametrize("structure", ["matching", "circuit"])
def test_further_seeds_draw_embryos_where_a_run_asks_for_it(
    run: Path, tmp_path: Path, structure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, real = [], fit.drawn
    for where in (fit, importlib.import_module("embryo.fit.regulated")):
        monkeypatch.setattr(where, "drawn", lambda adata, seed: drawn.append(seed) or real(adata, seed))
    how = ("seed=5", "seeds=2", "fit.steps=5", "fit.width=8", f"fit.structure={structure}", "embed.dims=3")
    how = (*how, "measure.neighbours=5", "fit.bootstrap=true")
    pipeline.run(configs.source(run / "series.h5ad", how), tmp_path / "run", until="fit")
    assert drawn == [6]


@pytest.mark.parametrize("law", ["structure=network", "structure=matching", "structure=circuit", "neighbours=4"])
def test_no_law_sees_what_a_held_out_or_edited_embryo_becomes(law: str, tmp_path: Path) -> None:
    """Whatever they are after the start, the fitted numbers are the same, bit for bit."""
    honest, lied = (cells((0.0, 1.0, 2.0)) for _ in range(2))
    for adata in (honest, lied):
        edited = (adata.obs[schema.EMBRYO] == "e1").to_numpy()
        adata.obs[schema.PERTURBATION] = np.where(edited, "knockout gene3", "")
    hidden = (lied.obs[schema.EMBRYO].isin(["e1", "e2"]) & (lied.obs[schema.TIME] > 0)).to_numpy()
    counts = lied.layers[schema.COUNTS].toarray()
    counts[hidden] = counts[hidden][:, ::-1] * 3 + 1
    lied.X = sparse.csr_matrix(counts)
    lied.layers[schema.COUNTS] = lied.X.copy()
    lied.obsm[schema.SPATIAL][hidden] = lied.obsm[schema.SPATIAL][hidden] * 2 + 400.0
    how = ("seeds=1", "fit.steps=5", "fit.width=8", f"fit.{law}", "embed.dims=3", "measure.neighbours=5")
    found = []
    for name, adata in (("honest", honest), ("lied", lied)):
        read.write(adata, tmp_path / f"{name}.h5ad")
        held = (*how, 'split.hold_out=["e2"]')
        pipeline.run(configs.source(tmp_path / f"{name}.h5ad", held), tmp_path / name, until="fit")
        found.append(fields.load(tmp_path / name / "fields/seed-0.safetensors")[0].state_dict())
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key


def test_what_a_coupling_turned_stays_turned_in_later_stages(run: Path, tmp_path: Path) -> None:
    how = ("seeds=1", "fit.steps=5", "fit.width=8", "embed.dims=3", "couple.align=near", "couple.max_cells=200")
    done = pipeline.run(configs.source(run / "series.h5ad", how), tmp_path / "run", until="fit")
    raw = ad.read_h5ad(tmp_path / "run/cells.h5ad")
    seen = rollouts.placed(done, raw)
    late = (raw.obs[schema.TIME] > 0).to_numpy()
    np.testing.assert_array_equal(seen.obsm[schema.ALIGNED][~late], raw.obsm[schema.ALIGNED][~late])
    assert np.abs(seen.obsm[schema.ALIGNED][late] - raw.obsm[schema.ALIGNED][late]).max() > 0.1
    couplings = rollouts.couplings(done)
    law = fit.regress(fit.pairs(seen, couplings), fit.Training(steps=5, width=8, seed=0))
    kept, _ = fields.load(tmp_path / "run/fields/seed-0.safetensors")
    np.testing.assert_allclose(kept.centre.numpy(), law.centre.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("given", [False, True])
def test_only_a_name_that_the_file_gives_is_that_of_the_runs_embryo(run: Path, tmp_path: Path, given: bool) -> None:
    """A file that is called like an embryo of the run is laid by its cells, not moved as that embryo was."""
    new = cells((0.0,), seed=9)
    new.obs[schema.EMBRYO] = "e1"
    if not given:
        del new.obs[schema.EMBRYO]
    new.obsm[schema.SPATIAL] = new.obsm[schema.SPATIAL] + [500.0, 0, 0]
    new.write_h5ad(tmp_path / "e1.h5ad")
    held, opened = ad.read_h5ad(run / "run/cells.h5ad"), RunFolder.open(run / "run")
    laid = starts.cells(opened, held, tmp_path / "e1.h5ad")
    assert set(laid.obs[schema.EMBRYO]) == {"e1"}
    moved = reconstruct.motion(held, "e1")(np.asarray(laid.obsm[schema.SPATIAL], dtype=float))
    assert np.allclose(moved, laid.obsm[schema.ALIGNED]) == given


def test_an_embryo_of_any_name_is_rolled_inside_the_run(run: Path, tmp_path: Path) -> None:
    held, folder = ad.read_h5ad(run / "run/cells.h5ad"), tmp_path / "a/run"
    shutil.copytree(run / "run", folder)
    target = rollouts.targets(held)[0]
    held.obs[schema.EMBRYO] = held.obs[schema.EMBRYO].astype(str).replace(target, "../../../../out")
    paths, _ = rollouts.roll(RunFolder.open(folder), held, rollouts.CONTROL, [], lambda *_: None)
    assert all((folder / path).resolve().is_relative_to(folder.resolve()) for path in paths)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_levels_of_a_circuit_are_shrunk_and_what_was_measured_is_kept(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "run", tmp_path / "run")
    plain = ad.read_h5ad(run / "run/cells.h5ad").obsm[schema.PANEL]
    path, kept = tmp_path / "run", []
    for structure in ("circuit", "circuit", "network"):
        again = configs.load(path / "config.yaml", (f"fit.structure={structure}", "split.hold_out=0"))
        done = pipeline.run(again, path, until="reconstruct")
        kept.append(ad.read_h5ad(path / "cells.h5ad"))
    assert "levels shrunk" not in done.stages["reconstruct"]["summary"]
    for adata in kept[:2]:
        np.testing.assert_array_equal(adata.obsm[schema.MEASURED], plain)
        gone = np.expm1(adata.obsm[schema.PANEL]).std(axis=0) / np.expm1(plain).std(axis=0)
        assert (gone < 0.95).all()
        np.testing.assert_array_equal(adata.obsm[schema.PANEL], kept[0].obsm[schema.PANEL])
    assert schema.MEASURED not in kept[2].obsm
    np.testing.assert_array_equal(kept[2].obsm[schema.PANEL], plain)
    new = starts.cells(RunFolder.open(path), kept[0], run / "start.h5ad")
    assert np.expm1(new.obsm[schema.PANEL]).std() < np.expm1(new.obsm[schema.MEASURED]).std()
    assert schema.MEASURED not in starts.cells(RunFolder.open(path), kept[2], run / "start.h5ad").obsm


def test_velocities_of_a_layer_are_brought_to_the_panel(run: Path, tmp_path: Path) -> None:
    adata = cells((0.0, 1.0))
    adata.layers["velocity"] = sparse.csr_matrix(np.arange(12.0) * np.ones((adata.n_obs, 1)))
    read.write(adata, tmp_path / "series.h5ad")
    how = ("fit.structure=circuit", "embed.panel=[gene3,gene1]", "embed.velocity_per_h=2", "embed.dims=3")
    pipeline.run(configs.source(tmp_path / "series.h5ad", how), tmp_path / "run", until="embed")
    found = ad.read_h5ad(tmp_path / "run/cells.h5ad").obsm[schema.VELOCITY]
    np.testing.assert_array_equal(found, np.tile([6.0, 2.0], (adata.n_obs, 1)))
    with pytest.raises(ConfigError, match="without layers"):
        pipeline.run(configs.source(run / "series.h5ad", how), tmp_path / "none", until="embed")
    del adata.layers["velocity"]
    adata.obsm[schema.VELOCITY] = np.zeros((adata.n_obs, 12))
    read.write(adata, tmp_path / "own.h5ad")
    own = ("fit.structure=circuit", "embed.dims=3")
    with pytest.raises(ConfigError, match=r"embed\.panel = auto"):
        pipeline.run(configs.source(tmp_path / "own.h5ad", own), tmp_path / "auto", until="embed")


def test_a_circuit_learns_from_the_edits_that_the_config_names(tmp_path: Path) -> None:
    adata = cells((0.0, 1.0, 2.0))
    for name, label in (("e1", "knockout gene3"), ("e2", "knockout gene4")):
        adata.obs.loc[adata.obs[schema.EMBRYO] == name, schema.PERTURBATION] = label
    adata.obs[schema.PERTURBATION] = adata.obs[schema.PERTURBATION].fillna("")
    read.write(adata, tmp_path / "series.h5ad")
    how = ("seeds=1", "fit.steps=5", "fit.width=8", "fit.structure=circuit", "embed.dims=3", "measure.neighbours=5")
    told = (*how, 'fit.knockouts=["knockout gene3"]')
    pipeline.run(configs.source(tmp_path / "series.h5ad", told), tmp_path / "run", until="fit")
    law, _ = fields.load(tmp_path / "run/fields/seed-0.safetensors")
    assert law.training_edits == ("knockout gene3",)
    wrong = (*how, 'fit.knockouts=["knockout gene5", "knockout gene3"]')
    with pytest.raises(ConfigError, match="names 'knockout gene5'"):
        pipeline.run(configs.source(tmp_path / "series.h5ad", wrong), tmp_path / "not", until="read")
