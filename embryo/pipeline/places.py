"""Where results may be written: a new folder or one of the same kind, never somebody's file or another's results."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from embryo.core.errors import Problem, StoreError

_LONGEST = 120
_RUN = "run.json"


def require(path: Path, what: str, marks: Sequence[str]) -> None:
    """Raise `StoreError` unless `path` is free for results: absent, empty, or holding results of the same kind.

    Parameters
    ----------
    path
        The folder; not made, and not changed.
    what
        What is to be written there, for the message.
    marks
        Patterns of names, of which results of this kind have at least one.
    """
    require_no_file(path, what)
    if not path.is_dir():
        return
    held = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    if held and (_RUN in held or not any(any(path.glob(mark)) for mark in marks)):
        found = f"a run in {path.name!r}" if _RUN in held else f"a folder {path.name!r} with other things ({held[0]})"
        raise StoreError(Problem(found, f"a new folder, or one of {what}", "choose another --out"), subject="--out")


def require_no_file(path: Path, what: str) -> None:
    """Raise `StoreError` where a file stands in place of a folder, or of one above it."""
    file = next((p for p in (path, *path.parents) if p.exists()), path)
    if file.exists() and not file.is_dir():
        raise StoreError(Problem(f"a file {file.name!r}", "a folder", "choose another --out"), subject=what)


def slug(name: str) -> str:
    """Return a name as that of a file or folder: letters, digits and ``-._``, and no way out of a folder."""
    plain = re.sub(r"[^\w.-]", "-", name).lstrip(".") or "-"
    if len(plain) <= _LONGEST:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain[: _LONGEST - 9]}-{digest}"


def of_run(name: str) -> Path:
    """Return the folder of a run that is given no other: ``runs/NAME``, never outside of ``runs``."""
    return Path("runs") / slug(name)


def alike(names: Sequence[str], what: str) -> list[Problem]:
    """Return a problem for every name that would lie in the folder of an earlier one."""
    first: dict[str, str] = {}
    problems = []
    for name in names:
        other = first.setdefault(slug(name).casefold(), name)
        if other == name and names.count(name) > 1:
            problems.append(Problem(f"two {what}s called {name!r}", "names that differ", "rename or remove one"))
        elif other != name:
            found = f"{what}s {other!r} and {name!r}, which share the folder {slug(name)!r}"
            problems.append(Problem(found, "names that differ in letters or digits", "rename one"))
    return list(dict.fromkeys(problems))
