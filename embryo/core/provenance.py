"""Provenance: whatever is needed to make a result again, and nothing about whose machine made it."""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

_PACKAGE = Path(__file__).parents[1]


def provenance(seed: int | None, config: Mapping[str, Any], datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of how a result is made.

    Parameters
    ----------
    seed
        Seed of everything random; None where nothing was drawn.
    config
        The resolved config. Of an absolute path only the last part is kept: folders differ between machines.
    datasets
        Checksum (SHA-256) of each dataset by name.

    Returns
    -------
    dict
        ``made`` (UTC, ISO 8601), ``seed``, ``config``, ``datasets``, ``packages`` (version of embryo and of each of its
        dependencies), ``python``, ``platform`` (system and processor type), ``commit`` (with ``-dirty`` where the
        package differs from it; None unless the package runs from a git checkout).
    """
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "config": _without_folders(config),
        "datasets": _without_folders(datasets),
        "packages": _packages(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": _platform(),
        "commit": _commit(),
    }


def _packages() -> dict[str, str]:
    """Versions of embryo and of what it requires, extras left out; a package that is not installed is left out."""
    versions = {}
    try:
        required = metadata.requires("embryo") or []
    except metadata.PackageNotFoundError:
        return {}
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    for name in ["embryo", *sorted(names)]:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _platform() -> str:
    return f"{platform.system()} {platform.machine()}"


def _commit() -> str | None:
    """Commit of the checkout that tracks this very file; None outside one, so that no other repository is named."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", str(_PACKAGE))
    return f"{commit}-dirty" if commit and changed else commit


def _git(*words: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603  the words are ours
            [git, *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(entry) for entry in value]
    if isinstance(value, str | PurePath):
        text = str(value)
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(text).is_absolute():
                return kind(text).name
        return text
    return value
