"""The first three stages of a run: cells read and checked, embedded, put into one body frame."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import anndata as ad
import numpy as np
from anndata import AnnData
from pydantic import Field
from scipy import sparse

from embryo import config as configs
from embryo import datasets, embed, encoders, fit, read, reconstruct
from embryo.config import Config, Embed, Read, Section
from embryo.core import schema
from embryo.core.errors import ConfigError, Problem
from embryo.core.schema import Needs
from embryo.pipeline import boards, chosen

SPLIT = "split"  # obs: which part an embryo plays
TRAIN, HELD_OUT, EDITED = "train", "held-out", "edited"
_Dials = TypeVar("_Dials")
_SHRUNK = "shrunk"  # in META: how levels were shrunk
_OTHER_EMBRYOS = 1_000_003  # seeds of edited embryos are not those of wild-type ones


class Demo(Section):
    """What `read.params` may say of the synthetic embryos.

    Parameters
    ----------
    n_embryos, n_edited
        Wild-type embryos, and embryos that truly carry the run's edits.
    times_h
        When they are seen, hours; by default from when there is a pattern to see.
    measurement, params
        Dials of `embryo.datasets.synthetic.Measurement` and `Params`.
    """

    n_embryos: int = Field(6, ge=1)
    n_edited: int = Field(3, ge=0)
    times_h: tuple[float, ...] = (4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0)
    measurement: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)


def load(config: Config) -> AnnData:
    """Read the cells that the config names, check them, and say which part each embryo plays.

    Returns
    -------
    AnnData
        With ``obs["split"]``: ``train`` is fitted on, ``held-out`` is predicted, ``edited`` embryos truly carry an edit
        and are only compared with.

    Raises
    ------
    EmbryoError
        If the source is unknown, absent or broken, or no embryo is left to fit on.
    """
    adata = _source(config)
    adata = window(adata, config.read)
    schema.require(adata, Needs(times=2), subject=config.read.dataset or str(config.read.path))
    if schema.EMBRYO not in adata.obs:
        adata.obs[schema.EMBRYO] = "embryo"
    if schema.PERTURBATION not in adata.obs:
        adata.obs[schema.PERTURBATION] = ""
    adata.obs[SPLIT] = _parts(adata, config)
    _require_kept_apart(adata)
    learned(adata, config)
    return adata


def _source(config: Config) -> AnnData:
    r = config.read
    if r.path is not None:
        return read.auto(r.path, boards.keys(r))
    if r.dataset == "synthetic":
        return _synthetic(config)
    if r.dataset is None:
        raise ConfigError(
            Problem(
                "neither read.dataset nor read.path", "a source of cells", "name a dataset (embryo data list) or a file"
            )
        )
    return datasets.load(r.dataset, **_with_split(config))


def _with_split(config: Config) -> dict[str, Any]:
    """Return the converter's parameters; one that assembles across embryos is told what it must not know."""
    params, start = dict(config.read.params), config.split.start_h
    if config.read.dataset == "celegans-epic":
        known = {"held_out": config.split.hold_out, "synchronise_until_h": np.inf if start is None else start}
        params = {**known, **params}
    return params


def _require_kept_apart(adata: AnnData) -> None:
    """Raise `ConfigError` where vectors assembled across embryos know an embryo that is to be predicted."""
    meta = adata.uns.get(schema.META, {})
    if not meta.get("assembled"):
        return
    known = [e for e in embryos(adata, HELD_OUT) if e not in set(map(str, meta.get("held_out", [])))]
    if known:
        raise ConfigError(
            Problem(
                f"gene vectors assembled with held-out embryos: {', '.join(known)}",
                "vectors assembled from other embryos only",
                "name the same embryos in read.params.held_out and split.hold_out, or leave the first out",
            ),
            subject="split",
        )


def _synthetic(config: Config) -> AnnData:
    """Return wild-type embryos and, with other seeds, embryos that truly carry the edits: truth, never fitted on."""
    from embryo.datasets import synthetic  # noqa: PLC0415  only this source needs it

    given = configs.section(Demo, config.read.params, subject="read.params")
    _parts_of_wild([f"wt-{k}" for k in range(given.n_embryos)], config)  # before minutes are spent
    dials = _dials(synthetic.Measurement, given.measurement, "read.params.measurement")
    params = _dials(synthetic.Params, given.params, "read.params.params")
    common: dict[str, Any] = {"times_h": given.times_h, "params": params, "measurement": dials}
    wild = synthetic.generate(n_embryos=given.n_embryos, seed=config.seed, **common)
    edits = config.perturb.records()
    if not edits or not given.n_edited:
        return wild
    seed = config.seed + _OTHER_EMBRYOS
    edited = synthetic.generate(n_embryos=given.n_edited, seed=seed, edits=edits, **common)
    both: AnnData = ad.concat([wild, edited], merge="same", uns_merge="first", index_unique=None)
    return both


def _dials(kind: type[_Dials], given: Mapping[str, Any], subject: str) -> _Dials:
    """Return the record of this kind; unknown dials are named with the known ones."""
    known = [f.name for f in fields(cast("Any", kind))]
    problems = [
        Problem(f"unknown dial {name!r}", f"one of: {', '.join(known)}", "remove or rename it")
        for name in given
        if name not in known
    ]
    if problems:
        raise ConfigError(*problems, subject=subject)
    try:
        return kind(**given)
    except TypeError as error:
        cure = "give numbers where numbers are due"
        raise ConfigError(
            Problem(f"a dial of the wrong kind ({error})", "see --help", cure), subject=subject
        ) from error


def window(adata: AnnData, r: Read) -> AnnData:
    """Return the cells of the times that a section keeps."""
    t = adata.obs[schema.TIME].to_numpy(float)
    keep = np.ones(len(t), bool)
    if r.start_h is not None:
        keep &= t >= r.start_h - 1e-9
    if r.end_h is not None:
        keep &= t <= r.end_h + 1e-9
    if r.every_h is not None:
        steps = t / r.every_h
        keep &= np.abs(steps - np.round(steps)) < 1e-6
    return adata if keep.all() else adata[keep].copy()


def _parts(adata: AnnData, config: Config) -> np.ndarray:
    embryo = adata.obs[schema.EMBRYO].astype(str).to_numpy()
    edited = (adata.obs[schema.PERTURBATION].astype(str) != "").to_numpy()
    held = _parts_of_wild(sorted(set(embryo[~edited])), config)
    return np.where(edited, EDITED, np.where(np.isin(embryo, held), HELD_OUT, TRAIN))


def _parts_of_wild(wild: list[str], config: Config) -> list[str]:
    """Return the wild-type embryos that are held out; none where there is only one embryo."""
    wanted = config.split.hold_out
    held = wild[len(wild) - wanted :] if isinstance(wanted, int) else list(wanted)
    problems = [
        Problem(f"split.hold_out names {name!r}", f"one of the {len(wild)} wild-type embryos", "check the name")
        for name in held
        if name not in wild
    ]
    too_many = isinstance(wanted, int) and wanted >= len(wild) > 1
    if not problems and len(wild) > 1 and (too_many or len(held) >= len(wild)):
        found = f"{max(len(held), wanted if isinstance(wanted, int) else 0)} of {len(wild)} embryos held out"
        problems.append(Problem(found, "at least one to fit on", "hold out fewer (split.hold_out)"))
    if problems:
        raise ConfigError(*problems, subject="split")
    return [] if len(wild) == 1 else held


def embryos(adata: AnnData, part: str) -> list[str]:
    """Return the names of the embryos that play a part."""
    return sorted(adata.obs.loc[adata.obs[SPLIT] == part, schema.EMBRYO].astype(str).unique())


def embed_all(adata: AnnData, config: Config, path: Path) -> str:
    """Fit the encoder on training cells, embed every cell, write the panel; returns a one-line summary."""
    e = config.embed
    train = adata[(adata.obs[SPLIT] == TRAIN).to_numpy()].copy()
    genes = panel(train, config)
    if e.encoder == "precomputed":
        what = chosen.precomputed(adata, e)
    else:
        encoder = chosen.fitted(e, train, seed=config.seed, spare=int(e.encoder != "hvg"))
        embed.cells(adata, encoder)
        encoder.response(genes)  # of a pretrained network it is computed now, while the weights are at hand
        encoders.save(encoder, path)
        what = chosen.described(encoder, train.n_obs)
    train.obsm[schema.EMBED] = np.asarray(adata.obsm[schema.EMBED])[(adata.obs[SPLIT] == TRAIN).to_numpy()]
    embed.panel(adata, genes, steady=embed.steady(train, seed=config.seed) if shrinks(config) else ())
    _velocities(adata, genes, e)
    if config.render.colour not in (schema.CELL_TYPE, *genes):
        raise ConfigError(
            Problem(
                f"render.colour = {config.render.colour!r}", f"{schema.CELL_TYPE} or a panel gene", "name one of these"
            )
        )
    return f"{what}; panel of {len(genes)} genes"


def _velocities(adata: AnnData, genes: Sequence[str], e: Embed) -> None:
    """Write velocities of the panel from the layer, or check those that the file brings."""
    layer, slot = f"layers[{schema.VELOCITY_LAYER!r}]", f"obsm[{schema.VELOCITY!r}]"
    if e.velocity_per_h is None:
        if schema.VELOCITY in adata.obsm and e.panel == "auto":
            problem = Problem(f"{slot} and embed.panel = auto", "columns as the panel", "list the genes in embed.panel")
            raise ConfigError(problem, subject="velocities")
        return
    if schema.VELOCITY_LAYER not in adata.layers:
        found = f"embed.velocity_per_h without {layer} (layers: {', '.join(adata.layers) or 'none'})"
        raise ConfigError(Problem(found, "d/dt of every count there", "compute it (scVelo), or remove the key"))
    columns = adata.layers[schema.VELOCITY_LAYER][:, adata.var_names.get_indexer(list(genes))]
    dense = columns.toarray() if sparse.issparse(columns) else columns
    adata.obsm[schema.VELOCITY] = e.velocity_per_h * np.asarray(dense, dtype=np.float64)


def without_genes(adata: AnnData) -> AnnData:
    """Return the cells with all that is said about them, but without their expression matrix."""
    kept = {key: adata.obsm[key] for key in adata.obsm}
    return AnnData(obs=adata.obs.copy(), obsm=kept, uns={**adata.uns, "n_genes": adata.n_vars})


def panel(train: AnnData, config: Config) -> list[str]:
    """Return the panel's genes: those of the config, of the data, or the most variable ones; every edited gene too."""
    e = config.embed
    meta: dict[str, Any] = train.uns.get(schema.META, {})
    if e.panel != "auto":
        genes: Sequence[str] = e.panel
    elif "circuit_genes" in meta:
        genes = [str(g) for g in meta["circuit_genes"]]
    elif train.n_vars <= e.panel_size:
        genes = list(train.var_names)
    else:
        genes = encoders.build("hvg", dims=e.panel_size, seed=config.seed).fit(train).genes
    edited = [gene for edit in config.perturb.records() for gene in edit.genes]
    return list(dict.fromkeys([*genes, *edited]))


def align(adata: AnnData, config: Config) -> str:
    """Put every embryo into one body frame; of held-out and edited embryos only what is known at the start is used.

    Fixed embryos of later stages are laid by their own first stage: they are no starts, but what others are held
    against or, where a run names them, learned from.
    """
    if schema.SPATIAL not in adata.obsm:
        return "no positions in the data: nothing to align"
    if not config.fit.posed:
        reconstruct.centred(adata)
        return "embryos stay as they lie, each about its centroid (fit.posed is false)"
    start = start_h(adata, config)
    first = adata.obs[schema.TIME].groupby(adata.obs[schema.EMBRYO].astype(str)).min()
    known = {e: max(start, float(first[e])) for part in (HELD_OUT, EDITED) for e in embryos(adata, part)}
    reference = embryos(adata, TRAIN)[0]
    reconstruct.body_frame(adata, reference=reference, until_h=known)
    return f"{len(embryos(adata, TRAIN)) + len(known)} embryos in the body frame of {reference}, proper rotations only"


def shrinks(config: Config) -> bool:
    """Return whether a run shrinks the levels of counted cells."""
    wanted = config.embed.shrink
    return config.fit.structure.startswith("circuit") if wanted == "auto" else wanted


def levels(adata: AnnData, config: Config) -> str:
    """Shrink the panel of counted cells; what was measured stays in ``obsm["X_panel_measured"]``.

    How is chosen on training embryos. These lend each other cells where they lie in one pose; every other embryo has
    only its own.
    """
    adata.obsm[schema.PANEL] = adata.obsm.pop(schema.MEASURED, adata.obsm[schema.PANEL])
    meta = adata.uns[schema.META] = {k: v for k, v in schema.meta(adata).items() if k != _SHRUNK}
    able = schema.PER_LEVEL in adata.obs and schema.ALIGNED in adata.obsm
    if not shrinks(config) or (config.embed.shrink == "auto" and not able):
        return ""
    train = (adata.obs[SPLIT] == TRAIN).to_numpy()
    names = adata.obs[schema.EMBRYO].astype(str).to_numpy()
    groups = np.where(train, "", names) if config.fit.posed else names
    how = fit.Shrinkage.of(adata[train], groups[train].tolist(), seed=config.seed)
    adata.obsm[schema.MEASURED], adata.obsm[schema.PANEL] = adata.obsm[schema.PANEL], how.panel(adata, groups.tolist())
    meta[_SHRUNK] = how.to_dict()
    return f"; levels shrunk towards {how.neighbours} cells around, {how.excess:.2f} noise beyond counting"


def levels_like(adata: AnnData, new: AnnData) -> None:
    """Shrink the panel of new counted cells, embryo by embryo, as that of the run's cells was."""
    kept = schema.meta(adata).get(_SHRUNK)
    if kept is not None and schema.PER_LEVEL in new.obs:
        how = fit.Shrinkage.from_dict(kept)
        names = new.obs[schema.EMBRYO] if schema.EMBRYO in new.obs else new.obs[schema.TIME]
        new.obsm[schema.MEASURED] = new.obsm[schema.PANEL]
        new.obsm[schema.PANEL] = how.panel(new, names.astype(str).tolist())


def learned(adata: AnnData, config: Config) -> dict[str, AnnData]:
    """Return the measured edits that circuits learn from, by label.

    Raises
    ------
    ConfigError
        Naming every label that no embryo carries, and those that are seen at one stage only.
    """
    carried = adata.obs[schema.PERTURBATION].astype(str).to_numpy()
    known = sorted(set(carried) - {""})
    problems = [
        Problem(f"fit.knockouts names {label!r}", f"a label of the data ({', '.join(known) or 'none'})", "correct it")
        for label in config.fit.knockouts
        if label not in known
    ]
    for label in config.fit.knockouts:
        times = np.unique(adata.obs[schema.TIME].to_numpy(float)[carried == label])
        if len(times) == 1:
            found = f"fit.knockouts names {label!r}, which is seen at {times[0]:g} h only"
            problems.append(Problem(found, "two stages or more", "leave it out"))
    if problems:
        raise ConfigError(*problems, subject="fit.knockouts")
    return {label: adata[carried == label].copy() for label in config.fit.knockouts}


def start_h(adata: AnnData, config: Config) -> float:
    """Return the time at which roll-outs start, hours."""
    if config.split.start_h is not None:
        return config.split.start_h
    return float(adata.obs[schema.TIME].min())
