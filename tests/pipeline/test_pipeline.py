"""Whole runs through the library, on a user's own file and on real embryos."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from embryo import config, datasets, pipeline
from embryo.core import store
from embryo.core.errors import DataError

SMALL = {
    "seeds": 2,
    "embed": {"dims": 4},
    "fit": {"steps": 20, "width": 16},
    "measure": {"max_cells": 100, "read_out_cells": 500},
    "render": {"film": False},
}


def series(path: Path) -> Path:
    """Single cells of four days without space, replicates or names, as most atlases come."""
    rng = np.random.default_rng(0)
    day = np.repeat([8.5, 9.5, 10.5, 11.5], 60)
    rate = np.exp(rng.normal(size=(4, 30)))[(day - 8.5).astype(int)]
    adata = ad.AnnData(rng.poisson(5 * rate).astype(np.float32))
    adata.var_names = [f"Gene{i}" for i in range(30)]
    adata.obs["stage"] = [f"E{d}" for d in day]
    adata.write_h5ad(path)
    return path


def test_a_user_s_cells_without_space_run_to_a_page(tmp_path: Path) -> None:
    file = series(tmp_path / "mine.h5ad")
    before = file.read_bytes()
    tree = {**SMALL, "read": {"path": str(file), "dataset": None}, "simulate": {"step_h": 6, "save_every_h": 24}}
    tree["perturb"] = {"edits": [{"gene": "Gene3"}], "decay_per_h": 0.1}
    run = pipeline.run(config.parse(tree), tmp_path / "run")
    assert "nothing here is validated" in (run.path / "report.html").read_text(encoding="utf-8")
    table = store.read_table(run.path / "tables/difference.csv")
    assert {"control", "edited", "difference"} <= set(table["role"])
    assert file.read_bytes() == before


def test_an_empty_edit_is_the_control_bit_for_bit(tmp_path: Path) -> None:
    file = series(tmp_path / "mine.h5ad")
    tree = {**SMALL, "read": {"path": str(file), "dataset": None}, "simulate": {"step_h": 6, "save_every_h": 24}}
    run = pipeline.run(config.parse({**tree, "perturb": {"edits": []}}), tmp_path / "run")
    pairs = zip(*(run.stages[stage]["outputs"] for stage in ("simulate", "perturb")), strict=True)
    for control, edited in (map(store.read_trajectory, map(run.path.joinpath, pair)) for pair in pairs):
        assert all(bool((getattr(control, p) == getattr(edited, p)).all()) for p in ("z", "g", "x", "log_mass"))


@pytest.mark.real
def test_real_worms_give_the_table_of_positions_with_its_floors(tmp_path: Path) -> None:
    try:
        datasets.locate("celegans-epic")
    except DataError as absent:
        pytest.skip(str(absent))
    names = [Path(f.name).stem for f in datasets.entry("celegans-epic").files if f.name.endswith(".csv")]
    worms = sorted(n for n in names if n.startswith("CD200807"))[:5]
    read = {
        "dataset": "celegans-epic",
        "params": {"embryos": worms, "held_out": worms[-1:], "step_min": 15},
        "end_h": 2.5,
    }
    split = {"hold_out": worms[-1:], "start_h": 1.5}
    tree = {**SMALL, "read": read, "split": split, "perturb": {"edits": []}, "simulate": {"save_every_h": 0.25}}
    run = pipeline.run(config.parse(tree), tmp_path / "run")
    table = store.read_table(run.path / "tables/positions.csv")
    assert set(table["split"]) == {"15 min", "30 min", "60 min"}
    assert {"ours", "floor", "repeat"} == set(table["role"])
    still = table[table["model"].str.startswith("no change")].set_index("split")["value"]
    other = table[table["role"] == "repeat"]["value"]
    assert 1 < still["15 min"] < still["30 min"] < still["60 min"] < 20  # µm; cells move, and stay in a 50 µm egg
    assert other.between(1, 10).all()  # aligned, not mirrored: a wrong frame leaves tens of µm
    assert "assembled across embryos" in (run.path / "report.html").read_text(encoding="utf-8")
