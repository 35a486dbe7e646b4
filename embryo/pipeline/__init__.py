"""A whole run: read, embed, reconstruct, couple, fit, simulate, perturb, measure, render, report.

Each stage writes what it made into the run folder and is skipped when it was already done with the same config, so a
run that was interrupted goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import anndata as ad
from anndata import AnnData

from embryo import fit
from embryo.config import Config
from embryo.core import schema, store
from embryo.core.errors import EmbryoError
from embryo.pipeline import cells, page, plan, results, rollouts
from embryo.pipeline.folder import RunFolder, contents
from embryo.pipeline.rollouts import Tick

__all__ = ["RunFolder", "run", "show", "tables"]

Work = tuple[list[str], str]
_GENES, _CELLS = "genes.h5ad", "cells.h5ad"


def run(
    config: Config,
    out: Path,
    *,
    until: str | None = None,
    tick: Tick | None = None,
    said: Callable[[str, str], None] | None = None,
) -> RunFolder:
    """Run everything that is not yet done, and leave a run folder.

    Parameters
    ----------
    config
        What to run.
    out
        The run folder; new, or one of an earlier run.
    until
        Last stage to run, such as ``couple``; all by default. A later call goes on from there.
    tick
        Called with (what, done, of) while a long stage works.
    said
        Called with (stage, summary) when a stage is done or found done.

    Returns
    -------
    RunFolder
        The finished run; its page is ``report.html``.

    Raises
    ------
    EmbryoError
        With everything that is wrong with the input, and what to do.
    """
    job = _Job(RunFolder.create(out, config), tick or (lambda *_: None))
    marks, works = plan.fingerprints(job.run), job.works()
    job.run.order = list(marks)
    try:
        for stage, mark in _first(marks, until).items():
            job.run.do(stage, mark, works[stage])
            if said is not None:
                said(stage, job.run.stages[stage]["summary"] + job.unread(stage))
    except EmbryoError:
        job.run.abandon()
        raise
    job.run.forget_others(job.run.order)
    job.run.sign()
    job.run.settle()
    return job.run


def _first(marks: dict[str, str], until: str | None) -> dict[str, str]:
    """Return the stages up to the last one of a kind (every seed of a fit)."""
    kinds = [name.partition(" ")[0] for name in marks]
    return dict(list(marks.items())[: None if until is None else len(kinds) - kinds[::-1].index(until)])


def show(path: Path) -> str:
    """Return what is in a run folder, as text.

    Raises
    ------
    StoreError
        If `path` is not a run folder.
    """
    return page.text(RunFolder.open(path))


def tables(paths: Sequence[Path]) -> str:
    """Return the tables of runs against truth as one markdown page.

    Raises
    ------
    StoreError
        If a path is not a run folder, or its tables are not made yet.
    """
    head = "# Results\n\nMade by `embryo tables RUN ... --out docs/results.md`; floors stand beside every number.\n"
    return "\n".join([head, *(page.markdown(RunFolder.open(path)) for path in paths)])


class _Job:
    """The stages of one run over its cells, which are read once."""

    def __init__(self, folder: RunFolder, tick: Tick) -> None:
        self.run, self.tick = folder, tick

    @cached_property
    def genes(self) -> AnnData:
        """All cells with their genes, as read."""
        return ad.read_h5ad(self.run.path / _GENES)

    @cached_property
    def cells(self) -> AnnData:
        """All cells with what the later stages need: obs, embedding, panel, positions, and no genes."""
        return ad.read_h5ad(self.run.path / _CELLS)

    @cached_property
    def placed(self) -> AnnData:
        """The same cells as the stages after the coupling see them."""
        return rollouts.placed(self.run, self.cells)

    @cached_property
    def pairs(self) -> fit.Pairs:
        return fit.pairs(self.placed, rollouts.couplings(self.run))

    def works(self) -> dict[str, Callable[[], Work]]:
        """Return what each stage does, in the order of `plan.stages`."""
        run = self.run
        fits = zip(plan.fits(run.config), rollouts.seeds(run.config), strict=True)
        return {
            "read": self._read,
            "embed": self._embed,
            "reconstruct": self._reconstruct,
            "couple": lambda: rollouts.couple_all(run, self.cells),
            **{name: partial(self._fit, seed) for name, seed in fits},
            "simulate": lambda: self._roll("control"),
            "perturb": lambda: self._roll("edited"),
            "measure": lambda: results.measure_all(run, self.placed),
            "render": lambda: results.render_all(run, self.placed),
            "report": lambda: page.report(run, self.placed),
        }

    def unread(self, stage: str) -> str:
        """Say so where the source of a finished stage is no longer there."""
        c = self.run.config
        source = {"read": c.read.path, "embed": c.embed.weights}.get(stage)
        return f" ({source.name} is no longer there: kept as it was)" if source and not source.exists() else ""

    def _keep(self, adata: AnnData, name: str) -> str:
        with store.atomic(self.run.path / name) as partial:
            adata.write_h5ad(partial, compression="gzip", compression_opts=1)
        return name

    def _read(self) -> Work:
        adata = self.genes = cells.load(self.run.config)
        self._keep(adata, _GENES)
        meta = adata.uns.get(schema.META, {})
        digest = contents(self.run.config.read.path)
        self.run.used("read", digest)
        digest = digest or meta.get("digest", "made here")
        self.run.sign({str(meta.get("dataset", "file")): str(digest)})
        parts = ", ".join(f"{len(cells.embryos(adata, p))} {p}" for p in (cells.TRAIN, cells.HELD_OUT, cells.EDITED))
        times = adata.obs[schema.TIME].nunique()
        return [_GENES], f"{adata.n_obs:,} cells, {adata.n_vars:,} genes, {times} times; embryos: {parts}"

    def _embed(self) -> Work:
        summary = cells.embed_all(self.genes, self.run.config, self.run.path / "encoder.safetensors")
        self.run.used("embed", contents(self.run.config.embed.weights))
        self.cells = cells.without_genes(self.genes)
        fitted = [] if self.run.config.embed.encoder == "precomputed" else ["encoder.safetensors"]
        return [self._keep(self.cells, _CELLS), *fitted], summary

    def _reconstruct(self) -> Work:
        summary = cells.align(self.cells, self.run.config) + cells.levels(self.cells, self.run.config)
        return [self._keep(self.cells, _CELLS)], summary

    def _fit(self, seed: int) -> Work:
        return rollouts.fit_one(self.run, self.placed, lambda: self.pairs, seed, self.tick)

    def _roll(self, arm: str) -> Work:
        edits = self.run.config.perturb.records() if arm == rollouts.EDITED else ()
        return rollouts.roll(self.run, self.placed, arm, edits, self.tick)
