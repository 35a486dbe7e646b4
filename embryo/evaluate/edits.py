"""An edited roll-out against embryos that truly carry the edit."""

from collections.abc import Mapping, Sequence

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
    no change: the unedited roll-out  floor   the control with the same start and seed
    measured wild type                floor   the same embryo at that time, as it was measured without the edit
    another embryo with the edit      ceiling the other measured embryos that carry it
    half against half of the truth    ceiling one half of the true cells for the other
    ================================= ======= ============================================================

    Every prediction is scored against each measured embryo that carries the edit, and the mean is one score of the
    embryo that was rolled forward: that embryo is the unit of the intervals.

    ``effect recovery`` is ``1 - D(prediction, edited) / D(wild type, edited)`` with D the Bray-Curtis distance of fates
    and the wild type measured in training embryos: 1 is perfect, 0 is what saying "no change" of a typical wild type
    scores, negative is worse than saying nothing. It is not capped.

    Returns
    -------
    Result
        Empty where no measured embryo carries the edit.
    """
    if not edited:
        return Result(table.table([]))
    t = float(edited[0].trajectory.times_h[-1])
    true = _populations(adata, truth_embryos(adata, label), t, tolerance_h, fate)
    if not true:
        return Result(table.table([]))
    board = Board(label, true, _populations(adata, training, t, tolerance_h, fate), fate, max_cells)
    own = _populations(adata, list({r.embryo: None for r in edited}), t, tolerance_h, fate)
    split = f"t = {t:g} h"
    arms: list[tuple[Sequence[Rollout], str, table.Role]] = [
        (edited, OURS, "ours"),
        (control, "no change: the unedited roll-out", "floor"),
    ]
    for rolls, model, role in arms:
        for r in rolls:
            board.add(model, role, split, r.embryo, Population.of_state(r.trajectory.at(-1), fate))
    for name, measured in own.items():
        board.add("measured wild type", "floor", split, name, measured)
    for name, truth in true.items():
        others = {e: p for e, p in true.items() if e != name}
        if others:
            board.add("another embryo with the edit", "ceiling", split, name, truth, others)
        board.boards.ceiling(split, name, truth)
    return board.result()


class Board:
    """Scores of predictions against all embryos that carry the edit."""

    def __init__(
        self,
        label: str,
        true: Mapping[str, Population],
        wild: Mapping[str, Population],
        fate: measure.FateClassifier,
        max_cells: int,
    ) -> None:
        name = f"edited embryo: {label}"
        self.true = true
        space = next(iter(true.values())).x.shape[1] > 0
        self.boards = Boards(name, fate.fates, space=space, max_cells=max_cells)
        self.recovery = Scores(name, "effect recovery in fates", "1", better="higher")
        effects = [self._apart(w, k) for w in wild.values() for k in true.values()]
        self.effect = float(np.mean(effects)) if effects else float("nan")

    def add(
        self,
        model: str,
        role: table.Role,
        split: str,
        embryo: str,
        prediction: Population,
        truths: Mapping[str, Population] | None = None,
    ) -> None:
        """Score a prediction against `truths` (all that carry the edit by default) and keep the means."""
        against = list((self.true if truths is None else truths).values())
        found = [self.boards.distances(prediction, truth) for truth in against]
        for metric, scores in self.boards.scores.items():
            scores.add(model, role, split, embryo, float(np.mean([one[metric] for one in found])))
        apart = float(np.mean([self._apart(prediction, truth) for truth in against]))
        self.recovery.add(model, role, split, embryo, 1 - apart / self.effect)

    def result(self) -> Result:
        """Return the table, recovery first, and the sentences."""
        result = self.boards.result()
        rows = pd.concat([table.table(self.recovery.rows()), result.table], ignore_index=True)
        return Result(rows, (*self.recovery.sentences(), *result.sentences))

    def _apart(self, a: Population, b: Population) -> float:
        shares = [measure.composition(p.fate, p.mass, self.boards.categories) for p in (a, b)]
        return measure.bray_curtis(*shares)


def _populations(
    adata: AnnData, embryos: Sequence[str], t_h: float, tolerance_h: float, fate: measure.FateClassifier
) -> dict[str, Population]:
    rows = {e: at_time(adata, [e], t_h, tolerance_h) for e in embryos}
    return {e: Population.of_rows(adata, r, fate) for e, r in rows.items() if len(r)}


def truth_embryos(adata: AnnData, label: str) -> list[str]:
    """Return the names of the embryos that carry the edit `label`."""
    if schema.PERTURBATION not in adata.obs:
        return []
    carries = adata.obs[schema.PERTURBATION].astype(str) == label
    return sorted(adata.obs.loc[carries, schema.EMBRYO].astype(str).unique())
