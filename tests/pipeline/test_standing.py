"""The table that a page of an evaluation begins with, and the sentences that it ends with."""

import numpy as np
import pandas as pd
import pytest

from embryo.core import table
from embryo.pipeline import grids, standing


def rows(split: str = "t = 1 h", *, better: str = "lower", verdict: str = "worse than shift") -> pd.DataFrame:
    """Two models of ours, two floors and two ceilings in one score, beside another score."""
    known = {"board": "b", "split": split, "metric": "error", "unit": "µm"}
    roles: list[tuple[str, table.Role, float]] = [
        ("embryo", "ours", 3.0), ("part", "ours", 2.0), ("copy", "floor", 4.0), ("shift", "floor", 2.5),
        ("halves", "ceiling", 1.0), ("same law", "ceiling", 0.5),
    ]  # fmt: skip
    made = [table.row(**known, model=m, role=r, values=v) | {"better": better, "verdict": ""} for m, r, v in roles]
    gain = table.row(**known, model="embryo minus shift", role="difference", values=-0.5)
    other = table.row(**(known | {"metric": "other"}), model="embryo", role="ours", values=9.0)
    return table.table([*made, gain | {"better": better, "verdict": verdict}, other | {"better": "", "verdict": ""}])


@pytest.mark.parametrize("head", ["better than", "not better than", "worse than", "the same as"])
def test_ours_stands_beside_the_best_floor_and_the_ceiling_in_few_words(head: str) -> None:
    found = standing.standing([rows(verdict=f"{head} shift")], ["absent", "error", "other"])
    assert tuple(found.columns) == standing.COLUMNS
    words = head.removesuffix(" than").removesuffix(" as")
    expected = ["b", "t = 1 h", "embryo", "error (µm), lower is better", 3.0, "shift", 2.5, 0.5, words]
    assert found.to_numpy().tolist() == [expected]


def test_parts_stand_where_there_is_no_whole_and_the_higher_may_be_better() -> None:
    t = rows(better="higher")
    t = t[t["model"] != "embryo"].replace(
        {"embryo minus shift": "part minus copy", "worse than shift": "better than copy"}
    )
    found = standing.standing([t], ["error"]).iloc[0]
    assert (found["ours"], found["best floor"], found["floor's value"]) == ("part", "copy", 4.0)
    assert (found["ceiling"], found["verdict"]) == (1.0, "better")


def test_where_nothing_of_ours_predicts_the_floor_stands_alone() -> None:
    t = rows()
    found = standing.standing([t[t["role"].isin(["floor", "ceiling"])]], ["error"]).iloc[0]
    assert (found["ours"], found["best floor"], found["verdict"]) == ("none", "shift", "no prediction")
    assert np.isnan(found["our value"])


def test_splits_follow_boards_and_those_without_the_score_are_left_out() -> None:
    t = pd.concat([rows("t = 2 h"), rows("t = 1 h")])
    without = rows("start").query("metric == 'other'")
    assert standing.standing([t, without], ["error"])["split"].tolist() == ["t = 2 h", "t = 1 h"]
    assert standing.standing([without], ["error"]).empty


def test_sentences_come_last_and_only_where_there_are_some() -> None:
    lines = standing.last({"b, t = 1 h": ["One.", "Two."], "c": []})
    assert [line for line in lines if line] == [f"### {standing.HEAD}", "**b, t = 1 h**", "- One.", "- Two."]
    assert standing.last({"c": []}) == []
    top = standing.first([rows()], ["error"])
    assert grids.markdown(standing.standing([rows()], ["error"])) in top
    assert standing.shown([rows()], ["error"]).frame["verdict"].tolist() == ["worse"]
