"""Stages and couplings -> a law whose genes obey a circuit.

The circuit is fitted without couplings (`embryo.fit.circuit`), from measured velocities on where there are any
(`embryo.fit.likelihood`), and so are growth and motion (`embryo.fit.moving`); what the panel does not tell of the
embedding is regressed on the coupled pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor, nn

from embryo.core import schema
from embryo.fields.circuit import Circuit, Gradients, Held, Ligands
from embryo.fields.regulated import Regulated, medium
from embryo.fields.residual import Beside, Residual
from embryo.fit import circuit as circuits
from embryo.fit import likelihood, marginals
from embryo.fit.bootstrap import drawn
from embryo.fit.coupled import Pairs
from embryo.fit.discrepancy import discrepancy
from embryo.fit.moments import Series
from embryo.fit.regression import regress
from embryo.fit.snapshots import unit_of
from embryo.fit.tissue import Tissue, swelling, swollen
from embryo.fit.training import Training
from embryo.fit.wiring import FORBIDDEN, Wiring, silenced

_GONE = 5.0  # decay times between stages after which nothing is left


def regulated(
    adata: AnnData,
    data: Pairs,
    training: Training,
    wiring: Wiring,
    response: Float[Tensor, "genes dims"],
    *,
    trained: Mapping[str, AnnData] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Regulated:
    """Fit a law whose genes obey a circuit.

    Parameters
    ----------
    adata
        Training cells with ``X_embed``, ``X_panel``, ``spatial_aligned`` in three columns, ``time`` and, where there
        are several, ``embryo``. Where there is ``velocity_levels`` too, d/dt of expm1(``X_panel``) per hour, the
        circuit is fitted to it first, and to the snapshots from there.
    data
        Their coupled pairs.
    training
        Of the networks of place and growth; its seed also draws the cells and windows of the circuit.
    wiring
        Ligands, and how the circuit is fitted.
    response
        dz/dg of every panel gene.
    trained
        Measured knock-outs to learn from, by label (``knockout A``, ``knockout A + knockout B``): cells like those of
        `adata`, of two stages or more. They grow and move as wild type does; their genes make nothing.
    progress
        Called with (step, steps, running loss) of the last network.

    Raises
    ------
    SchemaError
        If there is no space, there are fewer than two stages, a ligand is no gene of the panel, a label is no knock-out
        of its genes, velocities are not those of the panel, or a prior names no edge of it.
    """
    panel = tuple(str(g) for g in schema.meta(adata)["panel"])
    lost = {label: silenced(label, panel) for label in trained or {}}
    wiring.require(adata, panel, lost)
    unit = torch.as_tensor(unit_of(np.asarray(adata.obsm[schema.PANEL], dtype=float)), dtype=torch.float32)
    columns = tuple(panel.index(name) for name in wiring.ligands)
    ligands = Ligands(columns, (medium(wiring.length_um),) * len(columns))
    own = drawn(adata, training.seed) if wiring.drawn else adata
    cycling = [panel.index(name) for name in wiring.cycling] or None
    lent = list((trained or {}).values())
    tissue = Tissue.of(own, unit, wiring.held, beside=lent, cycling=cycling) if wiring.posed else None
    forces = tissue.forces(panel, wiring.forces, unit, ligands) if tissue and wiring.forces else None

    def seen(cells: AnnData, silenced: tuple[int, ...] = ()) -> Series:
        if tissue is None:
            return replace(swollen(cells, unit, ligands), silenced=silenced)
        of = tissue if cells is own else Tissue.of(cells, unit, wiring.held, like=tissue)
        return of.series(unit, ligands, silenced)

    series = seen(own)
    measured = [series, *(seen(cells, lost[label]) for label, cells in (trained or {}).items())]
    inputs = wiring.held or _gradients(series)
    residual = None if wiring.residual is None else _residual(series)
    names = (*(() if residual is None else residual.names), *inputs.names)
    prior = wiring.penalties(panel, names)
    found = _circuit(measured, wiring, (inputs, residual), prior, training.seed)
    if wiring.led is not None:
        marginals.refine(found.numbers, series, unit, wiring.led, seed=training.seed)
    made: Circuit = _slowed(found.circuit(panel, names, wiring.ligands, unit), series)
    if tissue is None:
        birth = regress(data, replace(training, reads=("g",)), progress=progress)
        law = Regulated(made, inputs, swelling(own, *response.shape), birth, None, wiring.length_um, residual)
    else:
        place = regress(data, replace(training, reads=("x",)), progress=progress)
        law = Regulated(made, inputs, place, tissue.growth, tissue.motion, wiring.length_um, residual)
        law.forces = forces
    law.response.copy_(response)
    law.training_edits = tuple(lost)
    _test(law, found, seen(adata) if wiring.drawn else series, training.seed)  # halves of a draw would share embryos
    return law.requires_grad_(requires_grad=False).eval()


def _test(law: Regulated, found: circuits.Fitted, series: Series, seed: int) -> None:
    """Write into a law which genes' laws wild type refutes, where two halves tell chance from error."""
    if all(len(stage.embryo.unique()) > 1 for stage in series.stages):
        wrong = discrepancy(found.numbers, series, found.settings, seed=seed).unfit()
        law.tested.fill_(value=True)
        law.unfit[list(wrong)] = True


def _gradients(series: Series) -> Gradients:
    """Return inputs that fade from the ends of the tissue, to be fitted."""
    low, high = _box(series)
    return Gradients(low, high, series.times_h[0])


def _residual(series: Series) -> Residual:
    """Return functions on the box of places and times that was seen."""
    low, high = _box(series)
    return Residual([*low, series.times_h[0]], [*high, series.times_h[-1]])


def _box(series: Series) -> tuple[list[float], list[float]]:
    """Return the ends of the tissue along each coordinate, less a hundredth of the cells."""
    material = torch.cat([s.material for s in series.stages])
    return material.quantile(0.01, dim=0).tolist(), material.quantile(0.99, dim=0).tolist()


def _circuit(
    measured: Sequence[Series],
    wiring: Wiring,
    read: tuple[Gradients | Held, Residual | None],
    prior: Float[Tensor, "genes columns"] | None,
    seed: int,
) -> circuits.Fitted:
    """Fit to velocities where they are measured, and to snapshots from there on, else from nothing.

    The columns of a residual come first, with a ridge of their own.
    """
    inputs, residual = read
    own: nn.Module | None = None if isinstance(inputs, Held) else inputs  # held ones are measured in every cell
    ridge = None
    if residual is not None:
        ridge = _ridge(measured[0], residual, len(inputs.names), float(wiring.residual or 0.0))
        own = residual if own is None else Beside(residual, own)
    settings, start = wiring.settings, None
    told = [series for series in measured if all(stage.dy is not None for stage in series.stages)]
    if told:
        start = likelihood.fit(told, inputs=own, prior=prior)
        settings = replace(settings, phases=settings.phases[-1:])
    found = circuits.fit(measured, settings, seed=seed, inputs=own, prior=prior, ridge=ridge, start=start)
    if wiring.hard and prior is not None:
        with torch.no_grad():
            found.numbers.weights[prior == FORBIDDEN] = 0.0
    return found


def _ridge(series: Series, residual: Residual, inputs: int, penalty: float) -> Float[Tensor, " columns"]:
    stage = series.stages[0]
    genes, first = stage.y.shape[1], stage.y.shape[1] + len(residual.names)
    ridge = torch.full((first + inputs + stage.signals.shape[1],), circuits.RIDGE, dtype=torch.float64)
    ridge[genes:first] += penalty * residual.roughness
    return ridge


def _slowed(circuit: Circuit, series: Series) -> Circuit:
    """Cap decay where stages cannot tell it: a gene as good as gone by the next stage; its steady level stays."""
    most = _GONE / float(np.diff(series.times_h).min())
    share = (most / circuit.decay_per_h).clamp(max=1.0)
    circuit.decay_per_h.mul_(share)
    circuit.rate_per_h.mul_(share)
    return circuit
