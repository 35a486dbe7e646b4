"""Unpaired stages -> what forces must explain: how much of a body is where, and how that changes.

No cell is followed. For any smooth function phi of place, cells that move with v, divide and die at the net rate b obey

    d/dt sum_i phi(x_i) = sum_i grad phi(x_i) . v_i + sum_i b_i phi(x_i)

and v is linear in the strengths of forces, each of which is known where all cells of a body are: with growth known
(`embryo.fit.moving`) two stages give one equation per phi, without who became whom (the weak form; Messenger and Bortz
2022, Physica D 439:133406). Functions are bells about places all over the body, and the second moments; sums are taken
at both stages and averaged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core.state import State
from embryo.fit.bounded import Moments
from embryo.fit.scenes import Columns, doubled, spread

Births = Callable[[State], Tensor]
"""Net rate of division of every cell, 1/h."""

_BELLS = 48


@dataclass(frozen=True, eq=False)
class Passage:
    """Bodies at two stages: one embryo seen twice, or the embryos of two stages in a common pose.

    Parameters
    ----------
    t_h, dt_h
        When the first stage was, and how long after it the second.
    early, late
        Whole bodies.
    embryo
        Whose they are; passages of one embryo are left out together.
    births
        Net rate of division.
    """

    t_h: float
    dt_h: float
    early: tuple[State, ...]
    late: tuple[State, ...]
    embryo: str
    births: Births

    @property
    def bodies(self) -> tuple[State, ...]:
        """Bodies of the first stage."""
        return self.early

    def double(self) -> "Passage":
        """Return the passage in double precision."""
        return replace(self, early=tuple(map(doubled, self.early)), late=tuple(map(doubled, self.late)))

    def moments(self, columns: Columns, width_um: float) -> Moments:
        """Return one equation for each test function, in units of the velocity of a cell."""
        functions = _Functions.over(self.early, width_um)

        def sums(t_h: float, state: State) -> tuple[Tensor, ...]:
            phi, slope = functions(state.x)
            mass = state.mass
            flux = torch.einsum("i,ims,isc->mc", mass, slope, columns(t_h, state))
            born = (mass * self.births(state)) @ phi
            return flux, born, mass @ phi, mass @ slope.square().sum(-1)

        rows0, born0, held0, size0 = _mean([sums(self.t_h, body) for body in self.early])
        rows1, born1, held1, size1 = _mean([sums(self.t_h + self.dt_h, body) for body in self.late])
        scale = ((size0 + size1) / 2).sqrt().clamp(min=1e-12)
        wanted = (held1 - held0) / self.dt_h - (born0 + born1) / 2
        return Moments.of(((rows0 + rows1) / 2 / scale[:, None]).numpy(), (wanted / scale).numpy())


@dataclass(frozen=True, eq=False)
class _Functions:
    """Bells about places, and second moments about the middle."""

    places: Float[Tensor, "places space"]
    middle: Float[Tensor, " space"]
    width_um: float

    @classmethod
    def over(cls, bodies: Sequence[State], width_um: float) -> "_Functions":
        x = torch.cat([s.x for s in bodies])
        return cls(spread(x, _BELLS), x.mean(0), width_um)

    def __call__(self, x: Float[Tensor, "cells space"]) -> tuple[Tensor, Tensor]:
        """Return values (cells, functions) and gradients (cells, functions, space)."""
        off = x[:, None] - self.places
        bell = torch.exp(-off.square().sum(-1) / 2 / self.width_um**2)
        i, j = torch.triu_indices(x.shape[1], x.shape[1])
        e, unit = x - self.middle, torch.eye(x.shape[1]).to(x)
        tilt = e[:, i, None] * unit[j] + e[:, j, None] * unit[i]
        slopes = torch.cat([-bell[..., None] * off / self.width_um**2, tilt], dim=1)
        return torch.cat([bell, e[:, i] * e[:, j]], dim=1), slopes


def passages(
    times_h: Sequence[float],
    stages: Sequence[State],
    embryos: Sequence[Int[Tensor, " _"]],
    births: Births,
    origins: Mapping[int, int] | None = None,
) -> list[Passage]:
    """Return the passages of every embryo that is seen at two stages in a row; where none is, those of all together.

    Parameters
    ----------
    times_h, stages, embryos
        Of each stage: when, its cells, and the number of each cell's embryo.
    births
        Net rate of division.
    origins
        Of embryos that are copies: of which one; they are left out together.
    """
    made = []
    for (t0, a, who_a), (t1, b, who_b) in pairwise(zip(times_h, stages, embryos, strict=True)):
        seen = [sorted(set(who.tolist())) for who in (who_a, who_b)]
        both = [e for e in seen[0] if e in seen[1]]
        single = [([e], [e], str((origins or {}).get(e, e))) for e in both]
        for early, late, name in single or [(seen[0], seen[1], f"{t0:g} h")]:
            bodies = (tuple(a[who_a == e] for e in early), tuple(b[who_b == e] for e in late))
            made.append(Passage(float(t0), float(t1 - t0), *bodies, name, births))
    return made


def _mean(parts: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    return [torch.stack(column).mean(0) for column in zip(*parts, strict=True)]
