"""Cells of a series -> the stages of a tissue: how it grows and moves, by which forces, and what rides with cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core import schema
from embryo.core.state import State
from embryo.fields.circuit import Held, Ligands
from embryo.fields.mechanics import Mechanics
from embryo.fields.motion import Motion
from embryo.fields.posefree import Swelling, depth, radius_um
from embryo.fields.regulated import Growth
from embryo.fields.residual import FAINT
from embryo.fit import mechanics, moving
from embryo.fit.bootstrap import ORIGIN
from embryo.fit.coupled import states
from embryo.fit.flux import passages
from embryo.fit.moments import Series
from embryo.fit.snapshots import Riding
from embryo.fit.snapshots import series as snapshots

_SEARCH = mechanics.Search(  # of what few scenes of whole bodies tell; nothing but cells moves them
    spacings=(1.1, 1.2, 1.3, 1.4, 1.5), reaches=(1.4, 1.5, 1.6), walls=(0.9, 0.95, 2.0), background=False, watched=8
)


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
    origins
        Number of the embryo of which each is a copy, where some were drawn twice.
    """

    times_h: tuple[float, ...]
    states: tuple[State, ...]
    embryos: tuple[Int[Tensor, " _"], ...]
    growth: Growth
    motion: Motion
    riding: tuple[Riding, ...]
    origins: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, adata: AnnData, unit: Float[Tensor, " genes"], held: Held | None = None, like: "Tissue | None" = None,
        beside: Sequence[AnnData] = (), cycling: Sequence[int] | None = None,
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
        cycling
            Genes that may change growth; all by default.
        """
        rows, stages, crowds = _crowds(adata, unit)
        times, embryos = tuple(c.t_h for c in crowds), tuple(c.embryo for c in crowds)
        others = [_crowds(o, unit)[2] for o in beside]
        copies = _origins(adata)
        growth = moving.growth(crowds, *others, cycling=cycling, origins=copies) if like is None else like.growth
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
        return cls(times, stages, embryos, growth, motion, tuple(riding), copies)

    def series(self, unit: Float[Tensor, " genes"], ligands: Ligands, silenced: tuple[int, ...] = ()) -> Series:
        """Return levels, what each cell receives, and what rides with it; silenced genes make nothing."""
        return snapshots(self.times_h, self.states, self.embryos, self.riding, unit, ligands, silenced)

    def forces(
        self, panel: Sequence[str], may: Forces, unit: Float[Tensor, " genes"], ligands: Ligands
    ) -> Mechanics | None:
        """Return forces that explain how whole bodies change; None where embryos left out refute them."""
        own, motile = (tuple(panel.index(g) for g in names) or None for names in (may.sticky, may.motile))

        def levels(s: State) -> Tensor:
            return s.g.expm1() / unit.to(s.g)

        def received(s: State) -> tuple[Tensor, Tensor]:
            return ligands.slopes(levels(s), s.x, s.mass)

        seen = passages(self.times_h, self.states, self.embryos, lambda s: self.growth(levels(s)), self.origins)
        search = replace(_SEARCH, sticky=own and tuple((k, k) for k in own), motile=motile)
        found = mechanics.forces(seen, search, received if ligands.columns else None)
        return found.law.float() if found.sure else None


def _crowds(
    adata: AnnData, unit: Float[Tensor, " genes"]
) -> tuple[list[Int[Tensor, " _"]], tuple[State, ...], list[moving.Crowd]]:
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
    return Riding((now.clamp(min=FAINT) / held(t_h, torch.ones_like(now))).log(), now)


def _origins(adata: AnnData) -> dict[int, int]:
    """Return the number of the embryo of which each is a copy; numbers as in the crowds."""
    if ORIGIN not in adata.obs:
        return {}
    number = np.unique(_embryos(adata), return_inverse=True)[1]
    origin = np.unique(adata.obs[ORIGIN].astype(str), return_inverse=True)[1]
    return dict(zip(number.tolist(), origin.tolist(), strict=True))


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


def swelling(adata: AnnData, genes: int, dims: int) -> Swelling:
    """Return how bodies without a pose grow: through the median radius of the embryos of each stage."""
    cells, t = states(adata), adata.obs[schema.TIME].to_numpy(float)
    body = _embryos(adata)
    times, radii = np.unique(t), []
    for t_h in times:
        rows = [torch.as_tensor(np.flatnonzero((t == t_h) & (body == name))) for name in np.unique(body[t == t_h])]
        radii.append(float(np.median([float(radius_um(cells[own])) for own in rows if len(own) > 1] or [np.nan])))
    times, radii = times[np.isfinite(radii)], [r for r in radii if np.isfinite(r)]
    return Swelling.through(times.tolist(), radii, dims, genes)
