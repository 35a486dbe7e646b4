"""Markdown tables, and tidy rows as models x metrics."""

import pandas as pd

from embryo.pipeline import grids


def test_markdown_escapes_bars_and_leaves_unknown_numbers_blank() -> None:
    text = grids.markdown(pd.DataFrame({"a|b": [1.23456, float("nan")], "c": ["x|y", "z"]}))
    assert text.splitlines()[2:] == ["| 1.23 | x\\|y |", "|  | z |"]


def test_wide_keeps_the_order_of_models_and_metrics() -> None:
    rows = pd.DataFrame({"model": ["b", "a", "b"], "metric": ["m2", "m1", "m1"], "value": [1, 2, 3]})
    table = grids.wide(rows, ["model"], lambda r: str(r["metric"]), lambda r: str(r["value"]))
    assert list(table.columns) == ["model", "m2", "m1"]
    assert table.to_numpy().tolist() == [["b", "1", "3"], ["a", "", "2"]]
