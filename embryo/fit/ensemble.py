"""How sure a fitted circuit is: refits to embryos drawn anew with replacement (bootstrap over embryos, not cells)."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from embryo.fit import circuit
from embryo.fit.circuit import Fitted
from embryo.fit.moments import Series


def ensemble(
    fitted: Fitted,
    series: Sequence[Series],
    members: int,
    *,
    seed: int,
    prior: Float[Tensor, "genes columns"] | None = None,
) -> tuple[Fitted, ...]:
    """Return circuits fitted to embryos drawn with replacement, each started from `fitted` and run by its last phase.

    Parameters
    ----------
    fitted
        The fit to all embryos; left as it is.
    series, prior
        As it was fitted.
    members
        How many.
    seed
        Draws embryos, cells and places.
    """
    settings = replace(fitted.settings, phases=fitted.settings.phases[-1:])
    made = []
    for own in np.random.SeedSequence(seed).generate_state(members).tolist():
        drawn = [resampled(one, own) for one in series]
        start = copy.deepcopy(fitted.numbers)
        made.append(circuit.fit(drawn, settings, seed=own, prior=prior, start=start, inputs=start.inputs))
    return tuple(made)


def resampled(series: Series, seed: int) -> Series:
    """Return a series of as many embryos, drawn with replacement.

    Embryos seen at all stages are drawn once; where every stage has embryos of its own they are drawn stage by stage.
    """
    draw = np.random.default_rng(seed)
    everywhere = all(len(stage.embryo.unique()) == len(series.embryos) for stage in series.stages)
    if everywhere:
        return series.of(draw.choice(series.embryos, len(series.embryos)).tolist())
    stages = []
    for stage in series.stages:
        present = stage.embryo.unique().tolist()
        chosen = draw.choice(present, len(present)).tolist()
        stages.append(stage.chosen(torch.cat([torch.nonzero(stage.embryo == e)[:, 0] for e in chosen])))
    return replace(series, stages=tuple(stages))
