"""Coupling and fitting in turn finds what the first coupling misses."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo import couple
from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.core.state import State, Velocity
from embryo.evaluate.time.recoupled import recoupled

exact = partial(couple.series, method="transport", transport=couple.Transport(solver="exact", space_weight=1.0))


class Affine:
    """The best velocity ``A x + b`` for the pairs of a plan: the smoothest law there is."""

    def __init__(self, adata: AnnData, couplings: Sequence[Coupling]) -> None:
        x = np.asarray(adata.obsm[schema.ALIGNED], dtype=float)
        rows = np.concatenate([c.sources for c in couplings])
        v = np.concatenate([(c.pull(x[c.targets]) - x[c.sources]) / (c.t1_h - c.t0_h) for c in couplings])
        ones = np.column_stack([x[rows], np.ones(len(rows))])
        self.law = torch.as_tensor(np.linalg.lstsq(ones, v, rcond=None)[0], dtype=torch.float32)

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        v = torch.cat([state.x, torch.ones(len(state), 1)], dim=1) @ self.law
        return Velocity(torch.zeros_like(state.z), torch.zeros_like(state.g), v, torch.zeros(len(state)))


def spinning(n: int = 300) -> tuple[AnnData, np.ndarray]:
    """A long tissue that turns by a fifth of a radian: no gradient of a convex function, so OT is wrong."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2)) * [3.0, 1.0]
    turn = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    order = rng.permutation(n)
    adata = AnnData(shape=(2 * n, 0))
    adata.obs[schema.TIME] = np.repeat([0.0, 1.0], n)
    adata.obsm[schema.SPATIAL] = adata.obsm[schema.ALIGNED] = np.concatenate([x, (x @ turn.T)[order]]).astype(
        np.float32
    )
    adata.obsm[schema.EMBED] = np.zeros((2 * n, 1), np.float32)
    adata.obsm[schema.PANEL] = np.zeros((2 * n, 0), np.float32)
    return adata, order


def right(coupling: Coupling, order: np.ndarray) -> float:
    return float((coupling.plan.toarray().argmax(axis=0) == order).mean())


def test_rounds_find_partners_that_the_first_plan_misses() -> None:
    adata, order = spinning()
    rounds = recoupled(adata, exact, Affine, rounds=5)
    shares = [right(r.couplings[0], order) for r in rounds]
    assert shares[0] < 0.8
    assert shares[-1] > 0.97
    residuals = [r.residual_um for r in rounds]
    assert residuals[-1] < 0.2 * residuals[0]


def test_the_first_round_is_the_plain_coupling_and_rows_are_those_of_the_data() -> None:
    adata, _ = spinning(40)
    (only,) = recoupled(adata, exact, Affine, rounds=1)
    (plain,) = exact(adata)
    np.testing.assert_array_equal(only.couplings[0].plan.toarray(), plain.plan.toarray())
    np.testing.assert_array_equal(only.couplings[0].targets, plain.targets)
