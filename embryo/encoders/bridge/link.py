"""Bridge to a model that lives in an interpreter of its own: files in, files out, everything that comes back checked.

Some models pin libraries that cannot be installed beside this package. The user puts a small program beside such a
model and says in a ``bridge.json`` how it is started; see `Bridge` for the keys, ``docs/bridge.md`` for the protocol
and `embryo.encoders.bridge.stand_in` for a program that speaks it. For every request the program is started once, as
``command... FOLDER``, in the folder of ``bridge.json``. FOLDER holds ``request.json`` and, to embed, the cells in parts
(``part-00000.h5ad``, ...). The program writes ``part-00000.npz``, ... and at the end ``reply.json``, and exits with 0.
FOLDER is removed in the end, whatever happened.

A ``bridge.json`` names a program that will be run. It is taken only from where the user says, never because it lies in
a folder of weights.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embryo.core.errors import Problem, StoreError
from embryo.encoders.bridge import exchange
from embryo.encoders.inputs.tokens import Profiles
from embryo.encoders.weights import checkpoint

PROTOCOL = 1
BRIDGE, REQUEST, REPLY, STDERR = "bridge.json", "request.json", "reply.json", "stderr.txt"
_SPEAK = "correct the program so that it speaks the protocol of docs/bridge.md"
_SHOWN = 1500  # characters of what the program wrote to stderr
_PYTHON = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")  # of this interpreter, not of the other
AnyReply = TypeVar("AnyReply", bound="Reply")


class Bridge(BaseModel):
    """The contents of ``bridge.json``.

    Parameters
    ----------
    protocol
        Version of the protocol that the program speaks.
    model
        Name of the encoder.
    command
        Program and arguments; relative names are those of the folder of ``bridge.json``. No shell reads it.
    timeout_s
        Seconds that one request may take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    protocol: int
    model: str
    command: list[str] = Field(min_length=1)
    timeout_s: float = Field(3600.0, gt=0)


class Reply(BaseModel):
    """What every ``reply.json`` holds; what else it holds is not read."""

    model_config = ConfigDict(frozen=True, strict=True)
    protocol: int
    model: str
    action: str
    layer: int | None
    pooling: str


class Description(Reply):
    """The ``reply.json`` to ``describe``.

    Parameters
    ----------
    genes
        That the model reads, in its order.
    dims
        Of an embedding with the layer and the pooling of the request.
    species
        Scientific names; the first is the one that data of others are mapped to.
    layers
        Number of layers among which ``layer`` chooses; None where it cannot.
    versions
        Of whatever the embedding depends on, for the provenance.
    """

    genes: list[str] = Field(min_length=1)
    dims: int = Field(ge=1)
    species: list[str] = Field(min_length=1)
    layers: int | None = None
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class Settings:
    """What a request says beside its cells: absolute folder of weights, and the options of the encoder."""

    weights: str
    pooling: str
    layer: int | None
    device: str
    dtype: str
    seed: int


@dataclass(frozen=True)
class Link:
    """One program, ready to be asked.

    Parameters
    ----------
    bridge
        As in ``bridge.json``.
    home
        Its folder.
    settings
        Sent with every request.
    """

    bridge: Bridge
    home: Path
    settings: Settings

    def describe(self) -> Description:
        """Ask what the model reads and gives.

        Raises
        ------
        StoreError
            If the program fails, takes too long, speaks another version, is another model or answers something else.
        """
        with self._asked("describe") as (folder, _):
            found = self._reply(folder, "describe", Description)
        twice = len(found.genes) - len(set(found.genes))
        if twice or not all(found.genes):
            wrong = f"{twice} genes more than once" if twice else "genes without a name"
            raise self._error(Problem(wrong, "every gene once, by name", "correct the program"))
        return found

    def embed(self, parts: Iterable[Profiles], genes: Sequence[str], dims: int) -> Float[np.ndarray, "cells dims"]:
        """Return the embeddings of all parts; the program is started once for them.

        Parameters
        ----------
        parts
            Cells over `genes`; each is on the disk before the next is asked for.
        genes
            As the model described itself.
        dims
            Expected width.

        Raises
        ------
        StoreError
            As `describe` does, or if embeddings are missing, of another shape, other cells or other counts, damaged or
            not finite; all that is wrong at once.
        """
        with self._asked("embed", parts, genes) as (folder, written):
            self._reply(folder, "embed", Reply)
            found = [exchange.read_part(folder, part, dims) for part in written]
        problems = [problem for part in found for problem in part.problems]
        if problems:
            raise self._error(*problems)
        return np.concatenate([part.embedding for part in found] or [np.zeros((0, dims), np.float32)])

    @contextmanager
    def _asked(
        self, action: str, cells: Iterable[Profiles] = (), genes: Sequence[str] = ()
    ) -> Iterator[tuple[Path, list[exchange.Part]]]:
        """Write a request, run the program on it, and give the folder until the block ends."""
        with TemporaryDirectory(prefix="embryo-bridge-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            parts = [exchange.write_part(folder, number, part, genes) for number, part in enumerate(cells)]
            request = {"protocol": PROTOCOL, "model": self.bridge.model, "action": action, **vars(self.settings)}
            request["parts"] = [part.record() for part in parts]
            (folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")
            self._run(folder)
            yield folder, parts

    def _run(self, folder: Path) -> None:
        command, seconds, log = [*self.bridge.command, str(folder)], self.bridge.timeout_s, folder / STDERR
        try:
            code = _run(command, self.home, log, seconds)
        except OSError as error:
            cure = f"correct command in {BRIDGE}"
            raise self._error(Problem(f"a program that does not start ({error})", "one that does", cure)) from error
        if code is None:
            cure = f"raise timeout_s in {BRIDGE}, or see why it hangs"
            raise self._error(Problem(f"no answer in {seconds:g} s{_tail(log)}", "an answer", cure))
        if code:
            found = f"a program that ended with code {code}{_tail(log)}"
            raise self._error(Problem(found, "code 0", "see what it wrote"))

    def _reply(self, folder: Path, action: str, kind: type[AnyReply]) -> AnyReply:
        """Read the reply and compare it with the request."""
        if not (folder / REPLY).is_file():
            raise self._error(Problem(f"no {REPLY}{_tail(folder / STDERR)}", "one when the program ends", _SPEAK))
        try:
            found = kind.model_validate_json((folder / REPLY).read_bytes())
        except ValidationError as error:
            raise self._error(*_wrong(error, REPLY)) from error
        asked = {"protocol": PROTOCOL, "model": self.bridge.model, "action": action}
        asked |= {"layer": self.settings.layer, "pooling": self.settings.pooling}
        problems = [
            Problem(f"{key} {getattr(found, key)!r} in {REPLY}", f"{key} {value!r}", _SPEAK)
            for key, value in asked.items()
            if getattr(found, key) != value
        ]
        if problems:
            raise self._error(*problems)
        return found

    def _error(self, *problems: Problem) -> StoreError:
        return StoreError(*problems, subject=f"bridge to {self.bridge.model}")


def read_bridge(path: Path, model: str) -> Bridge:
    """Return the contents of a ``bridge.json``.

    Parameters
    ----------
    path
        File.
    model
        Encoder that it must be for.

    Raises
    ------
    StoreError
        Naming every key that is missing, unknown or wrong.
    """
    checkpoint.read_json(path)  # says what is no JSON
    try:
        bridge = Bridge.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoreError(*_wrong(error, path.name), subject=path.name) from error
    problems = [
        Problem(f"{key} {found!r}", f"{key} {wanted!r}", "correct it, or take the program that fits")
        for key, found, wanted in (("protocol", bridge.protocol, PROTOCOL), ("model", bridge.model, model))
        if found != wanted
    ]
    if problems:
        raise StoreError(*problems, subject=path.name)
    return bridge


def _run(command: Sequence[str], home: Path, log: Path, seconds: float) -> int | None:
    """Run a program to its end and return its code, None if it took too long; nothing that it started lives on."""
    environment = {key: value for key, value in os.environ.items() if key not in _PYTHON}
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603  the command is the user's own, and no shell reads it
            command,
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=sink,
            start_new_session=True,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(OSError, AttributeError):  # the group may be gone; Windows has none
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()


def _tail(log: Path) -> str:
    """Return the end of what a program wrote to stderr, as part of a sentence."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _SHOWN))
        text = file.read(_SHOWN).decode("utf-8", errors="replace")
    shown = "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip()
    return f"; it wrote: {shown}" if shown else "; it wrote nothing to stderr"


def _wrong(error: ValidationError, name: str) -> list[Problem]:
    said = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors(include_url=False)]
    return [Problem(f"{key}: {what}" if key else what, f"{name} as docs/bridge.md says", _SPEAK) for key, what in said]
