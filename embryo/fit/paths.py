r"""Paths from one cell to another: point, mass, velocity and growth, made together so that they cannot disagree.

A path is a curve from a to b, the pace u(s) at which it is followed, and the mass m(s) that it carries, s in [0, 1].
Without more said the curve is straight, the pace even and the mass exponential (Lipman et al. 2023, eq. 10-14; Tong et
al. 2024, eq. 14-15)::

    point = a + u (b - a),    u = s,    m = m0 (m1 / m0)^s

**Travelling Dirac.** The geodesic of the Wasserstein-Fisher-Rao distance between two Diracs (Chizat et al. 2018, sec.
4; Liero, Mielke, Savaré 2018), whose action is :math:`\int m (|x'|^2 + \delta^2 (\log m)'^2) / 2`. On the cone, with
radius sqrt(m) and angle theta = |b - a| / (2 delta), it is a straight line::

    m = (1 - s)^2 m0 + s^2 m1 + 2 s (1 - s) sqrt(m0 m1) cos theta
    u = atan2(s sqrt(m1) sin theta, (1 - s) sqrt(m0) + s sqrt(m1) cos theta) / theta

so that a path moves while it is light: a growing cell early, a dying one late. delta is the length above which it is
cheaper to grow and die than to move: from pi delta on nothing is transported, and pairs that are coupled all the same
are taken for as far apart as that. As delta grows theta vanishes; with equal masses the path is then the straight one.

**Smooth curve.** With a velocity given at both ends the curve is the cubic Hermite polynomial through them.

**Width.** A roll-out leaves the paths that it was trained on, and a network is free where it saw nothing. A point
displaced by e from its path has the velocity of the path and returns to it at the rate kappa::

    point + e,    velocity - kappa e

which is the exact velocity of a point that relaxes onto the moving path, e(t) = e(0) exp(-kappa t), so point and
target still agree, and the fitted field draws cells back to where the data are.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.state import State, Velocity

_SMALL = 1e-4  # angle below which the cone is flat in single precision


@dataclass(frozen=True)
class Tube:
    """The width of paths: how far each point is displaced (parts z, g, x, nothing) and the rate of return, 1/h."""

    displaced: State
    kappa_per_h: Float[Tensor, " cells"]


@dataclass(frozen=True)
class Ends:
    """Velocities of the cells at the two ends of each path, per hour: what makes the curve smooth."""

    start: Velocity
    end: Velocity


class Pace(NamedTuple):
    """Where on its curve a path is, what it carries, and the derivatives of both with respect to s.

    Parameters
    ----------
    u, du
        Share of the curve, 0 to 1.
    log_mass, growth
        Log of the mass in units of that at the start.
    """

    u: Float[Tensor, " cells"]
    du: Float[Tensor, " cells"]
    log_mass: Float[Tensor, " cells"]
    growth: Float[Tensor, " cells"]


def pace(s: Float[Tensor, " cells"], log_ratio: Float[Tensor, " cells"], angle: Float[Tensor, " cells"] | None) -> Pace:
    """Return how far a path has gone at `s` and what it carries.

    Parameters
    ----------
    s
        Flow-matching time, 0 to 1.
    log_ratio
        Log of the mass at the end over that at the start.
    angle
        Of each pair on the cone, at most pi / 2; none for an even pace and exponential mass.
    """
    if angle is None:
        return Pace(s, torch.ones_like(s), s * log_ratio, log_ratio)
    theta, q = angle.clamp(_SMALL, torch.pi / 2), (log_ratio / 2).exp()
    along, across = 1 - s + s * q * theta.cos(), s * q * theta.sin()
    mass = along.square() + across.square()
    growth = 2 * ((q * theta.cos() - 1) * along + q * theta.sin() * across) / mass
    return Pace(torch.atan2(across, along) / theta, q * theta.sin() / (theta * mass), mass.log(), growth)


def path(
    a: State,
    b: State,
    s: Float[Tensor, " cells"],
    dt_h: Float[Tensor, " cells"],
    *,
    angle: Float[Tensor, " cells"] | None = None,
    ends: Ends | None = None,
    tube: Tube | None = None,
) -> tuple[State, Velocity]:
    """Return the point and mass at `s` on (or beside) the path from `a` to `b`, and velocity and growth per hour.

    Parameters
    ----------
    a, b
        Ends of the paths, row by row, each with the mass that it carries there.
    s
        Flow-matching time, 0 to 1.
    dt_h
        Length of each interval, hours.
    angle
        |b - a| / (2 delta) of a travelling Dirac; none for an even pace and exponential mass.
    ends
        Velocities at the ends, for a smooth curve; none for a straight one.
    tube
        Displacement from the path and its rate of return; none puts the point on the path.
    """
    at = pace(s, b.log_mass - a.log_mass, angle)

    def part(name: str) -> tuple[Tensor, Tensor]:
        slopes = None if ends is None else (getattr(ends.start, f"d{name}"), getattr(ends.end, f"d{name}"))
        point, slope = _curve(getattr(a, name), getattr(b, name), at.u, dt_h, slopes)
        rate = slope * (at.du / dt_h)[:, None]
        if tube is None:
            return point, rate
        e = getattr(tube.displaced, name)
        return point + e, rate - tube.kappa_per_h[:, None] * e

    (z, dz), (g, dg), (x, dx) = part("z"), part("g"), part("x")
    return State(z, g, x, a.log_mass + at.log_mass), Velocity(dz, dg, dx, at.growth / dt_h)


def _curve(
    p: Float[Tensor, "cells dims"],
    q: Float[Tensor, "cells dims"],
    u: Float[Tensor, " cells"],
    dt_h: Float[Tensor, " cells"],
    slopes: tuple[Float[Tensor, "cells dims"], Float[Tensor, "cells dims"]] | None,
) -> tuple[Float[Tensor, "cells dims"], Float[Tensor, "cells dims"]]:
    """Return the curve from p to q and its derivative at `u`: straight, or cubic Hermite with these slopes per hour."""
    chord, u, dt = q - p, u[:, None], dt_h[:, None]
    if slopes is None:
        return p + u * chord, chord
    start, end = (slope * dt - chord for slope in slopes)  # by how much it leaves the chord
    bend = u * (1 - u) * ((1 - u) * start - u * end)
    turn = (1 - u) * (1 - 3 * u) * start + u * (3 * u - 2) * end
    return p + u * chord + bend, chord + turn
