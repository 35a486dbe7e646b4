"""Where results may be written."""

from pathlib import Path

import pytest

from embryo.core.errors import StoreError
from embryo.pipeline import places


def test_a_new_an_empty_and_a_folder_of_the_same_kind_are_free(tmp_path: Path) -> None:
    places.require(tmp_path / "new", "an evaluation", ["boards"])
    places.require(tmp_path, "an evaluation", ["boards"])
    (tmp_path / "boards").mkdir()
    places.require(tmp_path, "an evaluation", ["boards"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "says"), [("run.json", "a run in"), ("thesis.txt", r"other things \(thesis\.txt\)")], ids=["run", "other"]
)
def test_somebody_s_folder_is_not_free(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(StoreError, match=says):
        places.require(tmp_path, "an evaluation", ["boards"])


def test_a_run_is_not_free_even_with_the_marks_of_an_evaluation(tmp_path: Path) -> None:
    (tmp_path / "boards").mkdir()
    (tmp_path / "run.json").write_text("")
    with pytest.raises(StoreError, match="a run in"):
        places.require(tmp_path, "an evaluation", ["boards"])


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/inside"):
        with pytest.raises(StoreError, match="a file 'file'"):
            places.require(path, "an evaluation", ["boards"])


@pytest.mark.parametrize("name", ["../x", "..", "/etc", "a/b", "", "a b", "x" * 300, "µ é"])
def test_a_slug_stays_where_it_is_put(tmp_path: Path, name: str) -> None:
    made = tmp_path / places.slug(name)
    assert made.resolve().parent == tmp_path.resolve()
    assert len(made.name) <= 120
    assert places.slug("x" * 300) != places.slug("x" * 301)


def test_names_that_share_a_folder_are_told() -> None:
    assert not places.alike(["a", "b"], "board")
    told = places.alike(["a b", "a-b", "c", "c"], "board")
    assert [p.found for p in told] == ["boards 'a b' and 'a-b', which share the folder 'a-b'", "two boards called 'c'"]


@pytest.mark.parametrize("name", ["../x", "..", "/etc/x", "a/../../b"])
def test_a_run_of_any_name_lies_in_runs(name: str) -> None:
    assert places.of_run(name).resolve().parent == Path("runs").resolve()
    assert places.of_run("demo") == Path("runs/demo")
