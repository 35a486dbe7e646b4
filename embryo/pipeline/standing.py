"""What a page of an evaluation says first: one short table of how ours stands, and all sentences at the end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from embryo import render
from embryo.evaluate.result import OURS
from embryo.pipeline import grids

HEAD = "All verdicts"
COLUMNS = ("board", "split", "ours", "score", "our value", "best floor", "floor's value", "ceiling", "verdict")
_NOTE = (
    "Floor and ceiling: the best on the truth, which favours the floor. Better or worse: the interval of the paired "
    "gain over the floor leaves out 0. Intervals of the values stand in the tables below."
)


def standing(tables: Iterable[pd.DataFrame], gates: Sequence[str]) -> pd.DataFrame:
    """Return one row per board, split and model of ours: its score, the best floor, the ceiling, the verdict.

    Parameters
    ----------
    tables
        Tidy rows of one board each, with columns ``better`` and ``verdict``; differences are called ``MODEL minus
        FLOOR``.
    gates
        The score that counts: the first of these that a split has. A split with none is left out.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`. Where the whole model stands, its parts do not; where nothing of ours predicts, the best
        floor stands alone.
    """
    rows = [
        row
        for table in tables
        if len(table)
        for _, part in table.groupby(["board", "split"], sort=False)
        for gate in [g for g in gates if g in set(part["metric"])][:1]
        for row in _rows(part[part["metric"] == gate])
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(part: pd.DataFrame) -> Iterator[tuple[str | float, ...]]:
    gains = part[part["role"] == "difference"]
    better = next((str(way) for way in part["better"] if way), "higher")
    ours, floors, ceilings = (part[part["role"] == role] for role in ("ours", "floor", "ceiling"))
    ceiling = _best(ceilings, better)
    where = str(part["board"].iloc[0]), str(part["split"].iloc[0])
    score = f"{grids.head(part.iloc[0])}, {better} is better"
    for _, own in (ours[ours["model"] == OURS] if OURS in set(ours["model"]) else ours).iterrows():
        head = f"{own['model']} minus "
        gain = gains[gains["model"].str.startswith(head)]
        floor = str(gain["model"].iloc[0]).removeprefix(head) if len(gain) else ""
        words = str(gain["verdict"].iloc[0]).removesuffix(f" {floor}").rpartition(" ")[0] if len(gain) else "no floor"
        best = floors[floors["model"] == floor]
        yield *where, str(own["model"]), score, float(own["value"]), floor, _value(best), _value(ceiling), words
    if ours.empty and len(floors):
        best = _best(floors, better)
        yield *where, "none", score, np.nan, str(best["model"].iloc[0]), _value(best), _value(ceiling), "no prediction"


def _best(rows: pd.DataFrame, better: str) -> pd.DataFrame:
    order = rows["value"].to_numpy(float) * (1.0 if better == "lower" else -1.0)
    return rows.iloc[np.argsort(order, kind="stable")[:1]]  # NaN comes last


def _value(rows: pd.DataFrame) -> float:
    return np.nan if rows.empty else float(rows["value"].iloc[0])


def shown(tables: Iterable[pd.DataFrame], gates: Sequence[str]) -> render.Table:
    """Return the table for the top of an HTML page."""
    return render.Table("How ours stands", standing(tables, gates), _NOTE)


def first(tables: Iterable[pd.DataFrame], gates: Sequence[str]) -> list[str]:
    """Return the lines for the top of a markdown page."""
    return ["", grids.markdown(standing(tables, gates)), "", _NOTE]


def last(said: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lines for the end of a markdown page: sentences by what they are about."""
    lines = ["", f"### {HEAD}"] if any(said.values()) else []
    for about, sentences in said.items():
        lines += ["", f"**{about}**", "", *(f"- {s}" for s in sentences)] if sentences else []
    return lines
