"""An edited roll-out against embryos that truly carry the edit."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo import measure
from embryo.core import schema, table
from embryo.evaluate.population import Boards, Population, at_time
from embryo.evaluate.result import OURS, Result, Rollout, Scores


def edits(  # noqa: PLR0913  two of them are sizes
    adata: AnnData,
    edited: Sequence[Rollout],
    control: Sequence[Rollout],
    training: Sequence[str],
    label: str,
    fate: measure.FateClassifier,
    *,
    tolerance_h: float,
    max_cells: int = 2000,
) -> Result:
    """Score edited roll-outs at their end against every measured embryo with ``obs["perturbation"] == label``.

    ================================= ======= ============================================================
    model                             role    prediction of the edited embryo
    ================================= ======= ============================================================
    embryo                            ours    the edited roll-out
    no change: the unedited roll-out  floor   the control with the same seed
    measured wild type                floor   training embryos at that time, one by one
    another embryo with the edit      ceiling the other measured embryos that carry it
    half against half of the truth    ceiling one half of the true cells for the other
    ================================= ======= ============================================================

    ``effect recovery`` is ``1 - D(prediction, edited) / D(wild type, edited)`` with D the Bray-Curtis distance of fates
    and the wild type measured: 1 is perfect, 0 is what saying "no change" of a perfect wild type scores, negative is
    worse than saying nothing. It is not capped.

    Returns
    -------
    Result
        Empty where no measured embryo carries the edit.
    """
    truths = truth_embryos(adata, label)
    if not truths or not edited:
        return Result(table.table([]))
    t = float(edited[0].trajectory.times_h[-1])
    boards = Boards(f"edited embryo: {label}", fate.fates, space=schema.SPATIAL in adata.obsm, max_cells=max_cells)
    recovery = Scores(f"edited embryo: {label}", "effect recovery in fates", "1", better="higher")
    split = f"t = {t:g} h"
    true = {e: Population.of_rows(adata, r, fate) for e in truths if len(r := at_time(adata, [e], t, tolerance_h))}
    wild = {e: Population.of_rows(adata, r, fate) for e in training if len(r := at_time(adata, [e], t, tolerance_h))}
    for name, truth in true.items():
        predictions: list[tuple[str, table.Role, Population]] = [
            *((OURS, "ours", Population.of_state(r.trajectory.at(-1), fate)) for r in edited),
            *(
                ("no change: the unedited roll-out", "floor", Population.of_state(r.trajectory.at(-1), fate))
                for r in control
            ),
            *(("measured wild type", "floor", p) for p in wild.values()),
            *(("another embryo with the edit", "ceiling", p) for e, p in true.items() if e != name),
        ]
        effect = float(np.mean([_fate_distance(boards, p, truth) for p in wild.values()])) if wild else np.nan
        for model, role, population in predictions:
            boards.add(model, role, split, name, (population, truth))
            recovery.add(model, role, split, name, 1 - _fate_distance(boards, population, truth) / effect)
        boards.ceiling(split, name, truth)
    result = boards.result()
    rows = pd.concat([table.table(recovery.rows()), result.table], ignore_index=True)
    return Result(rows, (*recovery.sentences(), *result.sentences))


def truth_embryos(adata: AnnData, label: str) -> list[str]:
    """Return the names of the embryos that carry the edit `label`."""
    if schema.PERTURBATION not in adata.obs:
        return []
    carries = adata.obs[schema.PERTURBATION].astype(str) == label
    return sorted(adata.obs.loc[carries, schema.EMBRYO].astype(str).unique())


def _fate_distance(boards: Boards, a: Population, b: Population) -> float:
    shares = [measure.composition(p.fate, p.mass, boards.categories) for p in (a, b)]
    return measure.bray_curtis(*shares)
