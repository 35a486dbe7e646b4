r"""Bends: paths that stay where cells are, instead of crossing regions where no stage has any.

Between coupled cells a and b the curve is a parabola, ``a + u (b - a) + 4 u (1 - u) c``; its bend c has least energy
:math:`\int |x'|^2 / (\rho(x) + \epsilon)\,du` in a metric that is short where the density of cells is high (the LAND
metric of Arvanitidis et al. 2016; learned for flow matching by Kapuśniak et al. 2024, eq. 7-9; here each pair has its
own). The density is that of Gaussians around cells of all stages that are fitted on; none of a held-out one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.state import State

_KNOTS = 9  # points of a curve
_CELLS = 500  # that the density is made of, drawn evenly
_PAIRS = 2000  # bent at once: memory is _PAIRS x _KNOTS x _CELLS numbers
_NEIGHBOUR = 10  # whose median distance is the unit of the kernel's width
_FLOOR = 0.01  # density of nowhere, in units of the mean density at cells
_ITERATIONS = 40


def bends(a: State, b: State, cells: State, spread: State, width: float) -> State:
    """Return the bend of the path of each pair (rows of z and x; zeros for g and mass).

    Parameters
    ----------
    a, b
        Ends of the paths, row by row.
    cells
        Of all stages that are fitted on.
    spread
        Standard deviation of each coordinate, one row: lengths are measured in z and x, each coordinate in units of it.
    width
        Standard deviation of the Gaussians, in units of the median distance of a cell to its tenth nearest.
    """
    unit = torch.cat([spread.z, spread.x], dim=1)
    first, last, cloud = (torch.cat([s.z, s.x], dim=1) / unit for s in (a, b, cells))
    cloud = cloud[torch.linspace(0, len(cloud) - 1, min(_CELLS, len(cloud)), device=cloud.device).long()]
    far = torch.cdist(cloud, cloud).sort(dim=1).values[:, min(_NEIGHBOUR, len(cloud) - 1)].median()
    scale = width * far.clamp(min=1e-12)
    least = _FLOOR * _density(cloud, cloud, scale).mean()
    bent = [
        _bend(first[k], last[k], cloud, scale, least)
        for k in torch.arange(len(first), device=unit.device).split(_PAIRS)
    ]
    z, x = (torch.cat(bent) * unit).split([a.z.shape[1], a.x.shape[1]], dim=1)
    return State(z, torch.zeros_like(a.g), x, torch.zeros_like(a.log_mass))


def _density(
    points: Float[Tensor, "points columns"], cloud: Float[Tensor, "cells columns"], scale: Float[Tensor, ""]
) -> Float[Tensor, " points"]:
    return torch.exp(-(torch.cdist(points, cloud) / scale).square() / 2).mean(dim=1)


def _bend(
    a: Float[Tensor, "pairs columns"],
    b: Float[Tensor, "pairs columns"],
    cloud: Float[Tensor, "cells columns"],
    scale: Float[Tensor, ""],
    least: Float[Tensor, ""],
) -> Float[Tensor, "pairs columns"]:
    """Minimise the energy of the polygon through the knots of each curve, by L-BFGS from the chord."""
    u = torch.linspace(0, 1, _KNOTS, dtype=a.dtype, device=a.device)[:, None, None]
    bend = torch.zeros_like(a, requires_grad=True)
    search = torch.optim.LBFGS([bend], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")
    unit = (b - a).square().sum(1).mean().clamp(min=1e-12) / least

    def energy() -> Tensor:
        search.zero_grad()
        curve = a + u * (b - a) + 4 * u * (1 - u) * bend
        middle = ((curve[1:] + curve[:-1]) / 2).flatten(0, 1)
        price = 1 / (_density(middle, cloud, scale) + least).view(_KNOTS - 1, -1)
        total: Tensor = (price * (curve[1:] - curve[:-1]).square().sum(-1)).sum() * (_KNOTS - 1) / (unit * len(a))
        total.backward()
        return total.detach()

    with torch.enable_grad():
        search.step(energy)
    return bend.detach()
