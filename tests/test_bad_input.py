"""Broken input is refused with what was found, what was expected and the cure; nothing is touched, nothing left."""

import hashlib
import os
from pathlib import Path

import pytest
from broken import BROKEN_FILES, make
from broken.make import Broken

from embryo import read
from embryo.core import errors
from embryo.core.schema import Needs


def contents(folder: Path) -> dict[str, str]:
    """Return every file and folder below `folder` with the digest of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def refuse(case: Broken) -> errors.EmbryoError:
    with pytest.raises(errors.EmbryoError) as caught:
        read.auto(case.path, read.Keys.of(case.keys), needs=Needs(**case.needs))
    return caught.value


# One mistake, one problem: nobody must search for the cause among its consequences. These are more than one mistake.
SEVERAL = {
    "five problems at once": 6,  # negative X and negative counts are two
    "negative counts": 2,  # X and the layer, as in all of expression
    "log-normalised values as counts": 2,
    "size-normalised values as counts": 2,
    "NaN expression": 2,
    "infinite expression": 2,
    "nothing but zeros": 2,
    "one embryo in millimetres": 2,  # too small for µm, and a thousandth of the other
    "csv without units": 2,
}


def test_there_are_many_ways_to_be_broken() -> None:
    assert len(BROKEN_FILES) >= 35
    assert set(SEVERAL) <= set(BROKEN_FILES)


def test_broken_input_is_refused(broken: Broken, tmp_path: Path) -> None:
    before = contents(tmp_path)
    error = refuse(broken)
    assert contents(tmp_path) == before
    assert type(error).__name__ == broken.error
    said = str(error)
    assert [words for words in broken.says if words not in said] == [], said
    assert len(error.problems) == SEVERAL.get(broken.name, 1), said
    if broken.error != make.CONFIG:
        assert f"{broken.path.name}: " in said
    for problem in error.problems:
        assert problem.found.strip(), said
        assert problem.expected.strip(), said
        assert len(problem.cure.split()) > 1, said


def test_a_whole_file_is_not_refused(tmp_path: Path) -> None:
    """The cases break something: what they start from is read without a word."""
    before = make.h5ad(lambda _: None)(tmp_path)
    assert read.auto(before, needs=Needs(counts=True, space=True, tracks=True, cell_types=True)).n_obs == make.N


def test_the_cause_is_kept_for_developers(tmp_path: Path) -> None:
    case = BROKEN_FILES["truncated h5ad"].written(tmp_path)
    error = refuse(case)
    assert isinstance(error.__cause__, OSError)
    assert "Traceback" not in str(error)


@pytest.mark.parametrize("name", ["embryo.h5ad", "tracks.csv", "embryo.zarr"])
def test_files_without_permission(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    (path.mkdir if name.endswith("zarr") else path.touch)()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, who may run this, is never refused
    with pytest.raises(errors.StoreError, match=r"without permission to read.*chmod u\+r"):
        read.auto(path)


def test_all_problems_are_listed_together(tmp_path: Path) -> None:
    error = refuse(BROKEN_FILES["five problems at once"].written(tmp_path))
    said = str(error)
    assert said.splitlines()[0] == f"embryo.h5ad: {len(error.problems)} problems"
    assert [line.split(".")[0].strip() for line in said.splitlines()[1:]] == [
        str(k + 1) for k in range(len(error.problems))
    ]
