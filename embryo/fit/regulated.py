"""Stages and couplings -> a law whose genes obey a circuit.

The circuit is fitted without couplings (`embryo.fit.circuit`), and so are growth and motion (`embryo.fit.moving`); what
the panel does not tell of the embedding is regressed on the coupled pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State
from embryo.fields.circuit import Circuit, Gradients, Held, Ligands
from embryo.fields.mechanics import Mechanics
from embryo.fields.motion import Motion
from embryo.fields.posefree import Swelling, depth, radius_um
from embryo.fields.regulated import Growth, Regulated, medium
from embryo.fields.residual import FAINT, Beside, Residual
from embryo.fit import circuit as circuits
from embryo.fit import marginals, mechanics, moving
from embryo.fit.bootstrap import drawn
from embryo.fit.coupled import Pairs, states
from embryo.fit.discrepancy import discrepancy
from embryo.fit.flux import passages
from embryo.fit.moments import Series
from embryo.fit.regression import regress
from embryo.fit.snapshots import Riding
from embryo.fit.snapshots import series as snapshots
from embryo.fit.training import Training

_GONE = 5.0  # decay times between stages after which nothing is left
_KNOCKOUT = "knockout "
_SEARCH = mechanics.Search(  # of what few scenes of whole bodies tell; nothing but cells moves them
    spacings=(1.1, 1.2, 1.3, 1.4, 1.5), reaches=(1.4, 1.5, 1.6), walls=(0.9, 0.95, 2.0), background=False, watched=8
)
_SCALE = 99.0  # percentile of a gene's level over training cells that is its unit


@dataclass(frozen=True)
class Forces:
    """Genes that may move cells; where none is named, any gene of the panel may.

    Parameters
    ----------
    sticky
        By which cells that share one adhere.
    motile
        By which cells intercalate and climb gradients.
    """

    sticky: tuple[str, ...] = ()
    motile: tuple[str, ...] = ()


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
    held
        Inputs measured in every cell, ``obsm["inputs"]``, and how they fade; None to find inputs as functions of the
        place in the body.
    residual
        Penalty of a residual of place and time in the production (`embryo.fields.residual`): of the squared weight of
        its smoothest functions, more for rougher ones. None for the circuit alone.
    drawn
        Whether circuit, growth and motion are fitted to embryos drawn with replacement, by the seed of the training.
    settings
        Of the fit.
    forces
        Which genes may move cells; None where none does.
    cycling
        Genes that change how fast cells divide and die; any may where none is named.
    """

    ligands: tuple[str, ...] = ()
    length_um: float = 12.0
    posed: bool = True
    led: marginals.Settings | None = None
    held: Held | None = None
    residual: float | None = None
    drawn: bool = False
    settings: circuits.Settings = field(default_factory=circuits.Settings)
    forces: Forces | None = None
    cycling: tuple[str, ...] = ()

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """Genes that were named, by what they do."""
        named = {"ligand": self.ligands, "cycling gene": self.cycling}
        if self.forces is not None:
            named |= {"sticky gene": self.forces.sticky, "motile gene": self.forces.motile}
        return named


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
        are several, ``embryo``.
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
        If there is no space, there are fewer than two stages, a ligand is no gene of the panel, or a label is no
        knock-out of its genes.
    """
    panel = tuple(str(g) for g in schema.meta(adata)["panel"])
    lost = {label: _silenced(label, panel) for label in trained or {}}
    _require(adata, panel, wiring, lost)
    unit = torch.as_tensor(_unit(np.asarray(adata.obsm[schema.PANEL], dtype=float)), dtype=torch.float32)
    columns = tuple(panel.index(name) for name in wiring.ligands)
    ligands = Ligands(columns, (medium(wiring.length_um),) * len(columns))
    own = drawn(adata, training.seed) if wiring.drawn else adata
    cycling = [panel.index(name) for name in wiring.cycling] or None
    tissue = Tissue.of(own, unit, wiring.held, cycling=cycling) if wiring.posed else None

    def seen(cells: AnnData, silenced: tuple[int, ...] = ()) -> Series:
        if tissue is None:
            return replace(swollen(cells, unit, ligands), silenced=silenced)
        of = tissue if cells is own else Tissue.of(cells, unit, wiring.held, like=tissue)
        return of.series(unit, ligands, silenced)

    series = seen(own)
    measured = [series, *(seen(cells, lost[label]) for label, cells in (trained or {}).items())]
    inputs = wiring.held or _gradients(series)
    residual = None if wiring.residual is None else _residual(series)
    found = _circuit(measured, inputs, residual, wiring, training.seed)
    if wiring.led is not None:
        marginals.refine(found.numbers, series, unit, wiring.led, seed=training.seed)
    names = (*(() if residual is None else residual.names), *inputs.names)
    made: Circuit = _slowed(found.circuit(panel, names, wiring.ligands, unit), series)
    if tissue is None:
        birth = regress(data, replace(training, reads=("g",)), progress=progress)
        law = Regulated(made, inputs, _swelling(own, *response.shape), birth, None, wiring.length_um, residual)
    else:
        place = regress(data, replace(training, reads=("x",)), progress=progress)
        law = Regulated(made, inputs, place, tissue.growth, tissue.motion, wiring.length_um, residual)
        law.forces = _forces(own, wiring.forces, unit, ligands, tissue.growth) if wiring.forces else None
    law.response.copy_(response)
    law.training_edits = tuple(lost)
    whole = seen(adata) if wiring.drawn else series  # halves of a draw would share embryos
    if all(len(stage.embryo.unique()) > 1 for stage in whole.stages):  # two halves tell chance from error
        wrong = discrepancy(found.numbers, whole, wiring.settings, seed=training.seed).unfit()
        law.tested.fill_(value=True)
        law.unfit[list(wrong)] = True
    return law.requires_grad_(requires_grad=False).eval()


def _gradients(series: Series) -> Gradients:
    """Return inputs that fade from the ends of the tissue, to be fitted."""
    material = torch.cat([s.material for s in series.stages])
    low, high = (material.quantile(q, dim=0).tolist() for q in (0.01, 0.99))
    return Gradients(low, high, series.times_h[0])


def _residual(series: Series) -> Residual:
    """Return functions on the box of places and times that was seen."""
    material = torch.cat([s.material for s in series.stages])
    low, high = (material.quantile(q, dim=0).tolist() for q in (0.01, 0.99))
    return Residual([*low, series.times_h[0]], [*high, series.times_h[-1]])


def _circuit(
    measured: Sequence[Series], inputs: Gradients | Held, residual: Residual | None, wiring: Wiring, seed: int
) -> circuits.Fitted:
    """Fit the circuit; the columns of a residual come first, with a ridge of their own."""
    free = None if isinstance(inputs, Held) else inputs  # held ones are measured in every cell
    if residual is None:
        return circuits.fit(measured, wiring.settings, seed=seed, inputs=free)
    stage = measured[0].stages[0]
    genes, first = stage.y.shape[1], stage.y.shape[1] + len(residual.names)
    ridge = torch.full((first + len(inputs.names) + stage.signals.shape[1],), circuits.RIDGE, dtype=torch.float64)
    ridge[genes:first] += float(wiring.residual or 0.0) * residual.roughness
    read = residual if free is None else Beside(residual, free)
    return circuits.fit(measured, wiring.settings, seed=seed, inputs=read, ridge=ridge)


def _slowed(circuit: Circuit, series: Series) -> Circuit:
    """Cap decay where stages cannot tell it: a gene as good as gone by the next stage; its steady level stays."""
    most = _GONE / float(np.diff(series.times_h).min())
    share = (most / circuit.decay_per_h).clamp(max=1.0)
    circuit.decay_per_h.mul_(share)
    circuit.rate_per_h.mul_(share)
    return circuit


@dataclass(frozen=True, eq=False)
class Tissue:
    """The stages of a tissue: its cells, how it grows and moves, and what rides with the cells.

    Parameters
    ----------
    times_h, states, embryos
        Of each stage; cells that stand for several have their mass.
    growth
        Birth minus death.
    motion
        From stage to stage.
    riding
        Measured inputs, or else places carried back to the first stage; and growth.
    """

    times_h: tuple[float, ...]
    states: tuple[State, ...]
    embryos: tuple[Int[Tensor, " _"], ...]
    growth: Growth
    motion: Motion
    riding: tuple[Riding, ...]

    @classmethod
    def of(
        cls, adata: AnnData, unit: Float[Tensor, " genes"], held: Held | None = None, like: "Tissue | None" = None,
        cycling: Sequence[int] | None = None,
    ) -> "Tissue":  # fmt: skip
        """Read cells; `held` are the inputs in ``obsm["inputs"]``, `like` is the tissue as which they grow and move."""
        times, stages, numbers, rows = _staged(adata)
        crowds = [_crowd(t_h, s, n, unit) for t_h, s, n in zip(times, stages, numbers, strict=True)]
        growth = moving.growth(crowds, cycling) if like is None else like.growth
        motion = moving.motion(crowds, growth) if like is None else like.motion
        if held is None:
            riding = [Riding(motion.back(c.t_h, c.x)) for c in crowds]
        else:
            inputs = torch.as_tensor(np.asarray(adata.obsm[schema.INPUTS], dtype=float))
            riding = [_holding(inputs[r], held, t_h) for t_h, r in zip(times, rows, strict=True)]
        rates = [growth(c.y) for c in crowds]
        riding = [replace(own, growth_per_h=b) for own, b in zip(riding, rates, strict=True)]
        return cls(times, stages, numbers, growth, motion, tuple(riding))

    def series(self, unit: Float[Tensor, " genes"], ligands: Ligands, silenced: tuple[int, ...] = ()) -> Series:
        """Return levels, what each cell receives, and what rides with it; silenced genes make nothing."""
        return snapshots(self.times_h, self.states, self.embryos, self.riding, unit, ligands, silenced)


def _staged(
    adata: AnnData,
) -> tuple[tuple[float, ...], tuple[State, ...], tuple[Int[Tensor, " _"], ...], tuple[Int[Tensor, " _"], ...]]:
    """Return of each stage its time, its cells, the numbers of their embryos, and their rows."""
    cells, t = states(adata), adata.obs[schema.TIME].to_numpy(float)
    if schema.MASS in adata.obs:  # a cell that stands for several secretes as much as they do
        cells = replace(cells, log_mass=torch.as_tensor(np.log(adata.obs[schema.MASS].to_numpy(float))).to(cells.g))
    number = torch.as_tensor(np.unique(_embryos(adata), return_inverse=True)[1])
    rows = tuple(torch.as_tensor(np.flatnonzero(t == t_h)) for t_h in np.unique(t))
    return tuple(np.unique(t).tolist()), tuple(cells[r] for r in rows), tuple(number[r] for r in rows), rows


def _forces(
    adata: AnnData, may: Forces, unit: Float[Tensor, " genes"], ligands: Ligands, growth: Growth
) -> Mechanics | None:
    """Return forces that explain how whole bodies change; None where embryos left out refute them."""
    panel = tuple(map(str, schema.meta(adata)["panel"]))
    own, motile = (tuple(panel.index(g) for g in names) or None for names in (may.sticky, may.motile))

    def levels(s: State) -> Tensor:
        return s.g.expm1() / unit.to(s.g)

    def received(s: State) -> tuple[Tensor, Tensor]:
        return ligands.slopes(levels(s), s.x, s.mass)

    seen = passages(*_staged(adata)[:3], lambda s: growth(levels(s)))
    search = replace(_SEARCH, sticky=own and tuple((k, k) for k in own), motile=motile)
    found = mechanics.forces(seen, search, received if ligands.columns else None)
    return found.law.float() if found.unexplained < min(1.0, found.without) else None


def _crowd(t_h: float, state: State, embryo: Int[Tensor, " cells"], unit: Float[Tensor, " genes"]) -> moving.Crowd:
    y = torch.expm1(state.g.double()) / unit.double()
    return moving.Crowd(t_h, y, state.x.double(), state.mass.double(), embryo)


def _holding(inputs: Float[Tensor, "cells inputs"], held: Held, t_h: float) -> Riding:
    """Return inputs, and as coordinates of the tissue their logarithm, less what fades in all cells alike."""
    now = inputs.double()
    return Riding((now.clamp(min=FAINT) / held(t_h, torch.ones_like(now))).log(), now)


def _embryos(adata: AnnData) -> np.ndarray:
    """Return the name of each cell's embryo; one name where there are none."""
    known = schema.EMBRYO in adata.obs
    return adata.obs[schema.EMBRYO].astype(str).to_numpy() if known else np.zeros(adata.n_obs, str)


def swollen(adata: AnnData, unit: Float[Tensor, " genes"], ligands: Ligands) -> Series:
    """Return the stages of bodies without a pose: levels, what each cell receives, and how deep it lies in its own."""
    cells, t = states(adata), adata.obs[schema.TIME].to_numpy(float)
    named = _embryos(adata)
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
            riding.append(Riding(torch.cat([depth(cells[own].map(lambda part: part.double())) for own in bodies])))
    return snapshots(times, stages, embryos, riding, unit, ligands)


def _swelling(adata: AnnData, genes: int, dims: int) -> Swelling:
    """Return how bodies without a pose grow: through the median radius of the embryos of each stage."""
    cells, t = states(adata), adata.obs[schema.TIME].to_numpy(float)
    body = _embryos(adata)
    times, radii = np.unique(t), []
    for t_h in times:
        rows = [torch.as_tensor(np.flatnonzero((t == t_h) & (body == name))) for name in np.unique(body[t == t_h])]
        radii.append(float(np.median([float(radius_um(cells[own])) for own in rows if len(own) > 1] or [np.nan])))
    times, radii = times[np.isfinite(radii)], [r for r in radii if np.isfinite(r)]
    return Swelling.through(times.tolist(), radii, dims, genes)


def _unit(g: Float[np.ndarray, "cells genes"]) -> Float[np.ndarray, " genes"]:
    unit = np.percentile(np.expm1(g), _SCALE, axis=0)
    return np.asarray(np.where(unit > 0, unit, 1.0))


def _silenced(label: str, panel: Sequence[str]) -> tuple[int, ...]:
    """Return the columns of the genes of a label; none where it is no knock-out of genes of the panel."""
    words = [part.removeprefix(_KNOCKOUT) for part in label.split(" + ") if part.startswith(_KNOCKOUT)]
    known = len(words) == len(label.split(" + ")) and all(word in panel for word in words)
    return tuple(panel.index(word) for word in words) if known else ()


def _require(adata: AnnData, panel: Sequence[str], wiring: Wiring, lost: Mapping[str, tuple[int, ...]]) -> None:
    problems = [
        Problem(f"measured edit {label!r}", "knockout GENE, of genes of the panel", "name others, or leave it out")
        for label, genes in lost.items()
        if not genes
    ]
    problems += [
        Problem(f"{role} {name!r}", f"a gene of the panel: {', '.join(panel[:12])}", "add it to embed.panel")
        for role, names in wiring.roles.items()
        for name in names
        if name not in panel
    ]
    if wiring.forces is not None:
        if schema.MASS in adata.obs and (adata.obs[schema.MASS].to_numpy(float) > 1).any():
            found = f"cells that stand for several (obs[{schema.MASS!r}])"
            problems.append(Problem(found, "every cell, for forces", "give whole embryos, or set fit.forces to false"))
        if not wiring.posed:
            problems.append(Problem("forces between bodies without a pose", "a pose", "set fit.forces to false"))
    space = np.asarray(adata.obsm[schema.ALIGNED]).shape[1] if schema.ALIGNED in adata.obsm else 0
    if space != 3:
        problems.append(Problem(f"{space} columns of positions", "3", "set fit.structure to network"))
    times = np.unique(adata.obs[schema.TIME].to_numpy(float))
    if len(times) < 2:
        problems.append(Problem(f"{len(times)} stage", "two or more", "give a series"))
    if problems:
        raise SchemaError(*problems, subject="fit.structure = circuit")
