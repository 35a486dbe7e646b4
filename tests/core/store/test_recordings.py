"""Trajectories frame by frame: the same files as when written at once, gone on with after a stop, read one by one."""

import filecmp
from pathlib import Path

import pytest
import torch

from embryo.core.errors import StoreError
from embryo.core.frame import BODY, Frame
from embryo.core.store import Head, open_trajectory, read_trajectory, recording, write_trajectory
from embryo.core.trajectory import Trajectory

PARTS = ("times_h", "z", "g", "x", "log_mass")


def build(*, genes: int = 2, space: int = 3, seed: int = 0) -> Trajectory:
    rng = torch.Generator().manual_seed(seed)
    z, g, x = (torch.randn(3, 4, n, generator=rng) for n in (5, genes, space))
    times_h, log_mass = torch.arange(3) / 3, torch.randn(3, 4, generator=rng)
    panel = tuple(f"gene-{k}" for k in range(genes))
    return Trajectory(times_h, z, g, x, log_mass, panel, Frame(BODY), ("a", "b", "c", "d"), {"seed": 3})


def assert_same(a: Trajectory, b: Trajectory) -> None:
    assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in PARTS)
    assert (a.panel, a.frame, a.cells, a.provenance) == (b.panel, b.frame, b.cells, b.provenance)


def head(t: Trajectory, **other: object) -> Head:
    kept = {"times_h": t.times_h, "cells": t.cells, "panel": t.panel, "frame": t.frame, "provenance": t.provenance}
    return Head(**(kept | other))


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("genes", "space"), [(2, 3), (0, 0)])
def test_frame_by_frame_gives_the_files_that_writing_at_once_gives(tmp_path: Path, genes: int, space: int) -> None:
    t = build(genes=genes, space=space)
    t.log_mass[1, 2] = -torch.inf
    with recording(tmp_path / "a.zarr", head(t), t.at(0)) as ongoing:
        for k in range(ongoing.done, len(t)):
            ongoing.write(t.at(k))
    write_trajectory(t, tmp_path / "b.zarr")
    assert_same(read_trajectory(tmp_path / "a.zarr"), t)
    same = files(tmp_path / "a.zarr")
    assert same == files(tmp_path / "b.zarr")
    assert filecmp.cmpfiles(tmp_path / "a.zarr", tmp_path / "b.zarr", same, shallow=False)[0] == [*same]
    assert {p.name for p in tmp_path.iterdir()} == {"a.zarr", "b.zarr"}


def test_what_was_interrupted_goes_on_and_the_old_stays_until_then(tmp_path: Path) -> None:
    old, t = build(seed=1), build()
    write_trajectory(old, tmp_path / "x.zarr")

    def stop() -> None:
        with recording(tmp_path / "x.zarr", head(t), t.at(0)) as ongoing:
            ongoing.write(t.at(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert_same(read_trajectory(tmp_path / "x.zarr"), old)
    with recording(tmp_path / "x.zarr", head(t), t.at(0)) as ongoing:
        assert ongoing.done == 2
        assert all(torch.equal(a, b) for a, b in zip(ongoing.last().parts(), t.at(1).parts(), strict=True))
        ongoing.write(t.at(2))
    assert_same(read_trajectory(tmp_path / "x.zarr"), t)


@pytest.mark.parametrize("what", ["start", "times", "provenance", "law", "half a frame"])
def test_an_interrupted_recording_of_something_else_is_not_gone_on_with(tmp_path: Path, what: str) -> None:
    t = build()
    with recording(tmp_path / "x.zarr", head(t), t.at(0)) as ongoing:
        ongoing.write(t.at(1))
    hidden = tmp_path / ".x.zarr.recording"
    assert hidden.exists()
    assert not (tmp_path / "x.zarr").exists()
    changed, first, law = head(t), t.at(0), ""
    if what == "start":
        first = t.at(1)
    elif what == "times":
        changed = head(t, times_h=t.times_h + 1)
    elif what == "provenance":
        changed = head(t, provenance={"seed": 4})
    elif what == "law":
        law = "another"
    else:
        chunk = hidden / "trajectory.zarr" / "x" / "c" / "1" / "0" / "0"
        chunk.write_bytes(chunk.read_bytes()[:-3])
    with recording(tmp_path / "x.zarr", changed, first, law=law) as ongoing:
        assert ongoing.done == 1


def test_one_frame_is_read_without_the_others(tmp_path: Path) -> None:
    t = build()
    write_trajectory(t, tmp_path / "x.zarr")
    stored = open_trajectory(tmp_path / "x.zarr")
    assert (len(stored), stored.cells, stored.panel, stored.frame) == (3, t.cells, t.panel, t.frame)
    assert stored.provenance == t.provenance
    assert torch.equal(stored.times_h, t.times_h)
    for a, b in zip(stored.at(-1, slice(1, 3)).parts(), t.at(-1)[1:3].parts(), strict=True):
        assert torch.equal(a, b)
    assert_same(stored.read(), t)
    (tmp_path / "x.zarr" / "g" / "c" / "1" / "0" / "0").write_bytes(b"cut")
    assert all(torch.equal(getattr(stored.at(2), p), getattr(t.at(2), p)) for p in PARTS[1:])
    with pytest.raises(StoreError, match="array 'g' that cannot be read"):
        stored.at(1)


def test_one_writer_at_a_time_and_finite_numbers_only(tmp_path: Path) -> None:
    t = build()
    with recording(tmp_path / "x.zarr", head(t), t.at(0)) as ongoing:
        with pytest.raises(StoreError, match="another process that writes it"):
            recording(tmp_path / "x.zarr", head(t), t.at(0)).__enter__()
        t.x[1] = torch.nan
        with pytest.raises(StoreError, match="12 of 12 numbers of x NaN"):
            ongoing.write(t.at(1))


def test_a_lost_frame_is_told_when_the_file_is_opened(tmp_path: Path) -> None:
    write_trajectory(build(), tmp_path / "x.zarr")
    (tmp_path / "x.zarr" / "z" / "c" / "1" / "0" / "0").unlink()
    with pytest.raises(StoreError, match="1 of 3 chunks of 'z' lost"):
        open_trajectory(tmp_path / "x.zarr")
