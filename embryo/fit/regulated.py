"""Stages and couplings -> a law whose genes obey a circuit.

The circuit is fitted without couplings (`embryo.fit.circuit`), from measured velocities on where there are any
(`embryo.fit.likelihood`), and so are growth and motion (`embryo.fit.moving`); what the panel does not tell of the
embedding is regressed on the coupled pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float, Int
from torch import Tensor, nn

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State
from embryo.fields.circuit import Circuit, Gradients, Held, Ligands
from embryo.fields.motion import Motion
from embryo.fields.posefree import Swelling, depth, radius_um
from embryo.fields.regulated import Growth, Regulated, medium
from embryo.fit import circuit as circuits
from embryo.fit import likelihood, marginals, moving
from embryo.fit.coupled import Pairs, states
from embryo.fit.discrepancy import discrepancy
from embryo.fit.moments import Series
from embryo.fit.regression import regress
from embryo.fit.snapshots import Riding, unit_of
from embryo.fit.snapshots import series as snapshots
from embryo.fit.training import Training

_GONE = 5.0  # decay times between stages after which nothing is left
_FAINT = 1e-6  # an input below this counts as this: logarithms are taken
_KNOCKOUT = "knockout "
_LIKELY, _FORBIDDEN = 0.05, 1e6  # penalty of a weight that a prior names, and of one that a hard prior does not


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
    settings
        Of the fit.
    prior
        Likely edges, (source, target): their weights cost less. Sources are genes of the panel (a ligand's name is that
        of its signal too) and measured inputs; edges of others are passed over.
    hard
        Whether the prior forbids what it does not name; inputs that the fit itself finds are always allowed.
    """

    ligands: tuple[str, ...] = ()
    length_um: float = 12.0
    posed: bool = True
    led: marginals.Settings | None = None
    held: Held | None = None
    settings: circuits.Settings = field(default_factory=circuits.Settings)
    prior: tuple[tuple[str, str], ...] = ()
    hard: bool = False


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
    lost = {label: _silenced(label, panel) for label in trained or {}}
    _require(adata, panel, wiring, lost)
    unit = torch.as_tensor(unit_of(np.asarray(adata.obsm[schema.PANEL], dtype=float)), dtype=torch.float32)
    columns = tuple(panel.index(name) for name in wiring.ligands)
    ligands = Ligands(columns, (medium(wiring.length_um),) * len(columns))
    lent = list((trained or {}).values())
    tissue = Tissue.of(adata, unit, wiring.held, beside=lent) if wiring.posed else None

    def seen(cells: AnnData, silenced: tuple[int, ...] = ()) -> Series:
        if tissue is None:
            return replace(swollen(cells, unit, ligands), silenced=silenced)
        of = tissue if cells is adata else Tissue.of(cells, unit, wiring.held, like=tissue)
        return of.series(unit, ligands, silenced)

    series = seen(adata)
    measured = [series, *(seen(cells, lost[label]) for label, cells in (trained or {}).items())]
    inputs = wiring.held or _gradients(series)
    prior = _penalties(wiring, panel, inputs.names)
    found = _circuit(measured, wiring, None if wiring.held else inputs, prior, training.seed)
    if wiring.led is not None:
        marginals.refine(found.numbers, series, unit, wiring.led, seed=training.seed)
    made: Circuit = _slowed(found.circuit(panel, inputs.names, wiring.ligands, unit), series)
    if tissue is None:
        birth = regress(data, replace(training, reads=("g",)), progress=progress)
        law = Regulated(made, inputs, _swelling(adata, *response.shape), birth, None, wiring.length_um)
    else:
        place = regress(data, replace(training, reads=("x",)), progress=progress)
        law = Regulated(made, inputs, place, tissue.growth, tissue.motion, wiring.length_um)
    law.response.copy_(response)
    law.training_edits = tuple(lost)
    if all(len(stage.embryo.unique()) > 1 for stage in series.stages):  # two halves tell chance from error
        wrong = discrepancy(found.numbers, series, wiring.settings, seed=training.seed).unfit()
        law.tested.fill_(value=True)
        law.unfit[list(wrong)] = True
    return law.requires_grad_(requires_grad=False).eval()


def _circuit(
    measured: Sequence[Series], wiring: Wiring, inputs: nn.Module | None, prior: Tensor | None, seed: int
) -> circuits.Fitted:
    """Fit to velocities where they are measured, and to snapshots from there on, else from nothing."""
    settings, start = wiring.settings, None
    told = [series for series in measured if all(stage.dy is not None for stage in series.stages)]
    if told:
        start = likelihood.fit(told, inputs=inputs, prior=prior)
        settings = replace(settings, phases=settings.phases[-1:])
    found = circuits.fit(measured, settings, seed=seed, inputs=inputs, prior=prior, start=start)
    if wiring.hard and prior is not None:
        with torch.no_grad():
            found.numbers.weights[prior == _FORBIDDEN] = 0.0
    return found


def _penalties(wiring: Wiring, panel: Sequence[str], inputs: Sequence[str]) -> Float[Tensor, "genes columns"] | None:
    """Return what every weight costs beside others, columns as a circuit reads them; None without a prior."""
    if not wiring.prior:
        return None
    sources, edges = (*panel, *inputs, *wiring.ligands), set(wiring.prior)
    found = () if wiring.held else inputs
    other = {s: 1.0 if s in found or not wiring.hard else _FORBIDDEN for s in sources}
    rows = [[_LIKELY if (s, target) in edges else other[s] for s in sources] for target in panel]
    return torch.tensor(rows, dtype=torch.float64)


def _gradients(series: Series) -> Gradients:
    """Return inputs that fade from the ends of the tissue, to be fitted."""
    material = torch.cat([s.material for s in series.stages])
    low, high = (material.quantile(q, dim=0).tolist() for q in (0.01, 0.99))
    return Gradients(low, high, series.times_h[0])


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
    embryos: tuple[Int[Tensor, " cells"], ...]
    growth: Growth
    motion: Motion
    riding: tuple[Riding, ...]

    @classmethod
    def of(
        cls, adata: AnnData, unit: Float[Tensor, " genes"], held: Held | None = None, like: "Tissue | None" = None,
        beside: Sequence[AnnData] = (),
    ) -> "Tissue":  # fmt: skip
        """Read cells.

        Parameters
        ----------
        adata, unit
            Cells, and expm1(g) at level 1.
        held
            How the inputs in ``obsm["inputs"]`` fade; None without.
        like
            The tissue as which they grow and move; None to read growth and motion off the cells.
        beside
            Cells of knock-outs whose growth is read too.
        """
        rows, stages, crowds = _crowds(adata, unit)
        times, embryos = tuple(c.t_h for c in crowds), tuple(c.embryo for c in crowds)
        growth = moving.growth(crowds, *(_crowds(o, unit)[2] for o in beside)) if like is None else like.growth
        motion = moving.motion(crowds, growth) if like is None else like.motion
        if held is None:
            riding = [Riding(motion.back(c.t_h, c.x)) for c in crowds]
        else:
            inputs = torch.as_tensor(np.asarray(adata.obsm[schema.INPUTS], dtype=float))
            riding = [_holding(inputs[r], held, t_h) for t_h, r in zip(times, rows, strict=True)]
        more = _beside(adata, unit)
        riding = [
            replace(own, growth_per_h=growth(c.y), **{name: part[r] for name, part in more.items()})
            for own, c, r in zip(riding, crowds, rows, strict=True)
        ]
        return cls(times, stages, embryos, growth, motion, tuple(riding))

    def series(self, unit: Float[Tensor, " genes"], ligands: Ligands, silenced: tuple[int, ...] = ()) -> Series:
        """Return levels, what each cell receives, and what rides with it; silenced genes make nothing."""
        return snapshots(self.times_h, self.states, self.embryos, self.riding, unit, ligands, silenced)


def _crowds(
    adata: AnnData, unit: Float[Tensor, " genes"]
) -> tuple[list[Int[Tensor, " stage"]], tuple[State, ...], list[moving.Crowd]]:
    """Return rows, states and crowd of every stage; a cell that stands for several secretes as much as they do."""
    cells, t = states(adata), adata.obs[schema.TIME].to_numpy(float)
    if schema.MASS in adata.obs:
        cells = replace(cells, log_mass=torch.as_tensor(np.log(adata.obs[schema.MASS].to_numpy(float))).to(cells.g))
    embryo = torch.as_tensor(np.unique(_embryos(adata), return_inverse=True)[1])
    rows = [torch.as_tensor(np.flatnonzero(t == t_h)) for t_h in np.unique(t)]
    stages = tuple(cells[r] for r in rows)
    crowds = []
    for t_h, state, r in zip(np.unique(t).tolist(), stages, rows, strict=True):
        y = torch.expm1(state.g.double()) / unit.double()
        crowds.append(moving.Crowd(t_h, y, state.x.double(), state.mass.double(), embryo[r]))
    return rows, stages, crowds


def _beside(adata: AnnData, unit: Float[Tensor, " genes"]) -> dict[str, Float[Tensor, "cells genes"]]:
    """Return what else was measured of the levels in units: velocities per hour, and levels before they were shrunk."""
    found = {}
    if schema.VELOCITY in adata.obsm:
        found["dy"] = torch.as_tensor(np.asarray(adata.obsm[schema.VELOCITY], dtype=float)) / unit.double()
    if schema.MEASURED in adata.obsm:
        raw = torch.as_tensor(np.asarray(adata.obsm[schema.MEASURED], dtype=float))
        found["counted"] = torch.expm1(raw) / unit.double()
    return found


def _holding(inputs: Float[Tensor, "cells inputs"], held: Held, t_h: float) -> Riding:
    """Return inputs, and as coordinates of the tissue their logarithm, less what fades in all cells alike."""
    now = inputs.double()
    return Riding((now.clamp(min=_FAINT) / held(t_h, torch.ones_like(now))).log(), now)


def _embryos(adata: AnnData) -> np.ndarray:
    """Return the name of each cell's embryo; one name where there are none."""
    known = schema.EMBRYO in adata.obs
    return adata.obs[schema.EMBRYO].astype(str).to_numpy() if known else np.zeros(adata.n_obs, str)


def swollen(adata: AnnData, unit: Float[Tensor, " genes"], ligands: Ligands) -> Series:
    """Return the stages of bodies without a pose: levels, what each cell receives, and how deep it lies in its own."""
    cells, t = states(adata), adata.obs[schema.TIME].to_numpy(float)
    named = _embryos(adata)
    number = np.unique(named, return_inverse=True)[1]
    times, stages, embryos, riding, more = [], [], [], [], _beside(adata, unit)
    for t_h in np.unique(t):
        rows = [np.flatnonzero((t == t_h) & (number == k)) for k in np.unique(number)]
        bodies = [torch.as_tensor(own) for own in rows if len(own) > 1]
        if bodies:
            here = torch.cat(bodies)
            times.append(float(t_h))
            stages.append(cells[here])
            embryos.append(torch.as_tensor(number)[here])
            deep = torch.cat([depth(cells[own].map(lambda part: part.double())) for own in bodies])
            riding.append(Riding(deep, **{name: part[here] for name, part in more.items()}))
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
        Problem(f"ligand {name!r}", f"a gene of the panel: {', '.join(panel[:12])}", "add it to embed.panel")
        for name in wiring.ligands
        if name not in panel
    ]
    if wiring.prior and not {target for _, target in wiring.prior} & set(panel):
        found = f"a prior of {len(wiring.prior)} edges, none of them to a gene of the panel"
        problems.append(Problem(found, f"targets among {', '.join(panel[:12])}", "correct the names"))
    problems += _of_velocities(adata, panel)
    space = np.asarray(adata.obsm[schema.ALIGNED]).shape[1] if schema.ALIGNED in adata.obsm else 0
    if space != 3:
        problems.append(Problem(f"{space} columns of positions", "3", "set fit.structure to network"))
    times = np.unique(adata.obs[schema.TIME].to_numpy(float))
    if len(times) < 2:
        problems.append(Problem(f"{len(times)} stage", "two or more", "give a series"))
    if problems:
        raise SchemaError(*problems, subject="fit.structure = circuit")


def _of_velocities(adata: AnnData, panel: Sequence[str]) -> list[Problem]:
    """Return what is wrong with measured velocities."""
    if schema.VELOCITY not in adata.obsm:
        return []
    dy, slot = np.asarray(adata.obsm[schema.VELOCITY], dtype=float), f"obsm[{schema.VELOCITY!r}]"
    wanted = f"d/dt of expm1(X_panel) per hour, {len(panel)} columns"
    if dy.shape[1] != len(panel):
        return [Problem(f"{dy.shape[1]} columns in {slot}", wanted, "give one column per gene of the panel")]
    mute = [gene for gene, heard in zip(panel, np.isfinite(dy).any(axis=0), strict=True) if not heard]
    cure = "leave these genes out of the panel, or the velocities out"
    return [Problem(f"no velocity of {', '.join(mute)} in any cell of {slot}", wanted, cure)] if mute else []
