"""What a trained program head is, and how it is stored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from embryo.encoders.programs.gmt import Membership
from embryo.encoders.programs.network import ProgramNetwork, Sizes

_NETWORK = "network."


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `Programs.fit` found.

    Parameters
    ----------
    membership, network
        Programs with enough genes at hand, and the head over them.
    library
        All genes of the fit, by name: the library size is their sum.
    expression
        Kind of expression that was fitted; see `normalise.kind`.
    embryos
        Names of the embryos seen, those set aside too.
    epochs
        Epochs to the best weights.
    tensors
        ``score_mean`` and ``score_axis`` (programs, width): a score is (token - mean) . axis; ``response``
        (genes, dims), for a head over levels.
    """

    membership: Membership
    network: ProgramNetwork
    library: tuple[str, ...]
    expression: str
    embryos: tuple[str, ...]
    epochs: int
    tensors: Mapping[str, np.ndarray]

    def stored(self) -> dict[str, np.ndarray]:
        """Return network and read-outs by name."""
        return {_NETWORK + key: value.numpy() for key, value in self.network.state_dict().items()} | dict(self.tensors)

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor, JSON-ready."""
        membership = asdict(self.membership)
        membership["member"] = [np.flatnonzero(row).tolist() for row in self.membership.member]
        return {
            "genes": list(self.membership.genes), "library": list(self.library), "expression": self.expression,
            "embryos": list(self.embryos), "epochs": self.epochs, "membership": membership,
            "sizes": asdict(self.network.sizes),
        }  # fmt: skip

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> "Fitted":
        """Rebuild from what `stored` and `record` gave.

        Raises
        ------
        ValueError, KeyError
            If parts are missing or do not fit together.
        """
        membership = _membership(record["membership"])
        if membership.genes != tuple(record["genes"]):
            msg = "genes other than those of the programs"
            raise ValueError(msg)
        network = ProgramNetwork.seeded(torch.as_tensor(membership.member), Sizes(**record["sizes"]))
        weights = {k.removeprefix(_NETWORK): np.array(v) for k, v in tensors.items() if k.startswith(_NETWORK)}
        try:
            network.load_state_dict({key: torch.as_tensor(value) for key, value in weights.items()})
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        return cls(
            membership,
            network.requires_grad_(requires_grad=False).eval(),
            tuple(record["library"]),
            record["expression"],
            tuple(record["embryos"]),
            record["epochs"],
            {key: value for key, value in tensors.items() if not key.startswith(_NETWORK)},
        )


def _membership(held: Mapping[str, Any]) -> Membership:
    member = np.zeros((len(held["programs"]), len(held["genes"])), dtype=bool)
    for row, columns in zip(member, held["member"], strict=True):
        row[columns] = True
    programs, genes, sizes = (tuple(held[key]) for key in ("programs", "genes", "sizes"))
    return Membership(programs, genes, member, sizes, held["left_out"])
