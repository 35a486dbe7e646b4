"""Which matrix of a file holds raw counts, what X is, and what genes are called."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.checks import matrices, phrases
from embryo.core.errors import Problem
from embryo.read import conventions
from embryo.read.keys import Keys

_ID = "gene_id"
_FORMER = "X_input"


def genes(adata: AnnData, keys: Keys) -> list[Problem]:
    """Name genes by symbols where the file has them, and keep ids in ``var["gene_id"]``.

    Symbols that stand twice are told apart by the id, ``NAME_ID``; nothing else is renamed.
    """
    column, var = keys.gene_symbols, adata.var
    if column is not None and column not in var:
        listed = phrases.few(var.columns, 12) or "none"
        return [
            Problem(
                f"no column {column!r} in var (columns: {listed}){phrases.nearest(column, var.columns)}",
                "the column that holds gene symbols",
                "correct the name (--key gene_symbols=..., config read.keys.gene_symbols)",
            )
        ]
    if column is None:
        column = conventions.find(var.columns, conventions.SYMBOLS) if conventions.are_ids(adata.var_names) else None
    if column is not None:
        symbols = var[column].astype("string").str.strip()
        ids = pd.Series(adata.var_names.astype(str), index=var.index)
        named = (symbols.notna() & (symbols != "")).to_numpy(dtype=bool)
        names = np.where(named, symbols.fillna("").to_numpy(dtype=object), ids.to_numpy(dtype=object))
        twice = pd.Series(names).duplicated(keep=False).to_numpy() & named
        names[twice] = [f"{name}_{i}" for name, i in zip(names[twice], ids.to_numpy()[twice], strict=True)]
        adata.var[_ID] = ids.to_numpy(dtype=object)
        adata.var_names = pd.Index(names, dtype=object)
    adata.var_names = adata.var_names.astype(str)
    adata.var_names.name = None
    return []


def values(adata: AnnData, keys: Keys, meta: dict[str, Any]) -> list[Problem]:
    """Put raw counts into ``layers["counts"]`` and X, and say in `meta` what X holds.

    Counts are looked for in the layer that `keys` names, in layers of the usual names, in ``raw``, and in X.
    """
    problems = list(_take(adata, keys, stated=meta.get("expression")))
    if adata.raw is not None:
        del adata.raw
    if meta.get("expression") in schema.EXPRESSIONS and keys.counts is None:
        return problems
    counts = adata.layers.get(schema.COUNTS)
    if counts is not None:
        if adata.X is not None and adata.X is not counts and not _same(adata.X, counts):
            adata.layers[_FORMER] = adata.X
        adata.X = counts.copy()
        meta["expression"] = "counts"
    elif adata.X is not None and adata.n_vars:
        meta["expression"] = matrices.kind(adata.X) if matrices.readable(adata.X) else "relative"
    return problems


def _take(adata: AnnData, keys: Keys, stated: Any) -> Iterator[Problem]:
    if keys.counts is not None:
        held = _named(adata, keys.counts)
        if held is None:
            known = ["X", *(["raw"] if adata.raw is not None else []), *adata.layers]
            yield Problem(
                f"no {keys.counts!r} for counts among {phrases.few(known, 12)}{phrases.nearest(keys.counts, known)}",
                "X, raw, or a layer",
                "correct the name (--key counts=..., config read.keys.counts)",
            )
            return
        adata.layers[schema.COUNTS] = held
        return
    if schema.COUNTS in adata.layers or stated in schema.EXPRESSIONS:
        return
    layers = (conventions.find(adata.layers, (name,)) for name in conventions.LAYERS)
    sources = [layer for layer in layers if layer is not None] + ["raw", "X"]
    for name in sources:
        held = _named(adata, name)
        if held is not None and matrices.readable(held) and adata.n_vars and matrices.kind(held) == "counts":
            adata.layers[schema.COUNTS] = held
            return


def _named(adata: AnnData, name: str) -> Any:
    if name in adata.layers:
        return adata.layers[name]
    if name == "X":
        return adata.X
    if name == "raw" and adata.raw is not None:
        where = adata.raw.var_names.get_indexer(adata.var_names) if adata.raw.var_names.is_unique else np.array([-1])
        same = len(where) == adata.raw.n_vars and np.array_equal(where, np.arange(len(where)))
        return None if (where < 0).any() else adata.raw.X if same else adata.raw.X[:, where]
    return None


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b) or a.shape != b.shape:
        return False
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool((a != b).nnz == 0)
