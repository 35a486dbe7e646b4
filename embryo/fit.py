"""Couplings -> Field: flow matching.

For a coupled pair (a, b) of an interval [t0, t1] and s in [0, 1] the point on the path and its velocity are made by one
function, so that they cannot disagree (Lipman et al. 2023, eq. 10-14; Tong et al. 2024, eq. 14-15):

    point = (1 - s) a + s b,    velocity = (b - a) / (t1 - t0),    time = t0 + s (t1 - t0).

Growth is regressed beside it: log of the expected number of descendants over the interval's length.

A roll-out leaves the paths that it was trained on, and a network is free where it saw nothing. The paths are therefore
given width: a point displaced by e from its path has the velocity of the path and returns to it at the rate kappa,

    point = (1 - s) a + s b + e,    velocity = (b - a) / (t1 - t0) - kappa e,

which is the exact velocity of a point that relaxes onto the moving path (e(t) = e(0) exp(-kappa t)), so point and
target still agree, and the fitted field draws cells back to where the data are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core import fresh, schema
from embryo.core.coupling import Coupling
from embryo.core.errors import DivergedError, Problem, SchemaError
from embryo.core.state import State, Velocity
from embryo.fields.flow import FlowNetwork, Scales

Progress = Callable[[int, int, float], None]


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


@dataclass(frozen=True)
class Pairs:
    """Coupled pairs of all intervals, flat.

    Parameters
    ----------
    states
        One row per cell of the data.
    source, target
        Rows of the two ends, one per non-zero entry of a plan.
    weight
        Expected number of descendants on this pair; every interval weighs the same in total.
    t0_h, dt_h
        Start and length of the pair's interval, hours.
    growth
        Growth rate of the source, 1/h.
    """

    states: State
    source: Int[Tensor, " pairs"]
    target: Int[Tensor, " pairs"]
    weight: Float[Tensor, " pairs"]
    t0_h: Float[Tensor, " pairs"]
    dt_h: Float[Tensor, " pairs"]
    growth: Float[Tensor, " pairs"]


@dataclass(frozen=True)
class Tube:
    """The width of paths: how far each point is displaced (parts z, g, x, nothing) and the rate of return, 1/h."""

    displaced: State
    kappa_per_h: Float[Tensor, " cells"]


def path(
    a: State,
    b: State,
    s: Float[Tensor, " cells"],
    dt_h: Float[Tensor, " cells"],
    growth: Float[Tensor, " cells"],
    tube: Tube | None = None,
) -> tuple[State, Velocity]:
    """Return the point at `s` on (or beside) the straight path from `a` to `b` and its velocity, per hour.

    Parameters
    ----------
    a, b
        Ends of the paths, row by row.
    s
        Flow-matching time, 0 to 1.
    dt_h
        Length of each interval, hours.
    growth
        Rate of log mass along the path, 1/h.
    tube
        Displacement from the path and its rate of return; none puts the point on the path.
    """
    point = State(*(_lerp(p, q, s) for p, q in zip(a.parts(), b.parts(), strict=True)))
    dz, dg, dx, _ = ((q - p) / _column(dt_h, p) for p, q in zip(a.parts(), b.parts(), strict=True))
    if tube is None:
        return point, Velocity(dz, dg, dx, growth)
    point = State(*(p + e for p, e in zip(point.parts(), tube.displaced.parts(), strict=True)))
    back = tube.displaced.map(lambda e: _column(tube.kappa_per_h, e) * e)
    return point, Velocity(dz - back.z, dg - back.g, dx - back.x, growth)


def _column(v: Tensor, like: Tensor) -> Tensor:
    return v.reshape(-1, *([1] * (like.ndim - 1)))


def _lerp(p: Tensor, q: Tensor, s: Tensor) -> Tensor:
    return p + _column(s, p) * (q - p)


def states(adata: AnnData) -> State:
    """Return the rows of `adata` as a `State`: z, g, aligned x (zero columns without space), log mass 0.

    Raises
    ------
    StaleError
        If the embedding, the panel or the aligned positions are absent.
    """
    fresh.require(adata, schema.EMBED, schema.PANEL, *([schema.ALIGNED] if schema.SPATIAL in adata.obsm else []))

    def tensor(slot: str) -> Tensor:
        return torch.as_tensor(np.asarray(adata.obsm[slot]), dtype=torch.float32)

    x = tensor(schema.ALIGNED) if schema.SPATIAL in adata.obsm else torch.zeros(adata.n_obs, 0)
    return State(tensor(schema.EMBED), tensor(schema.PANEL), x, torch.zeros(adata.n_obs))


def pairs(adata: AnnData, couplings: Sequence[Coupling]) -> Pairs:
    """Flatten couplings into pairs of rows.

    Raises
    ------
    SchemaError
        If the couplings hold no pair.
    """
    columns: list[tuple[np.ndarray, ...]] = []
    for c in couplings:
        coo = c.plan.tocoo()
        i, j = coo.coords
        keep = coo.data > 0
        i, j, w = i[keep], j[keep], coo.data[keep]
        one = np.ones(len(w))
        columns.append((c.sources[i], c.targets[j], w / w.sum(), c.t0_h * one, (c.t1_h - c.t0_h) * one, c.growth[i]))
    if not sum(len(c[0]) for c in columns):
        raise SchemaError(Problem("couplings without a single pair", "coupled cells", "couple again"), subject="fit")
    source, target, *rest = (np.concatenate(c) for c in zip(*columns, strict=True))
    weight, t0, dt, growth = (torch.as_tensor(r, dtype=torch.float32) for r in rest)
    return Pairs(states(adata), torch.as_tensor(source), torch.as_tensor(target), weight, t0, dt, growth)


def flow(
    adata: AnnData, couplings: Sequence[Coupling], training: Training | None = None, *, progress: Progress | None = None
) -> FlowNetwork:
    """Fit a flow network to couplings.

    Parameters
    ----------
    adata
        Training cells, with ``X_embed``, ``X_panel`` and, where there is space, ``spatial_aligned``.
    couplings
        Between rows of `adata`.
    training
        Steps, sizes, seed.
    progress
        Called with (step, steps, running loss).

    Returns
    -------
    FlowNetwork
        With averaged weights, ready for `embryo.simulate.forward`.

    Raises
    ------
    StaleError, SchemaError
        If slots or pairs are missing.
    DivergedError
        If the loss stops being finite.
    """
    return regress(pairs(adata, couplings), training or Training(), progress=progress)


def regress(data: Pairs, training: Training, *, progress: Progress | None = None) -> FlowNetwork:
    """Fit a flow network to pairs; see `flow`."""
    draws = torch.Generator().manual_seed(training.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = _network(data.states, training)
    network.standardise(_scales(data))
    optimiser = torch.optim.AdamW(
        network.trunk.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(training.ema)
    )
    running = float("nan")
    cumulative = data.weight.double().cumsum(0)
    for step in range(1, training.steps + 1):
        loss = _loss(network, data, cumulative, training, draws)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.trunk.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        now = float(loss.detach())
        _require_finite(now, step)
        running = now if step == 1 else 0.99 * running + 0.01 * now
        if progress is not None:
            progress(step, training.steps, running)
    network.load_state_dict(average.module.state_dict())
    return network.eval()


def _network(states: State, training: Training) -> FlowNetwork:
    return FlowNetwork(
        dims=states.z.shape[1],
        genes=states.g.shape[1],
        space=states.x.shape[1],
        reads=training.reads,
        width=training.width,
        depth=training.depth,
    )


def _draw(
    data: Pairs, cumulative: Float[Tensor, " pairs"], spread: State, training: Training, draws: torch.Generator
) -> tuple[Float[Tensor, " batch"], State, Velocity]:
    u = torch.rand(training.batch, generator=draws, dtype=torch.float64) * cumulative[-1]
    k = torch.searchsorted(cumulative, u).clamp(max=len(cumulative) - 1)
    s, dt_h = torch.rand(training.batch, generator=draws), data.dt_h[k]

    def displace(width: Tensor) -> Tensor:
        return training.width_of_paths * width * torch.randn(training.batch, *width.shape[1:], generator=draws)

    tube = Tube(spread.map(displace), training.pull / dt_h) if training.width_of_paths > 0 else None
    ends = (data.states[data.source[k]], data.states[data.target[k]])
    point, velocity = path(*ends, s, dt_h, data.growth[k], tube)
    return data.t0_h[k] + s * dt_h, point, velocity


def _loss(
    network: FlowNetwork, data: Pairs, cumulative: Float[Tensor, " pairs"], training: Training, draws: torch.Generator
) -> Float[Tensor, ""]:
    """Mean squared error of standardised rates; each of z, g, x and growth weighs the same."""
    z, g, x = network.spread.split(list(network.columns.values()))
    spread = State(z[None], g[None], x[None], torch.zeros(1))
    t, point, velocity = _draw(data, cumulative, spread, training, draws)
    error = (network.rates(t, point) - _flat(velocity) / network.rate).square().mean(0)
    heads = error.split([*network.columns.values(), 1])
    return torch.stack([head.mean() for head in heads if head.numel()]).mean()


def _flat(v: Velocity) -> Float[Tensor, "cells outputs"]:
    return torch.cat([v.dz, v.dg, v.dx, v.growth.unsqueeze(-1)], dim=-1)


def _scales(data: Pairs) -> Scales:
    used = data.states[torch.cat([data.source, data.target])]
    inputs = torch.cat([used.z, used.g, used.x], dim=-1)
    ones = torch.ones_like(data.dt_h)
    _, velocity = path(data.states[data.source], data.states[data.target], ones, data.dt_h, data.growth)
    rate = _flat(velocity)
    return Scales(
        centre=inputs.mean(0),
        spread=inputs.std(0),
        rate=rate.square().mean(0).sqrt(),
        t0_h=float(data.t0_h.min()),
        t1_h=float((data.t0_h + data.dt_h).max()),
    )


def _require_finite(loss: float, step: int) -> None:
    if not np.isfinite(loss):
        raise DivergedError(
            Problem(
                f"a loss of {loss} at step {step}",
                "a finite loss",
                "lower fit.learning_rate, or check the data's scale",
            ),
            subject="fit",
        )
