"""Pages of evaluations."""

from pathlib import Path

import pytest

from embryo.core.errors import StoreError
from embryo.pipeline import pages


def test_a_head_stands_once_above_the_pages_of_its_kind(tmp_path: Path) -> None:
    for name, head in (("a", "# One\n"), ("b", "# One\n"), ("c", "# Two\n")):
        (tmp_path / name).mkdir()
        assert pages.keep(tmp_path / name, head, f"## {name}\n").read_text(encoding="utf-8") == f"## {name}\n"
    text = pages.join([tmp_path / name for name in "abc"])
    assert [line for line in text.splitlines() if line] == ["# One", "# Two", "## a", "## b", "## c"]


def test_a_folder_without_a_finished_evaluation_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a finished evaluation"):
        pages.join([tmp_path])
