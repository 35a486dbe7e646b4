"""Couplings -> SpatialNetwork: the same regression for a law that reads neighbours, one whole body at a time.

A cell's neighbours at s are the other cells of its body moved along their own paths to the same s. A step therefore
draws a body (the cells of one embryo at the start of one interval), one s for all of it, and one descendant for each
cell; errors of velocity are weighted by the mass that each path carries at s. Bodies of more than `Tissue.most` cells
are sampled, each particle then standing for several. Growth is fitted to the numbers of descendants as a Poisson rate.

Width of paths: independent displacements would tear the neighbourhoods apart, so positions are displaced together, by a
random stretch and shear of the body about its centroid, and z and g cell by cell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from embryo.blocks.neighbours import nearest
from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State, Velocity
from embryo.fields.flow import Scales
from embryo.fields.spatial import Body, SpatialNetwork
from embryo.fit.coupled import states
from embryo.fit.growth import smoothed
from embryo.fit.paths import Tube, path
from embryo.fit.training import Training, require_finite

_DEAD = 0.05  # what is left of the mass of a cell without descendants


@dataclass(frozen=True)
class Tissue:
    """What the law reads around a cell, and how it keeps its spacing.

    Parameters
    ----------
    neighbours
        How many each cell reads.
    repulsion
        Rate at which cells nearer than the tissue's spacing part, in units of one over the shortest interval.
    most
        Largest number of cells of a body in one step.
    smoothing
        Strength of `embryo.fit.growth.smoothed` on numbers of descendants that no track tells; 0 for none.
    attention
        Diffusion time of graph-diffused attention to neighbours; None counts all alike.
    """

    neighbours: int = 8
    repulsion: float = 1.0
    most: int = 512
    smoothing: float = 16.0
    attention: float | None = None


@dataclass(frozen=True)
class _Start:
    """The cells of one embryo at the start of one interval, and how many descendants each has at its end."""

    t0_h: float
    dt_h: float
    rows: Int[np.ndarray, " cells"]
    plan: sparse.csr_array
    targets: Int[np.ndarray, " targets"]
    descendants: Float[np.ndarray, " cells"]


def spatial_flow(
    adata: AnnData,
    couplings: Sequence[Coupling],
    training: Training | None = None,
    tissue: Tissue | None = None,
    *,
    progress: Callable[[int, int, float], None] | None = None,
) -> SpatialNetwork:
    """Fit a law that reads neighbours to couplings.

    Parameters
    ----------
    adata
        Training cells with ``X_embed``, ``X_panel``, ``spatial_aligned`` (µm) and, where there are several, ``embryo``.
    couplings
        Between rows of `adata`.
    training
        Steps, sizes, width of paths, seed; ``batch`` is about the number of cells per step.
    tissue
        Neighbours and repulsion.
    progress
        Called with (step, steps, running loss).

    Returns
    -------
    SpatialNetwork
        With averaged weights, ready for `embryo.simulate.forward`.

    Raises
    ------
    StaleError, SchemaError
        If slots, space or pairs are missing.
    DivergedError
        If the loss stops being finite.
    """
    training, tissue = training or Training(), tissue or Tissue()
    cells = states(adata)
    if cells.x.shape[1] not in (2, 3):
        problem = Problem("cells without positions", "2 or 3 columns of space", "set fit.neighbours to 0")
        raise SchemaError(problem, subject="fit")
    bodies = _bodies(adata, couplings, _descendants(adata, couplings, tissue.smoothing))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = SpatialNetwork(
            dims=cells.z.shape[1],
            genes=cells.g.shape[1],
            space=cells.x.shape[1],
            reads=training.reads,
            neighbours=tissue.neighbours,
            size=(training.width, training.depth),
            attention=tissue.attention,
        )
    rng = np.random.default_rng(training.seed)
    scales, length = _scales(cells, bodies, rng)
    seen = np.concatenate([rows for c in couplings for rows in (c.sources, c.targets)])
    spacing = _spacing(adata, cells.x, seen, (scales.t0_h, scales.t1_h))
    network.standardise(scales, Body(length, spacing, tissue.repulsion / min(b.dt_h for b in bodies)))
    return _descend(network, _Draws(cells, bodies, training, tissue, rng), progress)


@dataclass(frozen=True)
class _Draws:
    """Points on paths, body by body."""

    cells: State
    bodies: list[_Start]
    training: Training
    tissue: Tissue
    rng: np.random.Generator

    def loss(self, network: SpatialNetwork) -> Float[Tensor, ""]:
        """Mean error of the heads over as many bodies as make up a batch."""
        errors, left = [], self.training.batch
        while left > 0:
            body = self.bodies[int(self.rng.integers(len(self.bodies)))]
            t, point, velocity, descendants, moved = self.draw(body, network)
            *heads, growth = network.rates(t, point).split([*network.columns.values(), 1], dim=-1)
            *scales, unit = network.rate.split([*network.columns.values(), 1])
            weight = (point.log_mass.exp() * moved)[:, None]
            error = [_poisson(growth.squeeze(-1) * unit * body.dt_h, descendants, unit * body.dt_h)]
            for head, scale, target in zip(heads, scales, velocity.parts()[:3], strict=True):
                if len(scale):
                    error.append(
                        (weight * (head - target / scale).square()).sum(0).mean() / weight.sum().clamp(min=_DEAD)
                    )
            errors.append(torch.stack(error).mean())
            left -= len(point)
        return torch.stack(errors).mean()

    def draw(
        self, body: _Start, network: SpatialNetwork
    ) -> tuple[Float[Tensor, ""], State, Velocity, Float[Tensor, " cells"], Bool[Tensor, " cells"]]:
        """Return a time, where the cells of a body are then, how they move, their descendants, and who has any."""
        chosen = np.arange(len(body.rows))
        if len(chosen) > self.tissue.most:
            chosen = np.sort(self.rng.choice(chosen, self.tissue.most, replace=False))
        a, b = _ends(self.cells, body, chosen, self.rng)
        s = float(self.rng.uniform())
        ones = torch.ones(len(a))
        tube = self.tube(a, b, network, body.dt_h) if self.training.width_of_paths > 0 else None
        point, velocity = path(a, b, s * ones, body.dt_h * ones, tube=tube)
        descendants = torch.as_tensor(body.descendants[chosen], dtype=torch.float32)
        moved = torch.as_tensor(np.diff(body.plan.indptr)[chosen] > 0)
        return torch.tensor(body.t0_h + s * body.dt_h, dtype=torch.float32), point, velocity, descendants, moved

    def tube(self, a: State, b: State, network: SpatialNetwork, dt_h: float) -> Tube:
        """Displace z and g cell by cell, and x by one random symmetric strain of the whole body."""
        width = self.training.width_of_paths
        spread = network.spread.split([network.columns["z"], network.columns["g"]])
        z, g = (width * w * self._normal(len(a), len(w)) for w in spread)
        strain = width / 2 * self._normal(network.columns["x"], network.columns["x"])
        middle = (a.x + b.x) / 2
        x = (middle - middle.mean(0)) @ (strain + strain.T)
        return Tube(State(z, g, x, torch.zeros(len(a))), torch.full((len(a),), self.training.pull / dt_h))

    def _normal(self, *shape: int) -> Tensor:
        return torch.as_tensor(self.rng.standard_normal(shape), dtype=torch.float32)


def _descendants(
    adata: AnnData, couplings: Sequence[Coupling], smoothing: float
) -> list[Float[np.ndarray, " sources"]]:
    tracked = all(c.diagnostics.get("method") == "tracks" for c in couplings)
    if tracked or not smoothing > 0 or not sum(c.plan.nnz for c in couplings):
        return [c.descendants for c in couplings]
    return smoothed(adata, couplings, strength=smoothing)


def _bodies(
    adata: AnnData, couplings: Sequence[Coupling], descendants: list[Float[np.ndarray, " sources"]]
) -> list[_Start]:
    found = []
    embryo = adata.obs[schema.EMBRYO].astype(str).to_numpy() if schema.EMBRYO in adata.obs else None
    for c, expected in zip(couplings, descendants, strict=True):
        who = np.zeros(len(c.sources), dtype=str) if embryo is None else embryo[c.sources]
        for one in np.unique(who):
            rows = np.flatnonzero(who == one)
            plan, times = c.plan[rows], (float(c.t0_h), float(c.t1_h - c.t0_h))
            if plan.nnz:
                found.append(_Start(*times, c.sources[rows], plan, c.targets, expected[rows]))
    if not found:
        raise SchemaError(Problem("couplings without a single pair", "coupled cells", "couple again"), subject="fit")
    return found


def _ends(
    cells: State, body: _Start, chosen: Int[np.ndarray, " chosen"], rng: np.random.Generator
) -> tuple[State, State]:
    """Return chosen cells of a body and a descendant of each, drawn in proportion to the plan; itself where none."""
    before = np.concatenate([[0.0], np.cumsum(body.plan.data, dtype=float)])
    first, last = body.plan.indptr[chosen], body.plan.indptr[chosen + 1]
    wanted = before[first] + rng.uniform(size=len(chosen)) * (before[last] - before[first])
    entry = np.clip(np.searchsorted(before, wanted, side="right") - 1, first, np.maximum(last - 1, first))
    own, descendants, none = body.rows[chosen], body.descendants[chosen], last == first
    entry = np.minimum(entry, len(body.plan.data) - 1)
    theirs = np.where(none, own, body.targets[body.plan.indices[entry]])
    a, b = cells[torch.as_tensor(own)], cells[torch.as_tensor(theirs)]
    mass = torch.full((len(chosen),), float(np.log(len(body.rows) / len(chosen))))
    grown = torch.as_tensor(np.log(np.maximum(descendants, _DEAD)), dtype=torch.float32)
    return State(a.z, a.g, a.x, mass), State(b.z, b.g, b.x, mass + grown)


def _poisson(
    grown: Float[Tensor, " cells"], descendants: Float[Tensor, " cells"], unit: Float[Tensor, "1"]
) -> Float[Tensor, ""]:
    """Poisson deviance of descendants where exp(`grown`) are expected, about a squared error in units of `unit`.

    It counts cells that leave nothing, and its best fit has the right number of cells; the mean of logarithms has not.
    """
    loss = grown.exp() - descendants * grown
    best = descendants - torch.special.xlogy(descendants, descendants)
    deviance: Tensor = (2 * (loss - best)).mean() / unit.square().squeeze()
    return deviance


def _scales(cells: State, bodies: list[_Start], rng: np.random.Generator) -> tuple[Scales, float]:
    """Measure what makes inputs and outputs of order one, on whole bodies; also the bodies' length, µm."""
    inputs, rates, squares = [], [], []
    for body in bodies:
        a, b = _ends(cells, body, np.arange(len(body.rows)), rng)
        ones = torch.ones(len(a))
        _, v = path(a, b, ones / 2, body.dt_h * ones)
        inputs += [torch.cat([p.z, p.g, p.x], dim=-1) for p in (a, b)]
        rates.append(torch.cat([v.dz, v.dg, v.dx, v.growth[:, None]], dim=-1))
        squares.append((a.x - a.x.mean(0)).square().sum(1))
    seen, length = torch.cat(inputs), float(torch.cat(squares).mean().sqrt())
    start, end = min(b.t0_h for b in bodies), max(b.t0_h + b.dt_h for b in bodies)
    return Scales(seen.mean(0), seen.std(0), torch.cat(rates).square().mean(0).sqrt(), start, end), length


def _spacing(
    adata: AnnData, x: Tensor, seen: Int[np.ndarray, " coupled"], window_h: tuple[float, float]
) -> tuple[float, float]:
    """Return the median distance to the nearest cell at both ends of the window, by a line through its logarithm.

    Of bodies of which some cell is coupled: what else lies among the cells is held out.
    """
    t = adata.obs[schema.TIME].to_numpy(float)
    embryo = adata.obs[schema.EMBRYO].astype(str) if schema.EMBRYO in adata.obs else np.zeros(len(t), dtype=str)
    groups = pd.DataFrame({"t": t, "e": np.asarray(embryo)}).groupby(["t", "e"]).indices
    found = []
    for rows in groups.values():
        if len(rows) > 1 and np.isin(rows, seen).any():
            far = float(nearest(x[torch.as_tensor(rows)], 1).distance.median())
            found.append((t[rows[0]], np.log(max(far, float(np.finfo(np.float32).tiny)))))
    if not found:
        raise SchemaError(Problem("no two cells of one embryo at one time", "bodies", "set fit.neighbours to 0"))
    times, logs = np.array(found).T
    line = np.polyfit(times, logs, 1) if np.ptp(times) > 0 else np.array([0.0, logs.mean()])
    first, last = (float(np.exp(np.polyval(line, at))) for at in window_h)
    return first, last


def _descend(
    network: SpatialNetwork, draws: _Draws, progress: Callable[[int, int, float], None] | None
) -> SpatialNetwork:
    """Fit by AdamW with a cosine schedule, and return the running mean of the weights."""
    training = draws.training
    optimiser = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(training.ema)
    )
    running = float("nan")
    for step in range(1, training.steps + 1):
        loss = draws.loss(network)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        now = float(loss.detach())
        require_finite(now, step)
        running = now if step == 1 else 0.99 * running + 0.01 * now
        if progress is not None:
            progress(step, training.steps, running)
    network.load_state_dict(average.module.state_dict())
    return network.eval()
