"""Series -> Field without couplings: stages are rolled forward and must look like the later ones.

Particles of a stage are carried through all later training stages by the field itself. What is minimised is

    mean over stages of [ energy distance + mass (log M - log N)^2 ] + action * (Wasserstein-Fisher-Rao energy),

with M the total mass that arrives and N the one observed. Nobody says who becomes whom: the least action does. With a
law that does not read the time (`Matching.time` False), all intervals speak about one field, which is a strong prior
where stages are few.

The energy distance is the V-statistic in the weights. The unbiased form has no minimum: it rewards putting all mass on
one particle, because it takes the remaining pairs for a sample.

References
----------
Tong et al. 2020, ICML (TrajectoryNet); Sha et al. 2024, Nat. Mach. Intell. 6:25 (TIGON): rolled marginals, growth, and
the action; Liero, Mielke & Savaré 2018, Invent. Math. 211:969 (its energy). Székely & Rizzo 2013 (energy distance).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State
from embryo.fields.flow import FlowNetwork, Scales
from embryo.fit.training import require_finite

Progress = Callable[[int, int, float], None]
_SHORT = 1 / 3  # of the steps roll over one interval only: long ways through a law that is still wrong end in traps
_MOST_GROWTH = 3.0  # log mass per interval beyond which growth is pushed back: a factor of 20 is no longer one cell


@dataclass(frozen=True)
class Matching:
    """How a field is fitted to stages.

    Parameters
    ----------
    steps, batch, learning_rate
        Adam with a cosine schedule; `batch` particles of every stage per step.
    action
        Weight of the Wasserstein-Fisher-Rao energy per interval.
    length
        Price of growth in that energy, ``|v|^2 + length^2 growth^2``, in units of the spread.
    mass
        Weight of the squared error of the log of total mass.
    substeps
        Midpoint steps per mean interval.
    matched
        Which of z, g, x are moved and compared, each in units of its own spread; the others stand still, unread.
    time
        Whether the field reads the time; without, one law holds at all times.
    width, depth, frequencies
        See `embryo.fields.FlowNetwork`.
    seed
        Initial weights and all draws.
    """

    steps: int = 400
    batch: int = 256
    learning_rate: float = 5e-3
    action: float = 0.02
    length: float = 0.3
    mass: float = 0.2
    substeps: int = 5
    matched: tuple[str, ...] = ("z", "x")
    time: bool = False
    width: int = 64
    depth: int = 2
    frequencies: int = 2
    seed: int = 0


@dataclass(frozen=True)
class _Stages:
    """Stages in the network's own units, one row per cell: (z, g, x) standardised, with odds of being drawn."""

    u: Float[Tensor, " stages"]
    points: tuple[Float[Tensor, "_ inputs"], ...]
    odds: tuple[Float[Tensor, " _"], ...]
    log_number: Float[Tensor, " stages"]
    metric: Float[Tensor, " inputs"]
    moved: Bool[Tensor, " inputs"]

    def draw(self, k: int, n: int, draws: torch.Generator) -> Float[Tensor, "cells inputs"]:
        """Draw cells of a stage: all different where there are more than `n`, so that a draw is like the stage."""
        few = len(self.odds[k]) <= n
        rows = torch.multinomial(self.odds[k], min(n, len(self.odds[k])), replacement=few, generator=draws)
        return self.points[k][rows]


def match(
    times_h: Sequence[float],
    states: Sequence[State],
    options: Matching | None = None,
    *,
    progress: Progress | None = None,
) -> FlowNetwork:
    """Fit a field whose roll-outs from every stage look like the later stages.

    Parameters
    ----------
    times_h
        Hours, rising.
    states
        One per time. Ratios of their total masses are what growth must explain: where numbers are not comparable give
        every stage the same total, and composition may change by growth but the total may not.
    options
        Steps, prices, seed.
    progress
        Called with (step, steps, loss) every tenth of the way.

    Returns
    -------
    FlowNetwork
        Ready for `embryo.simulate.forward`.

    Raises
    ------
    SchemaError
        If there are fewer than two stages, or times do not rise.
    DivergedError
        If the loss stops being finite.
    """
    o = options or Matching()
    _check(times_h, states)
    network = _network(states[0], o)
    stages = _standardised(network, times_h, states, o)
    draws = torch.Generator().manual_seed(o.seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=o.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, o.steps)
    within = [_distances(p, p).mean() for p in (_cells(stages, k, o, draws) for k in range(len(times_h)))]
    for step in range(1, o.steps + 1):
        start = int(torch.randint(len(times_h) - 1, (), generator=draws))
        end = start + 2 if step <= _SHORT * o.steps else len(times_h)
        loss = _loss(network, stages, range(start + 1, end), within, o, draws)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % max(o.steps // 10, 1) == 0:
            require_finite(float(loss.detach()), step, subject="matching", setting="the learning rate")
            if progress is not None:
                progress(step, o.steps, float(loss.detach()))
    return network.eval()


def _check(times_h: Sequence[float], states: Sequence[State]) -> None:
    problems = []
    if len(times_h) < 2 or len(times_h) != len(states):
        found = f"{len(times_h)} times and {len(states)} states"
        problems.append(Problem(found, "two or more, one state per time", "give a time series"))
    if any(b <= a for a, b in pairwise(times_h)):
        problems.append(Problem(f"times {list(times_h)} h", "rising times", "order the stages"))
    if problems:
        raise SchemaError(*problems, subject="matching")


def _network(like: State, o: Matching) -> FlowNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(o.seed)
        network = FlowNetwork(
            dims=like.z.shape[1],
            genes=like.g.shape[1],
            space=like.x.shape[1],
            reads=tuple(p for p in ("z", "g", "x") if p in o.matched),
            time=o.time,
            width=o.width,
            depth=o.depth,
            frequencies=o.frequencies,
        )
    with torch.no_grad():  # a law that starts near rest: growth in particular must be asked for by the data
        for layer in network.heads.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(0.1)
                layer.bias.zero_()
    return network


def _standardised(network: FlowNetwork, times_h: Sequence[float], states: Sequence[State], o: Matching) -> _Stages:
    """Set the network's units from the stages, each weighing the same, and bring the stages into them."""
    flat = [torch.cat([s.z, s.g, s.x], dim=-1) for s in states]
    odds = [s.mass / s.mass.sum() for s in states]
    centre = torch.stack([w @ p for w, p in zip(odds, flat, strict=True)]).mean(0)
    spread = torch.stack([w @ (p - centre).square() for w, p in zip(odds, flat, strict=True)]).mean(0).sqrt()
    hours = (times_h[-1] - times_h[0]) / (len(times_h) - 1)
    moved = torch.cat([torch.full((n,), float(p in o.matched)) for p, n in network.columns.items()])
    network.standardise(Scales(centre, spread, torch.ones(len(spread) + 1), float(times_h[0]), float(times_h[-1])))
    network.rate.copy_(torch.cat([moved * network.spread, torch.ones(1)]) / hours)
    blocks = spread.split(list(network.columns.values()))
    units = torch.cat([b / b.square().sum().sqrt().clamp_min(1e-12) for b in blocks])
    u = torch.tensor([(t - times_h[0]) / hours for t in times_h])
    points = tuple((p - network.centre) / network.spread for p in flat)
    log_number = torch.stack([s.mass.sum().log() for s in states])
    return _Stages(u, points, tuple(odds), log_number, moved * units, moved > 0)


def _loss(
    network: FlowNetwork, stages: _Stages, later: range, within: list[Tensor], o: Matching, draws: torch.Generator
) -> Float[Tensor, ""]:
    """Roll a stage through `later` ones; the mean over those of what they miss, and the action on the way."""
    start = later[0] - 1
    y = stages.draw(start, o.batch, draws)
    log_mass, total = torch.zeros(len(y)), torch.zeros(())
    for k in later:
        y, log_mass, action = _roll(network, y, log_mass, (stages, k), o)
        seen = _cells(stages, k, o, draws)
        share, own = log_mass.softmax(0), y * stages.metric
        missed = 2 * share @ _distances(own, seen).mean(1) - share @ _distances(own, own) @ share - within[k]
        grown = log_mass.logsumexp(0) - float(np.log(len(y)))
        wrong = (grown - stages.log_number[k] + stages.log_number[start]).square()
        total = total + missed + o.mass * wrong + o.action * action
    return total / len(later)


def _roll(
    network: FlowNetwork,
    y: Float[Tensor, "cells inputs"],
    log_mass: Float[Tensor, " cells"],
    interval: tuple[_Stages, int],
    o: Matching,
) -> tuple[Float[Tensor, "cells inputs"], Float[Tensor, " cells"], Float[Tensor, ""]]:
    """Midpoint steps over the interval before stage k, in units of the mean interval; and their action."""
    stages, k = interval
    u0, length = float(stages.u[k - 1]), float(stages.u[k] - stages.u[k - 1])
    steps = max(2, round(o.substeps * length))
    h, action = length / steps, torch.zeros(())
    moved, read = stages.moved.float(), stages.moved.nonzero()[:, 0]
    for i in range(steps):
        v, _ = _rates(network, read, u0 + i * h, y)
        v, growth = _rates(network, read, u0 + (i + 0.5) * h, y + h / 2 * v * moved)
        cost = (v * stages.metric).square().sum(-1) + o.length**2 * growth.square()
        wild = (growth.abs() - _MOST_GROWTH).clamp_min(0).square()
        action = action + h * (log_mass.softmax(0) @ cost + wild.mean())
        y, log_mass = y + h * v * moved, log_mass + h * growth
    return y, log_mass, action


def _rates(
    network: FlowNetwork, read: Int[Tensor, " read"], u: float, y: Float[Tensor, "cells inputs"]
) -> tuple[Float[Tensor, "cells inputs"], Float[Tensor, " cells"]]:
    """Return velocity and growth in the network's units, per mean interval."""
    seen = y[:, read] if len(read) < y.shape[1] else y
    if network.time:
        t = network.window_h[0] + u / network.rate[-1]
        seen = torch.cat([seen, network.clock(t[None]).expand(len(y), -1)], dim=1)
    out = network.rates(seen)
    return out[:, :-1], out[:, -1]


def _cells(stages: _Stages, k: int, o: Matching, draws: torch.Generator) -> Float[Tensor, "cells inputs"]:
    return stages.draw(k, o.batch, draws) * stages.metric


def _distances(a: Float[Tensor, "a inputs"], b: Float[Tensor, "b inputs"]) -> Float[Tensor, "a b"]:
    """Euclidean, by one product of matrices, smooth where points meet."""
    squared = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
    return (squared.clamp_min(0) + 1e-8).sqrt()
