"""Descendants -> growth of a law: a rate linear in gene levels and time, by Poisson regression.

A cell that divides and dies at the net rate q leaves exp(q dt) descendants on average, so that numbers of descendants D
are fitted with a logarithmic link,

    min  sum_i [exp(q_i dt_i) - D_i q_i dt_i] + penalty sum_k sd_k |h_k|,     q_i = h_0 + h_1 tau_i + h . y_i

which is convex, and whose best fit has the right number of cells in total. y_i is the mean level of the cell and its
descendants.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from scipy.optimize import minimize

from embryo.fields.mechanics import Mechanics
from embryo.fields.regulated import Growth

PENALTIES = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4)
_FAINT, _SHUT = 0.05, 1e3  # share of the largest effect below which a gene goes; a penalty that keeps it out
_FAST = 5.0  # largest log of a number of descendants that a step of the fit may try


def births(
    law: Mechanics | Growth,
    rates: "Rates",
    penalties: Sequence[float] = PENALTIES,
) -> float:
    """Fit growth, set it in the law, and return the penalty that foretold embryos left out best."""
    folds = np.unique(rates.embryo)
    chosen = penalties[0]
    if len(folds) > 1:
        lost = [
            sum(rates.only(rates.embryo == f).loss(rates.only(rates.embryo != f).fit(p)) for f in folds)
            for p in penalties
        ]
        chosen = penalties[int(np.argmin(lost))]
    h = rates.fit(chosen)
    law.base.copy_(torch.as_tensor(h[:2]))
    law.birth.copy_(torch.as_tensor(h[2:]))
    return chosen


class Rates:
    """Rows of the regression.

    Parameters
    ----------
    levels
        Mean level of each cell over its interval, in units of each gene's own scale (`Mechanics.levels`).
    tau, dt_h
        Middle of the interval as a share of the law's window, and its length.
    descendants
        How many each leaves.
    embryo
        Rows of one embryo are left out together.
    """

    def __init__(
        self,
        levels: Float[np.ndarray, "cells genes"],
        tau: Float[np.ndarray, " cells"],
        dt_h: Float[np.ndarray, " cells"],
        descendants: Float[np.ndarray, " cells"],
        embryo: np.ndarray,
    ) -> None:
        self.levels, self.tau, self.dt_h, self.descendants, self.embryo = levels, tau, dt_h, descendants, embryo

    def only(self, rows: np.ndarray) -> "Rates":
        """Return chosen rows."""
        return Rates(*(part[rows] for part in (self.levels, self.tau, self.dt_h, self.descendants, self.embryo)))

    @property
    def design(self) -> Float[np.ndarray, "cells columns"]:
        """Columns of the log of the number of descendants."""
        return np.asarray(np.column_stack([np.ones(len(self.tau)), self.tau, self.levels]) * self.dt_h[:, None])

    def loss(self, h: Float[np.ndarray, " columns"]) -> float:
        """Poisson loss, without what does not depend on `h`."""
        u = np.clip(self.design @ h, -_FAST, _FAST)
        return float(np.exp(u).sum() - self.descendants @ u)

    def fit(self, penalty: float) -> Float[np.ndarray, " columns"]:
        """Lasso, then a fit without a penalty of the genes that it kept."""
        weight = self.design[:, 2:].std(0)
        h = self._descend(np.r_[0.0, 0.0, weight * penalty * len(self.tau) / 10])
        size = np.abs(h[2:]) * weight
        kept = size > _FAINT * size.max()
        return self._descend(np.r_[0.0, 0.0, np.where(kept, 0.0, _SHUT * len(self.tau))])

    def _descend(self, gene: Float[np.ndarray, " columns"]) -> Float[np.ndarray, " columns"]:
        """L-BFGS-B on positive and negative parts, each with its penalty."""
        x, d = self.design, self.descendants
        n = x.shape[1]
        both = np.r_[gene, gene]

        def cost(parts: np.ndarray) -> tuple[float, np.ndarray]:
            h = parts[:n] - parts[n:]
            u = x @ h
            grown = np.exp(np.minimum(u, _FAST))
            over = np.maximum(u - _FAST, 0) * np.exp(_FAST)  # goes on as a line
            slope = x.T @ (grown - d)
            return float((grown + over).sum() - d @ u + both @ parts), np.r_[slope, -slope] + both

        mean = np.log(max(d.sum(), 1e-9) / len(d)) / self.dt_h.mean()
        start = np.zeros(2 * n)
        start[0], start[n] = max(mean, 0), max(-mean, 0)
        done = minimize(
            cost, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * n), options={"maxiter": 999}
        )
        return np.asarray(done.x[:n] - done.x[n:])


def over(
    plan: sparse.csr_array, own: Float[np.ndarray, "cells genes"], theirs: Float[np.ndarray, "ends genes"]
) -> Float[np.ndarray, "cells genes"]:
    """Return mean levels of cells and of their mean descendants; their own where they leave none."""
    weight = np.asarray(plan.sum(axis=1)).ravel()[:, None]
    there = np.asarray(plan @ theirs) / np.where(weight > 0, weight, 1.0)
    return np.asarray(np.where(weight > 0, (own + there) / 2, own))
