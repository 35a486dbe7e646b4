"""New cells prepared with what a run has fitted: its encoder, its panel, its body frame."""

from pathlib import Path

import numpy as np
from anndata import AnnData

from embryo import embed, encoders, read
from embryo.core import schema
from embryo.core.errors import EmbryoError, Problem, SchemaError, StoreError
from embryo.pipeline import boards, frames, plan
from embryo.pipeline import cells as cells_of_run
from embryo.pipeline.folder import RunFolder


def cells(run: RunFolder, adata: AnnData, file: Path) -> AnnData:
    """Read new cells and put them where the fields of a run expect them.

    Parameters
    ----------
    run
        A run whose fields are fitted.
    adata
        Cells of the run, in its body frame.
    file
        The new cells: one time, of any number of embryos, with the genes that the run's encoder and panel need.

    Returns
    -------
    AnnData
        With ``X_embed``, ``X_panel`` and, where the run has space, ``spatial_aligned``.

    Raises
    ------
    SchemaError
        If the cells are of several times, or lack genes or positions that the run has.
    """
    return prepared(run, adata, read.auto(file, boards.keys(run.config.read), needs=schema.SNAPSHOT), file)


def prepared(run: RunFolder, adata: AnnData, new: AnnData, file: Path) -> AnnData:
    """Put cells of one time that were read from `file` where the fields of a run expect them; see `cells`."""
    _require_like(adata, new, file)
    if run.config.embed.encoder == "precomputed":
        embed.latent(new, run.config.embed.slot)
    else:
        embed.cells(new, encoders.load(run.path / "encoder.safetensors"))
    meta = schema.meta(adata)
    embed.panel(new, [str(g) for g in meta["panel"]], steady=[str(g) for g in meta.get("steady", ())])
    if schema.SPATIAL in adata.obsm:
        frames.lay_on(adata, new, named=not schema.meta(new).get(schema.NAMELESS, False))
        cells_of_run.levels_like(adata, new)
    return new


def require_fitted(run: RunFolder) -> None:
    """Raise `StoreError` unless a run has a field of every seed, fitted with its config as it is now."""
    marks, wanted = plan.fingerprints(run, as_used=True), plan.fits(run.config)
    stages = ["reconstruct", "couple", *wanted]
    missing = [name for name in stages if not run.done(name, marks[name])]
    if not missing:
        return
    found = f"a run whose {', '.join(missing)} are not done with its config as it is now"
    if not any(name in run.stages for name in wanted):
        found = f"a run without a fitted field ({', '.join(run.stages) or 'no stage done'})"
    raise StoreError(Problem(found, "a field of every seed", f"embryo fit {run.path}"), subject="run folder")


def require_finite(end_h: float, subject: str) -> None:
    """Raise `EmbryoError` where the end of a roll-out is no time."""
    if not np.isfinite(end_h):
        raise EmbryoError(Problem(f"--until-h {end_h:g}", "a time in hours", "give a number"), subject=subject)


def _require_like(adata: AnnData, new: AnnData, file: Path) -> None:
    problems = []
    times = np.unique(new.obs[schema.TIME].to_numpy(float))
    if len(times) != 1:
        found = f"{len(times)} times ({', '.join(f'{t:g}' for t in times[:6])} h)"
        problems.append(Problem(found, "one time to start from", "keep the cells of one time"))
    dims = [part.obsm[schema.SPATIAL].shape[1] if schema.SPATIAL in part.obsm else 0 for part in (adata, new)]
    if dims[0] != dims[1]:
        found = f"positions of {dims[1]} dimensions"
        problems.append(Problem(found, f"{dims[0]}, as in the run", "give cells of the same kind"))
    if problems:
        raise SchemaError(*problems, subject=file.name)
