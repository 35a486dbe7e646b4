"""Motion of a whole tissue: an affine map from stage to stage, run through at constant speed by every cell."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

_ROUNDING_H = 1e-4  # a roll-out counts time in single precision


class Motion(nn.Module):
    """Maps ``x -> end + (x - begin) turn`` over the intervals between stages, positions in µm.

    Within an interval a cell goes straight from x to where x is mapped; the law of motion that does so follows from
    where it is. Before the first stage and after the last one the tissue rests.

    Parameters
    ----------
    times_h
        Of the stages.
    """

    def __init__(self, times_h: Sequence[float], axes: int = 3) -> None:
        super().__init__()
        self.times_h: Tensor
        self.begin: Tensor
        self.end: Tensor
        self.turn: Tensor
        intervals = len(times_h) - 1
        self.register_buffer("times_h", torch.tensor(list(times_h), dtype=torch.float64))
        self.register_buffer("begin", torch.zeros(intervals, axes, dtype=torch.float64))
        self.register_buffer("end", torch.zeros(intervals, axes, dtype=torch.float64))
        self.register_buffer("turn", torch.eye(axes, dtype=torch.float64).repeat(intervals, 1, 1))

    def forward(self, t_h: Float[Tensor, ""], x: Float[Tensor, "cells axes"]) -> Float[Tensor, "cells axes"]:
        """Return the velocity of cells that are at `x` at time `t_h`, µm/h."""
        k, share = self._interval(float(t_h))
        if share is None:
            return torch.zeros_like(x)
        first = self._first(k, share, x.double())
        hours = self.times_h[k + 1] - self.times_h[k]
        return ((self._mapped(k, first) - first) / hours).to(x)

    def back(self, t_h: float, x: Float[Tensor, "cells axes"]) -> Float[Tensor, "cells axes"]:
        """Return where the tissue that is at `x` at `t_h` was at the first stage."""
        k, share = self._interval(float(np.clip(t_h, *self.times_h[[0, -1]].tolist())))
        now = x.double() if share is None else self._first(k, share, x.double())
        for j in reversed(range(k)):
            now = self._first(j, 1.0, now)
        return now.to(x)

    def _interval(self, t_h: float) -> tuple[int, float | None]:
        """Return the interval of a time and the share of it that has gone; None outside."""
        times = self.times_h.tolist()
        if not times[0] - _ROUNDING_H < t_h < times[-1] + _ROUNDING_H:
            return 0, None
        t_h = float(np.clip(t_h, times[0], times[-1]))
        k = min(int(np.searchsorted(times, t_h, side="right")), len(times) - 1) - 1
        return k, (t_h - times[k]) / (times[k + 1] - times[k])

    def _mapped(self, k: int, x: Tensor) -> Tensor:
        mapped: Tensor = self.end[k] + (x - self.begin[k]) @ self.turn[k]
        return mapped

    def _first(self, k: int, share: float, x: Tensor) -> Tensor:
        """Return where cells that are at `x` were at the start of their interval."""
        centre = torch.lerp(self.begin[k], self.end[k], share)
        turn = torch.lerp(torch.eye(x.shape[1]).to(self.turn), self.turn[k], share)
        first: Tensor = self.begin[k] + (x - centre) @ torch.linalg.inv(turn)
        return first
