"""The gene circuit: production by a squashed sum of regulators, minus decay.

On levels y_a = expm1(g_a) / unit_a, so that 1 is a gene's own scale,

    dy_a/dt = R_a sigma(sum_b W_ab y_b + sum_m E_am m_m(x, t) + sum_l S_al c_l(x) + h_a) - lambda_a y_a

with sigma the logistic function, m the inputs that ride with the tissue, c what cells secrete (`Ligands`, solved again
from present positions). The form is that of the connectionist gene circuits of the fly blastoderm (Mjolsness, Sharp
and Reinitz 1991, J. Theor. Biol. 152:429). An edit acts on the production alone, through `CircuitField.produce`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from embryo.blocks.diffusion import Medium, concentration, screened
from embryo.core.errors import EditError, Problem
from embryo.core.field import ANY, SIGNAL, Change
from embryo.core.state import State, Velocity

_SHORT_H, _LARGE = 0.05, 10.0  # longest step where level 1 is above so many: log counts of a gene that comes on leap
_QUICK_PER_H = 8.0  # a gene that is off comes on in log1p counts at most so fast: else no step would be short enough


class Circuit(nn.Module):
    """The numbers of a gene circuit; row = target, columns of `weights` = genes, then inputs, then ligands.

    Parameters
    ----------
    panel
        Names of the genes, in the order of the columns of g.
    inputs
        Names of the inputs m.
    ligands
        Panel genes that are secreted; each is one column of c.
    """

    def __init__(self, panel: Sequence[str], inputs: Sequence[str] = (), ligands: Sequence[str] = ()) -> None:
        super().__init__()
        self.panel, self.inputs, self.ligands = tuple(panel), tuple(inputs), tuple(ligands)
        genes = len(self.panel)
        self.weights: Tensor
        self.bias: Tensor
        self.rate_per_h: Tensor
        self.decay_per_h: Tensor
        self.unit: Tensor
        self.register_buffer("weights", torch.zeros(genes, genes + len(self.inputs) + len(self.ligands)))
        self.register_buffer("bias", torch.zeros(genes))
        self.register_buffer("rate_per_h", torch.ones(genes))
        self.register_buffer("decay_per_h", torch.ones(genes))
        self.register_buffer("unit", torch.ones(genes))

    @property
    def longest_step_h(self) -> float:
        """Return the longest step that follows it, hours; any where levels are about as large as log counts."""
        return _SHORT_H if float(self.unit.max()) > _LARGE else inf

    def levels(self, g: Float[Tensor, "cells genes"]) -> Float[Tensor, "cells genes"]:
        """Return levels y = expm1(g) / unit of a log1p panel; a step below 0 counts as 0."""
        return torch.expm1(g.clamp(min=0)) / self.unit.to(g.dtype)

    def production(
        self,
        y: Float[Tensor, "cells genes"],
        inputs: Float[Tensor, "cells inputs"],
        signals: Float[Tensor, "cells ligands"],
    ) -> Float[Tensor, "cells genes"]:
        """Return R sigma(W y + E m + S c + h), in levels per hour."""
        u = torch.cat([y, inputs.to(y), signals.to(y)], 1) @ self.weights.to(y).T + self.bias.to(y)
        return self.rate_per_h.to(y) * torch.sigmoid(u)

    def without(self, edges: Sequence[tuple[str, str]]) -> "Circuit":
        """Return a circuit in which these regulations (source, target) are cut.

        A source is a gene, an input, or ``"signal:LIGAND"`` for what is received; target `ANY` means every gene.

        Raises
        ------
        EditError
            If a name is unknown; all at once.
        """
        columns = {name: k for k, name in enumerate(self.columns)}
        rows = {name: [k] for k, name in enumerate(self.panel)} | {ANY: list(range(len(self.panel)))}
        problems = [
            Problem(
                f"an edge {a} -> {b}", f"a source of {', '.join(columns)} and a gene of the panel", "check the names"
            )
            for a, b in edges
            if a not in columns or b not in rows
        ]
        if problems:
            raise EditError(*problems, subject="circuit")
        cut = Circuit.from_shape(self.shape()).to(self.weights.device)
        cut.load_state_dict(self.state_dict())
        cut.weights = self.weights.clone()
        for a, b in edges:
            cut.weights[rows[b], columns[a]] = 0.0
        return cut

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `weights`."""
        return (*self.panel, *self.inputs, *(SIGNAL + name for name in self.ligands))

    def shape(self) -> dict[str, Any]:
        """Return what `from_shape` needs, as plain values."""
        return {"panel": list(self.panel), "inputs": list(self.inputs), "ligands": list(self.ligands)}

    @classmethod
    def from_shape(cls, shape: dict[str, Any]) -> "Circuit":
        """Return an empty circuit of a shape."""
        return cls(**shape)


class Gradients(nn.Module):
    """Inputs laid down from both ends of each body axis, as eggs do: exponentials that fade.

    m_k(X, t) = exp(-d_k / length_k - (t - at_h) / lifetime_k), with d_k the distance of material coordinate X from one
    end of an axis, 0 beyond it. Lengths and lifetimes are numbers to be fitted.

    Parameters
    ----------
    low, high
        Ends of each body axis, in the unit of the material coordinates.
    at_h
        When they were laid down: the first stage, or a series that begins late would see nothing of them.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], at_h: float = 0.0) -> None:
        super().__init__()
        self.at_h: Tensor
        self.register_buffer("at_h", torch.tensor(at_h, dtype=torch.float64))
        ends = torch.tensor([list(low), list(high)], dtype=torch.float64)
        span = ends[1] - ends[0]
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", ends[0])
        self.register_buffer("high", ends[1])
        self.log_length = nn.Parameter((span / 3).log().repeat(2))
        self.log_lifetime_h = nn.Parameter(torch.full((2 * len(span),), 2.3, dtype=torch.float64))

    @property
    def names(self) -> tuple[str, ...]:
        """One name per input: from the low end of every axis, then from the high end."""
        axes = range(len(self.low))
        return (*(f"from low end of axis {k}" for k in axes), *(f"from high end of axis {k}" for k in axes))

    def forward(self, t_h: float | Tensor, material: Float[Tensor, "cells axes"]) -> Float[Tensor, "cells inputs"]:
        """Return the inputs of cells at `material` at time `t_h`."""
        away = torch.cat([material - self.low.to(material), self.high.to(material) - material], 1).clamp(min=0)
        time = torch.as_tensor(t_h, dtype=material.dtype, device=material.device) - self.at_h.to(material)
        return torch.exp(-away / self.log_length.to(material).exp() - time / self.log_lifetime_h.to(material).exp())


class Held(nn.Module):
    """Inputs measured in every cell at one time, which ride with it and fade.

    Here the material coordinates are the inputs themselves at `at_h`.

    Parameters
    ----------
    names
        One per input.
    lifetime_h
        Of each, hours; infinite for one that stays.
    at_h
        When they were measured.
    """

    def __init__(self, names: Sequence[str], lifetime_h: Sequence[float], at_h: float = 0.0) -> None:
        super().__init__()
        self.names, self.at_h = tuple(names), at_h
        self.lifetime_h: Tensor
        self.register_buffer("lifetime_h", torch.tensor(list(lifetime_h), dtype=torch.float64))

    def forward(self, t_h: float | Tensor, material: Float[Tensor, "cells inputs"]) -> Float[Tensor, "cells inputs"]:
        """Return the inputs at time `t_h` of cells that held `material` at `at_h`."""
        time = torch.as_tensor(t_h, dtype=material.dtype, device=material.device) - self.at_h
        return material * torch.exp(-time / self.lifetime_h.to(material))


@dataclass(frozen=True)
class Ligands:
    """Which genes are secreted and how each spreads.

    Parameters
    ----------
    columns
        Of the panel.
    media
        One per ligand.
    """

    columns: tuple[int, ...] = ()
    media: tuple[Medium, ...] = ()

    def __call__(
        self, y: Float[Tensor, "cells genes"], x: Float[Tensor, "cells space"], mass: Float[Tensor, " cells"]
    ) -> Float[Tensor, "cells ligands"]:
        """Return what every cell receives: `mass` cells at each position secrete their level."""
        received = [
            concentration(medium, x, (y[:, column] * mass).to(y.dtype))
            for column, medium in zip(self.columns, self.media, strict=True)
        ]
        return torch.stack(received, 1) if received else y.new_zeros(len(y), 0)

    def slopes(
        self, y: Float[Tensor, "cells genes"], x: Float[Tensor, "cells space"], mass: Float[Tensor, " cells"]
    ) -> tuple[Float[Tensor, "cells ligands"], Float[Tensor, "cells ligands space"]]:
        """Return what every cell receives and its gradient per µm; not differentiable."""
        place, made = x.double().numpy(), (y * mass[:, None]).double().numpy()
        found = [screened(m, place, made[:, c]) for c, m in zip(self.columns, self.media, strict=True)]
        if not found:
            return y.new_zeros(len(y), 0), y.new_zeros(len(y), 0, x.shape[1])
        level, slope = (np.stack(part, axis=1) for part in zip(*found, strict=True))
        return torch.as_tensor(level).to(y), torch.as_tensor(slope).to(y)


@dataclass(frozen=True, eq=False)
class CircuitField:
    """A circuit as a law of motion of g; z, x and mass rest.

    Parameters
    ----------
    circuit
        Its numbers.
    inputs
        `Gradients`, `Held`, or None for no inputs.
    ligands
        What is secreted.
    material
        Coordinates that ride with each particle; None until `begun`: present positions are then read instead.
    """

    circuit: Circuit
    inputs: nn.Module | None = None
    ligands: Ligands = field(default_factory=Ligands)
    material: Float[Tensor, "cells axes"] | None = None

    @property
    def alone(self) -> bool:
        """Whether no cell reads another's secretion, and none is bound to its row."""
        return not self.ligands.columns and (self.inputs is None or self.material is None)

    @property
    def longest_step_h(self) -> float:
        """As of the circuit."""
        return self.circuit.longest_step_h

    @property
    def decay_per_h(self) -> Tensor:
        """Decay of every panel product, 1/h."""
        return self.circuit.decay_per_h

    @property
    def unit(self) -> Tensor:
        """expm1(g) at level 1."""
        return self.circuit.unit

    def begun(self, state: State, t_h: float, material: Tensor | None = None) -> "CircuitField":
        """Return the law bound to a start: `material`, or else the positions, ride with the particles from here."""
        return replace(self, material=state.x if material is None else material)

    def rows(self, index: Int[Tensor, " chosen"] | slice) -> "CircuitField":
        """Return the law for chosen particles."""
        return self if self.material is None else replace(self, material=self.material[index])

    def to(self, device: torch.device | str) -> "CircuitField":
        """Return the law on a device."""
        inputs = None if self.inputs is None else self.inputs.to(device)
        material = None if self.material is None else self.material.to(device)
        return replace(self, circuit=self.circuit.to(device), inputs=inputs, material=material)

    def without(self, edges: Sequence[tuple[str, str]]) -> "CircuitField":
        """Return the law with these regulations cut, as `Circuit.without` says."""
        return replace(self, circuit=self.circuit.without(edges))

    def production(self, t: Float[Tensor, ""], state: State) -> Float[Tensor, "cells genes"]:
        """Return what every cell makes, in levels per hour."""
        y = self.circuit.levels(state.g)
        place = state.x if self.material is None else self.material
        read = y.new_zeros(len(y), 0) if self.inputs is None else self.inputs(t, place)
        return self.circuit.production(y, read, self.ligands(y, state.x, state.mass))

    def produce(self, t: Float[Tensor, ""], state: State, change: Change) -> Velocity:
        """Return the velocity under `change(production, decay)`, both in levels per hour and 1/h."""
        decay = self.decay_per_h.to(state.g)
        y = self.circuit.levels(state.g)
        made = change(self.production(t, state), decay)
        dy = made - decay * y
        unit = self.unit.to(state.g)
        dg = dy * unit * torch.exp(-state.g.clamp(min=0))
        steady = torch.log1p(unit * made.clamp(min=0) / decay)
        dg = torch.minimum(dg, (_QUICK_PER_H * (steady - state.g)).clamp(min=0) + dg.clamp(max=0))
        return Velocity(torch.zeros_like(state.z), dg, torch.zeros_like(state.x), torch.zeros_like(state.log_mass))

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        """Return the velocity of the unedited embryo."""
        return self.produce(t, state, lambda production, _: production)
