"""The flow network: one trunk over the cell's state and the time, heads for state, space and growth."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from embryo.core.state import State, Velocity
from embryo.fields.folded import Folded, Standard

_PARTS = ("z", "g", "x")


@dataclass(frozen=True)
class Scales:
    """What makes inputs and outputs of order one; measured on training cells only.

    Parameters
    ----------
    centre, spread
        Mean and standard deviation of z, g and x, concatenated: shape (dims + genes + space,).
    rate
        Standard deviation of the velocity targets (dz, dg, dx, growth), concatenated, per hour.
    t0_h, t1_h
        First and last training time, hours.
    """

    centre: Float[Tensor, " inputs"]
    spread: Float[Tensor, " inputs"]
    rate: Float[Tensor, " outputs"]
    t0_h: float
    t1_h: float


class FlowNetwork(nn.Module):
    """A multilayer perceptron ``(t, z, g, x) -> (dz, dg, dx, growth)``, standardised inside.

    It reads each cell alone, in the body frame: a cell does not feel its neighbours, and the same body in another pose
    must be aligned first. Time enters as its fraction of the training window and as Fourier features of it.

    Parameters
    ----------
    dims, genes, space
        Columns of z, g and x.
    reads
        Which of z, g, x the trunk sees.
    time
        Whether it sees the time; without, the law is autonomous: the same at all times.
    width, depth, frequencies
        Size of the trunk and number of Fourier pairs.
    head_depth
        Hidden layers that each of the three heads (dz and dg, dx, growth) has for itself, on top of the trunk; with
        none they are one linear layer.
    """

    alone = True

    def __init__(  # noqa: PLR0913  a network's shape, each by name
        self,
        *,
        dims: int,
        genes: int,
        space: int,
        reads: tuple[str, ...] = _PARTS,
        time: bool = True,
        width: int = 128,
        depth: int = 3,
        frequencies: int = 3,
        head_depth: int = 0,
    ) -> None:
        super().__init__()
        self._shape: dict[str, Any] = {
            "dims": dims, "genes": genes, "space": space, "reads": list(reads), "time": time,
            "width": width, "depth": depth, "frequencies": frequencies, "head_depth": head_depth,
        }  # fmt: skip
        self.columns = {"z": dims, "g": genes, "x": space}
        self.reads = tuple(p for p in _PARTS if p in reads)
        self.time = time
        inputs, outputs = dims + genes + space, dims + genes + space + 1
        seen = sum(self.columns[p] for p in self.reads) + time * (1 + 2 * frequencies)
        self.trunk = _layers(seen, width, depth)
        columns = (dims + genes, space, 1) if head_depth else (outputs,)
        self.heads = nn.ModuleList(
            nn.Sequential(*_layers(width, width, head_depth), nn.Linear(width, n)) for n in columns if n
        )
        self.centre: Tensor
        self.spread: Tensor
        self.rate: Tensor
        self.window_h: Tensor
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.register_buffer("rate", torch.ones(outputs))
        self.register_buffer("window_h", torch.tensor([0.0, 1.0]))

    def shape(self) -> dict[str, Any]:
        """Return what `from_shape` needs to build a network of this shape."""
        return dict(self._shape)

    @classmethod
    def from_shape(cls, shape: dict[str, Any]) -> "FlowNetwork":
        """Build an unfitted network of a shape that `shape` returned."""
        return cls(**shape | {"reads": tuple(shape["reads"])})

    def standardise(self, scales: Scales) -> None:
        """Set the standardisation; zero spreads count as one."""
        record = asdict(scales)
        for name in ("centre", "spread", "rate"):
            value = record[name]
            fixed = torch.where(value > 0, value, torch.ones_like(value)) if name != "centre" else value
            getattr(self, name).copy_(fixed)
        self.window_h.copy_(torch.tensor([scales.t0_h, scales.t1_h]))

    def inputs(self, t: Float[Tensor, " cells"], state: State) -> Float[Tensor, "cells features"]:
        """Return what the trunk reads of cells at their own times `t` (hours); no weights are involved."""
        flat = (torch.cat([state.z, state.g, state.x], dim=-1) - self.centre) / self.spread
        split = dict(zip(_PARTS, flat.split(list(self.columns.values()), dim=-1), strict=True))
        return torch.cat([*(split[p] for p in self.reads), *([self.clock(t)] if self.time else [])], dim=-1)

    def clock(self, t: Float[Tensor, " cells"]) -> Float[Tensor, "cells features"]:
        """Return the features of time; no weights are involved."""
        u = ((t - self.window_h[0]) / (self.window_h[1] - self.window_h[0])).unsqueeze(-1)
        k = torch.arange(1, self._shape["frequencies"] + 1, device=t.device, dtype=t.dtype)
        angle = torch.pi * u * k
        return torch.cat([u, angle.sin(), angle.cos()], dim=-1)

    def rates(self, inputs: Float[Tensor, "cells features"]) -> Float[Tensor, "cells outputs"]:
        """Return standardised rates (dz, dg, dx, growth)."""
        hidden = self.trunk(inputs)
        out: Tensor = torch.cat([head(hidden) for head in self.heads], dim=-1)
        return out

    def forward(self, t: Float[Tensor, ""], state: State) -> Velocity:
        """Velocity of every cell at time `t` (hours); see `embryo.core.field.Field`."""
        rates = self.rates(self.inputs(t.to(state.x.dtype).expand(len(state)), state)) * self.rate
        dz, dg, dx, growth = rates.split([*self.columns.values(), 1], dim=-1)
        return Velocity(dz, dg, dx, growth.squeeze(-1))

    def fast(self) -> "Folded | FlowNetwork":
        """Return the same law for many evaluations without gradients, with today's weights.

        A trunk with other activations than its own (somebody changed it) is not folded.
        """
        if not all(isinstance(part, nn.Linear | nn.SiLU) for part in self.trunk):
            return self
        chosen = torch.cat([torch.full((n,), p in self.reads) for p, n in self.columns.items()])
        rows = chosen.nonzero()[:, 0].to(self.centre.device)
        return Folded(
            trunk=self.trunk,
            heads=[head for head in self.heads if isinstance(head, nn.Sequential)],
            standard=Standard(self.centre[rows], self.spread[rows], self.rate),
            columns=self.columns,
            reads=self.reads,
            clock=self.clock if self.time else None,
        )


def _layers(seen: int, width: int, depth: int) -> nn.Sequential:
    sizes = [seen] + [width] * depth
    return nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())))
