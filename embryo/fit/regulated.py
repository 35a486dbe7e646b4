"""Stages and couplings -> a law whose genes obey a circuit.

The circuit is fitted without couplings (`embryo.fit.circuit`); positions, growth and what the panel does not tell of
the embedding are regressed on the coupled pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State
from embryo.fields.circuit import Circuit, Gradients, Ligands
from embryo.fields.posefree import Swelling, depth, radius_um
from embryo.fields.regulated import Regulated, in_body, medium
from embryo.fit import circuit as circuits
from embryo.fit import marginals
from embryo.fit.coupled import Pairs, states
from embryo.fit.moments import Series
from embryo.fit.regression import regress
from embryo.fit.snapshots import Riding
from embryo.fit.snapshots import series as snapshots
from embryo.fit.training import Training

_GONE = 5.0  # decay times between stages after which nothing is left
_SCALE = 99.0  # percentile of a gene's level over training cells that is its unit


@dataclass(frozen=True)
class Wiring:
    """What is known of the circuit beforehand.

    Parameters
    ----------
    ligands
        Panel genes that are secreted.
    length_um
        Over which their signal falls.
    posed
        Whether the bodies lie in one pose, so that their axes mean something.
    led
        How the circuit is led on to the joint distributions of the stages; None leaves it at their local means.
    settings
        Of the fit.
    """

    ligands: tuple[str, ...] = ()
    length_um: float = 12.0
    posed: bool = True
    led: marginals.Settings | None = None
    settings: circuits.Settings = field(default_factory=circuits.Settings)


def regulated(
    adata: AnnData,
    data: Pairs,
    training: Training,
    wiring: Wiring,
    response: Float[Tensor, "genes dims"],
    *,
    progress: Callable[[int, int, float], None] | None = None,
) -> Regulated:
    """Fit a law whose genes obey a circuit.

    Parameters
    ----------
    adata
        Training cells with ``X_embed``, ``X_panel``, ``spatial_aligned`` in three columns, ``time`` and, where there
        are several, ``embryo``.
    data
        Their coupled pairs.
    training
        Of the networks of place and growth; its seed also draws the cells and windows of the circuit.
    wiring
        Ligands, and how the circuit is fitted.
    response
        dz/dg of every panel gene.
    progress
        Called with (step, steps, running loss) of the last network.

    Raises
    ------
    SchemaError
        If there is no space, there are fewer than two stages, or a ligand is no gene of the panel.
    """
    panel = tuple(str(g) for g in schema.meta(adata)["panel"])
    _require(adata, panel, wiring)
    unit = torch.as_tensor(_unit(np.asarray(adata.obsm[schema.PANEL], dtype=float)), dtype=torch.float32)
    columns = tuple(panel.index(name) for name in wiring.ligands)
    ligands = Ligands(columns, (medium(wiring.length_um),) * len(columns))
    series = stages_of(adata, unit, ligands, in_body if wiring.posed else depth)
    material = torch.cat([s.material for s in series.stages])
    low, high = (material.quantile(q, dim=0).tolist() for q in (0.01, 0.99))
    gradients = Gradients(low, high, series.times_h[0])
    found = circuits.fit([series], wiring.settings, seed=training.seed, inputs=gradients)
    if wiring.led is not None:
        marginals.refine(found.numbers, series, unit, wiring.led, seed=training.seed)
    made: Circuit = _slowed(found.circuit(panel, gradients.names, wiring.ligands, unit), series)
    place = regress(data, replace(training, reads=("x",))) if wiring.posed else _swelling(adata, *response.shape)
    birth = regress(data, replace(training, reads=("g",)), progress=progress)
    law = Regulated(made, gradients, place, birth, wiring.length_um)
    law.response.copy_(response)
    return law.requires_grad_(requires_grad=False).eval()


def _slowed(circuit: Circuit, series: Series) -> Circuit:
    """Cap decay where stages cannot tell it: a gene as good as gone by the next stage; its steady level stays."""
    most = _GONE / float(np.diff(series.times_h).min())
    share = (most / circuit.decay_per_h).clamp(max=1.0)
    circuit.decay_per_h.mul_(share)
    circuit.rate_per_h.mul_(share)
    return circuit


def stages_of(
    adata: AnnData, unit: Float[Tensor, " genes"], ligands: Ligands, where: Callable[[State], Tensor] = in_body
) -> Series:
    """Return the stages of cells: levels, what each receives, and its place in its own body."""
    cells, t = states(adata), adata.obs[schema.TIME].to_numpy(float)
    named = adata.obs[schema.EMBRYO].astype(str).to_numpy() if schema.EMBRYO in adata.obs else np.zeros(len(t), str)
    number = np.unique(named, return_inverse=True)[1]
    times, stages, embryos, riding = [], [], [], []
    for t_h in np.unique(t):
        rows = [np.flatnonzero((t == t_h) & (number == k)) for k in np.unique(number)]
        bodies = [torch.as_tensor(own) for own in rows if len(own) > 1]
        if bodies:
            here = torch.cat(bodies)
            times.append(float(t_h))
            stages.append(cells[here])
            embryos.append(torch.as_tensor(number)[here])
            riding.append(Riding(torch.cat([where(cells[own].map(lambda part: part.double())) for own in bodies])))
    return snapshots(times, stages, embryos, riding, unit, ligands)


def _swelling(adata: AnnData, genes: int, dims: int) -> Swelling:
    """Return how bodies without a pose grow: through the median radius of the embryos of each stage."""
    cells, t = states(adata), adata.obs[schema.TIME].to_numpy(float)
    body = adata.obs[schema.EMBRYO].astype(str).to_numpy() if schema.EMBRYO in adata.obs else np.zeros(len(t), str)
    times, radii = np.unique(t), []
    for t_h in times:
        rows = [torch.as_tensor(np.flatnonzero((t == t_h) & (body == name))) for name in np.unique(body[t == t_h])]
        radii.append(float(np.median([float(radius_um(cells[own])) for own in rows])))
    return Swelling.through(times.tolist(), radii, dims, genes)


def _unit(g: Float[np.ndarray, "cells genes"]) -> Float[np.ndarray, " genes"]:
    unit = np.percentile(np.expm1(g), _SCALE, axis=0)
    return np.asarray(np.where(unit > 0, unit, 1.0))


def _require(adata: AnnData, panel: Sequence[str], wiring: Wiring) -> None:
    problems = [
        Problem(f"ligand {name!r}", f"a gene of the panel: {', '.join(panel[:12])}", "add it to embed.panel")
        for name in wiring.ligands
        if name not in panel
    ]
    space = np.asarray(adata.obsm[schema.ALIGNED]).shape[1] if schema.ALIGNED in adata.obsm else 0
    if space != 3:
        problems.append(Problem(f"{space} columns of positions", "3", "set fit.structure to network"))
    times = np.unique(adata.obs[schema.TIME].to_numpy(float))
    if len(times) < 2:
        problems.append(Problem(f"{len(times)} stage", "two or more", "give a series"))
    if problems:
        raise SchemaError(*problems, subject="fit.structure = circuit")
