"""Expression of a cell in bins of its own: which quantile of the genes found in it a gene's value lies in.

Edges are ``n_bins - 1`` quantiles of the values above zero, evenly spaced from the least to the greatest; bins are
numbered 1 to ``n_bins - 1`` and 0 is left for genes not found. Counts are full of ties, so that many edges are one
number; `Ties` says which of the bins between them such a value takes. (Sources: Cui et al., Nat Methods 2024;21:1470,
scGPT commit cebd6fa; tahoebio/tahoe-x1, collator.)
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core.errors import ConfigError, Problem


class Ties(StrEnum):
    """Which bin a value takes that several edges are equal to: any of them at random, the lowest, the highest."""

    SPREAD = "spread"
    LOWER = "lower"
    UPPER = "upper"


@dataclass(frozen=True)
class Binning:
    """How values become bins.

    Parameters
    ----------
    n_bins
        Number of bins with that of zero; 3 or more.
    ties
        ``spread``: scGPT, whose edges are in double precision; ``lower`` and ``upper``: Tahoe-x1 without and with
        ``right_binning``, whose edges are in single precision.

    Raises
    ------
    ConfigError
        If there are fewer than 3 bins.
    """

    n_bins: int = 51
    ties: Ties = Ties.SPREAD

    def __post_init__(self) -> None:
        if self.n_bins < 3:
            raise ConfigError(Problem(f"{self.n_bins} bins", "3 or more", "set n_bins"), subject="binning")

    @property
    def top(self) -> int:
        """The highest bin."""
        return self.n_bins - 1

    def bins(
        self, values: Float[np.ndarray, " genes"], draws: Float[np.ndarray, " genes"]
    ) -> Int[np.ndarray, " genes"]:
        """Return the bin of each value of one cell; 0 for 0.

        Parameters
        ----------
        values
            Counts or other levels of 0 or more.
        draws
            A number from 0 to 1 (excluded) for each gene: where it lies among the bins that tie. Bound to genes, not to
            places, they keep the order of genes out of the result. Only ``spread`` reads them.
        """
        out = np.zeros(len(values), dtype=np.int64)
        found = np.flatnonzero(values)
        if len(found):
            out[found] = (
                self._spread(values[found], draws[found]) if self.ties is Ties.SPREAD else self._one(values[found])
            )
        return out

    def _spread(self, values: Float[np.ndarray, " found"], draws: Float[np.ndarray, " found"]) -> np.ndarray:
        edges = np.quantile(values.astype(np.float64), np.linspace(0, 1, self.n_bins - 1))
        levels, back = np.unique(values, return_inverse=True)
        most, least = (np.searchsorted(edges, levels, side=side)[back] for side in ("right", "left"))
        return np.asarray(np.ceil(most - draws * (most - least)), dtype=np.int64)

    def _one(self, values: Float[np.ndarray, " found"]) -> np.ndarray:
        row: Tensor = torch.from_numpy(values.astype(np.float32))
        edges = torch.quantile(row, torch.linspace(0, 1, self.n_bins - 1))
        upper = self.ties is Ties.UPPER
        bins = torch.bucketize(row, edges, right=upper).numpy()
        return np.asarray(bins + (0 if upper else 1), dtype=np.int64)
