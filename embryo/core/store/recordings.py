"""Trajectories of any size: written frame by frame as they are made, gone on with where they stopped, read one by one.

The format is that of `write_trajectory`. Until the last frame is written everything lies in a hidden folder beside the
target, with a record of how many frames are whole.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import Float
from torch import Tensor

from embryo.core.errors import Problem, StoreError
from embryo.core.frame import Frame
from embryo.core.state import State
from embryo.core.store.arrays import TRAJECTORY, about, described, disagreeing, names, not_finite, read_trajectory
from embryo.core.store.files import atomic
from embryo.core.store.groups import DAMAGE, create_group, open_group, reopen_group, unreadable
from embryo.core.store.records import dumps, read_json, write_json
from embryo.core.trajectory import Trajectory

_PARTS = ("z", "g", "x", "log_mass")


@dataclass(frozen=True, eq=False)
class Head:
    """What a trajectory carries besides its states; see `Trajectory`.

    Parameters
    ----------
    times_h
        Times in hours.
    cells
        Names of the particles.
    panel, frame, provenance
        As of the trajectory.
    """

    times_h: Float[Tensor, " times"]
    cells: tuple[str, ...]
    panel: tuple[str, ...] = ()
    frame: Frame = field(default_factory=Frame)
    provenance: Mapping[str, Any] = field(default_factory=dict)


class Recording:
    """A trajectory being written; made by `recording`."""

    def __init__(self, work: Path, head: Head, key: str) -> None:
        self._folder, self._record, self._head, self._key = work / "trajectory.zarr", work / "done.json", head, key
        self._arrays: dict[str, Any] = {}
        self.done = 0

    def begin(self, first: State) -> None:
        """Go on with what lies there, if it is of the same trajectory; else begin anew with the first frame."""
        with suppress(StoreError, KeyError, TypeError, *DAMAGE):
            record = read_json(self._record)
            if record["key"] == self._key:
                self._arrays = reopen_group(self._folder, TRAJECTORY)
                self.done = int(record["frames"])
                self.last()
                return
        self.done = 0
        shutil.rmtree(self._folder.parent, ignore_errors=True)
        self._folder.parent.mkdir(parents=True)
        head, called = self._head, names(self._head.cells)
        times = head.times_h.detach().cpu().numpy()
        forms = {"times_h": (times.shape, times.dtype), "names": (called.shape, called.dtype)}
        for name, part in zip(_PARTS, _numpy(first), strict=True):
            forms[name] = ((len(times), *part.shape), part.dtype)
        attributes = about(head.frame, head.panel, head.provenance)
        self._arrays = create_group(self._folder, TRAJECTORY, forms, attributes, subject=self._folder.name)
        self._arrays["times_h"][...] = times
        self._arrays["names"][...] = called
        self.write(first)

    def write(self, state: State) -> None:
        """Write the next frame.

        Raises
        ------
        StoreError
            If numbers are not finite (log_mass may be -inf).
        """
        parts = dict(zip(_PARTS, _numpy(state), strict=True))
        problems = not_finite(parts)
        if problems:
            raise StoreError(*problems, subject=self._folder.name)
        for name, part in parts.items():
            array = self._arrays[name]
            for a in range(0, len(part), array.chunks[1]):  # one chunk at a time: zarr would hold them all
                array[self.done, a : a + array.chunks[1]] = part[a : a + array.chunks[1]]
        self.done += 1
        write_json({"key": self._key, "frames": self.done}, self._record)

    def last(self) -> State:
        """Return the newest frame, as it was written."""
        return State(*(torch.from_numpy(np.asarray(self._arrays[name][self.done - 1])) for name in _PARTS))

    @property
    def whole(self) -> bool:
        """Whether every frame is written."""
        return self.done == len(self._head.times_h)

    def move_to(self, path: str | Path) -> None:
        """Put the finished trajectory in its place."""
        with atomic(path) as partial:
            os.replace(self._folder, partial)
        shutil.rmtree(self._folder.parent, ignore_errors=True)


@contextmanager
def recording(path: str | Path, head: Head, first: State, *, law: str = "") -> Iterator[Recording]:
    """Write a trajectory frame by frame.

    If the block is left before the last frame is written, by an error or a killed process, `path` stays as it was, and
    the same call goes on: its `Recording` says how many frames are ``done`` and returns the ``last``.

    Parameters
    ----------
    path
        Folder to write, whole or not at all; ``.zarr`` by habit.
    head
        Times, names and the rest.
    first
        State at the first time: it is written, unless an interrupted recording goes on.
    law
        A digest of what makes the further frames. Interrupted recordings of another head, first state or law are not
        gone on with.

    Raises
    ------
    StoreError
        If another process writes the same trajectory, or the head does not fit JSON.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        problem = Problem("another process that writes it", "one at a time", "wait for it, or choose another path")
        raise StoreError(problem, subject=str(path)) from error
    try:
        ongoing = Recording(target.with_name(f".{target.name}.recording"), head, _key(head, first, law))
        ongoing.begin(first)
        yield ongoing
        if ongoing.whole:
            ongoing.move_to(target)
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _key(head: Head, first: State, law: str) -> str:
    words = (head.panel, head.frame.name, head.frame.axes, head.provenance, law)
    digest = hashlib.sha256(dumps(words, subject="head of a trajectory").encode())
    for part in (names(head.cells), head.times_h.detach().cpu().numpy(), *_numpy(first)):
        digest.update(f"{part.dtype} {part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _numpy(state: State) -> list[np.ndarray]:
    return [np.asarray(part.detach().cpu().numpy()) for part in state.parts()]


@dataclass(frozen=True, eq=False)
class Stored:
    """A trajectory on disk, of which one frame at a time is in memory; made by `open_trajectory`.

    Parameters
    ----------
    path
        Its folder.
    times_h, panel, frame, cells, provenance
        As of `Trajectory`.
    """

    path: Path
    times_h: Float[Tensor, " times"]
    panel: tuple[str, ...]
    frame: Frame
    cells: tuple[str, ...]
    provenance: Mapping[str, Any]
    _arrays: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.times_h)

    def at(self, k: int, rows: slice = slice(None)) -> State:
        """Return the state at the k-th time, of some particles or of all.

        Raises
        ------
        StoreError
            If its chunks are damaged, or hold numbers that are not finite.
        """
        frame = range(len(self))[k]
        parts: dict[str, np.ndarray] = {}
        problems = []
        for name in _PARTS:
            try:
                parts[name] = np.asarray(self._arrays[name][frame, rows])
            except DAMAGE as error:
                problems.append(unreadable(name, error))
        problems += not_finite(parts)
        if problems:
            raise StoreError(*problems, subject=str(self.path))
        return State(**{name: torch.from_numpy(part) for name, part in parts.items()})

    def read(self) -> Trajectory:
        """Return the whole trajectory."""
        return read_trajectory(self.path)


def open_trajectory(path: str | Path) -> Stored:
    """Open a trajectory of any size: its states are read when they are asked for.

    Raises
    ------
    StoreError
        As `read_trajectory`, but for what only its states could tell.
    """
    attributes, arrays, problems = open_group(path, TRAJECTORY)
    loaded: dict[str, Any] = {}
    for name in {"times_h", "names"} & set(arrays):
        try:
            loaded[name] = np.asarray(arrays[name][...])
        except DAMAGE as error:
            problems.append(unreadable(name, error))
    cells, panel, frame = described(loaded.pop("names", None), attributes, problems)
    problems += disagreeing({k: v for k, v in arrays.items() if k != "names"}, cells, panel) + not_finite(loaded)
    if problems:
        raise StoreError(*problems, subject=str(path))
    times_h = torch.from_numpy(loaded["times_h"])
    states = {name: arrays[name] for name in _PARTS}
    return Stored(Path(path), times_h, panel, frame, cells, attributes.get("provenance", {}), states)
