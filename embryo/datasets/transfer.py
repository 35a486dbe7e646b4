"""Bytes: fetch the files of a dataset, find them again, and never trust a file whose checksum is wrong.

One mechanism for everybody: a mirror is a folder that holds the files under the paths that the registry names. The
cache is such a folder, so a cache can be somebody else's mirror. Nothing here touches the network except `fetch`.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

import pooch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from embryo.core.errors import DataError, Problem
from embryo.datasets.registry import Dataset, File, entry

CACHE_VARIABLE = "EMBRYO_DATA_DIR"
MIRROR_VARIABLE = "EMBRYO_DATA_MIRROR"
_BLOCK = 1 << 20
_TIMEOUT_S = 60


def cache_dir() -> Path:
    """Return the folder that fetched files are kept in: ``EMBRYO_DATA_DIR``, else the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(pooch.os_cache("embryo"))


def fetch(
    dataset: str | Dataset,
    *,
    mirror: str | Path | None = None,
    only: Sequence[str] | None = None,
    progress: bool = True,
) -> Path:
    """Bring the files of a dataset into the cache; the only function of embryo that uses the network.

    Files that are already there and right are kept, so an interrupted fetch is taken up where it stopped. Every file
    is checked against its checksum before it appears under its name. Where the registry knows no checksum, the one
    of the first fetch is recorded in a json beside the file and checked afterwards.

    Parameters
    ----------
    dataset
        Name, or an entry of your own.
    mirror
        Folder to copy from instead of the network; the folder named by ``EMBRYO_DATA_MIRROR`` by default.
    only
        Patterns of file names, such as ``["E9.5*"]``; all files by default.
    progress
        Whether to show a progress bar on stderr.

    Returns
    -------
    Path
        Folder of the dataset in the cache.

    Raises
    ------
    DataError
        Listing every file that could not be had or is not the bytes that the registry names. Right files stay.
    """
    known = _entry(dataset)
    files, root, source = chosen(known, only), cache_dir(), _mirror(mirror)
    problems = []
    with _bar(files, progress) as bar:
        for file in files:
            if _wrong(root, file) is not None:
                problem = _copy(source, root, file, bar) if source else _download(known, root, file)
                problems += [problem] if problem else []
            bar.done(file)
    if problems:
        raise DataError(*problems, subject=f"dataset {known.name}")
    return root / known.folder


def locate(dataset: str | Dataset, *, only: Sequence[str] | None = None) -> Path:
    """Return the folder that holds the files of a dataset, checked; never uses the network.

    The cache is looked at first, then the mirror that ``EMBRYO_DATA_MIRROR`` names, which is read in place.

    Parameters
    ----------
    dataset
        Name, or an entry of your own.
    only
        Patterns of file names that are needed; all by default.

    Raises
    ------
    DataError
        Listing every missing or wrong file, if neither place holds the dataset.
    """
    known = _entry(dataset)
    files = chosen(known, only)
    places = [place for place in (cache_dir(), _mirror(None)) if place]
    found: list[Problem] = []
    for place in places:
        problems = [problem for file in files if (problem := _wrong(place, file))]
        if not problems:
            return place / known.folder
        if any((place / file.path).exists() for file in files):
            found += problems
    raise DataError(*(found or [_absent(known, places)]), subject=f"dataset {known.name}")


def chosen(dataset: Dataset, only: Sequence[str] | None) -> tuple[File, ...]:
    """Return the files whose name matches one of the patterns; all of them for None.

    Raises
    ------
    DataError
        For every pattern that matches no file.
    """
    if only is None:
        return dataset.files
    problems = [
        Problem(
            f"no file that matches {pattern!r}",
            f"patterns of names such as {dataset.files[0].name}",
            f"choose among the {len(dataset.files)} files of embryo.datasets.entry({dataset.name!r}).files",
        )
        for pattern in only
        if not any(fnmatch(file.name, pattern) for file in dataset.files)
    ]
    if problems:
        raise DataError(*problems, subject=f"dataset {dataset.name}")
    return tuple(f for f in dataset.files if any(fnmatch(f.name, pattern) for pattern in only))


def checksum(path: Path, root: Path, file: File) -> str:
    """Return the sha256 of a file as registered, or as recorded at its first fetch, or of its bytes."""
    recorded = _recorded(root, file)
    if file.sha256 or recorded:
        return file.sha256 or recorded or ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _entry(dataset: str | Dataset) -> Dataset:
    return dataset if isinstance(dataset, Dataset) else entry(dataset)


def _mirror(given: str | Path | None) -> Path | None:
    named = given if given is not None else os.environ.get(MIRROR_VARIABLE)
    if not named:
        return None
    path = Path(named).expanduser()
    if not path.is_dir():
        where = "--mirror" if given is not None else MIRROR_VARIABLE
        raise DataError(
            Problem(f"no folder {str(path)!r} ({where})", "a folder that holds the dataset", "correct the path")
        )
    return path


def _absent(dataset: Dataset, places: Sequence[Path]) -> Problem:
    cure = f"run `embryo data fetch {dataset.name}` (with --mirror DIR to copy from a folder), or set {MIRROR_VARIABLE}"
    looked = " or ".join(str(place) for place in places)
    return Problem(f"no file of it in {looked}", f"{len(dataset.files)} files below {dataset.folder}/", cure)


def _wrong(root: Path, file: File) -> Problem | None:
    """Return what is wrong with a file below `root`, or None."""
    path, cure = root / file.path, "fetch the dataset again; right files are kept"
    if not path.is_file():
        return Problem(f"no file {file.path} in {root}", _expected(file), cure)
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        return Problem(f"{file.path} of {size} bytes in {root}", f"{file.bytes} bytes", cure)
    expected = file.sha256 or _recorded(root, file)
    if expected is None:
        return None
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != expected:
        return Problem(f"{file.path} with sha256 {digest} in {root}", f"sha256 {expected}", cure)
    return None


def _expected(file: File) -> str:
    return f"sha256 {file.sha256}" if file.sha256 else "the file"


def _record(root: Path, file: File) -> Path:
    return root / f"{file.path}.sha256.json"


def _recorded(root: Path, file: File) -> str | None:
    path = _record(root, file)
    if file.sha256 or not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except (ValueError, KeyError, TypeError):
        return "unreadable record"


def _remember(root: Path, file: File, digest: str) -> None:
    """Write the checksum of a file that the registry has none for beside it."""
    path = _record(root, file)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    record = {"sha256": digest, "bytes": (root / file.path).stat().st_size, "url": file.url}
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def _copy(mirror: Path, root: Path, file: File, bar: "_Bar") -> Problem | None:
    """Copy one file from a mirror through a temporary sibling; return what was wrong."""
    source, target = mirror / file.path, root / file.path
    if not source.is_file():
        return Problem(f"no file {file.path} in mirror {mirror}", _expected(file), "choose a mirror that holds it")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with source.open("rb") as reader, part.open("wb") as writer:
            digest = _stream(reader, writer, bar)
        expected = file.sha256 or _recorded(mirror, file)
        if expected and digest != expected:
            cure = "repair the mirror; a truncated or edited file shows up so"
            found = f"{file.path} of {part.stat().st_size} bytes with sha256 {digest} in mirror {mirror}"
            return Problem(found, f"{file.bytes or 'unknown'} bytes with sha256 {expected}", cure)
        os.replace(part, target)
    except OSError as error:
        return Problem(f"{file.path}: {error.strerror or error}", "a file that can be copied", "see the reason given")
    finally:
        part.unlink(missing_ok=True)
    if file.sha256 is None:
        _remember(root, file, digest)
    return None


def _stream(reader: BinaryIO, writer: BinaryIO, bar: "_Bar") -> str:
    digest = hashlib.sha256()
    while block := reader.read(_BLOCK):
        writer.write(block)
        digest.update(block)
        bar.advance(len(block))
    return digest.hexdigest()


def _download(dataset: Dataset, root: Path, file: File) -> Problem | None:
    """Download one file; pooch writes a temporary sibling, checks it and moves it into place."""
    if file.url is None:
        cure = dataset.unreachable or f"copy it from a mirror: --mirror DIR or {MIRROR_VARIABLE}"
        return Problem(f"no public address for {file.path}", "a file that can be fetched as it is", cure)
    target = root / file.path
    known = file.sha256 or _recorded(root, file)
    target.unlink(missing_ok=True)  # wrong bytes, else it would not be fetched
    cure = f"check the connection and try again, or copy from a mirror (--mirror DIR or {MIRROR_VARIABLE})"
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(
            url=file.url,
            known_hash=f"sha256:{known}" if known else None,
            fname=target.name,
            path=target.parent,
            downloader=pooch.HTTPDownloader(timeout=_TIMEOUT_S),
        )
    except ValueError as error:
        return Problem(f"{file.url}: {error}", f"sha256 {known}", cure)
    except OSError as error:
        return Problem(f"{file.url}: {_reason(error)}", "an answer with the file", cure)
    if file.sha256 is None:
        _remember(root, file, pooch.file_hash(str(target), alg="sha256"))
    return None


def _reason(error: OSError) -> str:
    """Say in a line why a download failed; the exceptions of requests nest the reason deeply."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}".strip()
    return f"{type(error).__name__} ({str(error).splitlines()[0][:160]})" if str(error) else type(error).__name__


class _Bar:
    """Progress over the bytes of all files, or nothing."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self.progress, self.task, self.copied = progress, task, 0

    def advance(self, count: int) -> None:
        self.copied += count
        if self.progress is not None and self.task is not None:
            self.progress.advance(self.task, count)

    def done(self, file: File) -> None:
        """Move to the end of `file`, whether it was copied, downloaded or kept."""
        self.advance((file.bytes or 0) - self.copied)
        self.copied = 0


@contextmanager
def _bar(files: Sequence[File], shown: bool) -> Iterator[_Bar]:  # noqa: FBT001
    if not shown:
        yield _Bar(None, None)
        return
    sizes = [file.bytes for file in files]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, progress.add_task(f"{len(files)} files", total=total))
