"""How a field is fitted: every setting on one page."""

import math
from dataclasses import dataclass

from embryo.core.errors import DivergedError, Problem


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
    delta
        Length at which growth is preferred to transport, in units of the spread of one coordinate: paths are those of
        travelling Diracs (Wasserstein-Fisher-Rao). None for straight paths with exponential mass.
    smooth
        Whether curves through successive couplings have one velocity at each cell (cubic Hermite).
    geodesic
        Width of the density that paths are bent towards (see `embryo.fit.geodesic`), in units of the median distance of
        a cell to its tenth nearest; None for paths that are not bent. Excludes `smooth`.
    diffusion
        sigma of Brownian bridges around the paths, in units of each coordinate's spread per square root of the interval
        (Tong et al. 2024, SF2M, eq. 8): the field is the probability flow, whose roll-out has the marginals of the
        diffusion between coupled cells without drawing noise.
    reads, time, width, depth, head_depth
        See `embryo.fields.FlowNetwork`.
    seed
        Initial weights and all draws.
    device
        cpu, cuda, cuda:1, mps: where the loop runs. Draws are the same everywhere, and the field comes back on the CPU.
    """

    steps: int = 2000
    batch: int = 512
    learning_rate: float = 2e-3
    ema: float = 0.995
    weight_decay: float = 1e-4
    width_of_paths: float = 0.2
    pull: float = 0.5
    delta: float | None = None
    smooth: bool = False
    geodesic: float | None = None
    diffusion: float = 0.0
    reads: tuple[str, ...] = ("z", "g", "x")
    time: bool = True
    width: int = 128
    depth: int = 3
    head_depth: int = 0
    seed: int = 0
    device: str = "cpu"


def require_finite(loss: float, step: int, *, subject: str = "fit", setting: str = "fit.learning_rate") -> None:
    """Raise `DivergedError` where a loss has stopped being a number; `setting` is what to lower then."""
    if not math.isfinite(loss):
        cure = f"lower {setting}, or check the data's scale"
        raise DivergedError(Problem(f"a loss of {loss} at step {step}", "a finite loss", cure), subject=subject)
