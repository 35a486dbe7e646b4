"""True edits of the synthetic embryo: what each operation does to production, in which cells, when.

Doses are in the circuit's own units: 1 is a gene's saturated level.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

from embryo.core.edit import GENE_OPERATIONS, Edit, Operation
from embryo.core.errors import EditError, Problem
from embryo.datasets.synthetic.circuit import INDEX, PANEL

_LEFT_OF_POOL: dict[Operation, Callable[[Edit], float]] = {
    Operation.KNOCKOUT: lambda _: 0.0,
    Operation.KNOCKDOWN: lambda edit: edit.dose,
}


def check(edits: Sequence[Edit]) -> None:
    """Refuse edits that the synthetic embryo cannot carry out.

    Raises
    ------
    EditError
        With every edit that names an unknown gene or a cell type, and every pair of clamps that contradict each other.
    """
    problems = []
    for edit in edits:
        if edit.operation not in GENE_OPERATIONS or edit.region is not None or edit.clone is not None:
            expected = "an edit of a gene in all cells or a mosaic"
            problems.append(Problem(f"{edit.label} in part of an embryo", expected, "choose another edit"))
            continue
        if edit.gene not in PANEL:
            near = get_close_matches(edit.gene, PANEL, n=1)
            cure = f"did you mean {near[0]!r}?" if near else "choose one of these"
            problems.append(Problem(f"gene {edit.gene!r}", f"one of {', '.join(PANEL)}", cure))
        if edit.cell_type is not None:
            problems.append(
                Problem(
                    f"an edit of {edit.gene} in cells of type {edit.cell_type!r}",
                    "an edit of all cells or of a mosaic fraction: the synthetic embryo starts undetermined",
                    "leave cell_type out, or give fraction",
                )
            )
    clamps = [edit for edit in edits if edit.operation is Operation.CLAMP]
    for a, b in combinations(clamps, 2):
        if a.gene == b.gene and a.dose != b.dose and max(a.t_on_h, b.t_on_h) < min(a.t_off_h, b.t_off_h):
            found = f"{a.gene} clamped at {a.dose:g} and at {b.dose:g} at the same time"
            problems.append(Problem(found, "one level at a time", "drop one clamp or part their windows"))
    if problems:
        raise EditError(*problems, subject="synthetic embryo")


def carriers(edits: Sequence[Edit], lot: Float[np.ndarray, " cells"]) -> Bool[np.ndarray, "edits cells"]:
    """Return which cells carry each edit: those whose lot is below its fraction.

    Lots are uniform on (0, 1) and drawn per clone.
    All edits share the lots, as in a chimera: the cells of the smaller fraction carry the larger one's edit too.
    """
    return lot[None, :] < np.array([edit.fraction for edit in edits]).reshape(-1, 1)


def start_levels(
    edits: Sequence[Edit], carried: Bool[np.ndarray, "edits cells"], g: Float[np.ndarray, "cells genes"]
) -> Float[np.ndarray, "cells genes"]:
    """Return expression at time 0: germ-line edits reduce the pool that the egg already holds, unless they keep it."""
    g = g.copy()
    for edit, cells in zip(edits, carried, strict=True):
        if edit.active(0.0) and not edit.keep_pool and edit.operation in _LEFT_OF_POOL:
            g[cells, INDEX[edit.gene]] *= _LEFT_OF_POOL[edit.operation](edit)
    return g


def clamped_levels(
    edits: Sequence[Edit], t_h: float, carried: Bool[np.ndarray, "edits cells"], g: Float[np.ndarray, "cells genes"]
) -> Float[np.ndarray, "cells genes"]:
    """Return expression with clamped genes at their dose."""
    g = g.copy()
    for edit, cells in zip(edits, carried, strict=True):
        if edit.operation is Operation.CLAMP and edit.active(t_h):
            g[cells, INDEX[edit.gene]] = edit.dose
    return g


def edited_production(
    edits: Sequence[Edit],
    t_h: float,
    carried: Bool[np.ndarray, "edits cells"],
    production: Float[np.ndarray, "cells genes"],
    decay_per_h: Float[np.ndarray, " genes"],
) -> Float[np.ndarray, "cells genes"]:
    """Return production per hour under the edits that act at `t_h`.

    The order of the edits does not matter: fractions multiply first, then additions, and a clamp comes last (what keeps
    the gene at its dose).
    """
    ranks = {Operation.KNOCKOUT: 0, Operation.KNOCKDOWN: 0, Operation.OVEREXPRESS: 1, Operation.CLAMP: 2}
    production = production.copy()
    active = [(ranks[edit.operation], edit, cells) for edit, cells in zip(edits, carried, strict=True)]
    for _, edit, cells in sorted(active, key=lambda entry: entry[0]):
        gene = INDEX[edit.gene]
        if not edit.active(t_h):
            continue
        match edit.operation:
            case Operation.KNOCKOUT:
                production[cells, gene] = 0.0
            case Operation.KNOCKDOWN:
                production[cells, gene] *= edit.dose
            case Operation.OVEREXPRESS:
                production[cells, gene] += edit.dose * decay_per_h[gene]
            case Operation.CLAMP:
                production[cells, gene] = edit.dose * decay_per_h[gene]
    return production
