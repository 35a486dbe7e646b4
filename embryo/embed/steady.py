"""Genes that stay the same whatever the cell: what a cell's counts are held against where most genes change.

Counts over the total are shares: where a targeted panel holds mostly genes that develop, each one that comes on makes
all others seem to fall. Genes whose ratio to each other is the same in all kinds of cells (geNorm, Vandesompele et al.
2002, Genome Biol. 3:research0034), and that do not wander from cell to cell, give a cell's depth without that.
"""

import numpy as np
from anndata import AnnData
from jaxtyping import Float, Int
from scipy import sparse

from embryo.core import schema
from embryo.encoders.inputs import normalise

_GROUPS = 30  # of like cells
_MOST = 500  # genes that are compared, the most counted ones
_SEEN = 20.0  # counts of a gene in every group, or chance would pass for change
_STEADY = 0.2  # mean spread of the log ratio to the other steady genes
_FEWEST = 5
_WANDERS = 2.0  # excess variance between cells, over that of the median steady gene


def steady(adata: AnnData, *, seed: int) -> list[str]:
    """Return the names of steady genes; none where counts are absent, or fewer than five genes are steady together.

    Parameters
    ----------
    adata
        Training cells with counts and ``X_embed``, in which like cells are grouped.
    seed
        Of the groups.
    """
    if normalise.kind(adata) != normalise.COUNTS:
        return []
    counts = sparse.csr_array(adata.layers[schema.COUNTS], dtype=np.float64)
    sums = _groups(np.asarray(adata.obsm[schema.EMBED]), seed) @ counts
    sums = np.asarray(sums.todense() if sparse.issparse(sums) else sums)
    seen = np.flatnonzero(sums.min(axis=0) >= _SEEN)
    seen = seen[np.argsort(-sums[:, seen].sum(axis=0))[:_MOST]]
    if len(seen) < _FEWEST:
        return []
    logs = np.log(sums[:, seen])
    apart = np.sqrt(np.maximum(_variances_of_differences(logs), 0.0))
    kept = np.arange(len(seen))
    while len(kept) >= _FEWEST:
        spread = apart[np.ix_(kept, kept)].sum(axis=1) / (len(kept) - 1)
        if spread.max() <= _STEADY:
            return [str(adata.var_names[k]) for k in _calm(counts, seen[kept])]
        kept = np.delete(kept, spread.argmax())
    return []


def _groups(z: Float[np.ndarray, "cells dims"], seed: int) -> sparse.csr_array:
    """Return which cells are of each group of like ones, (groups, cells)."""
    from sklearn.cluster import MiniBatchKMeans  # noqa: PLC0415  slow to import

    number = MiniBatchKMeans(min(_GROUPS, len(z)), random_state=seed, n_init=1).fit_predict(z)
    _, number = np.unique(number, return_inverse=True)
    return sparse.csr_array((np.ones(len(z)), (number, np.arange(len(z)))))


def _calm(counts: sparse.csr_array, genes: Int[np.ndarray, " genes"]) -> Int[np.ndarray, " calm"]:
    """Return those genes whose counts vary between single cells about as little, beyond chance, as most of them do."""
    some = counts[:, np.sort(genes)]
    mean = np.asarray(some.mean(axis=0)).ravel()
    excess = (np.asarray(some.multiply(some).mean(axis=0)).ravel() - mean**2 - mean) / mean**2
    return np.asarray(np.sort(genes)[excess <= _WANDERS * max(float(np.median(excess)), 0.0)])


def _variances_of_differences(logs: Float[np.ndarray, "groups genes"]) -> Float[np.ndarray, "genes genes"]:
    square = np.cov(logs.T)
    own = square.diagonal()
    return np.asarray(own[:, None] + own - 2 * square)
