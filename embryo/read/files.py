"""Opening files: what they are by name and by content, and an error that says so where they are something else."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata
import h5py
import zarr
from anndata import AnnData

from embryo.core.errors import EmbryoError, Problem, StoreError

KINDS = ".h5ad, .zarr (AnnData or SpatialData), .csv, .tsv or .txt (tracks), or a folder of csv tracks"
TABLES = (".csv", ".tsv", ".txt")
_PICKLES = (".pkl", ".pickle", ".joblib", ".npy", ".npz", ".pt", ".pth", ".rds", ".rda", ".rdata")
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"\x80\x05\x95", "a Python pickle"),
    (b"\x93NUMPY", "a numpy array"),
)
_ELEMENTS = ("images", "labels", "points", "shapes", "tables")


def kind(path: Path) -> str:
    """Return what lies at `path`: ``h5ad``, ``zarr``, ``spatialdata`` or ``tracks``.

    Raises
    ------
    StoreError
        If nothing is there, it cannot be opened, or it is nothing that embryo reads.
    """
    require(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        return _folder(path)
    if suffix == ".h5ad":
        return "h5ad"
    if suffix in TABLES:
        return "tracks"
    found = f"a file with the ending {suffix or '(none)'}{_content(path)}"
    cure = "rename it if the ending is wrong, or export it as one of these"
    if suffix in _PICKLES:
        cure = "save it as h5ad or csv first: files that may run code when they are opened are not read"
    raise StoreError(Problem(found, KINDS, cure), subject=path.name)


def require(path: Path) -> None:
    """Raise unless something readable lies at `path`.

    Raises
    ------
    StoreError
        If it is missing or may not be read.
    """
    try:
        there = path.exists()
    except OSError:
        there = False
    if not there:
        raise StoreError(Problem(f"nothing at {path}", KINDS, "check the path"), subject=path.name or str(path))
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        cure = f"allow reading it (chmod u+r {path.name}), or copy it to where you may read"
        raise StoreError(Problem("a path without permission to read it", KINDS, cure), subject=path.name)


def read_h5ad(path: Path) -> AnnData:
    """Return the AnnData of an h5ad file.

    Raises
    ------
    StoreError
        If it is no HDF5, cut short, or no AnnData.
    """
    require(path)
    expected = "an h5ad file (AnnData in HDF5)"
    if path.is_dir() or not h5py.is_hdf5(path):
        what = (
            "a folder" if path.is_dir() else f"a file of {path.stat().st_size} bytes that is not HDF5{_content(path)}"
        )
        raise StoreError(Problem(what, expected, "check the ending, or fetch or export it again"), subject=path.name)
    with explained(path, expected), h5py.File(path, "r") as file:
        groups = sorted(map(str, file))
    if not {"obs", "var"} <= set(groups):
        found = f"HDF5 without obs and var (holds {', '.join(groups[:8]) or 'nothing'})"
        cure = "convert it to h5ad first (scanpy.read_10x_h5 or the like, then write_h5ad)"
        raise StoreError(Problem(found, expected, cure), subject=path.name)
    with explained(path, expected), quiet():
        return anndata.read_h5ad(path)


def read_zarr(path: Path) -> AnnData:
    """Return the AnnData of a zarr store.

    Raises
    ------
    StoreError
        If it is no zarr, damaged, or no AnnData.
    """
    require(path)
    expected = "a zarr folder with an AnnData"
    if not path.is_dir() or _folder(path) != "zarr":
        raise StoreError(
            Problem("a file" if path.is_file() else "another kind of zarr", expected, "check the path"),
            subject=path.name,
        )
    with explained(path, expected), quiet():
        return anndata.read_zarr(path)


@contextmanager
def explained(path: Path, expected: str) -> Iterator[None]:
    """Turn whatever a library raises for a damaged file into `StoreError`; their own error types are not public."""
    try:
        yield
    except (EmbryoError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(path, expected, error) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what libraries warn about names and old formats: `schema.check` says it as problems."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _damaged(path: Path, expected: str, error: BaseException) -> StoreError:
    lines = str(error).strip().splitlines()
    reason = f" ({type(error).__name__}: {lines[0][:160]})" if lines else f" ({type(error).__name__})"
    return StoreError(
        Problem(f"a damaged or incomplete file{reason}", expected, "copy, fetch or export it again"), subject=path.name
    )


def _folder(path: Path) -> str:
    if not any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")):
        if any(path.glob("*.csv")) and path.suffix.lower() != ".zarr":
            return "tracks"
        held = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        found = f"a folder without zarr metadata (zarr.json or .zgroup) and without csv files; it holds {held}"
        raise StoreError(Problem(found, KINDS, "give the folder that holds zarr.json itself"), subject=path.name)
    expected = "a zarr folder with an AnnData or a SpatialData"
    with explained(path, expected), quiet():
        group = zarr.open_group(str(path), mode="r")
        attributes, members = dict(group.attrs), {str(name) for name in group}
    if attributes.get("encoding-type") == "anndata" or {"obs", "var"} <= members:
        return "zarr"
    if "spatialdata_attrs" in attributes or members & set(_ELEMENTS):
        return "spatialdata"
    found = f"a zarr folder of another kind (holds {', '.join(sorted(members)[:8]) or 'nothing'})"
    raise StoreError(Problem(found, expected, "export it with write_zarr of AnnData or SpatialData"), subject=path.name)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return " (empty)"
    what = next((f" (it is {name})" for magic, name in _MAGIC if head.startswith(magic)), "")
    return what or (" (it is text)" if all(b >= 9 for b in head) else "")
