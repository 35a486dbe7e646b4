"""Written whole or not at all: a temporary sibling takes the target's place only when it is complete."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from embryo.core.errors import Problem, StoreError

_NEW, _OLD = "new", "old"
_SIBLING = re.compile(r"\.partial-(new|old)-(\d+)-([0-9a-f]{8})-(.+)", re.DOTALL)
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG}
_open: set[Path] = set()


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the block writes there becomes `path` when the block ends well.

    The temporary name keeps the suffix, and may become a file or a folder; nothing exists there yet. Folders above
    `path` are made. If the block raises, or is interrupted, `path` stays as it was and the temporary is removed. What a
    killed process left beside `path` is put right by the next write.

    Parameters
    ----------
    path
        The file or folder to write or to replace.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    StoreError
        If the place cannot be written, the disk is full, or the block wrote nothing.
    """
    target = Path(path).resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    settle(target)
    partial = _sibling(target, _NEW)
    _open.add(partial)
    try:
        yield partial
        _finish(partial, target)
    except OSError as error:
        if error.errno in _UNWRITABLE:
            raise _unwritable(path, error) from error
        raise
    finally:
        _remove(partial)
        _open.discard(partial)


def settle(target: Path) -> None:
    """Put right what killed processes left beside `target`: bring a swapped-out original back, remove the rest.

    Parameters
    ----------
    target
        A file or folder; siblings of processes that are still alive are left alone.
    """
    with suppress(OSError):
        for sibling in sorted(target.parent.iterdir()):
            match = _SIBLING.fullmatch(sibling.name)
            if match is None or match[4] != target.name or _in_use(sibling, int(match[2])):
                continue
            if match[1] == _OLD and not target.exists():
                os.replace(sibling, target)
            else:
                _remove(sibling)


def find(path: str | Path, what: str) -> Path:
    """Return `path` if something is there.

    Parameters
    ----------
    path
        File or folder to read.
    what
        What it should be, for the message.

    Raises
    ------
    StoreError
        If nothing is there.
    """
    target = Path(path)
    if not target.exists():
        settle(target.resolve())
    if not target.exists():
        problem = Problem("no such file or folder", what, "check the path, or run the step that writes it")
        raise StoreError(problem, subject=str(path))
    return target


def check_format(header: Mapping[str, Any], name: str, version: int, *, subject: str) -> None:
    """Require that a header names this format, in a version that this package reads.

    Parameters
    ----------
    header
        With the keys ``format`` and ``version``.
    name, version
        The format, and its newest known version.
    subject
        The file, for the message.

    Raises
    ------
    StoreError
        If the format is another, or the version is newer or no number.
    """
    found = header.get("format")
    if found != name:
        what = f"format {found!r}" if found is not None else "a file that embryo did not write"
        raise StoreError(Problem(what, f"format {name}", "give the right file"), subject=subject)
    number = str(header.get("version"))
    if not number.isdecimal() or int(number) < 1:
        raise StoreError(Problem(f"version {number!r}", f"a number up to {version}", "write it again"), subject=subject)
    if int(number) > version:
        problem = Problem(
            f"{name} version {number}",
            f"up to version {version}",
            "update embryo, which wrote this with a newer release",
        )
        raise StoreError(problem, subject=subject)


def _finish(partial: Path, target: Path) -> None:
    if not partial.exists():
        problem = Problem("nothing written", "a file or a folder", "write to the path that atomic() yields")
        raise StoreError(problem, subject=str(target))
    if partial.is_file():
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
    if not target.exists() or (partial.is_file() and target.is_file()):
        os.replace(partial, target)
        return
    old = _sibling(target, _OLD)
    _open.add(old)
    try:
        os.replace(target, old)
        try:
            os.replace(partial, target)
        except BaseException:
            os.replace(old, target)
            raise
        _remove(old)
    finally:
        _open.discard(old)


def _sibling(target: Path, role: str) -> Path:
    return target.with_name(f".partial-{role}-{os.getpid()}-{secrets.token_hex(4)}-{target.name}")


def _in_use(sibling: Path, pid: int) -> bool:
    if pid == os.getpid():
        return sibling in _open
    if os.name != "posix":  # no harmless way to ask
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _unwritable(path: str | Path, error: OSError) -> StoreError:
    reason = error.strerror or type(error).__name__
    problem = Problem(
        f"a place that cannot be written ({reason})", "a writable folder with room", "choose another folder"
    )
    return StoreError(problem, subject=str(path))
