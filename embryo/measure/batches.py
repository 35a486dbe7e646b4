"""Whether cells of one kind lie together whichever batch they come from."""

import numpy as np
from jaxtyping import Bool, Float, Shaped

_LEAST = 10  # cells of one kind in one batch, below which nothing is said of them


def neighbour_entropy(
    z: Float[np.ndarray, "cells dims"],
    batch: Shaped[np.ndarray, " cells"],
    kind: Shaped[np.ndarray, " cells"],
    *,
    neighbours: int = 15,
) -> Float[np.ndarray, " cells"]:
    """Return for each cell how mixed the batches of its nearest cells of the same kind are.

    Entropy of the batches among the neighbours, over the entropy of the batches in that kind: near 1 where batches are
    mixed (a little below, as few neighbours are drawn), 0 where all neighbours are of one batch.

    Parameters
    ----------
    z
        Embeddings.
    batch
        Batch of each cell.
    kind
        What the cell is (type, genotype): cells are compared within a kind only, so that a batch that lacks a type is
        not taken for a badly mixed one.
    neighbours
        How many neighbours; never more than there are.

    Returns
    -------
    array
        NaN for kinds that fewer than two batches have ten cells of.
    """
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  heavy

    out = np.full(len(z), np.nan)
    for rows, codes in _kinds(batch, kind):
        near = NearestNeighbors(n_neighbors=min(neighbours, len(rows) - 1)).fit(z[rows])
        found = codes[near.kneighbors(return_distance=False)]
        share = (found[:, :, None] == np.arange(codes.max() + 1)).mean(axis=1)
        out[rows] = _entropy(share) / _entropy(np.bincount(codes)[None] / len(codes))
    return out


def batch_asw(
    z: Float[np.ndarray, "cells dims"], batch: Shaped[np.ndarray, " cells"], kind: Shaped[np.ndarray, " cells"]
) -> Float[np.ndarray, " cells"]:
    """Return for each cell ``1 - |s|``, s the silhouette of batches among the cells of its kind (scib's batch ASW).

    1 where batches lie on each other, near 0 where they are islands. Luecken et al. 2022 (Nat Methods 19:41) average
    this within each kind. NaN as for `neighbour_entropy`.
    """
    from sklearn.metrics import silhouette_samples  # noqa: PLC0415  heavy

    out = np.full(len(z), np.nan)
    for rows, codes in _kinds(batch, kind):
        out[rows] = 1 - np.abs(silhouette_samples(z[rows], codes))
    return out


def comparable(batch: Shaped[np.ndarray, " cells"], kind: Shaped[np.ndarray, " cells"]) -> Bool[np.ndarray, " cells"]:
    """Return which cells have enough cells of their kind in their own and in another batch to be compared."""
    out = np.zeros(len(batch), dtype=bool)
    for rows, _ in _kinds(batch, kind):
        out[rows] = True
    return out


def _kinds(batch: np.ndarray, kind: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (rows, number of the batch of each) of each kind, batches with too few cells left out."""
    out = []
    for name in np.unique(kind):
        rows = np.flatnonzero(kind == name)
        names, codes = np.unique(batch[rows], return_inverse=True)
        enough = np.bincount(codes, minlength=len(names)) >= _LEAST
        if enough.sum() > 1:
            rows = rows[enough[codes]]
            out.append((rows, np.unique(batch[rows], return_inverse=True)[1]))
    return out


def _entropy(share: np.ndarray) -> np.ndarray:
    return np.asarray(-(share * np.log(np.where(share > 0, share, 1))).sum(axis=1))
