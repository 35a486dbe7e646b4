"""Synthetic embryos of a board of knock-outs: simulated, measured, and blinded for those who predict."""

from collections.abc import Mapping, Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo.core import schema
from embryo.core.edit import Edit
from embryo.datasets import synthetic
from embryo.datasets.synthetic.measurement import TRUTH_G, TRUTH_POSE, TRUTH_X, VELOCITY_PANEL
from embryo.pipeline.knockoutdials import SyntheticBoard
from embryo.pipeline.rollouts import Tick

_SEED = {"wild": 0, "training": 1, "truth": 2, "law": 3}
_MATERNAL = 3
_MISSING, _FALSE = 0.3, 40  # of a wrong prior
_EXACT = {"counts_per_unit": 1000.0, "dispersion": 1e-6, "dropout": 0.0, "size_sd": 0.0, "batch_sd": 0.0}


def simulated(board: SyntheticBoard, seed: int, seeds: int, tick: Tick) -> dict[str, AnnData]:
    """Return measured embryos: ``train`` (all stages), ``truth`` and ``law`` (knock-outs at the end, other seeds)."""
    stages = [float(t) for t in np.round(np.arange(board.start_h, board.end_h + 1e-9, board.spacing_h), 9)]
    last = [stages[-1]]
    jobs: list[tuple[str, tuple[Edit, ...], int, list[float]]] = [("wild", (), board.n_embryos, stages)]
    jobs += [("training", (Edit(g),), max(2, board.n_embryos // 2), stages) for g in board.training_knockouts]
    jobs += [("truth", edits, board.n_truth, last) for edits in ((), *((Edit(g),) for g in board.edits))]
    jobs += [("law", (Edit(g),), seeds, last) for g in board.edits]
    parts: dict[str, list[AnnData]] = {"train": [], "truth": [], "law": []}
    for k, (kind, edits, n, times) in enumerate(jobs):
        made = _embryos(board, (seed, _SEED[kind]), edits, n, times)  # one kind, one set of founders: edits are paired
        parts["train" if kind in ("wild", "training") else kind].append(made)
        tick(f"{board.name}: simulated embryos", k + 1, len(jobs))
    joined = {name: ad.concat(p, merge="same", uns_merge="first", index_unique=None) for name, p in parts.items()}
    train = joined["train"]
    wild = train.obs[(train.obs[schema.PERTURBATION].astype(str) == "").to_numpy()]
    groups = wild.groupby(schema.TIME, observed=True)[schema.EMBRYO]
    numbers = {f"{t:g}": float(n) for t, n in (groups.size() / groups.nunique()).items()}
    joined["train"] = _thinned(train, board.max_cells, seed)
    joined["train"].uns["numbers"] = numbers
    return joined


def _embryos(
    board: SyntheticBoard, seed: tuple[int, int], edits: tuple[Edit, ...], n: int, times: Sequence[float]
) -> AnnData:
    still: dict[str, Any] = {"mechanics": None, "growth": None} if board.static else {}
    alike = seed[1] in (_SEED["truth"], _SEED["law"])
    doses = synthetic.Maternal(dose_sd=board.truth_dose_sd if alike else board.dose_sd)
    params = synthetic.Params(n_cells=board.n_cells, maternal=doses, **still)
    label = " + ".join(e.label for e in edits) or "wt"
    own = np.random.SeedSequence(seed).generate_state(n * (len(times) if board.destructive else 1))
    schedule = [times[k % len(times) : k % len(times) + 1] if board.destructive else times for k in range(len(own))]
    found = {
        f"{label}-{_kind(seed)}{k}": synthetic.simulate(params, seed=int(s), edits=edits, times_h=when)
        for k, (s, when) in enumerate(zip(own, schedule, strict=True))
    }
    exact: dict[str, Any] = _EXACT if board.counts_per_unit is None else {"counts_per_unit": board.counts_per_unit}
    dials = synthetic.Measurement(
        n_genes=board.n_genes, hidden=tuple(board.hidden), random_pose=False, velocity=board.velocity, **exact
    )
    adata = synthetic.observe(found, dials, seed=seed[0] * len(_SEED) + seed[1])
    adata.obsm[schema.INPUTS] = _inputs(adata, found)
    return adata


def _kind(seed: tuple[int, int]) -> str:
    return "" if seed[1] < 2 else "t" if seed[1] == 2 else "o"


def _inputs(adata: AnnData, embryos: Mapping[str, synthetic.Embryo]) -> Float[np.ndarray, "cells inputs"]:
    """Return the maternal gradients of each measured cell, found by its true place."""
    out = np.zeros((adata.n_obs, _MATERNAL))
    names, times = adata.obs[schema.EMBRYO].astype(str).to_numpy(), adata.obs[schema.TIME].to_numpy(float)
    place = np.asarray(adata.obsm[TRUTH_X])
    for name, embryo in embryos.items():
        for snapshot in embryo.snapshots:
            rows = np.flatnonzero((names == name) & (times == snapshot.t_h))
            if len(rows):
                order = np.empty(len(rows), dtype=np.int64)
                order[np.argsort(place[rows, 0], kind="stable")] = np.argsort(snapshot.x[:, 0], kind="stable")
                out[rows] = snapshot.inputs[order, :_MATERNAL]
    return out


def _thinned(adata: AnnData, most: int, seed: int) -> AnnData:
    rng = np.random.default_rng(seed)
    groups = adata.obs.reset_index().groupby([schema.EMBRYO, schema.TIME], observed=True).indices
    mass = np.ones(adata.n_obs)
    for r in groups.values():
        mass[r] = max(1.0, len(r) / most)
    adata.obs[schema.MASS] = mass
    rows = [r if len(r) <= most else rng.choice(r, most, replace=False) for r in groups.values()]
    return adata[np.sort(np.concatenate(rows))].copy()


def embed_levels(parts: Mapping[str, AnnData], genes: Sequence[str], dims: int, seed: int) -> Tensor:
    """Write g as log1p of true levels and z as its principal components over training cells; returns dz/dg."""
    from sklearn.decomposition import PCA  # noqa: PLC0415  slow to import

    columns = [synthetic.PANEL.index(g) for g in genes]
    levels = {name: np.log1p(np.asarray(p.obsm[TRUTH_G])[:, columns]).astype(np.float32) for name, p in parts.items()}
    model = PCA(min(dims, len(genes)), random_state=seed).fit(levels["train"])
    for name, part in parts.items():
        part.obsm[schema.PANEL] = levels[name]
        part.obsm[schema.EMBED] = model.transform(levels[name]).astype(np.float32)
        part.uns[schema.META] = {**schema.meta(part), "panel": list(genes)}
    return torch.as_tensor(model.components_.T.copy(), dtype=torch.float32)


def blinded(adata: AnnData, *, inputs: bool) -> AnnData:
    """Return training cells without any truth; velocities of genes are brought to levels of the panel."""
    adata = adata.copy()
    if VELOCITY_PANEL in adata.obsm:
        genes = [synthetic.PANEL.index(str(g)) for g in schema.meta(adata)["panel"]]
        level, true = np.expm1(np.asarray(adata.obsm[schema.PANEL], float)), np.asarray(adata.obsm[TRUTH_G])[:, genes]
        scale = level.sum(axis=0) / np.maximum(true.sum(axis=0), 1e-9)
        adata.obsm[schema.VELOCITY] = np.asarray(adata.obsm[VELOCITY_PANEL]) * scale
    for slot in [key for key in adata.obsm if key.startswith("truth_")]:
        del adata.obsm[slot]
    adata.uns.pop(TRUTH_POSE, None)
    if not inputs:
        del adata.obsm[schema.INPUTS]
    return adata


def maternal(x_um: Float[np.ndarray, "cells 3"], t_h: float) -> Float[np.ndarray, "cells inputs"]:
    """Return the three maternal gradients at dose 1 of cells that were at `x_um` at the start."""
    params = synthetic.Params()
    return params.maternal.levels(x_um, params.semi_axes_um, t_h)


def prior(kind: str, seed: int) -> pd.DataFrame | None:
    """Return a table of edges: the true ones, or with 30 % missing and 40 false ones; inputs may be sources.

    Raises
    ------
    KeyError
        Never for the kinds ``none``, ``true`` and ``wrong``.
    """
    if kind == "none":
        return None
    edges = [(s, t, float(np.sign(w))) for t, (_, sources) in synthetic.EDGES.items() for s, w in sources.items()]
    if kind == "wrong":
        rng = np.random.default_rng(seed)
        known = {(s, t) for s, t, _ in edges}
        kept = rng.permutation(len(edges))[round(_MISSING * len(edges)) :]
        free = [(s, t) for s in synthetic.PANEL for t in synthetic.PANEL if (s, t) not in known]
        false = [free[i] for i in rng.choice(len(free), _FALSE, replace=False)]
        edges = [edges[i] for i in sorted(kept)] + [(s, t, float(rng.choice([-1, 1]))) for s, t in false]
    return pd.DataFrame(edges, columns=["source", "target", "sign"])
