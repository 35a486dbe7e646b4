"""Whole bodies: a law that reads neighbours is fitted to, and rolled through, one embryo at a time.

The cells of a stage are those of all its embryos, pooled; cells of two embryos that happen to lie at one place are no
neighbours. A particle counts as one cell of its body, in the fit and in the roll-out alike: where a stage is a sample
of its cells, the law reads the neighbours that the sample has. Spacing is not kept by force (`fit.Tissue.repulsion` is
0), since samples of as many cells of every stage do not have the spacing of the tissue. Descendants are those of the
plan, as the other candidates have them: smoothing them took longer than the fit.
"""

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from embryo import fit, simulate
from embryo.core import field as laws
from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.core.field import Field
from embryo.core.state import State
from embryo.evaluate.time import pairs
from embryo.evaluate.time.series import Series

TISSUE = fit.Tissue(repulsion=0.0, smoothing=0.0)


def carried(law: Field, training: Series, k: int, t_h: float, steps: int) -> State:
    """Return the k-th stage carried to `t_h` in so many steps; embryo by embryo where the law reads neighbours."""
    start, t0 = training.states[k], training.times_h[k]
    step_h = (t_h - t0) / steps
    if laws.alone(law):
        return simulate.forward(law, start, (t0, t_h), step_h=step_h).at(-1)
    ends = []
    for one in np.unique(training.groups[k]):
        body = start[torch.as_tensor(np.flatnonzero(training.groups[k] == one))]
        cells = State(body.z, body.g, body.x, torch.zeros_like(body.log_mass))
        end = simulate.forward(law, cells, (t0, t_h), step_h=step_h).at(-1)
        ends.append(State(end.z, end.g, end.x, end.log_mass + body.log_mass))
    return State(*(torch.cat(part) for part in zip(*(e.parts() for e in ends), strict=True)))


def neighbourly(training: Series, settings: fit.Training) -> Field:
    """Fit a law that reads neighbours to unbalanced couplings of consecutive stages, states and positions together."""
    together = [torch.cat(part).numpy() for part in zip(*(s.parts() for s in training.states), strict=True)]
    sizes = [len(s) for s in training.states]
    obs = pd.DataFrame(
        {schema.TIME: np.repeat(training.times_h, sizes), schema.EMBRYO: np.concatenate(training.groups)},
        index=[str(row) for row in range(sum(sizes))],
    )
    slots = dict(zip((schema.EMBED, schema.PANEL, schema.ALIGNED), together, strict=False))
    adata = AnnData(obs=obs, obsm={**slots, schema.SPATIAL: slots[schema.ALIGNED]})
    return fit.spatial_flow(adata, couplings(training), settings, TISSUE)


def couplings(training: Series) -> list[Coupling]:
    """Return who becomes whom in every interval, rows counted through all stages; cells without a pair are left out."""
    first = np.cumsum([0, *(len(s) for s in training.states)])
    found = []
    for k, (i, j, weight, descendants) in enumerate(plans(training)):
        sources, row = np.unique(i, return_inverse=True)
        targets, column = np.unique(j, return_inverse=True)
        share = weight / np.bincount(row, weight)[row]  # of a cell's descendants
        plan = sparse.csr_array((share * descendants, (row, column)), shape=(len(sources), len(targets)))
        t0, t1 = training.times_h[k : k + 2]
        found.append(Coupling(t0, t1, plan, first[k] + sources, first[k + 1] + targets, {"method": "transport"}))
    return found


def plans(training: Series) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Return the pairs of every interval: rows of both stages, weight, and descendants of the first cell.

    A cell's descendants are its share of the plan, times the growth of all; weights sum to 1.
    """
    found = []
    for k, (a, b) in enumerate(zip(training.states, training.states[1:], strict=False)):
        i, j, weight = pairs.unbalanced(a, b)
        weight = weight / weight.sum()
        left = np.bincount(i, weight, minlength=len(a)) / (a.mass / a.mass.sum()).double().numpy()
        found.append((i, j, weight, left[i] * (training.numbers[k + 1] / training.numbers[k])))
    return found
