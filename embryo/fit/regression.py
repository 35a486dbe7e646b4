"""Couplings -> Field: flow matching by regression of velocity and growth along paths between coupled cells."""

import math
from collections.abc import Callable, Sequence

import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo.core.coupling import Coupling
from embryo.core.state import State
from embryo.fields.flow import FlowNetwork
from embryo.fit.coupled import Pairs, pairs
from embryo.fit.sampling import Batch, Sampler
from embryo.fit.training import Training, require_finite

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
        Called with (step, steps, running loss) every so many steps.

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


def regress(
    data: Pairs, training: Training, *, network: FlowNetwork | None = None, progress: Progress | None = None
) -> FlowNetwork:
    """Fit a flow network to pairs; see `flow`.

    Parameters
    ----------
    data
        Coupled pairs of all intervals.
    training
        Steps, sizes, seed.
    network
        An unfitted one to be fitted in place, instead of the one that `training` describes.
    progress
        Called with (step, steps, running loss) every so many steps.

    Raises
    ------
    DivergedError
        If the loss stops being finite.
    """
    network = (network or _network(data.states, training)).to(training.device)
    sampler = Sampler.of(data.to(training.device), training)
    network.standardise(sampler.scales)
    weights = list(network.parameters())
    optimiser = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True)
    average = [w.detach().clone() for w in weights]
    update = torch.optim.swa_utils.get_ema_multi_avg_fn(training.ema)
    columns = _share_of_columns(network)
    running, done = float("nan"), 0
    for batches in sampler.chunks(network):
        losses = []
        for batch in batches:
            optimiser.param_groups[0]["lr"] = training.learning_rate * _cosine(done / training.steps)
            loss = _loss(network, batch, columns)
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = slope
            optimiser.step()
            update(average, weights, done)
            losses.append(loss.detach())
            done += 1
        for k, now in enumerate(torch.stack(losses).tolist(), done - len(losses) + 1):
            require_finite(now, k)
            running = now if k == 1 else 0.99 * running + 0.01 * now
        if progress is not None:
            progress(done, training.steps, running)
    with torch.no_grad():
        for own, mean in zip(weights, average, strict=True):
            own.copy_(mean)
    return network.cpu().eval()


def _network(states: State, training: Training) -> FlowNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return FlowNetwork(
            dims=states.z.shape[1],
            genes=states.g.shape[1],
            space=states.x.shape[1],
            reads=training.reads,
            time=training.time,
            width=training.width,
            depth=training.depth,
            head_depth=training.head_depth,
        )


def _share_of_columns(network: FlowNetwork) -> Float[Tensor, " outputs"]:
    """Return the weight of each rate in the loss: each of z, g, x and growth weighs the same."""
    sizes = [n for n in (*network.columns.values(), 1) if n]
    return torch.cat([torch.full((n,), 1 / (n * len(sizes))) for n in sizes]).to(network.rate)


def _loss(network: FlowNetwork, batch: Batch, columns: Float[Tensor, " outputs"]) -> Float[Tensor, ""]:
    """Mean squared error of standardised rates, weighted by mass."""
    error = (network.rates(batch.inputs) - batch.rates).square() @ columns
    loss: Tensor = batch.weight @ error / batch.weight.sum()
    return loss


def _cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2
