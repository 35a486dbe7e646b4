"""What converters share: the notes of ``uns["embryo"]``, and reading tables with every problem named."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from embryo.core import schema
from embryo.core.checks import matrices, phrases
from embryo.core.errors import EmbryoError, Problem, SchemaError

RAW_FRAME = "raw"


def note(
    adata: AnnData,
    *,
    organism: str,
    expression: str,
    assembled: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> AnnData:
    """Write ``uns["embryo"]`` of a converted dataset and return it.

    Parameters
    ----------
    adata
        Changed in place: only ``uns`` is touched.
    organism
        Scientific name.
    expression
        ``"counts"``, ``"log1p"`` or ``"relative"``.
    assembled
        Whether gene vectors were put together across embryos, never measured together.
    notes
        More, in plain types; None values are left out.
    """
    more = {key: value for key, value in (notes or {}).items() if value is not None}
    adata.uns[schema.META] = {
        "time_unit": "h",
        "space_unit": "um",
        "frame": RAW_FRAME,
        "organism": organism,
        "expression": expression,
        "assembled": assembled,
        **more,
    }
    return adata


def table(path: Path, needed: Sequence[str], **options: Any) -> pd.DataFrame:
    """Read a delimited text file and check its columns.

    Parameters
    ----------
    path
        The file.
    needed
        Columns that must be there.
    options
        Passed to `pandas.read_csv`.

    Raises
    ------
    SchemaError
        If it cannot be read as a table, is empty, or lacks columns (all named at once).
    """
    cure = "give the file in the layout of the dataset's card (embryo.datasets.card)"
    try:
        found: pd.DataFrame = pd.read_csv(path, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, csv.Error) as error:
        problem = Problem(f"text that is no table ({str(error).splitlines()[0]})", "a delimited table", cure)
        raise SchemaError(problem, subject=path.name) from error
    except OSError as error:
        raise SchemaError(Problem(f"{error.strerror}", "a readable file", cure), subject=path.name) from error
    missing = [name for name in needed if name not in found.columns]
    problems = []
    if missing:
        held = phrases.few(found.columns, 20)
        problems.append(Problem(f"no column {', '.join(missing)} among {held}", f"columns {', '.join(needed)}", cure))
    if found.empty:
        problems.append(Problem("no rows", "one row per cell", cure))
    if problems:
        raise SchemaError(*problems, subject=path.name)
    return found


def numbers(frame: pd.DataFrame, columns: Sequence[str], *, subject: str) -> np.ndarray:
    """Return columns as finite float64, shape (rows, columns).

    Raises
    ------
    SchemaError
        Naming every column with values that are not finite numbers.
    """
    values: np.ndarray = frame[list(columns)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    problems = [
        Problem(
            f"{name} without a finite number in {phrases.cells(bad, frame.index)}",
            "a finite number in every row",
            "fill these values in, or drop these rows",
        )
        for name, column in zip(columns, values.T, strict=True)
        if (bad := ~np.isfinite(column)).any()
    ]
    if problems:
        raise SchemaError(*problems, subject=subject)
    return values


def one(files: Sequence[Path], name: str) -> Path:
    """Return the file of this name among `files`.

    Raises
    ------
    SchemaError
        If there is none.
    """
    for path in files:
        if path.name == name:
            return path
    held = phrases.few(path.name for path in files) or "(none)"
    raise SchemaError(Problem(f"no file {name} among {held}", name, "give all files of the dataset"))


def single(files: Sequence[Path]) -> Path:
    """Return the only file.

    Raises
    ------
    SchemaError
        If there are none or several.
    """
    if len(files) != 1:
        held = phrases.few(path.name for path in files) or "(none)"
        raise SchemaError(Problem(f"{len(files)} files: {held}", "one file", "convert one file at a time"))
    return files[0]


def collect(errors: Sequence[EmbryoError]) -> None:
    """Raise one `SchemaError` with the problems of all errors; nothing for none."""
    problems = [
        Problem(f"{error.subject}: {p.found}" if error.subject else p.found, p.expected, p.cure)
        for error in errors
        for p in error.problems
    ]
    if problems:
        raise SchemaError(*problems, subject=f"{len(errors)} files" if len(errors) > 1 else "")


def h5ad(path: Path) -> AnnData:
    """Read an h5ad into memory.

    Raises
    ------
    SchemaError
        If it is missing or no h5ad.
    """
    cure = "give an h5ad file; fetch it again if it is damaged"
    if not path.is_file():
        raise SchemaError(Problem(f"no file {path.name}", "an h5ad file", cure))
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # of a damaged file anndata raises anything, its private classes too
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise SchemaError(Problem(f"no h5ad ({reason})", "an h5ad file", cure), subject=path.name) from error


def counts(matrix: Any, *, subject: str) -> sparse.csr_matrix:
    """Return raw counts as a sparse float32 matrix.

    Raises
    ------
    SchemaError
        If the values are not whole numbers of 0 or more.
    """
    problems = list(matrices.problems(matrix, "the counts", counts=True, signed=False))
    if problems:
        raise SchemaError(*problems, subject=subject)
    return sparse.csr_matrix(matrix, dtype=np.float32)
