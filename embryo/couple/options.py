"""How unpaired cells are coupled: every choice and its meaning."""

from dataclasses import dataclass
from typing import Literal

Solver = Literal["exact", "unbalanced"]


@dataclass(frozen=True)
class Transport:
    """How unpaired cells are coupled.

    Parameters
    ----------
    solver
        ``exact``: balanced optimal transport by network simplex; ``unbalanced``: entropic with relaxed source
        marginal, so that growth may differ between cells (Chizat et al. 2018).
    space_weight
        Share of the cost that is squared distance in space, 0 to 1; the rest is squared distance in z. Both are
        divided by their mean first, so that the share means the same for every dataset.
    epsilon, tau
        Entropy and marginal penalty of the unbalanced solver, in units of the mean cost.
    max_cells
        Larger populations are subsampled with the seed, per embryo and time together.
    counts_grow
        Whether the ratio of cell numbers per embryo between two times is growth; False for data sampled at will.
    """

    solver: Solver = "exact"
    space_weight: float = 0.5
    epsilon: float = 0.02
    tau: float = 1.0
    max_cells: int = 2000
    counts_grow: bool = True
