"""How unpaired cells are coupled: every choice and its meaning."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

Solver = Literal["exact", "unbalanced", "fgw"]
Alignment = Literal["no", "near", "free"]
Transitions = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Niche:
    """What surrounds a cell as a part of the cost; it turns with the body, so no frame is needed.

    Parameters
    ----------
    weight
        Share of the cost, 0 to 1; expression and space share the rest.
    of
        ``types``: composition of cell types among the nearest cells; ``z``: their mean embedding; ``signals``: for each
        of `pairs` the geometric mean of the receptor in the cell and the ligand around it; any other word names a slot
        of ``obsm`` with the user's own features.
    neighbours
        How many cells of the same embryo and time count as near.
    pairs
        Ligand and receptor, both genes of the panel.
    """

    weight: float = 0.2
    of: str = "types"
    neighbours: int = 10
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Transport:
    """How unpaired cells are coupled.

    Parameters
    ----------
    solver
        ``exact``: balanced optimal transport by network simplex; ``unbalanced``: entropic with relaxed marginals, so
        that growth may differ between cells (Chizat et al. 2018); ``fgw``: balanced fused Gromov-Wasserstein (Vayer
        et al. 2020), where space enters by the distances inside each population: blind to frames and to mirror images.
    space_weight
        Share of the cost that is squared distance in space, 0 to 1; the rest is squared distance in z. Both are
        divided by their mean first, so that the share means the same for every dataset.
    epsilon
        Entropy of the unbalanced solver, in units of the mean cost.
    tau, tau_target
        Penalties of the unbalanced solver on the marginals of sources and targets, in units of the mean cost. A small
        `tau` lets cells differ in their number of descendants. `tau_target` infinite: all targets are reached alike; a
        finite one lets few travel and then grow rather than many travel far.
    max_cells
        Larger populations are coupled in linear memory (`embryo.couple.large`); where that cannot be (``fgw``,
        `transitions`: their costs are no distances of features) they are subsampled with the seed.
    counts_grow
        Whether the ratio of cell numbers per embryo between two times is growth; False for data sampled at will.
    align
        Whether to turn and shift the later population onto the earlier one while coupling, never mirrored: ``near``
        from the pose in which it comes, for slides that are roughly in place; ``free`` from any pose, for slides or
        embryos each in a frame of its own, where a symmetric shape may leave the rotation ambiguous.
    niche
        Surroundings as a part of the cost.
    transitions
        Penalty of a transition from one cell type to another, in units of the mean cost: ``{"from": {"to": penalty}}``,
        ``"*"`` for all types not listed, infinite where it is forbidden; 0 where nothing is said.
    """

    solver: Solver = "exact"
    space_weight: float = 0.5
    epsilon: float = 0.02
    tau: float = 1.0
    tau_target: float = inf
    max_cells: int = 2000
    counts_grow: bool = True
    align: Alignment = "no"
    niche: Niche | None = None
    transitions: Transitions | None = None

    @property
    def linear(self) -> bool:
        """Whether the cost is a squared distance of features, so that linear memory is enough."""
        return self.solver != "fgw" and self.transitions is None
