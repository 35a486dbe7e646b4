"""What the page of predicted knock-outs says: how ours stands, then every predictor beside every floor, by edit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from embryo import render
from embryo.core.table import LEVEL
from embryo.evaluate.perturbation import scoring
from embryo.evaluate.perturbation.judge import ALL, ANSWERED, AUROC, FORM, HEADLINES
from embryo.pipeline import grids, standing

HEAD = """# Predicted knock-outs, judged beside their floors

Made by `embryo evaluate perturbation CONFIG` for `configs/evaluate/perturbation-*.yaml`, then `embryo evaluate page`.
"""
_HOW = (
    "Effect recovery is 1 - D(prediction, knock-out) / D(wild type, knock-out), not capped: 1 is perfect, 0 is what "
    "saying no change scores, below 0 is worse than saying nothing. D is the Bray-Curtis distance of fates, of fates "
    "by AP x DV bin, or the unbiased energy distance of states, or of places and fates. LFC r is Pearson's r of log "
    "fold changes over the other genes; centred: less the mean effect of the other perturbations. Paired: measured "
    "wild type plus what the edit changes in the prediction. Floors cost nothing to know; no truth of an edit is seen "
    f"by any prediction of it. The unit is the edit: value and, in brackets, its {LEVEL:.0%} interval over edits, "
    "over the embryos that carry them, and over seeds; with a single edit over its embryos. Tier A: conditional on "
    "measured perturbations; B: structured, from wild type alone; C: association, which may rank and claims no size."
)
_DIRECTION = (AUROC, FORM, scoring.RETRIEVAL, scoring.SIZE, scoring.LENGTHS)


@dataclass(frozen=True)
class Found:
    """What was found on one board.

    Parameters
    ----------
    name, facts, digest
        Of the board; one line about its cells; digest of the cells.
    table
        Tidy rows of all splits.
    sentences
        How ours stands against the best floor.
    notes
        What a reader must know of these cells.
    """

    name: str
    facts: str
    digest: str
    table: pd.DataFrame
    sentences: Sequence[str]
    notes: Sequence[str]

    @property
    def summary(self) -> str:
        """Return one line about the board."""
        said = [s for s in self.sentences if " than " in s and s.partition(":")[0] in HEADLINES]
        better = sum("better than" in s and "not better than" not in s for s in said)
        return f"{self.facts}; better than the best floor on {better} of {len(said)} headline comparisons"

    @property
    def splits(self) -> list[str]:
        """Return the splits whose tables a page shows whole: not single edits."""
        return [s for s in dict.fromkeys(self.table["split"]) if not s.startswith("knockout ")]


def markdown(name: str, found: Sequence[Found], made: Mapping[str, Any]) -> str:
    """Return the page of one evaluation."""
    lines = [f"## {name}", "", f"Commit {made['commit']}, {str(made['made'])[:10]}, seed {made['seed']}."]
    lines += [*standing.first(all_edits(found), [scoring.RECOVERY]), "", _HOW]
    for one in found:
        lines += ["", f"### {one.name}", "", f"{one.facts}; digest {one.digest}.", ""]
        lines += [f"- {note}" for note in one.notes]
        for title, grid in grids_of(one):
            lines += ["", f"**{title}**", "", grids.markdown(grid)]
        if len(edits(one).columns) > 2:
            lines += ["", f"**{scoring.RECOVERY}, edit by edit**", "", grids.markdown(edits(one))]
        lines += ["", "**fates, edit by edit**", "", grids.markdown(fates(one))]
    return "\n".join([*lines, *standing.last({one.name: one.sentences for one in found})]) + "\n"


def html(name: str, found: Sequence[Found], made: Mapping[str, Any], path: Path) -> None:
    """Write the page of one evaluation as one HTML file."""
    tables = [render.Table(f"{one.name}: {title}", grid, "") for one in found for title, grid in grids_of(one)]
    tables += [
        render.Table(f"{one.name}: {scoring.RECOVERY}, edit by edit", edits(one), "")
        for one in found
        if len(edits(one).columns) > 2
    ]
    tables += [render.Table(f"{one.name}: fates, edit by edit", fates(one), "") for one in found]
    content = render.Report(
        title=f"Predicted knock-outs: {name}",
        standing=standing.shown(all_edits(found), [scoring.RECOVERY]),
        tables=tables,
        said={one.name: one.sentences for one in found},
        cards=[render.Card(one.name, "\n\n".join([one.summary, *one.notes])) for one in found],
        notes=[_HOW],
        provenance=dict(made),
    )
    render.report(content, path)


def all_edits(found: Sequence[Found]) -> list[pd.DataFrame]:
    """Return the rows over all edits, board by board."""
    return [one.table[one.table["split"] == ALL] for one in found]


def grids_of(found: Found) -> list[tuple[str, pd.DataFrame]]:
    """Return titled tables: how much of the effect is recovered, its direction and size, and how sure it is."""
    out = []
    for split in found.splits:
        metrics = list(dict.fromkeys(found.table.loc[found.table["split"] == split, "metric"]))
        parts = {
            "recovery": [m for m in metrics if "recovery" in m and m != ANSWERED],
            "direction and size": [m for m in metrics if "LFC" in m or m in _DIRECTION],
        }
        parts["sureness"] = [m for m in metrics if not any(m in p for p in parts.values())]
        shown = [name for name in parts if parts[name] and (split == ALL or name != "sureness")]
        out += [(f"{split}, {name}", scores(found, split, parts[name])) for name in shown]
    return out


def scores(found: Found, split: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Return predictors x metrics of one split: value and interval."""
    return grids.scores(found.table[(found.table["split"] == split) & found.table["metric"].isin(metrics)])


def edits(found: Found) -> pd.DataFrame:
    """Return predictors x edits: effect recovery in fates; a mean over edits hides which are right."""
    t = found.table
    kept = t[(t["metric"] == scoring.RECOVERY) & (t["role"] != "difference") & ~t["split"].isin(found.splits)]
    if kept.empty:
        return pd.DataFrame(columns=["model", "role"])
    return grids.wide(
        grids.by_role(kept), ["model", "role"], lambda row: str(row["split"]), lambda row: f"{row['value']:.2f}"
    )


def fates(found: Found) -> pd.DataFrame:
    """Return edits and who says it x fates: what a prediction of ours gains and loses, beside what was measured."""
    kept = found.table[found.table["metric"].str.startswith("fraction[")]
    return grids.wide(kept, ["split", "model"], grids.head, lambda row: f"{row['value']:.3f}")
