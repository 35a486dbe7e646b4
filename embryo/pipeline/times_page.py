"""What the page of an evaluation of dynamics says: how ours stands, every model beside every floor, all verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from embryo import render
from embryo.core.table import LEVEL
from embryo.evaluate.result import OURS
from embryo.evaluate.time.scores import ENERGY, ENERGY_JOINT
from embryo.evaluate.time.truth import COSINE
from embryo.evaluate.tracked.board import ERROR
from embryo.pipeline import grids, standing
from embryo.pipeline.timeboards import Kind, TimeBoard

HEAD = """# Dynamics, judged beside their floors

Made by `embryo evaluate time CONFIG` for the configs of `configs/evaluate`, then `embryo evaluate page RUN ...`.
"""
GATES = (ENERGY_JOINT.name, ENERGY.name, ERROR, COSINE)  # what counts, by kind of board: space, none, embryos, law
_CLOUDS = (
    "Floors cost nothing to know; the ceiling is one half of the truth against the other, at half the number of "
    f"cells. Value and, in brackets, its {LEVEL:.0%} interval over seeds and draws of the truth (of its embryos, "
    "where a stage has several, else of its cells). The gate is the unbiased energy distance: 0 is perfect, single "
    "values may fall below. Wasserstein distances between samples do not fall to 0 and reward smoothing; they stand"
    " here for comparison with published numbers."
)
HOW: Mapping[Kind, str] = {
    "times": (
        "One stage is held out at a time. What is fitted here (reduction where there is one, units unless the "
        "config gives them, frame, couplings, laws, mixture) sees the training stages only. Shares of the mixture "
        "are chosen by holding out training stages, one at a time; after the last stage each is predicted from "
        "those before it alone; where no stage can be held out, a floor named beforehand is taken. The share of a "
        "trusted law is not chosen so: its misfit is measured on the very stages that it was fitted to, and the "
        "constants of that trust were fixed with held-out stages of the simulations and of the embryoid body in view. "
        "Those are development boards. "
    )
    + _CLOUDS,
    "cells": (
        "Half of the cells of every stage are held out, no stage is; the other half of the last one is predicted. "
        "What is fitted here (reduction where there is one, units unless the config gives them, frame, laws, "
        "mixture) sees the training half only. Shares of the mixture are chosen by halves of the training cells "
        "that predict each other; no law is trusted. "
    )
    + _CLOUDS,
    "embryos": (
        "Whole embryos are held out, fold by fold. What is made across embryos (clock and gene vectors where the "
        "data set makes them so, frame, reduction where there is one, atlas) is made without them, or knows them "
        "until the start only; the rule of the atlas is chosen by cross-validation over training embryos. The score"
        f" of an embryo is the median over its cells; value and, in brackets, its {LEVEL:.0%} interval over embryos."
        " Floors cost nothing to know; there is no ceiling: the row of the same cell in another embryo says how "
        "alike embryos are."
    ),
    "law": (
        "Nothing is held out: the law is fitted on all stages, and held against a law that the fit does not see. "
        "The settings of the fit are one set for all boards, fixed with the true law of heart to duck in sight. "
        f"Value and, in brackets, its {LEVEL:.0%} interval over seeds of the fit; floors have one value. The ceiling"
        " is the true law averaged over the nearest other cells, as far as a smooth law can go."
    ),
}
_GIVEN = (
    "The embedding comes with the data (precomputed): it is not fitted here, and if something was learned for it, "
    "all cells took part, whichever are held out."
)


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
        By split: how our model stands against the best floor.
    notes
        What a reader must know of these cells.
    chosen
        By split: what the inner hold-out chose.
    kind
        Of the board: how it was judged.
    """

    name: str
    facts: str
    digest: str
    table: pd.DataFrame
    sentences: Mapping[str, Sequence[str]]
    notes: Sequence[str]
    chosen: Mapping[str, Sequence[str]]
    kind: Kind

    @property
    def summary(self) -> str:
        """Return one line about the board."""
        said = [s for split in self.sentences for s in self.verdicts(split) if " than " in s or ": the same as " in s]
        better = sum("better than" in s and "not better than" not in s for s in said)
        return f"{self.facts}; better than the best floor on {better} of {len(said)} comparisons"

    def verdicts(self, split: str) -> list[str]:
        """Return the sentences about the whole model; those about its parts stand in the table alone."""
        said = self.sentences.get(split, ())
        whole = [s for s in said if f": {OURS}: " in s]
        return [*whole, *(s for s in said if "left out" in s)] if whole else list(said)


def notes(board: TimeBoard) -> tuple[str, ...]:
    """Return what a reader must know of the cells of a board: its own notes, and that an embedding was given."""
    return (*board.notes, *([_GIVEN] if board.embed.encoder == "precomputed" else ()))


def ways(found: Sequence[Found]) -> dict[str, str]:
    """Say how boards were judged, once per kind, by the names of those boards."""
    kinds = list(dict.fromkeys(one.kind for one in found))
    return {", ".join(one.name for one in found if one.kind == kind): HOW[kind] for kind in kinds}


def markdown(name: str, found: Sequence[Found], made: Mapping[str, Any]) -> str:
    """Return the page of one evaluation."""
    lines = [f"## {name}", "", f"Commit {made['commit']}, {str(made['made'])[:10]}, seed {made['seed']}."]
    lines += standing.first([one.table for one in found], GATES)
    lines += [line for names, how in ways(found).items() for line in ("", f"*{names}.* {how}")]
    for one in found:
        lines += ["", f"### {one.name}", "", f"{one.facts}; digest {one.digest}.", ""]
        lines += [f"- {note}" for note in one.notes]
        for split in dict.fromkeys(one.table["split"]):
            lines += ["", f"**{split}**", "", *(f"- {s}" for s in one.chosen.get(split, ()))]
            lines += ["", grids.markdown(scores(one, split))]
    return "\n".join([*lines, *standing.last(verdicts(found))]) + "\n"


def html(name: str, found: Sequence[Found], made: Mapping[str, Any], path: Path) -> None:
    """Write the page of one evaluation as one HTML file."""
    tables = [
        render.Table(f"{one.name}: {split}", scores(one, split), " ".join(one.chosen.get(split, ())))
        for one in found
        for split in dict.fromkeys(one.table["split"])
    ]
    content = render.Report(
        title=f"Dynamics: {name}",
        standing=standing.shown([one.table for one in found], GATES),
        tables=tables,
        said=verdicts(found),
        cards=[render.Card(one.name, "\n\n".join([one.summary, *one.notes])) for one in found],
        notes=[f"{names}. {how}" for names, how in ways(found).items()],
        provenance=dict(made),
    )
    render.report(content, path)


def verdicts(found: Sequence[Found]) -> dict[str, list[str]]:
    """Return all sentences about the whole model, by board and split."""
    return {f"{one.name}, {split}": one.verdicts(split) for one in found for split in one.sentences}


def scores(found: Found, split: str) -> pd.DataFrame:
    """Return models x metrics of one split: value and interval."""
    return grids.scores(found.table[found.table["split"] == split])
