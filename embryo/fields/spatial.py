"""The spatial network: a law that reads a cell's state and its neighbours, and turns with the body.

Position enters only through vectors that move with the body, and velocity leaves only along them, so that any proper
rigid motion of the body carries the prediction along (E(n)-equivariant networks, Satorras et al. 2021, eq. 3-6; scalar
products as inputs as in Villar et al. 2021). For cell i at x_i with mass m_i, centroid c and length L of the body:

    e_i = (x_i - c) / L                                     where it lies
    q_i = (S - tr S / n) e_i                                S: second moments of e; the body's axes without their signs
    p_k = sum_i m_i a_k(z_i, g_i) e_i, normalised           poles: the side on which a learned mixture of genes is high
    u_k = mean over neighbours j of w_k(i, j) r_ij          messages; r_ij = (x_j - x_i) / spacing

The mean over neighbours may be weighted by graph-diffused attention (`embryo.blocks.graph_diffusion`): queries spread
over the graph of neighbours before they meet the keys.

Coefficients come from the state, the time, messages and all scalar products of these vectors. A body is not its mirror
image: rotated vectors (in the plane) or cross products (in space), and determinants, let the law tell left from right.
Growth reads the cell's own state and the time alone: where cells divide and die more is seen in what they are, and a
law that may blame the place instead fits the noise of sampling.

A particle of mass m stands for m cells, so distances between cells are m^(-1/n) of those between particles: a body
sampled at a tenth of its cells, or pooled with another, reads like the whole.

Growth adds cells, and cells that come nearer than the spacing of the tissue push each other apart, with the velocity
rate * spacing * sum_j max(0, 1 - |r_ij|) along r_ji: a body grows by more cells at its spacing, not by swelling or by
condensing. The rate is a property of the law (`Body`), not of the data that it was fitted to.
"""

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from embryo.blocks.graph_diffusion import TokenGraph, coefficients, diffuse
from embryo.blocks.neighbours import nearest
from embryo.core.errors import DivergedError, Problem
from embryo.core.state import State, Velocity
from embryo.fields.flow import Scales

_PARTS = ("z", "g")
_POLES, _MESSAGES, _HIDDEN, _FREQUENCIES = 2, 2, 32, 3
_VECTORS = 2 + _POLES + _MESSAGES
_FAINT = 0.05  # a pole shorter than this, in units of L, points nowhere in particular
_DISTANCES = (0.5, 1.0, 1.5, 2.0, 3.0)  # centres of the radial functions, in units of the spacing


@dataclass(frozen=True)
class Body:
    """Lengths of the body, measured on training cells, and how stiff it is.

    Parameters
    ----------
    length_um
        Root-mean-square distance from the centroid.
    spacing_um
        Median distance to the nearest cell at the first and at the last training time; its logarithm is linear between.
    repulsion_per_h
        Rate at which cells nearer than the spacing part; 0 for none.
    """

    length_um: float
    spacing_um: tuple[float, float]
    repulsion_per_h: float = 0.0


class SpatialNetwork(nn.Module):
    """An equivariant network ``(t, z, g, x of the whole body) -> (dz, dg, dx, growth)``, standardised inside.

    One call sees one body: all particles of the state are taken for cells of the same embryo.

    Parameters
    ----------
    dims, genes, space
        Columns of z, g and x; space is 2 or 3.
    reads
        Which of z and g the network sees; time and place in the body always.
    neighbours
        How many it reads.
    size
        Width and depth of the trunk.
    attention
        Diffusion time of the queries of graph-diffused attention to neighbours, 0 for plain attention; None for none:
        all neighbours count alike.

    Raises
    ------
    ValueError
        If space is neither 2 nor 3.
    """

    alone = False

    def __init__(
        self,
        *,
        dims: int,
        genes: int,
        space: int,
        reads: tuple[str, ...] = _PARTS,
        neighbours: int = 8,
        size: tuple[int, int] = (128, 3),
        attention: float | None = None,
    ) -> None:
        super().__init__()
        width, depth = size
        if space not in (2, 3):
            msg = f"{space} columns of positions: a spatial law needs 2 or 3"
            raise ValueError(msg)
        self.reads = tuple(p for p in _PARTS if p in reads)
        self._shape: dict[str, Any] = {
            "dims": dims, "genes": genes, "space": space, "reads": list(self.reads),
            "neighbours": neighbours, "size": list(size), "attention": attention,
        }  # fmt: skip
        self.columns = {"z": dims, "g": genes, "x": space}
        self.neighbours = neighbours
        seen = sum(self.columns[p] for p in self.reads)
        self._groups = list(itertools.combinations(range(_VECTORS), space))
        self._turned = _VECTORS if space == 2 else len(list(itertools.combinations(range(_VECTORS), 2)))
        products = _VECTORS * (_VECTORS + 1) // 2 + len(self._groups)
        inputs = seen + 1 + 2 * _FREQUENCIES + products + _HIDDEN + 1
        outputs = dims + genes + _VECTORS + self._turned
        self.pole = nn.Sequential(nn.Linear(seen, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _POLES))
        self.here, self.there = nn.Linear(seen, _HIDDEN), nn.Linear(seen, _HIDDEN, bias=False)
        self.between = nn.Linear(1 + len(_DISTANCES) + _VECTORS - _MESSAGES, _HIDDEN, bias=False)
        self.message = nn.Sequential(nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU())
        self.coefficient = nn.Linear(_HIDDEN, _MESSAGES)
        self._attend(seen, attention)
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Linear(inputs if i == 0 else width, width), nn.SiLU()]
        self.trunk = nn.Sequential(*layers, nn.Linear(width, outputs))
        self.birth = nn.Sequential(nn.Linear(seen + 1 + 2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, 1))
        self.centre: Tensor
        self.spread: Tensor
        self.rate: Tensor
        self.window_h: Tensor
        self.body: Tensor
        self.register_buffer("centre", torch.zeros(dims + genes))
        self.register_buffer("spread", torch.ones(dims + genes))
        self.register_buffer("rate", torch.ones(dims + genes + space + 1))
        self.register_buffer("window_h", torch.tensor([0.0, 1.0]))
        self.register_buffer("body", torch.tensor([1.0, 1.0, 1.0, 0.0]))  # length, both spacings, repulsion

    def _attend(self, seen: int, attention: float | None) -> None:
        self.terms = None if attention is None else coefficients(attention)
        if attention is not None:
            self.query, self.key = (nn.Linear(seen, _HIDDEN, bias=False) for _ in range(2))

    def shape(self) -> dict[str, Any]:
        """Return what `from_shape` needs to build a network of this shape."""
        return dict(self._shape)

    @classmethod
    def from_shape(cls, shape: dict[str, Any]) -> "SpatialNetwork":
        """Build an unfitted network of a shape that `shape` returned."""
        return cls(**shape | {"reads": tuple(shape["reads"]), "size": tuple(shape["size"])})

    def standardise(self, scales: Scales, body: Body) -> None:
        """Set the standardisation; zero spreads count as one, and all axes of space share one rate."""
        record = asdict(scales)
        seen = self.columns["z"] + self.columns["g"]
        self.centre.copy_(record["centre"][:seen])
        rate = record["rate"].clone()
        rate[seen:-1] = record["rate"][seen:-1].square().mean().sqrt()
        for own, value in ((self.spread, record["spread"][:seen]), (self.rate, rate)):
            own.copy_(torch.where(value > 0, value, torch.ones_like(value)))
        self.window_h.copy_(torch.tensor([scales.t0_h, scales.t1_h]))
        self.body.copy_(torch.tensor([body.length_um, *body.spacing_um, body.repulsion_per_h]))

    def rates(self, t: Float[Tensor, ""], state: State) -> Float[Tensor, "cells outputs"]:
        """Return standardised rates (dz, dg, dx, growth) of one body at time `t` (hours), without the repulsion."""
        t, seen = t.to(state.x.dtype), self._seen(state)
        vectors, read = self._vectors(t, state, seen)
        own = torch.cat([seen, self._time(t).expand(len(state), -1)], dim=-1)
        rates, along = self.trunk(torch.cat([own, _softened(self._products(vectors)), read], dim=-1)).split(
            [self.columns["z"] + self.columns["g"], _VECTORS + self._turned], dim=-1
        )
        dx = (along.unsqueeze(-1) * torch.cat([vectors, self._handed(vectors)], dim=1)).sum(1)
        return torch.cat([rates, dx, self.birth(own)], dim=-1)

    def forward(self, t: Float[Tensor, ""], state: State) -> Velocity:
        """Velocity of every cell at time `t` (hours); see `embryo.core.field.Field`.

        Raises
        ------
        DivergedError
            Where cells have left the finite numbers: they have no neighbours then.
        """
        if not bool(state.x.isfinite().all()):
            cure = "lower simulate.step_h, end earlier, or fit longer; far from the training times a law is free"
            raise DivergedError(Problem(f"cells without a finite place at t = {float(t):.3g} h", "finite places", cure))
        rates = self.rates(t, state) * self.rate
        dz, dg, dx, growth = rates.split([*self.columns.values(), 1], dim=-1)
        return Velocity(dz, dg, dx + self.repulsion(t, state), growth.squeeze(-1))

    def repulsion(self, t: Float[Tensor, ""], state: State) -> Float[Tensor, "cells space"]:
        """Return the velocity (µm/h) at which cells nearer than the tissue's spacing part."""
        if len(state) < 2 or not float(self.body[3]) > 0:
            return torch.zeros_like(state.x)
        apart = self._apart(t, state)[1]
        far = apart.norm(dim=-1, keepdim=True)
        push = (1 - far).clamp(min=0) * apart / far.clamp(min=1e-6)
        away: Tensor = -self.body[3] * self._spacing(t) * push.sum(1)
        return away

    def _spacing(self, t: Float[Tensor, ""]) -> Float[Tensor, ""]:
        u = ((t - self.window_h[0]) / (self.window_h[1] - self.window_h[0])).clamp(0, 1)
        spacing: Tensor = (self.body[1].log() * (1 - u) + self.body[2].log() * u).exp()
        return spacing

    def _time(self, t: Float[Tensor, ""]) -> Float[Tensor, " features"]:
        u = (t - self.window_h[0]) / (self.window_h[1] - self.window_h[0])
        angle = torch.pi * u * torch.arange(1, _FREQUENCIES + 1, device=u.device, dtype=u.dtype)
        return torch.cat([u[None], angle.sin(), angle.cos()])

    def _seen(self, state: State) -> Float[Tensor, "cells seen"]:
        flat = (torch.cat([state.z, state.g], dim=-1) - self.centre) / self.spread
        z, g = flat.split([self.columns["z"], self.columns["g"]], dim=-1)
        return torch.cat([part for name, part in (("z", z), ("g", g)) if name in self.reads], dim=-1)

    def _apart(self, t: Float[Tensor, ""], state: State) -> tuple[Tensor, Float[Tensor, "cells k space"]]:
        """Return the rows of each cell's neighbours and the way to them, in units of the spacing between cells."""
        rows = nearest(state.x, self.neighbours).rows
        per_cell = (-state.log_mass / self.columns["x"]).exp()[rows].unsqueeze(-1)
        return rows, (state.x[rows] - state.x.unsqueeze(1)) * per_cell / self._spacing(t)

    def _vectors(
        self, t: Float[Tensor, ""], state: State, seen: Float[Tensor, "cells seen"]
    ) -> tuple[Float[Tensor, "cells vectors space"], Float[Tensor, "cells read"]]:
        """Return the vectors of each cell, and what it reads of its neighbours without direction."""
        share = torch.softmax(state.log_mass, dim=0).unsqueeze(-1)
        e = (state.x - (share * state.x).sum(0)) / self.body[0]
        s = e.T @ (share * e)
        s = s - torch.eye(len(s), device=e.device, dtype=e.dtype) * s.diagonal().mean()
        weight = self.pole(seen)
        poles = (share * (weight - (share * weight).sum(0))).T @ e
        poles = poles / (poles.square().sum(-1, keepdim=True) + _FAINT**2).sqrt()
        frame = torch.stack([e, e @ s, *(p.expand_as(e) for p in poles)], dim=1)
        if len(state) < 2:
            return torch.cat([frame, torch.zeros_like(frame[:, :_MESSAGES])], dim=1), e.new_zeros(1, _HIDDEN + 1)
        rows, apart = self._apart(t, state)
        far = apart.norm(dim=-1, keepdim=True)
        way = apart / far.clamp(min=1e-6)
        bells = torch.exp(-2 * (far - far.new_tensor(_DISTANCES)).square())
        between = torch.cat([far.clamp(max=5.0), bells, way @ frame.transpose(1, 2)], dim=-1)
        told = self.message(self.here(seen).unsqueeze(1) + self.there(seen)[rows] + self.between(between))
        weight = self._attended(rows, seen)
        messages = self.coefficient(told).unsqueeze(-1) * (way * far.clamp(max=5.0)).unsqueeze(2)
        messages, told = (weight.unsqueeze(-1) * messages).sum(1), (weight * told).sum(1)
        return torch.cat([frame, messages], dim=1), torch.cat([told, far.mean(1).clamp(max=5.0)], dim=-1)

    def _attended(self, rows: Int[Tensor, "cells k"], seen: Float[Tensor, "cells seen"]) -> Float[Tensor, "cells k 1"]:
        """Return how much each neighbour counts; they sum to one."""
        if self.terms is None:
            return torch.full_like(rows, 1, dtype=seen.dtype).unsqueeze(-1) / rows.shape[1]
        here = torch.arange(len(rows), device=rows.device).unsqueeze(1).expand_as(rows)
        links = torch.stack([torch.minimum(here, rows).flatten(), torch.maximum(here, rows).flatten()]).unique(dim=1)
        everyone = torch.ones(1, len(rows), dtype=torch.bool, device=rows.device)
        graph = TokenGraph.of(torch.cat([torch.zeros_like(links[:1]), links]), everyone)
        queries = diffuse(self.query(seen).unsqueeze(0), graph, self.terms).squeeze(0)
        scores: Tensor = (queries.unsqueeze(1) * self.key(seen)[rows]).sum(-1, keepdim=True) / _HIDDEN**0.5
        return scores.softmax(dim=1)

    def _products(self, vectors: Float[Tensor, "cells vectors space"]) -> Float[Tensor, "cells products"]:
        """Scalar products and determinants: all that the vectors say without a frame."""
        i, j = torch.triu_indices(_VECTORS, _VECTORS, device=vectors.device)
        scalar = (vectors @ vectors.transpose(1, 2))[:, i, j]
        groups = torch.tensor(self._groups, device=vectors.device)
        chosen = vectors[:, groups]
        if chosen.shape[-1] == 2:
            volume = (chosen[:, :, 0] * _quarter(chosen[:, :, 1])).sum(-1)
        else:
            volume = (torch.linalg.cross(chosen[:, :, 0], chosen[:, :, 1]) * chosen[:, :, 2]).sum(-1)
        return torch.cat([scalar, volume], dim=-1)

    def _handed(self, vectors: Float[Tensor, "cells vectors space"]) -> Float[Tensor, "cells turned space"]:
        """Vectors that a reflection would turn the other way round."""
        if vectors.shape[-1] == 2:
            return _quarter(vectors)
        i, j = torch.triu_indices(_VECTORS, _VECTORS, offset=1, device=vectors.device)
        turned: Tensor = torch.linalg.cross(vectors[:, i], vectors[:, j])
        return turned


def _quarter(v: Float[Tensor, "*any 2"]) -> Float[Tensor, "*any 2"]:
    """Turn vectors of the plane by a right angle."""
    return torch.stack([-v[..., 1], v[..., 0]], dim=-1)


def _softened(v: Float[Tensor, "cells products"]) -> Float[Tensor, "cells products"]:
    """Logarithmic for large values: a cell far outside the body is not read as one a thousand times as far."""
    return v.sign() * v.abs().log1p()
