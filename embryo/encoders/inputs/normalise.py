"""Expression as every encoder reads it: log1p of counts at one library size, genes matched by name."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from anndata import AnnData
from scipy import sparse

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import Problem, SchemaError

COUNTS, LOG1P, RELATIVE = schema.EXPRESSIONS
_NAMED, _SUGGESTED = 20, 5  # how many missing genes an error spells out, and how many with a suggestion

Matrix: TypeAlias = np.ndarray | sparse.csr_array


def kind(adata: AnnData) -> str:
    """Return what the expression of `adata` is: ``"counts"``, ``"log1p"`` or ``"relative"``.

    Raises
    ------
    SchemaError
        If ``uns["embryo"]["expression"]`` is absent or none of the three.
    """
    found = schema.meta(adata).get("expression")
    if found not in schema.EXPRESSIONS:
        raise SchemaError(
            Problem(
                f"expression of kind {found!r} in uns[{schema.META!r}]",
                f"one of {', '.join(schema.EXPRESSIONS)}",
                "read the data through embryo.read, or say what the values are: "
                "adata.uns['embryo'] = {'expression': 'counts'}",
            )
        )
    return str(found)


def log1p_normalised(adata: AnnData, genes: Sequence[str] | None = None) -> Matrix:
    """Return log1p-normalised expression.

    Counts (from ``layers["counts"]``) are scaled to `schema.TARGET_SUM` per cell, then ``log(1 + x)``; values that are
    already log1p or relative come back as they are. A cell without counts stays zero. The input is not modified.

    Parameters
    ----------
    adata
        Cells by genes, with ``uns["embryo"]["expression"]`` set.
    genes
        Columns of the result, matched by name; the library size is the sum over these genes only, so that other
        columns of `adata` cannot change the result. All genes by default.

    Returns
    -------
    csr_array or ndarray
        Shape (cells, genes), float64; sparse where the input is sparse.

    Raises
    ------
    SchemaError
        If the kind of expression is not stated, ``layers["counts"]`` is absent, values are negative (counts) or not
        finite, or genes are missing.
    """
    what = kind(adata)
    if what == COUNTS and schema.COUNTS not in adata.layers:
        raise SchemaError(
            Problem(
                f"expression 'counts' without layers[{schema.COUNTS!r}] (layers: {sorted(adata.layers)})",
                "raw counts there",
                f"store the counts in layers[{schema.COUNTS!r}], or set the kind to 'log1p' if X is normalised",
            )
        )
    values = _matrix(adata.layers[schema.COUNTS] if what == COUNTS else adata.X)
    if genes is not None:
        values = values[:, positions(adata, genes)]
    _require_finite(values, counts=what == COUNTS)
    return _log1p(values) if what == COUNTS else values


def positions(adata: AnnData, genes: Sequence[str]) -> np.ndarray:
    """Return the column of each gene, matched by name.

    Raises
    ------
    SchemaError
        Saying how many genes are missing and which, or which names are double.
    """
    names = adata.var_names
    if not names.is_unique:
        double = sorted(set(names[names.duplicated()].astype(str)))
        raise SchemaError(
            Problem(
                f"{len(double)} double gene names: {phrases.few(double)}", "unique var_names", "merge or rename them"
            )
        )
    index = names.get_indexer(list(genes))
    missing = [str(g) for g, i in zip(genes, index, strict=True) if i < 0]
    if missing:
        raise SchemaError(
            Problem(
                f"{len(missing)} of {len(genes)} genes missing: {suggest(missing, names)}",
                "every gene that the encoder was fitted on",
                "add them (zeros where truly unmeasured), rename them, or fit the encoder on the genes at hand",
            )
        )
    return np.asarray(index)


def suggest(missing: Sequence[str], known: Iterable[str], limit: int = _NAMED) -> str:
    """Return the first `limit` missing names, the first few with the known name most like them."""
    known = list(known)
    told = [f"{name}{phrases.nearest(name, known)}" for name in missing[:_SUGGESTED]]
    return phrases.few([*told, *missing[_SUGGESTED:]], limit)


def _matrix(values: Any) -> Matrix:
    if values is None:
        raise SchemaError(Problem("no X", "expression, cells by genes", "read the data with its expression matrix"))
    if sparse.issparse(values):
        return sparse.csr_array(values, dtype=np.float64)
    return np.array(values, dtype=np.float64)


def _require_finite(values: Matrix, *, counts: bool) -> None:
    entries = values.data if isinstance(values, sparse.csr_array) else values
    problems = []
    if bad := int((~np.isfinite(entries)).sum()):
        problems.append(Problem(f"{bad} values that are NaN or infinite", "finite expression", "drop or impute them"))
    if counts and (bad := int((entries < 0).sum())):
        problems.append(Problem(f"{bad} negative counts", "counts of 0 or more", "store raw counts, not scaled values"))
    if problems:
        raise SchemaError(*problems, subject="expression")


def _log1p(counts: Matrix) -> Matrix:
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(schema.TARGET_SUM, total, out=np.zeros_like(total), where=total > 0)
    if isinstance(counts, sparse.csr_array):
        scaled = counts.multiply(scale[:, None]).tocsr()
        scaled.data = np.log1p(scaled.data)
        return sparse.csr_array(scaled)
    return np.asarray(np.log1p(counts * scale[:, None]))
