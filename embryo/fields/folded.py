"""A flow network made ready for many evaluations: what does not change from one to the next is worked out beforehand.

Standardisation and scales of the rates are folded into the first and last layers, the features of the time, which are
the same for all cells, into one vector per evaluation, and activations are computed in place. The numbers are those of
the network up to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from embryo.core.state import State, Velocity

Layer = tuple[Tensor, Tensor]  # weight of shape (inputs, outputs) and bias: layers of a network differ in both


@dataclass(frozen=True, eq=False)
class Standard:
    """Standardisation of a network: centre and spread of what it reads, scale of the rates it gives."""

    centre: Float[Tensor, " read"]
    spread: Float[Tensor, " read"]
    rate: Float[Tensor, " outputs"]


class Folded:
    """The law of a flow network; made by `FlowNetwork.fast`.

    Parameters
    ----------
    trunk, heads
        Linear layers with SiLU between them; the first reads the cells and then the features of time.
    standard
        Of what is read, and of the rates.
    columns, reads
        Columns of z, g and x, and which of them the network reads.
    clock
        Features of the time.
    """

    alone = True

    def __init__(
        self,
        *,
        trunk: nn.Sequential,
        heads: Sequence[nn.Sequential],
        standard: Standard,
        columns: Mapping[str, int],
        reads: tuple[str, ...],
        clock: Callable[[Tensor], Tensor] | None,
    ) -> None:
        (weight, bias), *inner = _layers(trunk)
        read = len(standard.centre)
        first = weight[:read] / standard.spread[:, None]
        self._first = first.contiguous(), bias - standard.centre @ first
        self._of_time = weight[read:]
        self._inner = inner
        ends = standard.rate.split([head[-1].out_features for head in heads])
        self._heads = [_scaled(_layers(head), rate) for head, rate in zip(heads, ends, strict=True)]
        self._columns, self._reads, self._clock = columns, reads, clock

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        weight, bias = self._first
        if self._clock is not None:
            bias = bias + self._clock(t.to(bias.dtype).view(1))[0] @ self._of_time
        hidden = torch.cat([getattr(state, part) for part in self._reads], dim=1) @ weight
        hidden = functional.silu(hidden.add_(bias), inplace=True)
        for weight, bias in self._inner:
            hidden = functional.silu((hidden @ weight).add_(bias), inplace=True)
        ends = [_through(head, hidden) for head in self._heads]
        rates = ends[0] if len(ends) == 1 else torch.cat(ends, dim=1)
        dz, dg, dx, growth = rates.split([*self._columns.values(), 1], dim=1)
        return Velocity(dz, dg, dx, growth[:, 0])


def _layers(part: nn.Sequential) -> list[Layer]:
    return [(m.weight.detach().T.contiguous(), m.bias.detach()) for m in part if isinstance(m, nn.Linear)]


def _scaled(head: list[Layer], rate: Float[Tensor, " outputs"]) -> list[Layer]:
    *inner, (weight, bias) = head
    return [*inner, (weight * rate, bias * rate)]


def _through(head: list[Layer], hidden: Float[Tensor, "cells width"]) -> Float[Tensor, "cells outputs"]:
    *inner, (weight, bias) = head
    for w, b in inner:
        hidden = functional.silu((hidden @ w).add_(b), inplace=True)
    return (hidden @ weight).add_(bias)
