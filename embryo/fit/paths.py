"""Paths from one cell to another: the point and its velocity, made together.

For a coupled pair (a, b) of an interval [t0, t1] and s in [0, 1] the point on the path and its velocity are made by one
function, so that they cannot disagree (Lipman et al. 2023, eq. 10-14; Tong et al. 2024, eq. 14-15):

    point = (1 - s) a + s b,    velocity = (b - a) / (t1 - t0),    time = t0 + s (t1 - t0).

A roll-out leaves the paths that it was trained on, and a network is free where it saw nothing. The paths are therefore
given width: a point displaced by e from its path has the velocity of the path and returns to it at the rate kappa,

    point = (1 - s) a + s b + e,    velocity = (b - a) / (t1 - t0) - kappa e,

which is the exact velocity of a point that relaxes onto the moving path (e(t) = e(0) exp(-kappa t)), so point and
target still agree, and the fitted field draws cells back to where the data are.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from embryo.core.state import State, Velocity


@dataclass(frozen=True)
class Tube:
    """The width of paths: how far each point is displaced (parts z, g, x, nothing) and the rate of return, 1/h."""

    displaced: State
    kappa_per_h: Float[Tensor, " cells"]


def path(
    a: State,
    b: State,
    s: Float[Tensor, " cells"],
    dt_h: Float[Tensor, " cells"],
    growth: Float[Tensor, " cells"],
    tube: Tube | None = None,
) -> tuple[State, Velocity]:
    """Return the point at `s` on (or beside) the straight path from `a` to `b` and its velocity, per hour.

    Parameters
    ----------
    a, b
        Ends of the paths, row by row.
    s
        Flow-matching time, 0 to 1.
    dt_h
        Length of each interval, hours.
    growth
        Rate of log mass along the path, 1/h.
    tube
        Displacement from the path and its rate of return; none puts the point on the path.
    """
    point = State(*(_lerp(p, q, s) for p, q in zip(a.parts(), b.parts(), strict=True)))
    dz, dg, dx, _ = ((q - p) / _column(dt_h, p) for p, q in zip(a.parts(), b.parts(), strict=True))
    if tube is None:
        return point, Velocity(dz, dg, dx, growth)
    point = State(*(p + e for p, e in zip(point.parts(), tube.displaced.parts(), strict=True)))
    back = tube.displaced.map(lambda e: _column(tube.kappa_per_h, e) * e)
    return point, Velocity(dz - back.z, dg - back.g, dx - back.x, growth)


def _column(v: Tensor, like: Tensor) -> Tensor:
    return v.reshape(-1, *([1] * (like.ndim - 1)))


def _lerp(p: Tensor, q: Tensor, s: Tensor) -> Tensor:
    return p + _column(s, p) * (q - p)
