"""Slots that embedding writes: z, a precomputed z, the gene panel g; with what is known of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from embryo import encoders
from embryo.core import schema, store
from embryo.core.checks import phrases
from embryo.core.encoder import Encoder
from embryo.core.errors import Problem, SchemaError
from embryo.encoders.inputs import normalise

_DIMS = 20  # of an encoder given by name
_STEADY_SUM = 1e3  # counts of steady genes that levels are held against
_NOTHING = 1e-9  # a cell without counts


def cells(
    adata: AnnData, encoder: Encoder | str, *, key_added: str = schema.EMBED, copy: bool = False
) -> AnnData | None:
    """Write the embedding of every cell.

    Parameters
    ----------
    adata
        Cells by genes.
    encoder
        A fitted encoder; fit it on training cells only. A name (``"pca"``) fits one with up to 20 dimensions and seed
        0 on all cells of `adata`: for a look, not for a result on held-out embryos.
    key_added
        Slot of ``obsm`` to write, float32, shape (cells, dims); provenance goes to
        ``uns["embryo"]["embeddings"][key_added]``.
    copy
        Whether to return an annotated copy and leave `adata` as it is.

    Raises
    ------
    SchemaError
        If expression or genes that the encoder needs are missing.
    StaleError
        If the encoder was not fitted.
    """
    adata = adata.copy() if copy else adata
    if isinstance(encoder, str):
        encoder = encoders.build(encoder, dims=min(_DIMS, *adata.shape)).fit(adata)
    z = encoder.encode(adata)
    _write_embedding(adata, key_added, z, {**about(encoder), "dims": int(z.shape[1])})
    return adata if copy else None


def about(encoder: Encoder) -> dict[str, Any]:
    """Return the provenance of an encoder's embeddings: its own, or that of one fitted on the cells of a run."""
    if hasattr(encoder, "provenance"):
        return dict(encoder.provenance())
    genes: Sequence[str] = getattr(encoder, "library", ()) or getattr(encoder, "genes", ())
    return {
        "encoder": encoder.name,
        "weights": "fitted",
        "corpus": "cells of the fit",
        "seed": int(getattr(encoder, "seed", 0)),
        "genes_used": len(genes),
    }


def storable(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as ``uns`` can hold it: without what is None or empty, and no slash in a key."""
    kept = {str(key).replace("/", "|"): value for key, value in store.to_plain(record).items()}
    nested = {key: storable(value) if isinstance(value, dict) else value for key, value in kept.items()}
    return {key: value for key, value in nested.items() if value is not None and value not in ({}, [])}


def latent(adata: AnnData, key: str, *, key_added: str = schema.EMBED, copy: bool = False) -> AnnData | None:
    """Take a precomputed embedding, such as ``obsm["X_pca"]``, as the cells' z.

    Parameters
    ----------
    adata
        Cells by genes.
    key
        Slot of ``obsm`` that holds it.
    key_added, copy
        As in `cells`.

    Raises
    ------
    SchemaError
        If the slot is absent, not a matrix, or holds values that are not finite.
    """
    if key not in adata.obsm:
        raise SchemaError(
            Problem(
                f"no obsm[{key!r}] (obsm: {sorted(adata.obsm)}){phrases.nearest(key, adata.obsm)}",
                "a precomputed embedding there",
                "name the slot that holds it, or embed with an encoder",
            )
        )
    values = adata.obsm[key]
    z = np.asarray(values.toarray() if sparse.issparse(values) else values)
    if z.ndim != 2 or z.dtype.kind not in "fiu" or not np.isfinite(z).all():
        raise SchemaError(
            Problem(
                f"obsm[{key!r}] of shape {z.shape}, type {z.dtype}, with NaN, infinite or non-numeric entries"
                if z.ndim == 2
                else f"obsm[{key!r}] of shape {z.shape}",
                "finite numbers, cells by dims",
                "drop the cells without an embedding or compute it again",
            )
        )
    adata = adata.copy() if copy else adata
    _write_embedding(adata, key_added, z, {"encoder": "precomputed", "source": key, "dims": z.shape[1]})
    return adata if copy else None


def panel(
    adata: AnnData, genes: Sequence[str], *, steady: Sequence[str] = (), key_added: str = schema.PANEL,
    copy: bool = False,
) -> AnnData | None:  # fmt: skip
    """Write log1p-normalised levels of the panel genes g, and where they come from counts, how many each stands for.

    Parameters
    ----------
    adata
        Cells by genes; counts are normalised over all of them.
    genes
        Names of the panel genes, in the order of the columns.
    steady
        Genes whose sum is a cell's depth (`embryo.embed.steady`): levels are then counts over 1,000 of theirs. A cell
        without any of them, and all cells by default, are counted over all genes.
    key_added
        Slot of ``obsm`` to write, float32, shape (cells, genes); the names go to ``uns["embryo"]["panel"]``
        (``uns["embryo"]["panel:KEY"]`` for another slot). ``obs["counts_per_level"]`` says how many counts expm1(g) = 1
        stands for in each cell; other data have none.
    copy
        As in `cells`.

    Raises
    ------
    SchemaError
        Listing every unknown gene with the nearest name, and every double one.
    """
    genes = [str(gene) for gene in genes]
    problems = _panel_problems(adata, genes)
    if problems:
        raise SchemaError(*problems, subject="panel")
    adata = adata.copy() if copy else adata
    chosen = normalise.log1p_normalised(adata)[:, normalise.positions(adata, genes)]
    dense = chosen.toarray() if isinstance(chosen, sparse.csr_array) else chosen
    names_key, more = "panel" if key_added == schema.PANEL else f"panel:{key_added}", {}
    if normalise.kind(adata) == normalise.COUNTS:
        whole, own = _depths(adata, list(steady))
        dense = np.log1p(np.expm1(dense) * (whole / own)[:, None])
        adata.obs[schema.PER_LEVEL] = own
        more = {"steady": list(steady)} if steady else {}
    adata.obsm[key_added] = dense.astype(np.float32)
    meta = {k: v for k, v in schema.meta(adata).items() if k != "steady"}
    adata.uns[schema.META] = {**meta, names_key: genes, **more}
    return adata if copy else None


def _depths(adata: AnnData, steady: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts that level 1 stands for in every cell, over all genes and over steady ones."""
    counts = adata.layers[schema.COUNTS]
    whole = np.maximum(np.asarray(counts.sum(axis=1), dtype=np.float64).ravel() / schema.TARGET_SUM, _NOTHING)
    if not steady:
        return whole, whole
    own = np.asarray(counts[:, normalise.positions(adata, steady)].sum(axis=1), dtype=np.float64).ravel()
    return whole, np.where(own > 0, own / _STEADY_SUM, whole)


def _panel_problems(adata: AnnData, genes: list[str]) -> list[Problem]:
    known = set(map(str, adata.var_names))
    problems = [
        Problem(
            f"gene {gene!r}, which the data do not hold{phrases.nearest(gene, adata.var_names)}",
            f"one of the {adata.n_vars} genes measured",
            "rename it or leave it out of the panel",
        )
        for gene in dict.fromkeys(genes)
        if gene not in known
    ]
    double = sorted({gene for gene in genes if genes.count(gene) > 1})
    if double:
        problems.append(Problem(f"{', '.join(double)} more than once", "each gene once", "remove the repeats"))
    if not genes:
        problems.append(Problem("an empty panel", "at least one gene", "name the genes that edits may touch"))
    return problems


def _write_embedding(adata: AnnData, key: str, z: np.ndarray, record: dict[str, Any]) -> None:
    adata.obsm[key] = z.astype(np.float32)
    meta = schema.meta(adata)
    adata.uns[schema.META] = {**meta, "embeddings": {**meta.get("embeddings", {}), key: storable(record)}}
