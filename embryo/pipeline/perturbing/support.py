"""Support: how far edited states lie from those that the law was fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from embryo.core.state import State

_NEIGHBOURS, _NICHE = 5, 8
_CELLS, _PERCENTILE = 4000, 99.0
WARN, ABSTAIN = 0.05, 0.5  # shares of states beyond the support, above that of the control for the warning


@dataclass(frozen=True, eq=False)
class Support:
    """Training states in the plane of genes and niche.

    Parameters
    ----------
    tree
        Of their standardised features: panel genes, and with space the mean panel of the nearest cells.
    centre, spread
        Of the features.
    limit
        The 99th percentile of the distance of a training state to its fifth nearest other one.
    low, high
        Least and greatest level of every gene in training states, log1p.
    seed
        Draws the states that are looked at.
    """

    tree: Any
    centre: Float[np.ndarray, " features"]
    spread: Float[np.ndarray, " features"]
    limit: float
    low: Float[np.ndarray, " genes"]
    high: Float[np.ndarray, " genes"]
    seed: int

    @classmethod
    def of(cls, moments: Sequence[State], *, seed: int) -> "Support":
        """Measure training states, one moment of one embryo each."""
        rng = np.random.default_rng(seed)
        found = np.concatenate([features(state) for state in moments])
        g = np.concatenate([state.g.double().numpy() for state in moments])
        found = found[rng.permutation(len(found))[:_CELLS]]
        spread = found.std(axis=0)
        spread[spread == 0] = 1.0
        centre = found.mean(axis=0)
        scaled = (found - centre) / spread
        tree = cKDTree(scaled)
        k = min(_NEIGHBOURS + 1, len(scaled))
        far = tree.query(scaled, k=k)[0].reshape(len(scaled), -1)[:, -1]
        return cls(tree, centre, spread, float(np.percentile(far, _PERCENTILE)), g.min(axis=0), g.max(axis=0), seed)

    def beyond(self, state: State) -> Bool[np.ndarray, " living"]:
        """Return which living cells (1000 of them at most) lie beyond the limit."""
        found = features(state)
        chosen = np.sort(np.random.default_rng(self.seed).permutation(len(found))[:1000])
        scaled = (found[chosen] - self.centre) / self.spread
        far = self.tree.query(scaled, k=min(_NEIGHBOURS, self.tree.n))[0].reshape(len(scaled), -1)[:, -1]
        return np.asarray(far > self.limit)

    def outside(self, state: State) -> Float[np.ndarray, " genes"]:
        """Return for each gene the share of living cells whose level no training cell has."""
        g = state.g[state.alive].double().numpy()
        return np.asarray(((g < self.low - 1e-6) | (g > self.high + 1e-6)).mean(axis=0))


def features(state: State) -> Float[np.ndarray, "living features"]:
    """Return genes and niche of the living cells; a cell that is alone is its own niche."""
    alive = state.alive
    g, x = (part[alive].detach().cpu().double().numpy() for part in (state.g, state.x))
    if x.shape[1] == 0:
        return g
    if len(x) < 2:
        return np.concatenate([g, g], axis=1)
    rows = cKDTree(x).query(x, k=min(_NICHE + 1, len(x)))[1].reshape(len(x), -1)[:, 1:]
    return np.concatenate([g, g[rows].mean(axis=1)], axis=1)
