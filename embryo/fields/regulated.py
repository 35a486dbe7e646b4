"""A law whose genes obey a circuit: what it knows of production can be edited, what it does not know reads no gene.

Genes follow `embryo.fields.circuit`. The embedding follows the genes through the encoder's response, z' = g' dz/dg,
plus what neither the panel nor an edit tells, a network that reads place and time alone. Positions follow a network of
place and time, growth one of the panel genes: an edit moves cells only through what it makes of their number.

Inputs ride with the tissue: a cell's place in the body when a roll-out begins stays its own (`begun`). Where bodies
have no common pose that place is a depth, and the body swells (`embryo.fields.posefree`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from embryo.blocks.diffusion import Medium
from embryo.core.field import Change
from embryo.core.state import State, Velocity
from embryo.fields.circuit import Circuit, CircuitField, Gradients, Ligands
from embryo.fields.flow import FlowNetwork
from embryo.fields.posefree import Swelling, depth


class Regulated(nn.Module):
    """Circuit, inputs, background and growth as one law.

    Parameters
    ----------
    circuit
        Of the panel; its ligands are secreted.
    gradients
        Inputs as functions of the place in the body.
    place
        Reads positions and time: dx, and what of dz the panel does not tell. A `Swelling` where bodies have no pose.
    birth
        Reads the panel: growth.
    length_um
        Screening length of every ligand.
    """

    embeds = True
    response: Tensor

    def __init__(
        self,
        circuit: Circuit,
        gradients: Gradients,
        place: FlowNetwork | Swelling,
        birth: FlowNetwork,
        length_um: float,
    ) -> None:
        super().__init__()
        self.circuit, self.gradients, self.place, self.birth = circuit, gradients, place, birth
        self.length_um = length_um
        self.register_buffer("response", torch.zeros(len(circuit.panel), place.columns["z"]))

    @property
    def alone(self) -> bool:
        """No: the place of a cell in the body depends on the others."""
        return False

    def where(self, state: State) -> Float[Tensor, "cells axes"]:
        """Return the place of every particle in the body."""
        return depth(state) if isinstance(self.place, Swelling) else in_body(state)

    @property
    def decay_per_h(self) -> Tensor:
        """Decay of every panel product, 1/h."""
        return self.circuit.decay_per_h

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
        return {
            "circuit": self.circuit.shape(), "axes": len(self.gradients.low), "place": self.place.shape(),
            "birth": self.birth.shape(), "length_um": self.length_um,
        }  # fmt: skip

    @classmethod
    def from_shape(cls, shape: dict[str, Any]) -> "Regulated":
        """Build an unfitted law of a shape that `shape` returned."""
        ends = [0.0] * shape["axes"], [1.0] * shape["axes"]
        place = (Swelling if "times_h" in shape["place"] else FlowNetwork).from_shape(shape["place"])
        birth = FlowNetwork.from_shape(shape["birth"])
        return cls(Circuit.from_shape(shape["circuit"]), Gradients(*ends), place, birth, shape["length_um"])

    def begun(self, state: State, t_h: float) -> "Bound":
        """Return the law with each particle's present place in the body as its own."""
        return Bound(self, self.where(state))

    def without(self, edges: Sequence[tuple[str, str]]) -> "Regulated":
        """Return the law without these regulations; see `embryo.core.field.Field`."""
        made = Regulated(self.circuit.without(edges), self.gradients, self.place, self.birth, self.length_um)
        made.response.copy_(self.response)
        return made.eval()

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        """Velocity of every particle; see `embryo.core.field.Field`."""
        return self.produce(t, state, _unchanged)

    def produce(self, t: Float[Tensor, ""], state: State, change: Change) -> Velocity:
        """Velocity under an edited production; see `embryo.core.field.Structured`."""
        return self.move(t, state, self.where(state), change)

    def move(
        self, t: Float[Tensor, ""], state: State, material: Float[Tensor, "cells axes"], change: Change
    ) -> Velocity:
        """Velocity of particles whose places in the body were `material`."""
        law = CircuitField(self.circuit, self.gradients, self.ligands, material)
        dg = law.produce(t, state, change).dg
        there, response = self.place(t, state), self.response.to(dg)
        dz = dg @ response + there.dz - there.dg @ response
        return Velocity(dz, dg, there.dx, self.birth(t, state).growth)


@dataclass(frozen=True, eq=False)
class Bound:
    """A `Regulated` law bound to the start of a roll-out.

    Parameters
    ----------
    law
        The law.
    material
        Place of every particle in the body when it began.
    """

    law: Regulated
    material: Float[Tensor, "cells axes"]

    alone = False
    embeds = True

    @property
    def decay_per_h(self) -> Tensor:
        """Decay of every panel product, 1/h."""
        return self.law.decay_per_h

    @property
    def unit(self) -> Tensor:
        """expm1(g) at level 1."""
        return self.law.unit

    def begun(self, state: State, t_h: float) -> "Bound":
        """Return the law bound anew, to other particles."""
        return self.law.begun(state, t_h)

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


def in_body(state: State) -> Float[Tensor, "cells axes"]:
    """Return places in the body: distance from the centroid along each axis, in standard deviations of the cells."""
    share = torch.softmax(state.log_mass, dim=0).unsqueeze(-1)
    e = state.x - (share * state.x).sum(0)
    return e / (share * e.square()).sum(0).sqrt().clamp(min=1e-9)


def medium(length_um: float) -> Medium:
    """Return a medium of unit decay with a screening length."""
    return Medium(diffusion_um2_per_h=length_um**2)


def _unchanged(production: Tensor, _decay: Tensor) -> Tensor:
    return production
