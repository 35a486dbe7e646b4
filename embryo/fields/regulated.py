"""A law whose genes obey a circuit: what it knows of production can be edited, what it does not know reads no gene.

Genes follow `embryo.fields.circuit`. The embedding follows the genes through the encoder's response, z' = g' dz/dg,
plus what neither the panel nor an edit tells, a network that reads place and time alone. Growth is linear in the panel
genes. Positions follow forces that read genes (`embryo.fields.mechanics`), or else the motion of the whole tissue
(`embryo.fields.motion`), which no edit changes.

Inputs ride with the tissue: the place that a cell's tissue had at the first stage stays its own (`begun`), or, where
inputs are measured, what it held of them. Places in the body at each stage would not do: where one end grows faster,
all others shift. Where bodies have no common pose the place is a depth, and the body swells
(`embryo.fields.posefree`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from embryo.blocks.diffusion import Medium
from embryo.core.errors import Problem, SchemaError
from embryo.core.field import Change
from embryo.core.state import State, Velocity
from embryo.fields.circuit import Circuit, CircuitField, Gradients, Held, Ligands
from embryo.fields.flow import FlowNetwork
from embryo.fields.mechanics import Mechanics
from embryo.fields.motion import Motion
from embryo.fields.posefree import Swelling, depth
from embryo.fields.residual import Beside, Residual

_MOST = 2.0  # level, in units of the 99th percentile of cells: growth is read off means, far below
_DRIFT_H = 0.25  # pair forces settle within it


class Growth(nn.Module):
    """Birth minus death, linear in levels: ``base + birth . y``, per hour; levels above `_MOST` count as that.

    Inside a step of the solver a gene that is switched on passes far above where it ends, and levels are exponentials.
    """

    def __init__(self, genes: int) -> None:
        super().__init__()
        self.base: Tensor
        self.birth: Tensor
        self.register_buffer("base", torch.zeros(2))
        self.register_buffer("birth", torch.zeros(genes))

    def forward(self, y: Float[Tensor, "cells genes"]) -> Float[Tensor, " cells"]:
        """Return the rate of every cell."""
        return self.base[0].to(y) + y.clamp(max=_MOST) @ self.birth.to(y)


class Regulated(nn.Module):
    """Circuit, inputs, background and growth as one law.

    Parameters
    ----------
    circuit
        Of the panel; its ligands are secreted.
    gradients
        Inputs: functions of the place in the body, or held by each cell from the start of a roll-out, which must then
        be given to `begun`.
    place
        Reads positions and time: what of dz the panel does not tell. A `Swelling` where bodies have no pose.
    birth
        Growth: linear in levels of the panel, or a network of them.
    motion
        Of the tissue; None where it swells.
    length_um
        Screening length of every ligand.
    residual
        Functions of place and time in the production, the first of the circuit's inputs; None for the circuit alone.

    Attributes
    ----------
    forces
        Between cells and on them; None, as at first, where cells move as the tissue does, whatever they express.
    """

    embeds = True
    response: Tensor

    def __init__(
        self, circuit: Circuit, gradients: Gradients | Held, place: FlowNetwork | Swelling, birth: Growth | FlowNetwork,
        motion: Motion | None, length_um: float, residual: Residual | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.forces: Mechanics | None = None
        self.circuit, self.gradients, self.place, self.birth = circuit, gradients, place, birth
        self.motion, self.length_um, self.residual = motion, length_um, residual
        self.register_buffer("response", torch.zeros(len(circuit.panel), place.columns["z"]))
        self.tested: Tensor
        self.unfit: Tensor
        self.register_buffer("tested", torch.zeros((), dtype=torch.bool))
        self.register_buffer("unfit", torch.zeros(len(circuit.panel), dtype=torch.bool))
        self.training_edits: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether no cell receives what others secrete, nor lies in a body by their places."""
        return not self.circuit.ligands and self.motion is not None and self.forces is None

    @property
    def longest_step_h(self) -> float:
        """As of the circuit; what settles within `_DRIFT_H` overshoots in steps of more than twice that."""
        own = self.circuit.longest_step_h
        return own if self.forces is None else min(own, 2 * _DRIFT_H)

    @property
    def decay_per_h(self) -> Tensor:
        """Decay of every panel product, 1/h."""
        return self.circuit.decay_per_h

    @property
    def refuted(self) -> tuple[str, ...] | None:
        """Genes whose law misses more of wild type than chance does; None where that was not tested."""
        if not bool(self.tested):
            return None
        return tuple(name for name, wrong in zip(self.circuit.panel, self.unfit.tolist(), strict=True) if wrong)

    @property
    def unit(self) -> Tensor:
        """expm1(g) at level 1."""
        return self.circuit.unit

    @property
    def ligands(self) -> Ligands:
        """What is secreted, and how far it reaches."""
        columns = tuple(self.circuit.panel.index(name) for name in self.circuit.ligands)
        return Ligands(columns, (medium(self.length_um),) * len(columns))

    def shape(self) -> dict[str, Any]:
        """Return what `from_shape` needs to build a law of this shape."""
        made, motion = self.gradients, self.motion
        return {
            "circuit": self.circuit.shape(), "place": self.place.shape(), "length_um": self.length_um,
            "birth": None if isinstance(self.birth, Growth) else self.birth.shape(),
            "stages": 0 if motion is None else len(motion.times_h),
            "axes": (0 if motion is None else motion.begin.shape[1]) if isinstance(made, Held) else len(made.low),
            "forces": None if self.forces is None else self.forces.shape(),
            "training_edits": list(self.training_edits), "held_at_h": made.at_h if isinstance(made, Held) else None,
            "residual": None if self.residual is None else self.residual.shape(),
        }  # fmt: skip

    @classmethod
    def from_shape(cls, shape: dict[str, Any]) -> "Regulated":
        """Build an unfitted law of a shape that `shape` returned."""
        circuit, held_at_h = Circuit.from_shape(shape["circuit"]), shape["held_at_h"]
        residual = Residual.from_shape(shape["residual"]) if shape.get("residual") else None
        place = (Swelling if "times_h" in shape["place"] else FlowNetwork).from_shape(shape["place"])
        birth = FlowNetwork.from_shape(shape["birth"]) if shape["birth"] else Growth(len(circuit.panel))
        inputs: Gradients | Held = Gradients([0.0] * shape["axes"], [1.0] * shape["axes"])
        if held_at_h is not None:
            own = circuit.inputs[0 if residual is None else len(residual.names) :]
            inputs = Held(own, [1.0] * len(own), held_at_h)
        motion = Motion(list(map(float, range(shape["stages"]))), shape["axes"]) if shape["stages"] else None
        law = cls(circuit, inputs, place, birth, motion, shape["length_um"], residual)
        law.forces = Mechanics.from_shape(shape["forces"]) if shape.get("forces") else None
        law.training_edits = tuple(shape["training_edits"])
        return law

    def begun(self, state: State, t_h: float, material: Float[Tensor, "cells inputs"] | None = None) -> "Bound":
        """Return the law with the place that each particle's tissue had at first as its own, or the inputs it holds."""
        return Bound(self, self._own(t_h, state) if material is None else material)

    def _own(self, t_h: float | Tensor, state: State) -> Float[Tensor, "cells axes"]:
        if isinstance(self.gradients, Held):
            problem = Problem("no inputs of these cells", "what each holds at the start", "give material to begun")
            raise SchemaError(problem, subject="circuit with measured inputs")
        return depth(state) if self.motion is None else self.motion.back(float(t_h), state.x)

    def without(self, edges: Sequence[tuple[str, str]]) -> "Regulated":
        """Return the law without these regulations; see `embryo.core.field.Field`."""
        cut = self.circuit.without(edges)
        made = Regulated(cut, self.gradients, self.place, self.birth, self.motion, self.length_um, self.residual)
        made.forces = self.forces
        made.training_edits = self.training_edits
        for own, kept in zip(made.buffers(recurse=False), self.buffers(recurse=False), strict=True):
            own.copy_(kept)
        return made.eval()

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        """Velocity of every particle; see `embryo.core.field.Field`."""
        return self.produce(t, state, _unchanged)

    def produce(self, t: Float[Tensor, ""], state: State, change: Change) -> Velocity:
        """Velocity under an edited production; see `embryo.core.field.Structured`."""
        return self.move(t, state, self._own(t, state), change)

    def move(
        self, t: Float[Tensor, ""], state: State, material: Float[Tensor, "cells axes"], change: Change
    ) -> Velocity:
        """Velocity of particles whose places in the body were `material`."""
        read = self.gradients if self.residual is None else Beside(self.residual, self.gradients)
        law = CircuitField(self.circuit, read, self.ligands, material)
        dg = law.produce(t, state, change).dg
        there, response = self.place(t, state), self.response.to(dg)
        dz = dg @ response + there.dz - there.dg @ response
        if self.forces is not None:
            dx = self.forces.drift(t, state, _DRIFT_H, self._slopes)
        else:
            dx = there.dx if self.motion is None else self.motion(t, state.x)
        birth = self.birth
        growth = birth(self.circuit.levels(state.g)) if isinstance(birth, Growth) else birth(t, state).growth
        return Velocity(dz, dg, dx, growth)

    def _slopes(self, state: State) -> tuple[Tensor, Tensor]:
        return self.ligands.slopes(self.circuit.levels(state.g), state.x, state.mass)


@dataclass(frozen=True, eq=False)
class Bound:
    """A `Regulated` law bound to the start of a roll-out.

    Parameters
    ----------
    law
        The law.
    material
        Place of every particle's tissue at the first stage, or the inputs that it held when the roll-out began.
    """

    law: Regulated
    material: Float[Tensor, "cells axes"]

    embeds = True

    @property
    def alone(self) -> bool:
        """As of the law."""
        return self.law.alone

    @property
    def longest_step_h(self) -> float:
        """As of the law."""
        return self.law.longest_step_h

    @property
    def decay_per_h(self) -> Tensor:
        """Decay of every panel product, 1/h."""
        return self.law.decay_per_h

    @property
    def unit(self) -> Tensor:
        """expm1(g) at level 1."""
        return self.law.unit

    @property
    def forces(self) -> Mechanics | None:
        """As of the law."""
        return self.law.forces

    @property
    def residual(self) -> Residual | None:
        """As of the law."""
        return self.law.residual

    @property
    def refuted(self) -> tuple[str, ...] | None:
        """As of the law."""
        return self.law.refuted

    @property
    def training_edits(self) -> tuple[str, ...]:
        """Labels of the measured edits that the law was fitted to."""
        return self.law.training_edits

    def begun(self, state: State, t_h: float, material: Float[Tensor, "cells inputs"] | None = None) -> "Bound":
        """Return the law bound anew, to other particles."""
        return self.law.begun(state, t_h, material)

    def rows(self, index: Int[Tensor, " chosen"] | slice) -> "Bound":
        """Return the law for chosen particles; daughters keep the place of their mother."""
        return replace(self, material=self.material[index])

    def to(self, device: torch.device | str) -> "Bound":
        """Return the law on a device."""
        return Bound(self.law.to(device), self.material.to(device))

    def without(self, edges: Sequence[tuple[str, str]]) -> "Bound":
        """Return the law without these regulations."""
        return replace(self, law=self.law.without(edges))

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        """Velocity of every particle; see `embryo.core.field.Field`."""
        return self.produce(t, state, _unchanged)

    def produce(self, t: Float[Tensor, ""], state: State, change: Change) -> Velocity:
        """Velocity under an edited production; see `embryo.core.field.Structured`."""
        return self.law.move(t, state, self.material, change)


def medium(length_um: float) -> Medium:
    """Return a medium of unit decay with a screening length."""
    return Medium(diffusion_um2_per_h=length_um**2)


def _unchanged(production: Tensor, _decay: Tensor) -> Tensor:
    return production
