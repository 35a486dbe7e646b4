"""Pages of evaluations."""

import json
from pathlib import Path

import pytest

from embryo import config
from embryo.core.errors import ConfigError, StoreError
from embryo.pipeline import pages, times
from embryo.pipeline.folder import RunFolder


def test_a_head_stands_once_above_the_pages_of_its_kind(tmp_path: Path) -> None:
    for name, head in (("a", "# One\n"), ("b", "# One\n"), ("c", "# Two\n")):
        (tmp_path / name).mkdir()
        assert pages.keep(tmp_path / name, head, f"## {name}\n").read_text(encoding="utf-8") == f"## {name}\n"
    text = pages.join([tmp_path / name for name in "abc"])
    assert [line for line in text.splitlines() if line] == ["# One", "# Two", "## a", "## b", "## c"]


def test_a_folder_without_a_finished_evaluation_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a finished evaluation"):
        pages.join([tmp_path])


def test_an_evaluation_never_starts_in_the_folder_of_a_run(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", config.Config(name="mine"))
    resolved = times.load(run.path / "config.yaml")
    before = (run.path / "config.yaml").read_text(encoding="utf-8")
    with pytest.raises(StoreError, match="a run in 'run'"):
        times.run(resolved, run.path)
    assert (run.path / "config.yaml").read_text(encoding="utf-8") == before
    assert sorted(p.name for p in run.path.iterdir()) == ["config.yaml", "run.json"]


def test_boards_that_would_share_a_folder_are_refused(tmp_path: Path) -> None:
    boards = [{"name": name, "read": {"dataset": "synthetic"}} for name in ("a b", "a-b")]
    (tmp_path / "two.yaml").write_text(json.dumps({"boards": boards}), encoding="utf-8")
    with pytest.raises(ConfigError, match="share the folder 'a-b'"):
        times.load(tmp_path / "two.yaml")


def test_a_board_that_cannot_be_read_leaves_no_config(tmp_path: Path) -> None:
    absent = config.parse({"read": {"path": str(tmp_path / "absent.h5ad"), "dataset": None}})
    (tmp_path / "absent.yaml").write_text(config.dump(absent), encoding="utf-8")
    with pytest.raises(StoreError, match="found nothing"):
        times.run(times.load(tmp_path / "absent.yaml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
