"""Snapshots -> gene circuit, by the moment equations and then by rolling cells from stage to stage.

Decay, rates and the inputs' own lengths and lifetimes are numbers of the fit. Weights are kept small by a smooth L1
penalty, which a prior makes cheap on the edges that it names: a soft prior, since a wrong hard one is worse than none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from embryo.fields.circuit import Circuit
from embryo.fit import moments, shooting
from embryo.fit.descent import lbfgs
from embryo.fit.moments import Kernels, Means, Series, Stage
from embryo.fit.shooting import Window

_ROUND = 60  # iterations between two measurements of the curvature
RIDGE = 1e-6  # of every weight
_SOFT = 1e-3  # below the square root of this a weight is as good as zero to the L1 penalty


@dataclass(frozen=True)
class Phase:
    """One minimisation.

    Parameters
    ----------
    weak
        Weight of the moment equations.
    windows
        Lengths in stages over which cells are rolled, each with weight 1; 0 is from the first stage to the last.
    iterations
        At most.
    decay
        Whether decay is fitted. The moment equations alone cannot: a gene that decays at once and makes what it holds
        fulfils them.
    """

    weak: float = 1.0
    windows: tuple[int, ...] = ()
    iterations: int = 400
    decay: bool = False


# By interpolation, then from stage to stage, over four, and from the first to the last: longer windows first meet cells
# that sit between two fates and answer to a change without bound.
STAGED = (
    Phase(iterations=60),
    Phase(weak=0.0, windows=(1,), iterations=80, decay=True),
    Phase(weak=0.0, windows=(1, 4), iterations=160, decay=True),
    Phase(weak=0.0, windows=(1, 4, 0), iterations=120, decay=True),
)


@dataclass(frozen=True)
class Settings:
    """How a circuit is fitted.

    Parameters
    ----------
    places, width
        Number of kernels, and their width in standard deviations of each material coordinate.
    l1
        Penalty per unit of weight.
    floor
        Levels to which a law can be expected to hold; added in quadrature to the noise of every local mean.
    cells
        At most so many of every stage, drawn anew for each seed.
    phases
        Minimisations, each started from the last.
    step_h
        Longest step of a roll.
    decay_per_h
        Where the decay of every gene starts.
    spread
        Standard deviation of log decay about its mean over the genes, and of log(rate / decay) about zero.
    ground
        Penalty of a squared bias above 0: a gene that nothing regulates is silent (Struhl 1999, Cell 98:1). Without it
        a gradient that activates from one end and one that represses from the other tell the same of wild type.
    """

    places: int = 60
    width: float = 0.5
    l1: float = 1e-4
    floor: float = 0.01
    cells: int = 1000
    phases: tuple[Phase, ...] = STAGED
    step_h: float = 0.34
    decay_per_h: float = 0.6
    spread: float = 0.3
    ground: float = 1e-3


UNPOSED = Settings(phases=STAGED[:-1], ground=0.0)
"""For bodies without a common pose: whole roll-outs and silent genes took the blastocyst's control off wild type."""


class Numbers(nn.Module):
    """The free numbers of a fit, in double precision.

    Parameters
    ----------
    genes, columns
        Shape of the weights.
    decay_per_h
        Where decay starts.
    inputs
        A module ``(t_h, material) -> inputs`` with numbers of its own, or None where inputs are given.
    ridge
        Penalty of the square of the weights of each column; the same small one for all by default.
    """

    def __init__(
        self, genes: int, columns: int, decay_per_h: float, inputs: nn.Module | None = None,
        ridge: Float[Tensor, " columns"] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        real = torch.float64
        self.weights = nn.Parameter(torch.zeros(genes, columns, dtype=real))
        self.bias = nn.Parameter(torch.full((genes,), -1.5, dtype=real))
        self.log_decay = nn.Parameter(torch.full((genes,), float(np.log(decay_per_h)), dtype=real))
        self.log_scale = nn.Parameter(torch.zeros(genes, dtype=real))
        self.inputs = inputs
        self.ridge: Tensor
        self.register_buffer("ridge", torch.full((columns,), RIDGE, dtype=real) if ridge is None else ridge)

    @classmethod
    def over(
        cls,
        stage: Stage,
        decay_per_h: float,
        inputs: nn.Module | None = None,
        ridge: Float[Tensor, " columns"] | None = None,
    ) -> "Numbers":
        """Return the numbers of a circuit that reads what the cells of a stage hold, and `inputs`."""
        free = 0 if inputs is None else inputs(0.0, stage.material[:1]).shape[1]
        genes, known = stage.y.shape[1], stage.inputs.shape[1] + stage.signals.shape[1]
        return cls(genes, genes + free + known, decay_per_h, inputs, ridge)

    @property
    def decay(self) -> Float[Tensor, " genes"]:
        """Return lambda, 1/h."""
        return self.log_decay.exp()

    def columns(self, y: Tensor, given: Tensor, t_h: float, material: Tensor) -> Float[Tensor, "cells columns"]:
        """Return what the weights act on: levels, inputs, signals."""
        return torch.cat([y, given] if self.inputs is None else [y, self.inputs(t_h, material), given], 1)

    def production(
        self, y: Float[Tensor, "cells genes"], given: Float[Tensor, "cells given"], t_h: float, material: Tensor
    ) -> Float[Tensor, "cells genes"]:
        """Return levels per hour; `given` are inputs measured and signals, in this order."""
        u = self.columns(y, given, t_h, material) @ self.weights.T + self.bias
        return torch.exp(self.log_decay + self.log_scale) * torch.sigmoid(u)


@dataclass(frozen=True, eq=False)
class Prepared:
    """One series with its local means and the windows that are rolled."""

    series: Series
    local: Means
    windows: dict[int, tuple[Window, ...]]

    def weak(self, numbers: Numbers, floor: float) -> Float[Tensor, "intervals places genes"]:
        """Residuals of the moment equations."""
        stages = self.series.stages

        def made(number: Tensor, y: Tensor) -> Tensor:
            stage = stages[int(number)]
            return numbers.production(y, torch.cat([stage.inputs, stage.signals], 1), stage.t_h, stage.material)

        return moments.residuals(self.series, self.local, made, numbers.decay, floor)

    def rolled(
        self, numbers: Numbers, length: int, numerics: tuple[float, float]
    ) -> Float[Tensor, "reached places genes"]:
        """Residuals of all windows of a length."""
        heard = moments.audible(self.series, numbers.decay)
        left = []
        for window in self.windows[length]:

            def law(y: Tensor, given: Tensor, t_h: float, at: Tensor = window.material) -> Tensor:
                return numbers.production(y, given, t_h, at) * heard

            left.append(shooting.residuals(self.series, self.local, window, law, numbers.decay, numerics))
        return torch.cat(left)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted circuit and how well it fits.

    Parameters
    ----------
    numbers
        What was fitted.
    loss
        After every phase, penalties included.
    settings
        How.
    """

    numbers: Numbers
    loss: tuple[float, ...]
    settings: Settings = field(default_factory=Settings)

    def circuit(
        self, panel: Sequence[str], inputs: Sequence[str], ligands: Sequence[str], unit: Float[Tensor, " genes"]
    ) -> Circuit:
        """Return the circuit as a law's numbers; names as in `Circuit`, `unit` as the levels were made."""
        made = Circuit(panel, inputs, ligands)
        n = self.numbers
        with torch.no_grad():
            rate = torch.exp(n.log_decay + n.log_scale)
            values = {"weights": n.weights, "bias": n.bias, "rate_per_h": rate, "decay_per_h": n.decay, "unit": unit}
            made.load_state_dict({name: value.detach().to(torch.float32) for name, value in values.items()})
        return made


def prepare(whole: Series, kernels: Kernels, lengths: Sequence[int], cells: int, seed: int) -> Prepared:
    """Return a series made ready: local means of all cells; production and windows of at most `cells` per stage."""
    series, full = whole.thinned(cells, seed), moments.means(whole, kernels)
    thin = moments.means(series, kernels)
    noise, seen = full.noise + thin.noise, full.seen * thin.seen
    local = replace(thin, level=full.level, drift=full.drift, noise=noise, seen=seen)
    last = len(series.stages) - 1
    windows = {}
    for length in set(lengths):
        reach = length or last
        windows[length] = tuple(shooting.window(series, local, first, reach) for first in range(0, last, reach))
    return Prepared(series, local, windows)


def fit(
    series: Sequence[Series],
    settings: Settings | None = None,
    *,
    seed: int,
    inputs: nn.Module | None = None,
    prior: Float[Tensor, "genes columns"] | None = None,
    ridge: Float[Tensor, " columns"] | None = None,
    start: Numbers | None = None,
) -> Fitted:
    """Fit one circuit to all series.

    Parameters
    ----------
    series
        Wild type first; knock-outs with their genes silenced.
    settings
        How.
    seed
        Draws cells and places.
    inputs
        Functions of material coordinates and time, fitted along (`embryo.fields.circuit.Gradients`).
    prior
        Penalty of every weight relative to `l1`: 1 where nothing is known, less (0.05) on likely edges, more on
        unlikely ones.
    ridge
        As of `Numbers`: more on columns that are to explain only what no other can.
    start
        Numbers to start from, changed in place; by default no regulation at all.

    Raises
    ------
    DivergedError
        If the loss leaves the finite numbers.
    """
    settings = settings or Settings()
    numbers = start or Numbers.over(series[0].stages[0], settings.decay_per_h, inputs, ridge)
    kernels = Kernels.over(series[0], settings.places, settings.width, seed)
    lengths = [length for phase in settings.phases for length in phase.windows]
    ready = [prepare(one, kernels, lengths, settings.cells, seed) for one in series]
    losses = [_minimise(numbers, ready, phase, settings, prior) for phase in settings.phases]
    return Fitted(numbers, tuple(losses), settings)


def _misfit(numbers: Numbers, ready: Sequence[Prepared], phase: Phase, numerics: tuple[float, float]) -> Tensor:
    total = numbers.bias.new_zeros(())
    for one in ready:
        if phase.weak:
            total = total + phase.weak * (one.weak(numbers, numerics[1]) ** 2).mean()
        for length in phase.windows:
            total = total + (one.rolled(numbers, length, numerics) ** 2).mean()
    return total / len(ready)


def _penalty(numbers: Numbers, settings: Settings, prior: Tensor | None) -> Tensor:
    w = numbers.weights
    size = torch.sqrt(w**2 + _SOFT)
    odd = numbers.log_decay - numbers.log_decay.mean()
    wide = (odd**2).sum() + (numbers.log_scale**2).sum()
    return (
        settings.l1 * (size if prior is None else prior * size).sum()
        + (numbers.ridge * w**2).sum()
        + (1e-3 * wide / settings.spread**2)
        + settings.ground * (numbers.bias.clamp(min=0.0) ** 2).sum()
    )


def _minimise(
    numbers: Numbers, ready: Sequence[Prepared], phase: Phase, settings: Settings, prior: Tensor | None
) -> float:
    numerics = settings.step_h, settings.floor

    def loss() -> Tensor:
        return 0.5 * _misfit(numbers, ready, phase, numerics) + _penalty(numbers, settings, prior)

    numbers.log_decay.requires_grad_(phase.decay)
    own = [] if numbers.inputs is None else list(numbers.inputs.parameters())
    others = [p for p in (numbers.log_decay, numbers.log_scale, *own) if p.requires_grad]
    last = float("inf")
    for begin in range(0, phase.iterations, _ROUND):
        metric = _curvature(numbers, ready, settings, prior)
        value = lbfgs([numbers.weights, numbers.bias], others, loss, metric, min(_ROUND, phase.iterations - begin))
        if value > last * (1 - 1e-4):
            break
        last = value
    return value


@torch.no_grad()
def _curvature(
    numbers: Numbers, ready: Sequence[Prepared], settings: Settings, prior: Tensor | None
) -> Float[Tensor, "genes columns columns"]:
    """Gauss-Newton curvature of every row (weights, then bias) in the moment equations, penalties included."""
    w = numbers.weights
    total = w.new_zeros(len(w), w.shape[1] + 1, w.shape[1] + 1)
    for one in ready:
        h = float(np.diff(one.series.times_h).mean())
        gain = -torch.expm1(-numbers.decay * h) / numbers.decay
        for number, stage in enumerate(one.series.stages):
            z = numbers.columns(stage.y, torch.cat([stage.inputs, stage.signals], 1), stage.t_h, stage.material)
            z = torch.cat([z, torch.ones_like(z[:, :1])], 1)
            share = torch.sigmoid(z[:, :-1] @ w.T + numbers.bias)
            steep = gain * torch.exp(numbers.log_decay + numbers.log_scale) * share * (1 - share)
            scale = one.local.seen[number, :, None] / torch.sqrt(one.local.noise[number] + settings.floor**2)
            k = one.local.weights[number]
            for a in range(len(w)):
                slope = (k.T @ (steep[:, a, None] * z)) * scale[:, a, None]
                total[a] += slope.T @ slope / one.local.level[..., 0].numel() / len(w) / len(ready)
    bend = settings.l1 * (1.0 if prior is None else prior) / (w.abs() + 0.1) + 2 * numbers.ridge
    return total + torch.diag_embed(torch.cat([bend, torch.full_like(w[:, :1], 1e-5)], 1))
