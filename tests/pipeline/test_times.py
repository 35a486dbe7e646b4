"""The evaluation of dynamics as one job."""

from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import yaml

from embryo.core import store, table
from embryo.core.errors import ConfigError
from embryo.evaluate.time import candidates, pairs
from embryo.pipeline import pages, timeboards, times, times_page, timescores


@pytest.fixture
def config(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four stages of a drifting cloud, and a config; the candidates are those that cost nothing."""
    rows = [(t, t + rng.normal(), 0.5 * t + rng.normal()) for t in range(4) for _ in range(40)]
    pd.DataFrame(rows, columns=["samples", "x1", "x2"]).to_csv(tmp_path / "series.csv", index=False)
    tree = {
        "name": "try",
        "boards": [
            {
                "name": "a drift", "read": {"path": str(tmp_path / "series.csv"), "time_unit": "h"},
                "embed": {"encoder": "pca", "dims": 2}, "hold_out": "interior", "notes": ["Drawn for a test."],
            },
        ],
    }  # fmt: skip
    (tmp_path / "try.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    cheap = candidates.interpolant("entropic midpoint", partial(pairs.unbalanced, epsilon=0.1), None)
    monkeypatch.setattr(candidates, "learned", lambda **_: (cheap,))
    return tmp_path / "try.yaml"


def test_a_table_and_a_page_are_left_with_floors_ceiling_and_verdicts(config: Path, tmp_path: Path) -> None:
    said: list[str] = []
    page = times.run(times.load(config), tmp_path / "out", said=lambda board, what: said.append(f"{board}: {what}"))
    rows = store.read_table(tmp_path / "out/table.csv")
    assert list(rows.columns[: len(table.COLUMNS)]) == list(table.COLUMNS)
    assert set(rows["split"]) == {"t = 1 h, interpolation", "t = 2 h, interpolation"}
    assert {"ours", "floor", "ceiling", "difference"} <= set(rows["role"])
    assert {"copy previous", "copy next", "McCann midpoint", "unbalanced midpoint"} <= set(rows["model"])
    assert (rows.loc[rows["model"] == "embryo", "n_seeds"] == 5).all()
    text = page.read_text(encoding="utf-8")
    assert "Drawn for a test." in text
    assert "better than" in text
    assert "held out inside" in text
    assert "*a drift.* One stage is held out at a time." in text
    assert "Commit" in text
    assert said[0].startswith("a drift: 160 cells of 1 embryos at 4 times")
    assert text.index("| board | split | ours |") < text.index("One stage is held out") < text.index("### a drift")
    assert text.index("### a drift") < text.index("| model | role |") < text.index("### All verdicts")
    assert not [s for s in text.split("### All verdicts")[0].splitlines() if s.startswith("- energy distance")]
    assert pages.join([tmp_path / "out"]).startswith("# Dynamics")
    html = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert html.index("How ours stands") < html.index("Mind") < html.index("Numbers") < html.index("All verdicts")
    assert (tmp_path / "out/report.html").is_file()


def test_what_was_judged_is_not_judged_again(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times.run(times.load(config), tmp_path / "out")
    before = store.read_table(tmp_path / "out/table.csv")
    monkeypatch.setattr(timescores, "judge", None)  # calling it would fail
    times.run(times.load(config), tmp_path / "out")
    pd.testing.assert_frame_equal(before, store.read_table(tmp_path / "out/table.csv"))
    (tmp_path / "out/boards/a-drift/00.json").unlink()
    with pytest.raises(TypeError):
        times.run(times.load(config), tmp_path / "out")


def test_halves_of_cells_are_judged_beside_the_training_half(config: Path, tmp_path: Path) -> None:
    found = times.load(config)
    board = found.boards[0].model_copy(update={"kind": "cells"})
    times.run(found.model_copy(update={"boards": [board]}), tmp_path / "out")
    rows = store.read_table(tmp_path / "out/table.csv")
    assert set(rows["split"]) == {"t = 3 h, other half of the cells"}
    assert rows.loc[rows["model"] == timescores.SAME, "role"].unique().tolist() == ["ceiling"]


def test_every_kind_of_board_says_how_it_was_judged_and_once(config: Path) -> None:
    board = times.load(config).boards[0]
    given = board.model_copy(update={"embed": board.embed.model_copy(update={"encoder": "precomputed"})})
    assert times_page.notes(board) == ("Drawn for a test.",)
    assert "precomputed" in times_page.notes(given)[1]
    assert set(times_page.HOW) == set(get_args(timeboards.Kind))
    kinds: list[timeboards.Kind] = ["times", "law", "times", "embryos", "cells"]
    rows = pd.DataFrame({"split": []})
    found = [times_page.Found(f"b{k}", "", "", rows, {}, (), {}, kind) for k, kind in enumerate(kinds)]
    page = times_page.markdown("try", found, {"commit": "c", "made": "2026-01-01", "seed": 0})
    lines = [line for line in page.splitlines() if line.startswith("*b")]
    assert [line.split("*")[1] for line in lines] == ["b0, b2.", "b1.", "b3.", "b4."]
    by_kind = dict(zip(("times", "law", "embryos", "cells"), lines, strict=True))
    assert {k for k, line in by_kind.items() if "one half of the truth" in line} == {"times", "cells"}
    assert {k for k, line in by_kind.items() if "draws of the truth" in line} == {"times", "cells"}
    assert {k for k, line in by_kind.items() if "trusted law" in line} == {"times"}
    assert "Nothing is held out" in by_kind["law"]
    assert "interval over embryos" in by_kind["embryos"]


def test_bad_configs_are_told_whole(config: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(config.read_text(encoding="utf-8"))
    twice = {**tree, "boards": tree["boards"] * 2}
    (tmp_path / "twice.yaml").write_text(yaml.safe_dump(twice), encoding="utf-8")
    with pytest.raises(ConfigError, match="two boards called 'a drift'"):
        times.load(tmp_path / "twice.yaml")
    with pytest.raises(ConfigError, match="seeds = 2"):
        times.load(config, ("seeds=2",))
    tree["boards"][0]["hold_outs"] = "later"
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(ConfigError, match="hold_outs"):
        times.load(tmp_path / "odd.yaml")


def test_the_config_of_a_run_is_a_board_too() -> None:
    root = Path(__file__).parents[2] / "configs"
    found = times.load(root / "demo.yaml")
    assert [b.name for b in found.boards] == ["demo"]
    assert found.boards[0].counts_grow


@pytest.mark.parametrize("name", ["blastocyst", "celegans", "snapshots", "stvcr"])
def test_the_configs_that_come_along_are_right(name: str) -> None:
    found = times.load(Path(__file__).parents[2] / f"configs/evaluate/time-{name}.yaml")
    assert found.name == f"time-{name}"
    assert all(isinstance(b, timeboards.TimeBoard) for b in found.boards)
