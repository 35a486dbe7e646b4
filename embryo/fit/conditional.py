"""Couplings of several conditions -> one flow that reads which: flow matching with a vector for each perturbation.

A perturbation that was never measured has a vector too, made of what wild type says of its gene; whether the flow goes
there in a way that means something is to be judged on whole perturbations that were held out.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.state import State
from embryo.fields.conditional import Conditional, told
from embryo.fit.coupled import Pairs
from embryo.fit.regression import regress
from embryo.fit.training import Training


def conditional(
    data: Sequence[Pairs], conditions: Sequence[Float[Tensor, " columns"]], training: Training
) -> Conditional:
    """Fit one flow to the pairs of all conditions, each of which weighs the same.

    Parameters
    ----------
    data
        Pairs of each condition.
    conditions
        Its vector.
    training
        Steps, sizes, seed.

    Returns
    -------
    Conditional
        Under the first condition; `Conditional.given` for others.

    Raises
    ------
    DivergedError
        If the loss stops being finite.
    """
    parts, before = [], 0
    for own, condition in zip(data, conditions, strict=True):
        weight = own.weight / own.weight.sum()
        parts.append(
            replace(own, states=told(own.states, condition), source=own.source + before, target=own.target + before,
                    weight=weight)
        )  # fmt: skip
        before += len(own.states)
    names = [name for name in Pairs.__dataclass_fields__ if name != "states"]
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    states = State(*(torch.cat(column) for column in zip(*(p.states.parts() for p in parts), strict=True)))
    law = regress(Pairs(states, **columns), training).requires_grad_(requires_grad=False)
    return Conditional(law, conditions[0])


def gene_vectors(g: Float[np.ndarray, "cells genes"], columns: int) -> Float[np.ndarray, "genes columns"]:
    """Return what wild type says of each gene: its correlations with all others, in few principal components.

    Parameters
    ----------
    g
        Levels in wild-type cells; a gene that never changes is correlated with none.
    columns
        Components, each of unit variance over the genes; no more than there are.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        profiles = np.nan_to_num(np.corrcoef(g.T))
    u, s, _ = np.linalg.svd(profiles - profiles.mean(axis=0), full_matrices=False)
    kept = u[:, :columns] * (s[:columns] > 1e-9 * s[0])
    return np.asarray(kept * np.sqrt(len(kept)))
