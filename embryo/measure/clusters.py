"""Whether groups that an embedding falls into are the groups that people named."""

import warnings

import numpy as np
from jaxtyping import Float, Int, Shaped

_STARTS = 5


def clusters(z: Float[np.ndarray, "cells dims"], n: int, *, seed: int = 0) -> Int[np.ndarray, " cells"]:
    """Return the k-means cluster of each cell (five starts, the tightest kept).

    Parameters
    ----------
    z
        Embeddings.
    n
        How many clusters: fixed beforehand (the number of named types), never searched for on the labels.
    seed
        Seed of the starts.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  heavy
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # fewer different points than clusters
        found = KMeans(min(n, len(z)), n_init=_STARTS, random_state=seed).fit_predict(z)
    return np.asarray(found, dtype=np.int64)


def agreement(a: Shaped[np.ndarray, " cells"], b: Shaped[np.ndarray, " cells"]) -> dict[str, float]:
    """Return ``NMI`` (normalised mutual information) and ``ARI`` (adjusted Rand index) of two groupings of cells.

    Both are 1 where the groupings are the same up to names. ARI is 0 for chance on average; NMI is above 0 even then,
    the more so the more groups and the fewer cells there are.
    """
    from sklearn import metrics  # noqa: PLC0415  heavy

    return {
        "NMI": float(metrics.normalized_mutual_info_score(a, b)),
        "ARI": float(metrics.adjusted_rand_score(a, b)),
    }


def separation(z: Float[np.ndarray, "cells dims"], labels: Shaped[np.ndarray, " cells"]) -> float:
    """Return the average silhouette width of labels, scaled to 0 ... 1 as in scib: ``(s + 1) / 2``.

    1 where every label is a tight island, 0.5 where labels lie as by chance. NaN with one label, or none twice.
    """
    from sklearn.metrics import silhouette_score  # noqa: PLC0415  heavy

    if not 1 < len(np.unique(labels)) < len(labels):
        return float("nan")
    return float((silhouette_score(z, labels) + 1) / 2)
