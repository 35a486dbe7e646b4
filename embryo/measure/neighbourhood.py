"""Who lives beside whom: graphs of spatial neighbours (squidpy) and what they say about mixing."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Shaped
from scipy import sparse
from scipy.spatial import cKDTree

from embryo.measure.arrays import cloud

_LEAST_PAIRS = 1e-9  # below this share of mass in pairs of different labels there is but one label
_LABEL = "label"
_GRAPH = "spatial_connectivities"  # the name squidpy reads


def mixing(
    x: Float[np.ndarray, "cells space"],
    labels: Shaped[np.ndarray, " cells"],
    mass: Float[np.ndarray, " cells"] | None = None,
    *,
    neighbours: int = 6,
) -> float:
    r"""Share of a cell's neighbours that have its own label, corrected for chance: :math:`(S - E) / (1 - E)`.

    S weighs each pair of neighbours by the product of their masses. E is the same share over all pairs of different
    particles: what a random assignment of the labels gives, as for the chance correction of Cohen's kappa and of
    Newman's assortativity (2003, Phys. Rev. E 67:026126).

    Parameters
    ----------
    x
        Positions, µm.
    labels
        Label of each cell.
    mass
        Cells per particle; 1 each where None. Particles without mass are left out.
    neighbours
        Nearest cells per cell (squidpy's habit).

    Returns
    -------
    float
        1 where every neighbour has the cell's own label (sorted), 0 where labels lie as by chance (mixed), below 0
        where like avoids like; NaN where there is only one label, or fewer than three cells.

    Raises
    ------
    SchemaError
        If positions are not finite, or no cell has mass.
    """
    x, weights = cloud(x, mass, "mixing")
    alive = weights > 0
    x, weights, codes = x[alive], weights[alive], pd.factorize(labels[alive])[0]
    if len(x) < 3 or x.shape[1] == 0:
        return float("nan")
    weights = weights / weights.sum()
    graph = _graph(x, neighbours).tocoo()
    pair = weights[graph.row] * weights[graph.col]
    found = float(pair @ (codes[graph.row] == codes[graph.col])) / float(pair.sum())
    by_label = np.bincount(codes, weights=weights)
    alone = float(weights @ weights)
    sorted_pairs, mixed_pairs = float(by_label @ by_label) - alone, 1 - float(by_label @ by_label)
    if mixed_pairs < _LEAST_PAIRS:
        return float("nan")
    expected = sorted_pairs / (sorted_pairs + mixed_pairs)
    return (found - expected) / (1 - expected)


def neighbourhood_enrichment(
    x: Float[np.ndarray, "cells space"],
    labels: Shaped[np.ndarray, " cells"],
    *,
    neighbours: int = 6,
    permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Z-score of how often each pair of labels are neighbours, against shuffled labels (squidpy's nhood_enrichment).

    Every particle counts once, whatever its mass.

    Parameters
    ----------
    x
        Positions, µm.
    labels
        Label of each cell.
    neighbours
        As in `mixing`.
    permutations
        How often the labels are shuffled.
    seed
        Seed of the shuffles.

    Returns
    -------
    pd.DataFrame
        Labels by labels; NaN where shuffling never changes the count.

    Raises
    ------
    SchemaError
        If positions are not finite.
    """
    x, _ = cloud(x, None, "neighbourhood enrichment")
    label = pd.Categorical(labels.astype(str))
    adata = AnnData(
        obs=pd.DataFrame({_LABEL: label}, index=np.arange(len(x)).astype(str)), obsp={_GRAPH: _graph(x, neighbours)}
    )
    with _quiet(), np.errstate(divide="ignore", invalid="ignore"):
        result = _squidpy().gr.nhood_enrichment(
            adata, _LABEL, n_perms=permutations, seed=seed, copy=True, n_jobs=1, show_progress_bar=False
        )
    names = list(label.categories)
    return pd.DataFrame(result.zscore, index=names, columns=names).replace([np.inf, -np.inf], np.nan)


def surroundings(
    x: Float[np.ndarray, "cells space"],
    values: Float[np.ndarray, "cells columns"],
    mass: Float[np.ndarray, " cells"] | None = None,
    *,
    neighbours: int = 15,
) -> Float[np.ndarray, "cells columns"]:
    """Return for each cell the mean of `values`, weighted by mass, over its nearest cells, itself among them.

    Parameters
    ----------
    x
        Positions, µm.
    values
        States or expression.
    mass
        Cells per particle; 1 each where None.
    neighbours
        How many; never more than there are cells.

    Raises
    ------
    SchemaError
        If positions are not finite, or no cell has mass.
    """
    x, weights = cloud(x, mass, "surroundings")
    near = cKDTree(x).query(x, k=np.arange(1, min(neighbours, len(x)) + 1))[1]
    share = weights[near]
    total = share.sum(axis=1, keepdims=True)
    share = np.where(total > 0, share / np.where(total > 0, total, 1), 1 / near.shape[1])
    return np.asarray(np.einsum("ck,ckd->cd", share, values[near]))


def _graph(x: np.ndarray, neighbours: int) -> sparse.csr_matrix:
    graph = _squidpy().gr.neighbors.KNNBuilder(min(neighbours, len(x) - 1)).build(x)[0]
    graph.eliminate_zeros()
    return graph


def _squidpy() -> Any:
    with warnings.catch_warnings():
        # squidpy's docstring templates name keys that its docrep does not know (1.8.2); nothing is wrong for the user.
        warnings.filterwarnings("ignore", message=".* is not a valid key!", category=SyntaxWarning)
        import squidpy  # noqa: PLC0415  five seconds to import, and only this file needs it
        import squidpy.gr.neighbors  # noqa: PLC0415

    return squidpy


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep squidpy's progress lines, which it sends through spatialdata's logger, off the terminal."""
    logger = logging.getLogger("spatialdata._logging")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
