"""Whole or not at all: whatever goes wrong midway, the old stays and nothing half-written remains."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embryo.core.errors import StoreError
from embryo.core.store import atomic
from embryo.core.store.files import check_format, find

Put = Callable[[Path, str], None]


def put_file(path: Path, text: str) -> None:
    path.write_text(text)


def put_folder(path: Path, text: str) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "text").write_text(text)


def content(path: Path) -> str:
    return (path / "deep" / "text").read_text() if path.is_dir() else path.read_text()


puts = pytest.mark.parametrize("put", [put_file, put_folder])


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@puts
def test_what_the_block_writes_appears_and_replaces(put: Put, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folders" / "x.png"
    for text in ("first", "second"):
        with atomic(target) as partial:
            assert partial.parent == target.parent
            assert partial.suffix == ".png"
            put(partial, text)
            assert not target.exists() or content(target) == "first"
        assert content(target) == text
    assert [p.name for p in target.parent.iterdir()] == ["x.png"]


@pytest.mark.parametrize(("old", "new"), [(put_file, put_folder), (put_folder, put_file)])
def test_a_file_may_replace_a_folder_and_back(old: Put, new: Put, tmp_path: Path) -> None:
    target = tmp_path / "x"
    old(target, "old")
    with atomic(target) as partial:
        new(partial, "new")
    assert content(target) == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@puts
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_block_leaves_the_old_and_nothing_else(put, kept, error, tmp_path: Path) -> None:
    target = tmp_path / "x"
    if kept:
        put(target, "old")

    def broken() -> None:
        with atomic(target) as partial:
            put(partial, "new")
            raise error

    with pytest.raises(error):
        broken()
    assert [p.name for p in tmp_path.iterdir()] == (["x"] if kept else [])
    if kept:
        assert content(target) == "old"


@puts
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_failing_swap_leaves_the_old_and_nothing_else(put, kept, fails_at, tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "x"
    if kept:
        put(target, "old")
    calls = []
    replace = os.replace

    def failing(a: Path, b: Path) -> None:
        calls.append(a)
        if len(calls) == fails_at:
            raise OSError(errno.EIO, "the disk said no")
        replace(a, b)

    monkeypatch.setattr(os, "replace", failing)
    swaps = 2 if kept and put is put_folder else 1
    if fails_at <= swaps:
        with pytest.raises(OSError, match="the disk said no"), atomic(target) as partial:
            put(partial, "new")
        assert [p.name for p in tmp_path.iterdir()] == (["x"] if kept else [])
        assert not kept or content(target) == "old"
    else:
        with atomic(target) as partial:
            put(partial, "new")
        assert content(target) == "new"


def test_a_block_that_writes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(StoreError, match="nothing written"), atomic(tmp_path / "x"):
        pass
    assert (tmp_path / "x").read_text() == "old"


def test_a_place_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), atomic(tmp_path / "file" / "x"):
        pytest.fail("the block must not run")
    with pytest.raises(StoreError, match="No space left"), atomic(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ConnectionError), atomic(tmp_path / "x"):
        raise ConnectionError
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    put_folder(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic(tmp_path / "link") as partial:
        put_folder(partial, "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


def test_two_writers_of_one_path_do_not_disturb_each_other(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with atomic(target) as first:
        put_folder(first, "first")
        with atomic(target) as second:
            put_folder(second, "second")
        assert content(target) == "second"
        assert content(first) == "first"
    assert content(target) == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_leftovers_of_dead_processes_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead, alive = dead_pid(), os.getppid()
    put_folder(tmp_path / f".partial-new-{dead}-0123abcd-x", "half")
    put_file(tmp_path / f".partial-new-{os.getpid()}-0123abcd-x", "an earlier process of this number")
    put_folder(tmp_path / f".partial-new-{alive}-0123abcd-x", "still at work")
    put_file(tmp_path / f".partial-new-{dead}-0123abcd-other-x", "of another file")
    with atomic(tmp_path / "x") as partial:
        put_file(partial, "new")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"x", f".partial-new-{alive}-0123abcd-x", f".partial-new-{dead}-0123abcd-other-x"}


def test_an_original_swapped_out_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    name = f".partial-old-{dead_pid()}-0123abcd-x"
    put_folder(tmp_path / name, "old")
    assert content(find(tmp_path / "x", "anything")) == "old"
    put_folder(tmp_path / name, "older")
    with atomic(tmp_path / "x") as partial:
        put_folder(partial, "new")
    assert content(tmp_path / "x") == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
@pytest.mark.parametrize("moment", ["writing", "swapping"])
def test_a_process_killed_midway_leaves_the_old_to_be_found(moment: str, tmp_path: Path) -> None:
    target = tmp_path / "x"
    put_folder(target, "old")
    script = f"""
import os, signal, sys
from embryo.core.store.files import atomic
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
replace, calls = os.replace, []
def second(a, b):
    calls.append(a)
    die() if len(calls) == 2 else replace(a, b)
with atomic(sys.argv[1]) as partial:
    partial.mkdir()
    if {moment!r} == "writing": die()
    os.replace = second
"""
    done = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert any(p.name.startswith(".partial-new") for p in tmp_path.iterdir())
    assert content(find(target, "anything")) == "old"
    with atomic(target) as partial:
        put_folder(partial, "new")
    assert content(target) == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_missing_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file or folder; expected a coupling"):
        find(tmp_path / "x", "a coupling")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({}, "embryo did not write"),
        ({"format": "other", "version": 1}, "format 'other'; expected format mine"),
        ({"format": "mine"}, "version 'None'"),
        ({"format": "mine", "version": "x"}, "version 'x'; expected a number up to 2"),
        ({"format": "mine", "version": 0}, "version '0'"),
        ({"format": "mine", "version": True}, "version 'True'"),
        ({"format": "mine", "version": 3}, "mine version 3; expected up to version 2. To cure it: update embryo"),
    ],
)
def test_other_formats_and_newer_versions_are_told(header: dict, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        check_format(header, "mine", 2, subject="x")
    check_format({"format": "mine", "version": 2}, "mine", 2, subject="x")
    check_format({"format": "mine", "version": "1"}, "mine", 2, subject="x")
