"""Couplings -> Field: flow matching by regression of velocity and growth along paths between coupled cells."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo.core.coupling import Coupling
from embryo.core.errors import DivergedError, Problem
from embryo.core.state import State, Velocity
from embryo.fields.flow import FlowNetwork, Scales
from embryo.fit.coupled import Pairs, pairs
from embryo.fit.paths import Tube, path
from embryo.fit.training import Training

Progress = Callable[[int, int, float], None]


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
