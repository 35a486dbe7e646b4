"""How a field is fitted: every setting on one page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """How the network is fitted.

    Parameters
    ----------
    steps, batch, learning_rate
        AdamW with a cosine schedule; `batch` pairs per step.
    ema
        Decay of the running mean of the weights that is returned.
    weight_decay
        AdamW's.
    width_of_paths, pull
        Standard deviation of e in units of each coordinate's spread, and kappa in units of one over the interval.
    reads, width, depth
        See `embryo.fields.FlowNetwork`.
    seed
        Initial weights and all draws.
    """

    steps: int = 2000
    batch: int = 512
    learning_rate: float = 2e-3
    ema: float = 0.995
    weight_decay: float = 1e-4
    width_of_paths: float = 0.2
    pull: float = 0.5
    reads: tuple[str, ...] = ("z", "g", "x")
    width: int = 128
    depth: int = 3
    seed: int = 0
