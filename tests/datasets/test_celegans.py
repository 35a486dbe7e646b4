"""Made-up movies of a known lineage, and the real EPIC embryos."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.spatial.transform import Rotation

from embryo import datasets
from embryo.core import schema
from embryo.core.errors import ConfigError, SchemaError
from embryo.datasets import celegans, lineage
from embryo.datasets.clock import births, synchronise
from embryo.datasets.movies import read

MAPS = {"a_pha-4_1": (1 / 60, 0.1), "b_elt-2_1": (1.5 / 60, -0.3), "c_hlh-1_1": (1.2 / 60, 0.0)}


@pytest.fixture
def folder(tmp_path: Path, film: Callable[..., pd.DataFrame], births_h: dict[str, float], monkeypatch: Any) -> Path:
    monkeypatch.setattr(celegans, "synchronise", partial(celegans.synchronise, landmarks_h=births_h))
    for k, (name, (slope, offset)) in enumerate(MAPS.items()):
        film(slope, offset, seed=k).to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def test_contract(folder: Path) -> None:
    adata = celegans.tracks([folder])
    assert schema.check(adata, schema.Needs(space=True, tracks=True, cell_types=True)) == []
    assert list(adata.var_names) == ["elt-2", "hlh-1", "pha-4"]
    meta = adata.uns[schema.META]
    assert meta["assembled"] is True
    assert meta["expression"] == "relative"
    assert "never measured together" in meta["assembled_note"]
    assert adata.X.dtype == np.float32
    assert adata.obsm[schema.SPATIAL].dtype == np.float32
    assert adata.obs_names.is_unique
    assert (adata.obs[schema.PERTURBATION] == "").all()


def test_it_can_be_stored(folder: Path, tmp_path: Path) -> None:
    adata = celegans.tracks([folder], held_out=1, perturbed={"a_pha-4_1": "knockdown skn-1"})
    adata.write_h5ad(tmp_path / "x.h5ad")
    back = anndata.read_h5ad(tmp_path / "x.h5ad")
    pd.testing.assert_frame_equal(back.obs, adata.obs, check_categorical=False)
    assert dict(back.uns[schema.META]["clock_slope_h"]) == adata.uns[schema.META]["clock_slope_h"]


def test_one_embryo_alone(folder: Path) -> None:
    adata = celegans.tracks([folder / "b_elt-2_1.csv"], step_min=None)
    slope, offset = MAPS["b_elt-2_1"]
    assert np.abs(adata.obs[schema.TIME] - (slope * adata.obs["frame"] + offset)).max() < 1.1 * slope


def test_times_are_those_of_the_film(folder: Path) -> None:
    adata = celegans.tracks([folder], step_min=None)
    for name, (slope, offset) in MAPS.items():
        obs = adata.obs[adata.obs[schema.EMBRYO] == name]
        truth = slope * obs["frame"].to_numpy() + offset
        # births are seen in whole frames, so the clock is late by up to a frame
        assert np.abs(obs[schema.TIME].to_numpy() - truth).max() < 1.1 * slope
        np.testing.assert_allclose(obs["time_nominal"], obs["frame"] / 60)


def test_grid_keeps_the_nearest_frame(folder: Path) -> None:
    every = celegans.tracks([folder], step_min=None).obs
    grid = celegans.tracks([folder], step_min=5).obs
    ticks = grid[schema.TIME].to_numpy() * 12
    np.testing.assert_allclose(ticks, np.round(ticks), atol=1e-6)
    for (name, time), part in grid.groupby([schema.EMBRYO, schema.TIME], observed=True):
        assert len(set(part["frame"])) == 1
        frames = every[every[schema.EMBRYO] == name].drop_duplicates("frame")
        nearest = np.abs(frames[schema.TIME] - time).min()
        chosen = frames[frames["frame"] == part["frame"].iloc[0]][schema.TIME].iloc[0]
        assert abs(chosen - time) == pytest.approx(nearest)
        assert set(part[schema.CELL]) == set(
            every[(every[schema.EMBRYO] == name) & (every["frame"] == part["frame"].iloc[0])][schema.CELL]
        )


def test_positions_and_levels_are_those_of_the_file(folder: Path) -> None:
    adata = celegans.tracks([folder], step_min=None, pixel_um=0.5, plane_um=2, embryos=["b_elt-2_1"])
    raw = pd.read_csv(folder / "b_elt-2_1.csv").set_index(["cell", "time"])
    rows = raw.loc[list(zip(adata.obs[schema.CELL], adata.obs["frame"].astype(int), strict=True))]
    np.testing.assert_allclose(adata.obsm[schema.SPATIAL], rows[["x", "y", "z"]] * [0.5, 0.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(adata.obs["reporter_level"], rows["blot"] / raw["blot"].quantile(0.99), rtol=1e-5)
    np.testing.assert_allclose(adata[:, "elt-2"].X.ravel(), rows["blot"] / raw["blot"].quantile(0.99), rtol=1e-5)


def test_mothers_and_types(folder: Path) -> None:
    obs = celegans.tracks([folder]).obs
    for cell, mother, kind in (
        obs[[schema.CELL, schema.PARENT, schema.CELL_TYPE]].drop_duplicates().itertuples(index=False)
    ):
        assert mother == lineage.mother(cell)
        assert kind == lineage.founder(cell)


def test_a_held_out_embryo_lends_nothing_and_its_future_changes_nothing(folder: Path) -> None:
    def load() -> AnnData:
        return celegans.tracks([folder], held_out=["c_hlh-1_1"], synchronise_until_h=0.9)

    before = load()
    assert list(before.var_names) == ["elt-2", "pha-4"]
    path = folder / "c_hlh-1_1.csv"
    raw = pd.read_csv(path)
    future = raw["time"] * 1.2 / 60 > 1.0
    changed = raw.assign(
        cell=raw["cell"].where(~future, raw["cell"].map(lambda c: c[::-1])),
        blot=raw["blot"].where(~future, 1e6),
        x=raw["x"].where(~future, 7.0),
    )
    changed.to_csv(path, index=False)
    after = load()
    early = [a[a.obs[schema.TIME] <= 0.9] for a in (before, after)]
    pd.testing.assert_frame_equal(early[0].obs, early[1].obs, check_categorical=False)
    np.testing.assert_array_equal(early[0].X, early[1].X)
    others = [a[a.obs[schema.EMBRYO] != "c_hlh-1_1"] for a in (before, after)]
    pd.testing.assert_frame_equal(others[0].obs, others[1].obs, check_categorical=False)


def test_held_out_by_number_takes_the_last_by_name(folder: Path) -> None:
    adata = celegans.tracks([folder], held_out=1, synchronise_until_h=1)
    assert list(adata.uns[schema.META]["held_out"]) == ["c_hlh-1_1"]


def test_a_perturbed_embryo_is_marked_and_lends_nothing(folder: Path) -> None:
    adata = celegans.tracks([folder], perturbed={"a_pha-4_1": "knockdown skn-1"})
    labels = adata.obs.groupby(schema.EMBRYO, observed=True)[schema.PERTURBATION].first().to_dict()
    assert labels == {"a_pha-4_1": "knockdown skn-1", "b_elt-2_1": "", "c_hlh-1_1": ""}
    assert list(adata.var_names) == ["elt-2", "hlh-1"]


def test_choices_of_embryos_and_genes(folder: Path) -> None:
    two = celegans.tracks([folder], embryos=2)
    assert two.obs[schema.EMBRYO].nunique() == 2
    assert two.n_vars == 3  # expression still comes from all
    one = celegans.tracks([folder], embryos=2, assemble_from=["b_elt-2_1"], genes=["elt-2"])
    assert list(one.var_names) == ["elt-2"]


def test_nominal_clock(folder: Path) -> None:
    adata = celegans.tracks([folder], clock="nominal", frame_min=1.5, step_min=None)
    np.testing.assert_allclose(adata.obs[schema.TIME], adata.obs["frame"] * 1.5 / 60)


def test_unnamed_cells_are_kept_and_flagged(folder: Path) -> None:
    path = folder / "a_pha-4_1.csv"
    raw = pd.read_csv(path)
    extra = raw[raw["cell"] == "ABal"].assign(cell="Nuc7", x=1.0)
    pd.concat([raw, extra]).to_csv(path, index=False)
    adata = celegans.tracks([folder])
    nuc = adata[adata.obs[schema.CELL] == "Nuc7"]
    assert nuc.n_obs > 0
    assert set(nuc.obs[schema.CELL_TYPE]) == {"unnamed"}
    assert set(nuc.obs[schema.PARENT]) == {""}
    assert not nuc.obs["expression_known"].any()
    assert adata.obs["expression_known"].sum() == adata.n_obs - nuc.n_obs
    assert schema.check(adata) == []


def test_a_hole_in_a_movie_does_not_make_cells_vanish(folder: Path) -> None:
    path = folder / "a_pha-4_1.csv"
    raw = pd.read_csv(path)
    raw[~raw["time"].between(10, 25)].to_csv(path, index=False)
    adata = celegans.tracks([folder])
    times = np.unique(adata.obs.loc[adata.obs[schema.EMBRYO] == "a_pha-4_1", schema.TIME])
    np.testing.assert_allclose(np.diff(times), 5 / 60)
    assert schema.check(adata) == []


def test_files_without_reporters_have_no_genes(folder: Path) -> None:
    for path in folder.glob("*.csv"):
        pd.read_csv(path).drop(columns="blot").to_csv(path, index=False)
    adata = celegans.tracks([folder])
    assert adata.n_vars == 0
    assert adata.obs["reporter_level"].isna().all()


def test_bad_options_are_all_listed(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        celegans.tracks([folder], stepmin=3, step_min=-1, clock="lunar", pixel_um=0, embryos=0)
    found = [p.found for p in caught.value.problems]
    assert "unknown parameter 'stepmin' (did you mean 'step_min'?)" in found
    assert {f.split(" = ")[0] for f in found if " = " in f} == {"step_min", "clock", "pixel_um", "embryos"}
    with pytest.raises(ConfigError) as caught:
        celegans.tracks([folder], embryos=["a_pha-4_2"], held_out=["c_hlh-1_1"], assemble_from=["c_hlh-1_1"])
    assert len(caught.value.problems) == 2
    assert "did you mean 'a_pha-4_1'" in str(caught.value)
    with pytest.raises(ConfigError, match="no gene 'pha-5'"):
        celegans.tracks([folder], genes=["pha-5"])
    with pytest.raises(ConfigError, match="at least one embryo left"):
        celegans.tracks([folder], held_out=3)


def test_an_embryo_that_cannot_be_synchronised_names_the_cure(folder: Path) -> None:
    raw = pd.read_csv(folder / "a_pha-4_1.csv")
    raw.assign(cell="Nuc" + raw["cell"]).to_csv(folder / "stranger.csv", index=False)
    with pytest.raises(SchemaError, match=r'embryo stranger.*clock="nominal"'):
        celegans.tracks([folder])
    assert celegans.tracks([folder], clock="nominal").obs[schema.EMBRYO].nunique() == 4


@pytest.mark.real
def test_epic(real: Callable[..., AnnData]) -> None:
    names = [Path(f.name).stem for f in datasets.entry("celegans-epic").files]
    chosen = [names[k] for k in (3, 30, 60, 100)] + ["CD20080418_pha-4_3E3C5_1"]
    adata = real("celegans-epic", embryos=chosen, assemble_from=chosen, held_out=[], genes=None)
    assert schema.check(adata, schema.Needs(space=True, tracks=True, cell_types=True)) == []
    assert "pha-4" in adata.var_names
    assert adata.n_vars == 5
    assert adata.uns[schema.META]["dataset"] == "celegans-epic"
    # the pharynx: pha-4 is high in MS and ABa descendants, and low in the muscle lineage D (Horner et al. 1998)
    late = adata[(adata.obs[schema.TIME] > 2.5) & (adata.obs["reporter"] == "pha-4")]
    level = late.obs.groupby(schema.CELL_TYPE, observed=True)["reporter_level"].mean()
    assert level["E"] > 5 * level["D"]
    assert level["MS"] > 5 * level["C"]
    # the 4-cell stage lasts about a quarter of an hour, the E cell cycle about 20 minutes and that of Ea about 40
    clock = adata.uns[schema.META]["clock_slope_h"]
    assert all(0.7 / 60 < slope < 2.0 / 60 for slope in clock.values())


@pytest.mark.real
def test_epic_is_right_handed(real_folder: Callable[[str], Path]) -> None:
    """Anterior x left points dorsal in every embryo, so x right, y down, z deeper is a right-handed frame."""
    names = [f.name for f in datasets.entry("celegans-epic").files][::16]
    folder = real_folder("celegans-epic") / "raw"
    for movie in read([folder / name for name in names]):
        rows = pd.DataFrame(movie.x_um).groupby(np.array(movie.cells)[movie.code]).mean()
        anterior = rows.loc[["ABala", "ABalp", "ABara", "ABarp"]].mean() - rows.loc["C"]
        left = rows.loc["ABpl"] - rows.loc["ABpr"]
        dorsal = rows.loc[["ABpla", "ABplp", "ABpra", "ABprp"]].mean() - rows.loc[["MS", "E"]].mean()
        assert np.dot(np.cross(anterior, left), dorsal) > 0, movie.name


@pytest.mark.real
def test_epic_clock_predicts_the_divisions_of_a_held_out_embryo(real_folder: Callable[[str], Path]) -> None:
    """A clock from the first hour and a half puts later births of a held-out embryo within minutes of the consensus."""
    folder = real_folder("celegans-epic") / "raw"
    names = [f.name for f in datasets.entry("celegans-epic").files][::12]
    seen = {m.name: births(m.spans()) for m in read([folder / n for n in names])}
    held = next(iter(seen))
    clocks, consensus = synchronise(seen, held_out={held: 1.5})
    later = consensus[(consensus > 1.5) & (consensus < 2.5)].index.intersection(seen[held].index)
    assert len(later) > 50
    error_min = 60 * np.abs(clocks[held](seen[held][later].to_numpy()) - consensus[later])
    assert np.median(error_min) < 6
    nominal_min = 60 * np.abs(seen[held][later] / 60 - consensus[later])
    assert np.median(error_min) < np.median(nominal_min) / 2
    # a cell cycle of 40 minutes for Ea (Sulston et al. 1983: E divides every 20, then every 40 minutes)
    assert 30 < 60 * (consensus["Eal"] - consensus["Ea"]) < 50


@pytest.mark.real
def test_epic_embryos_agree_best_at_the_same_time(real: Callable[..., AnnData]) -> None:
    """Same name, one proper rotation apart, a few µm: and closer at the same time than a quarter of an hour off."""
    names = [Path(f.name).stem for f in datasets.entry("celegans-epic").files][10::20]
    adata = real("celegans-epic", embryos=names, assemble_from=names, step_min=15)
    x = pd.DataFrame(adata.obsm[schema.SPATIAL], index=pd.MultiIndex.from_frame(adata.obs[[schema.TIME, schema.CELL]]))
    by_name = {name: x[(adata.obs[schema.EMBRYO] == name).to_numpy()] for name in names}

    def distance(other: str, time: float, shift: float) -> float:
        ours, theirs = by_name[names[0]].xs(time), by_name[other].xs(time + shift)
        shared = ours.index.intersection(theirs.index)
        assert len(shared) >= 10
        a, b = (part.loc[shared].to_numpy(dtype=float) for part in (ours, theirs))
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        return float(np.median(np.linalg.norm(a - Rotation.align_vectors(a, b)[0].apply(b), axis=1)))

    median = {
        shift: np.median([distance(other, time, shift) for other in names[1:] for time in (1.0, 1.5, 2.0, 2.5)])
        for shift in (-0.25, 0.0, 0.25)
    }
    assert 1.5 < median[0.0] < 4.0
    assert median[0.0] < min(median[-0.25], median[0.25])
