"""What it costs a cell to become another: squared distances of scaled features, and penalties of types."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from embryo.blocks import neighbours
from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.frame import Rigid
from embryo.couple.options import Niche, Transitions, Transport

_ANY = "*"


@dataclass(frozen=True, eq=False)
class Populations:
    """Two populations as features whose squared distances add up to the cost.

    Parameters
    ----------
    body
        Expression and niche of sources and of targets, scaled: what does not turn with the frame.
    space
        Positions of both, µm; no columns where space has no share.
    scale
        Factor from µm to units of the cost.
    """

    body: tuple[Float[np.ndarray, "sources dims"], Float[np.ndarray, "targets dims"]]
    space: tuple[Float[np.ndarray, "sources space"], Float[np.ndarray, "targets space"]]
    scale: float

    def features(self) -> tuple[Float[np.ndarray, "sources dims"], Float[np.ndarray, "targets dims"]]:
        """Return scaled features whose squared distance is the cost; its mean over all pairs is 1."""
        a, b = (np.hstack([u, self.scale * x]) for u, x in zip(self.body, self.space, strict=True))
        return a, b

    def moved(self, motion: Rigid) -> "Populations":
        """Return the populations with the targets moved."""
        return replace(self, space=(self.space[0], motion(self.space[1])))

    def some(self, i: Int[np.ndarray, " some"], j: Int[np.ndarray, " others"]) -> "Populations":
        """Return chosen sources and targets, on the same scale."""
        (u, v), (x, y) = self.body, self.space
        return Populations((u[i], v[j]), (x[i], y[j]), self.scale)


def populations(
    adata: AnnData, sources: Int[np.ndarray, " sources"], targets: Int[np.ndarray, " targets"], options: Transport
) -> Populations:
    """Return the features of two populations, each block scaled to its share of the cost.

    Parameters
    ----------
    adata
        Data with ``obsm["X_embed"]`` and, where there is space, ``obsm["spatial_aligned"]``.
    sources, targets
        Row numbers.
    options
        Shares. Where frames differ (``align``, ``fgw``) the scale of space is that of both populations about their own
        centroids, which no motion changes.
    """
    niche = options.niche
    z = np.asarray(adata.obsm[schema.EMBED], float)
    there = schema.SPATIAL in adata.obsm and options.space_weight > 0
    x = np.asarray(adata.obsm[schema.ALIGNED], float) if there else np.zeros((adata.n_obs, 0))
    near = niche.weight if niche is not None else 0.0
    shares = (1 - near) * (1 - options.space_weight if there else 1.0), (1 - near) * options.space_weight
    blocks = [(z[sources], z[targets], shares[0])]
    if niche is not None:
        around = surroundings(adata, np.concatenate([sources, targets]), niche)
        blocks.append((around[: len(sources)], around[len(sources) :], near))
    scaled = [(a * f, b * f) for a, b, share in blocks for f in [_factor(share, a, b)]]
    body = tuple(np.hstack(part) for part in zip(*scaled, strict=True))
    a, b = x[sources], x[targets]
    own = (a - a.mean(axis=0), b - b.mean(axis=0)) if options.align != "no" or options.solver == "fgw" else (a, b)
    return Populations((body[0], body[1]), (a, b), _factor(shares[1], *own))


def mean_square(a: Float[np.ndarray, "sources dims"], b: Float[np.ndarray, "targets dims"]) -> float:
    """Return the mean squared distance over all pairs, without forming them."""
    centre = a.mean(axis=0)
    a, b = a - centre, b - centre
    mean = (a**2).sum(axis=1).mean() + (b**2).sum(axis=1).mean() - 2 * a.mean(axis=0) @ b.mean(axis=0)
    return max(float(mean), 0.0)


def _factor(share: float, a: np.ndarray, b: np.ndarray) -> float:
    """Return what scales both so that their mean squared distance is `share`; 0 where all are alike."""
    mean = mean_square(a, b)
    return float(np.sqrt(share / mean)) if mean > 0 else 0.0


def squares(
    a: Float[np.ndarray, "sources dims"], b: Float[np.ndarray, "targets dims"]
) -> Float[np.ndarray, "sources targets"]:
    """Return the squared distance of every pair."""
    return np.asarray(cdist(a, b, "sqeuclidean"))


def penalties(
    adata: AnnData,
    sources: Int[np.ndarray, " sources"],
    targets: Int[np.ndarray, " targets"],
    transitions: Transitions,
) -> Float[np.ndarray, "sources targets"]:
    """Return what the types of every pair add to its cost; infinite where the transition is forbidden.

    Raises
    ------
    SchemaError
        If the data have no types, a type is named that no cell has, or a penalty is negative or NaN.
    """
    problems = []
    if schema.CELL_TYPE not in adata.obs:
        cure = "name the column (read.keys.cell_type), or drop the transitions"
        raise SchemaError(Problem("transitions between types, without types", "a type per cell", cure))
    kinds, code = np.unique(adata.obs[schema.CELL_TYPE].astype(str).to_numpy(), return_inverse=True)
    unknown = sorted({k for row in (transitions, *transitions.values()) for k in row} - {*kinds, _ANY})
    if unknown:
        found = f"transitions of the types {', '.join(unknown)}"
        problems.append(Problem(found, f"some of {', '.join(kinds)}, or *", "correct the names"))
    values = [v for row in transitions.values() for v in row.values()]
    if not all(v >= 0 for v in values):
        problems.append(Problem("negative or NaN penalties of transitions", "0 or more, or .inf", "correct them"))
    if problems:
        raise SchemaError(*problems, subject="couple.transitions")
    table = np.zeros((len(kinds), len(kinds)))
    for p, mother in enumerate(kinds):
        row = transitions.get(mother, transitions.get(_ANY, {}))
        table[p] = [row.get(kind, row.get(_ANY, 0.0)) for kind in kinds]
    return np.asarray(table[np.ix_(code[sources], code[targets])])


def surroundings(adata: AnnData, rows: Int[np.ndarray, " cells"], niche: Niche) -> Float[np.ndarray, "cells features"]:
    """Return what surrounds each of `rows`: the mean of a feature over its nearest cells of the same embryo and time.

    Raises
    ------
    SchemaError
        If the data lack what the niche reads: positions, types, panel genes or the user's slot.
    """
    if niche.of not in ("types", "z", "signals"):
        if niche.of not in adata.obsm:
            cure = "write it, or choose types, z or signals"
            raise SchemaError(Problem(f"no obsm[{niche.of!r}]", "features of a niche", cure), subject="couple.niche")
        return np.asarray(np.asarray(adata.obsm[niche.of], float).reshape(adata.n_obs, -1)[rows])
    if schema.ALIGNED not in adata.obsm:
        cure = "drop the niche, or give positions"
        raise SchemaError(Problem("no positions", "positions of cells", cure), subject="couple.niche")
    sent, own = _read(adata, niche)
    around = np.zeros((adata.n_obs, sent.shape[1]))
    t = adata.obs[schema.TIME].to_numpy(float)
    embryo = adata.obs[schema.EMBRYO].astype(str).to_numpy() if schema.EMBRYO in adata.obs else np.zeros(len(t), str)
    keys = set(zip(embryo[rows], t[rows], strict=True))
    for name, time in sorted(keys):
        body = np.flatnonzero((embryo == name) & (t == time))
        if len(body) < 2:
            continue
        x = torch.as_tensor(np.asarray(adata.obsm[schema.ALIGNED], float)[body])
        around[body] = sent[body][neighbours.nearest(x, niche.neighbours).rows.numpy()].mean(axis=1)
    return np.asarray(around[rows] if own is None else np.sqrt(around[rows] * own[rows]))


def _read(adata: AnnData, niche: Niche) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what neighbours send and, for signals, what the cell itself receives it with."""
    if niche.of == "z":
        return np.asarray(adata.obsm[schema.EMBED], float), None
    if niche.of == "types":
        if schema.CELL_TYPE not in adata.obs:
            cure = "name the column (read.keys.cell_type), or choose z"
            raise SchemaError(Problem("no types of cells", "a type per cell", cure), subject="couple.niche")
        kinds, code = np.unique(adata.obs[schema.CELL_TYPE].astype(str).to_numpy(), return_inverse=True)
        return np.eye(len(kinds))[code], None
    panel = [str(g) for g in adata.uns.get(schema.META, {}).get("panel", [])]
    absent = sorted({g for pair in niche.pairs for g in pair} - set(panel))
    if absent or not niche.pairs:
        found = f"signals of {', '.join(absent) or 'no pair'}"
        cure = "add them to the panel (embed.panel), or correct couple.niche.pairs"
        raise SchemaError(Problem(found, "pairs of panel genes", cure), subject="couple.niche")
    g = np.clip(np.asarray(adata.obsm[schema.PANEL], float), 0, None)
    ligand, receptor = (g[:, [panel.index(pair[k]) for pair in niche.pairs]] for k in (0, 1))
    return ligand, receptor
