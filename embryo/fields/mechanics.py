"""Mechanics: how genes move cells and make them divide; a law that is linear in its strengths.

Cells are points in a viscous medium, so that velocity is force (overdamped). With y_i the levels of the panel genes of
cell i in units of each gene's own scale, s the distance to a neighbour in units of the tissue's spacing and u_ij the
way to it,

    dx_i   = sum_j f_ij u_ij + sum_l (chi_l . y_i) grad c_l / (|grad c_l| + c0)                   pairs, chemotaxis
             + L (B_1 + B_2 tau) e_i + L (B_3 + B_4 tau) Q e_i - k max(0, rho_i - R) rho_i/|rho_i|      background, wall
    f_ij   = - k_rep max(0, 1 - s) + (a_0 + y_i' A y_j) w(s)                                   repulsion, adhesion
             - (n/2) (b . (y_i + y_j)/2) (u' Q u) v(s)                                         intercalation
    growth = h_0 + h_1 tau + h . y_i

w is a hump that is 0 at s <= 1 and beyond the reach, v a bell that falls to 0 at the reach, tau the time as a share of
the window. A is symmetric and not negative: cells that share a gene pull (Steinberg 1963, Science 141:401; Foty and
Steinberg 2005, Dev. Biol. 278:255). Intercalation draws neighbours together across the body's long axis and parts them
along it (convergent extension; Keller 2002, Science 298:1950). The background reads place and time and never a gene, so
that an edit cannot change it but through the form of the body; growth reads genes and time and never a place.

Everything turns with the body: e_i = (x_i - c) / L, S the second moments of e, Q = S^4 / tr S^4 - 1/n, which is
``a a' - 1/n`` where the body has one long axis a, and 0 where it has none. rho is the way from that axis.

A particle of mass m stands for m cells. Radii add: two particles touch at the spacing times (m_i^(1/n) + m_j^(1/n))/2,
and each pulls with the smaller mass of the two over its own, divided by that factor: stress and drag per volume, and
with them the flow of the tissue, do not depend on how finely it is sampled. Sum_i m_i dx_i of the pair forces is 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from embryo.blocks.neighbours import within
from embryo.core.state import State

Ligands = Callable[[State], tuple[Tensor, Tensor]]
"""Concentrations at every cell, and their gradients per µm: (cells, space), or (cells, ligands, space)."""

_MOST = 2.0  # largest level that a gene counts with, in units of its own scale
_POWER = 4  # of the second moments, which sharpens the longest axis
_FAR = 4.0  # in body lengths: the background grows no further
_TINY = 1e-9
_SKIN = 0.15  # of the reach: pairs that may come to touch before they are sought again
_STEPS_OF_SKIN = 5  # Euler steps between searches
_SMALL = 0.5  # of a cell's radius: what is left of a cell keeps so much room, or no step would be short enough for it
_SAFE = 0.2  # of spacing / repulsion: springs of a close packing relax at up to 8 times their rate, with a margin


@dataclass(frozen=True)
class Touch:
    """Lengths of the tissue.

    Parameters
    ----------
    spacing_um
        Distance at which two cells neither push nor pull.
    reach
        Distance, in spacings, beyond which cells do not touch.
    length_um
        Root-mean-square distance of cells from the centroid: the unit of body coordinates.
    wall_um
        Radius around the long axis beyond which the wall pushes back; infinite for none.
    window_h
        Start and end of the time over which the strengths were fitted.
    steepness_per_um
        Gradient at which chemotaxis reaches half its speed.
    """

    spacing_um: float
    reach: float = 1.5
    length_um: float = 1.0
    wall_um: float = float("inf")
    window_h: tuple[float, float] = (0.0, 1.0)
    steepness_per_um: float = 1e-3


class Contacts(NamedTuple):
    """Cells that touch, every pair both ways.

    Parameters
    ----------
    rows
        First and second cell of each pair.
    unit
        Direction from the first to the second.
    distance
        In spacings, between cells.
    share
        What the pull is multiplied with: 1 for cells of mass 1.
    along
        u' Q u: how far the pair lies along the body's long axis.
    """

    rows: Int[Tensor, "2 pairs"]
    unit: Float[Tensor, "pairs space"]
    distance: Float[Tensor, " pairs"]
    share: Float[Tensor, " pairs"]
    along: Float[Tensor, " pairs"]


class Mechanics(nn.Module):
    """The law ``(t, state) -> (dx, growth)``; see the module.

    Its strengths are buffers, 0 until `embryo.fit.mechanics` sets them; velocities in µm/h, growth in 1/h.

    Parameters
    ----------
    genes, space, ligands
        How many genes in the panel, columns of x (2 or 3) and ligands that attract.

    Raises
    ------
    ValueError
        If space is neither 2 nor 3.
    """

    alone = False

    unit: Tensor
    repulsion: Tensor
    cohesion: Tensor
    adhesion: Tensor
    motility: Tensor
    chemotaxis: Tensor
    background: Tensor
    wall: Tensor
    base: Tensor
    birth: Tensor
    lengths: Tensor

    def __init__(self, *, genes: int, space: int, ligands: int = 0) -> None:
        super().__init__()
        if space not in (2, 3):
            msg = f"{space} columns of positions: mechanics need 2 or 3"
            raise ValueError(msg)
        self._shape = {"genes": genes, "space": space, "ligands": ligands}
        zeros = {
            "repulsion": (), "cohesion": (), "adhesion": (genes, genes), "motility": (genes,),
            "chemotaxis": (genes, ligands), "background": (4,), "wall": (), "base": (2,), "birth": (genes,),
        }  # fmt: skip
        self.register_buffer("unit", torch.ones(genes))
        for name, shape in zeros.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("lengths", torch.zeros(7))
        self.touch(Touch(1.0))

    def shape(self) -> dict[str, Any]:
        """Return what `from_shape` needs to build a law of this shape."""
        return dict(self._shape)

    @classmethod
    def from_shape(cls, shape: dict[str, Any]) -> "Mechanics":
        """Build a law without forces, of a shape that `shape` returned."""
        return cls(**shape)

    def touch(self, touch: Touch) -> "Mechanics":
        """Set the lengths of the tissue, and return the law."""
        numbers = (touch.spacing_um, touch.reach, touch.length_um, touch.wall_um, *touch.window_h)
        self.lengths.copy_(torch.tensor([*numbers, touch.steepness_per_um]))
        return self

    @property
    def stable_step_h(self) -> float:
        """Longest Euler step (h) of cells of mass 1 for which the repulsion settles."""
        stiff = float(self.repulsion)
        return _SAFE * float(self.lengths[0]) / stiff if stiff > 0 else float("inf")

    def levels(self, g: Float[Tensor, "cells genes"]) -> Float[Tensor, "cells genes"]:
        """Return gene levels in units of each gene's own scale, from log1p counts; bounded."""
        return (g.expm1() / self.unit).clamp(0, _MOST)

    def forward(
        self, t: Float[Tensor, ""], state: State, ligands: Ligands | None = None
    ) -> tuple[Float[Tensor, "cells space"], Float[Tensor, " cells"]]:
        """Return dx (µm/h) and growth (1/h) of every cell at time `t` (hours).

        Parameters
        ----------
        t
            Time.
        state
            One body; z is not read.
        ligands
            What attracts; not needed where nothing does.
        """
        y = self.levels(state.g)
        dx = self._pushed(t, state, y, self.close(state)) + self._drawn(state, y, ligands)
        return dx, self.base[0] + self.base[1] * self._share(t) + y @ self.birth

    def drift(
        self, t: Float[Tensor, ""], state: State, hours: float, ligands: Ligands | None = None
    ) -> Float[Tensor, "cells space"]:
        """Return the mean velocity over the next `hours`, µm/h, as genes, masses and ligands are now.

        Pair forces settle within minutes: what is left of them over longer is how the tissue flows. Euler steps of at
        most `stable_step_h`, shorter where cells are less than one: their springs are stiffer by the square of a
        radius.
        """
        y, now = self.levels(state.g), state
        least = float(self._radius(state)[state.alive].clamp(_SMALL, 1).min()) if bool(state.alive.any()) else 1.0
        steps = max(1, math.ceil(hours / self.stable_step_h / least**2 - 1e-6))
        drawn, close = self._drawn(state, y, ligands), self.close(state, 1 + _SKIN)
        for k in range(steps):
            if k and k % _STEPS_OF_SKIN == 0:
                close = self.close(now, 1 + _SKIN)
            dx = self._pushed(t, now, y, close) + drawn
            now = replace(now, x=now.x + hours / steps * dx)
        return (now.x - state.x) / hours

    def _pushed(
        self, t: Float[Tensor, ""], state: State, y: Float[Tensor, "cells genes"], close: Int[Tensor, "2 pairs"]
    ) -> Float[Tensor, "cells space"]:
        near = self.contacts(state, close)
        dx = gathered(near, self.pull(y, near).unsqueeze(1), state.x).squeeze(-1)
        return dx + self.surroundings(t, state) @ self._outside()

    def _drawn(
        self, state: State, y: Float[Tensor, "cells genes"], ligands: Ligands | None
    ) -> Float[Tensor, "cells space"]:
        if not self.chemotaxis.any():
            return torch.zeros_like(state.x)
        drawn: Tensor = (self.climbing(state, ligands) * (y @ self.chemotaxis).unsqueeze(1)).sum(-1)
        return drawn

    def close(self, state: State, wider: float = 1.0) -> Int[Tensor, "2 pairs"]:
        """Return all pairs, both ways, that may touch: within `wider` times the reach of the largest cells."""
        radius = self._radius(state)
        widest = float(radius.max()) if len(radius) else 0.0
        return within(state.x, float(self.lengths[0] * self.lengths[1]) * max(widest, _SMALL) * wider)

    def contacts(self, state: State, close: Int[Tensor, "2 pairs"] | None = None) -> Contacts:
        """Find all pairs of living cells within the reach, among those that are `close`."""
        x, radius = state.x, self._radius(state)
        rows = self.close(state) if close is None else close
        i, j = rows
        apart = x[j] - x[i]
        far = apart.norm(dim=-1)
        scale = ((radius[i] + radius[j]) / 2).clamp(min=_SMALL)
        s = far / (self.lengths[0] * scale)
        keep = (s < self.lengths[1]) & state.alive[i] & state.alive[j]
        rows, apart, far, s, scale = rows[:, keep], apart[keep], far[keep], s[keep], scale[keep]
        unit = apart / far.clamp(min=_TINY).unsqueeze(-1)
        mass = state.mass
        share = torch.minimum(mass[rows[0]], mass[rows[1]]) / mass[rows[0]] / scale
        along = ((unit @ self._axes(state)[2]) * unit).sum(-1)
        return Contacts(rows, unit, s, share, along)

    @staticmethod
    def _radius(state: State) -> Float[Tensor, " cells"]:
        """Return the radius of every particle beside that of one cell."""
        radius: Tensor = (state.log_mass / state.x.shape[1]).exp()
        return radius

    def humps(self, near: Contacts) -> Float[Tensor, "pairs 3"]:
        """Return how repulsion, adhesion and intercalation of unit strength pull, by distance and direction."""
        reach = self.lengths[1]
        room = (reach - near.distance).clamp(min=0)
        push = (near.distance - 1).clamp(max=0)
        hump = (near.distance - 1).clamp(min=0) * room * 4 / (reach - 1).square().clamp(min=_TINY)
        bell = -near.unit.shape[1] / 2 * near.along * (room / reach).square()
        return torch.stack([push, hump, bell], dim=1) * near.share.unsqueeze(1)

    def pull(self, y: Float[Tensor, "cells genes"], near: Contacts) -> Float[Tensor, " pairs"]:
        """Return the velocity with which the first cell of each pair is drawn to the second, µm/h."""
        i, j = near.rows
        sticky = self.adhesion.any(0)
        own = y[:, sticky]
        shared = ((own @ self.adhesion[sticky][:, sticky])[i] * own[j]).sum(-1)
        motile = y @ self.motility / 2
        strength = torch.stack([self.repulsion.expand_as(shared), self.cohesion + shared, motile[i] + motile[j]], dim=1)
        return (self.humps(near) * strength).sum(1)

    def surroundings(self, t: Float[Tensor, ""], state: State) -> Float[Tensor, "cells space 5"]:
        """Return background and wall of unit strength: place and time only."""
        e, lateral, q = self._axes(state)
        soft = self.lengths[2] * e / (1 + e.square().sum(-1, keepdim=True) / _FAR**2).sqrt()
        squeezed, tau = soft @ q, self._share(t)
        rho = lateral.norm(dim=-1, keepdim=True)
        back = -(rho - self.lengths[3]).clamp(min=0) * lateral / rho.clamp(min=_TINY)
        return torch.stack([soft, tau * soft, squeezed, tau * squeezed, back], dim=-1)

    def climbing(self, state: State, ligands: Ligands | None) -> Float[Tensor, "cells space ligands"]:
        """Return the way up each ligand's gradient, shorter than 1 where it is shallow.

        Raises
        ------
        ValueError
            If ligands attract and none are given, or another number of them.
        """
        expected = self.chemotaxis.shape[1]
        slope = state.x.new_zeros(len(state), 0, state.x.shape[1]) if ligands is None else ligands(state)[1]
        slope = slope if slope.ndim == 3 else slope.unsqueeze(1)
        if slope.shape[1] != expected:
            msg = f"gradients of {slope.shape[1]} ligands for a law that reads {expected}"
            raise ValueError(msg)
        steep = slope.norm(dim=-1, keepdim=True) + self.lengths[6]
        way: Tensor = (slope / steep).transpose(1, 2)
        return way

    def from_axis(self, state: State) -> Float[Tensor, " cells"]:
        """Return the distance of every cell from the body's long axis, µm."""
        rho: Tensor = self._axes(state)[1].norm(dim=-1)
        return rho

    def _outside(self) -> Float[Tensor, " 5"]:
        return torch.cat([self.background, self.wall.reshape(1)])

    def _share(self, t: Float[Tensor, ""]) -> Float[Tensor, ""]:
        start, end = self.lengths[4], self.lengths[5]
        return ((t - start) / (end - start)).clamp(0, 1)

    def _axes(self, state: State) -> tuple[Tensor, Tensor, Float[Tensor, "space space"]]:
        """Return body coordinates, the way from the long axis in µm, and Q."""
        share = torch.softmax(state.log_mass, dim=0).unsqueeze(-1)
        off = state.x - (share * state.x).sum(0)
        e = off / self.lengths[2]
        s = e.T @ (share * e)
        s = torch.linalg.matrix_power(s / s.diagonal().sum().clamp(min=_TINY), _POWER)
        along = s / s.diagonal().sum().clamp(min=_TINY)
        eye = torch.eye(len(s), dtype=s.dtype, device=s.device)
        return e, off - off @ along, along - along.diagonal().sum() * eye / len(s)


def gathered(
    near: Contacts, pull: Float[Tensor, "pairs columns"], x: Float[Tensor, "cells space"]
) -> Float[Tensor, "cells space columns"]:
    """Sum what draws each cell to its neighbours: one velocity per column of `pull`."""
    total = x.new_zeros(*x.shape, pull.shape[1])
    return total.index_add(0, near.rows[0], pull.unsqueeze(1) * near.unit.unsqueeze(2))


def products(y: Float[Tensor, "cells genes"], near: Contacts, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Return ``y_i' A y_j`` of every pair of cells, one column for each pair of genes at which A (symmetric) is 1."""
    one, two = (torch.tensor(side, dtype=torch.long, device=y.device) for side in zip(*pairs, strict=True))
    a, b = y[near.rows[0]], y[near.rows[1]]
    there, back = a[:, one] * b[:, two], a[:, two] * b[:, one]
    return torch.where(one == two, there, there + back)
