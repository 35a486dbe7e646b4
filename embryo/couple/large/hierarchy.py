"""A cloud of cells seen coarser and coarser: a balanced binary tree whose nodes keep the mass of their cells.

Every node is split in halves of equal number across its widest direction (the first principal axis, by power
iteration), all nodes of a level at once: n cells cost about n log n and one copy of the features.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

_POWER_ITERATIONS = 6


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Cells in the order of a tree's leaves, and where the nodes of every level begin.

    Parameters
    ----------
    x
        Features, reordered.
    weight
        Masses, reordered.
    order
        Row of every reordered cell in the cloud as it was given.
    levels
        For each level the first cell of every node, and the number of cells at the end; level 0 is one node, the
        last has a node for every cell.
    """

    x: Float32[np.ndarray, "cells dims"]
    weight: Float[np.ndarray, " cells"]
    order: Int[np.ndarray, " cells"]
    levels: tuple[Int[np.ndarray, " _"], ...]

    def level(self, nodes: int) -> int:
        """Return the first level with at least so many nodes, or the last."""
        enough = (k for k, bounds in enumerate(self.levels) if len(bounds) > nodes)
        return next(enough, len(self.levels) - 1)

    def nodes(self, level: int) -> tuple[Float32[np.ndarray, "nodes dims"], Float[np.ndarray, " nodes"]]:
        """Return the centre of mass and the mass of every node of a level."""
        if level == len(self.levels) - 1:
            return self.x, self.weight
        starts = self.levels[level][:-1]
        mass = np.add.reduceat(self.weight, starts)
        centre = np.add.reduceat(self.x * self.weight[:, None], starts, axis=0) / mass[:, None]
        return np.asarray(centre, np.float32), mass


def hierarchy(
    x: Float32[np.ndarray, "cells dims"], weight: Float[np.ndarray, " cells"], rng: np.random.Generator
) -> Hierarchy:
    """Build the tree of a cloud; cells of one place are told apart by their order."""
    order = np.arange(len(x))
    levels = [np.array([0, len(x)])]
    start = np.asarray(rng.normal(size=x.shape[1]), np.float32)
    while len(levels[-1]) <= len(x):
        bounds = levels[-1]
        size = np.diff(bounds)
        node = np.repeat(np.arange(len(size)), size)
        within = np.lexsort((_along(x, bounds, node, start), node))
        x, order = x[within], order[within]
        levels.append(np.unique(np.concatenate([bounds, bounds[:-1] + (size + 1) // 2])))
    return Hierarchy(x, weight[order], order, tuple(levels))


def _along(
    x: Float32[np.ndarray, "cells dims"],
    bounds: Int[np.ndarray, " bounds"],
    node: Int[np.ndarray, " cells"],
    start: Float32[np.ndarray, " dims"],
) -> Float32[np.ndarray, " cells"]:
    """Place of every cell along the widest direction of its node."""
    mean = np.add.reduceat(x, bounds[:-1], axis=0) / np.diff(bounds)[:, None].astype(np.float32)
    apart = x - mean[node]
    axis = np.broadcast_to(start, mean.shape)
    for _ in range(_POWER_ITERATIONS):
        place = np.einsum("ij,ij->i", apart, axis[node])
        axis = np.add.reduceat(apart * place[:, None], bounds[:-1], axis=0)
        axis = axis / (np.linalg.norm(axis, axis=1, keepdims=True) + np.finfo(np.float32).tiny)
    return np.asarray(np.einsum("ij,ij->i", apart, axis[node]))
