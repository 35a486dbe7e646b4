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
from embryo.fields.regulated import Regulated, in_body, medium
from embryo.fit import circuit as circuits
from embryo.fit.coupled import Pairs, states
from embryo.fit.moments import Series, Stage
from embryo.fit.regression import regress
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
    settings
        Of the fit.
    """

    ligands: tuple[str, ...] = ()
    length_um: float = 12.0
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
    series = stages_of(adata, unit, ligands)
    material = torch.cat([s.material for s in series.stages])
    gradients = Gradients(*(material.quantile(q, dim=0).tolist() for q in (0.01, 0.99)))
    found = circuits.fit([series], wiring.settings, seed=training.seed, inputs=gradients)
    made: Circuit = _slowed(found.circuit(panel, gradients.names, wiring.ligands, unit), series)
    place = regress(data, replace(training, reads=("x",)))
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


def stages_of(adata: AnnData, unit: Float[Tensor, " genes"], ligands: Ligands) -> Series:
    """Return the stages of cells: levels, what each receives, and its place in its own body."""
    cells = states(adata)
    named = adata.obs[schema.EMBRYO].astype(str).to_numpy() if schema.EMBRYO in adata.obs else np.zeros(len(cells), str)
    names = sorted(set(named))
    stages = []
    for t_h in np.unique(adata.obs[schema.TIME].to_numpy(float)):
        rows = np.flatnonzero(adata.obs[schema.TIME].to_numpy(float) == t_h)
        bodies = [(k, rows[named[rows] == name]) for k, name in enumerate(names)]
        parts = [_one(cells[torch.as_tensor(own)], k, unit, ligands) for k, own in bodies if len(own) > 1]
        if parts:
            y, signals, material, embryo = (torch.cat(column) for column in zip(*parts, strict=True))
            stages.append(Stage(float(t_h), y, y[:, :0], signals, material, embryo))
    return Series(tuple(stages))


def _one(
    body: State, number: int, unit: Float[Tensor, " genes"], ligands: Ligands
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return levels, signals, places and number of one embryo's cells, in double precision."""
    body = body.map(lambda part: part.double())
    y = body.g.expm1() / unit.double()
    return y, ligands(y, body.x, body.mass).double(), in_body(body), torch.full((len(y),), number)


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
