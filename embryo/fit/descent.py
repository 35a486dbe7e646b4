"""Minimise over the rows of a circuit, each measured by its own curvature.

Levels of regulators go together, so that the loss is steep along some sums of weights and all but flat along others.
L-BFGS (Liu and Nocedal 1989, Math. Program. 45:503) is run in coordinates in which the Gauss-Newton curvature of every
row is the unit matrix; they are drawn anew every few iterations.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor, nn

from embryo.core.errors import DivergedError, Problem

_FAR = 1e30


def lbfgs(
    rows: Sequence[nn.Parameter],
    others: Sequence[nn.Parameter],
    loss: Callable[[], Tensor],
    curvature: Float[Tensor, "genes columns columns"],
    iterations: int,
) -> float:
    """Minimise `loss` in place; return its last value.

    Parameters
    ----------
    rows
        Parameters of shape (genes, _) or (genes,), side by side the rows of `curvature`.
    others
        Parameters that are taken as they are.
    loss
        What to minimise.
    curvature
        Positive definite, one matrix per gene.
    iterations
        At most.

    Raises
    ------
    DivergedError
        If the loss leaves the finite numbers.
    """
    root = torch.linalg.cholesky(curvature)
    begin = _side_by_side(rows).detach().clone()
    size = begin.numel()
    wide = [1 if p.ndim == 1 else p.shape[1] for p in rows]

    def put(flat: np.ndarray) -> None:
        at = torch.from_numpy(flat.copy())
        moved = torch.linalg.solve_triangular(root.mT, at[:size].reshape(*begin.shape, 1), upper=True)[..., 0]
        with torch.no_grad():
            for p, part in zip(rows, (begin + moved).split(wide, 1), strict=True):
                p.copy_(part.reshape(p.shape))
        torch.nn.utils.vector_to_parameters(at[size:], others)

    def both(flat: np.ndarray) -> tuple[float, np.ndarray]:
        put(flat)
        value = loss()
        if not torch.isfinite(value):
            return _FAR, np.zeros_like(flat)  # the line search turns back
        slopes = torch.autograd.grad(value, [*rows, *others], materialize_grads=True)
        steep = _side_by_side(slopes[: len(rows)])[..., None]
        turned = torch.linalg.solve_triangular(root, steep, upper=False).ravel()
        return float(value.detach()), torch.cat([turned, *(s.ravel() for s in slopes[len(rows) :])]).numpy()

    tail = [p.detach().ravel() for p in others]
    start = torch.cat([begin.new_zeros(size), *tail]).numpy()
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 40, "ftol": 1e-9, "gtol": 1e-7}
    found = minimize(both, start, jac=True, method="L-BFGS-B", options=options)
    if found.fun >= _FAR:
        problem = Problem("a loss that is not finite", "finite levels and inputs", "look for NaN in the panel")
        raise DivergedError(problem, subject="circuit from snapshots")
    put(found.x)
    return float(found.fun)


def _side_by_side(parts: Sequence[Tensor]) -> Float[Tensor, "genes columns"]:
    return torch.cat([part.reshape(len(part), -1) for part in parts], 1)
