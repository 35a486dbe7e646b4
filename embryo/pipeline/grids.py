"""Tables as markdown, and tidy rows as models x metrics."""

from collections.abc import Callable, Sequence

import pandas as pd

_ORDER = ["ours", "floor", "random", "repeat", "ceiling"]


def markdown(table: pd.DataFrame) -> str:
    """Return a table as markdown: three digits, nothing where nothing is known."""
    rows = [list(table.columns), ["---"] * len(table.columns)]
    rows += [
        ["" if pd.isna(v) else f"{v:.3g}" if isinstance(v, float) else str(v).replace("|", "\\|") for v in r]
        for r in table.itertuples(index=False, name=None)
    ]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def wide(
    rows: pd.DataFrame, names: Sequence[str], head: Callable[[pd.Series], str], words: Callable[[pd.Series], str]
) -> pd.DataFrame:
    """Return one row per `names` and one column per metric, in the order in which they first come.

    Parameters
    ----------
    rows
        Tidy rows.
    names
        Columns that name a row of the result.
    head, words
        Text of a column's head and of a cell, from a tidy row.
    """
    names = list(names)
    rows = rows.assign(text=[words(row) for _, row in rows.iterrows()], metric=[head(r) for _, r in rows.iterrows()])
    order = rows.drop_duplicates(names)[names].itertuples(index=False, name=None)
    table = rows.pivot_table(index=names, columns="metric", values="text", aggfunc="first", fill_value="")
    keys = [key if len(names) > 1 else key[0] for key in order]
    return table.loc[keys, list(dict.fromkeys(rows["metric"]))].reset_index().rename_axis(columns=None)


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Return models x metrics, ours first: value and, where there is one, its interval; differences left out."""
    rows = by_role(rows[rows["role"] != "difference"])
    return wide(rows, ["model", "role"], head, score)


def by_role(rows: pd.DataFrame) -> pd.DataFrame:
    """Return tidy rows with ours first, then floors, ceilings last."""
    return rows.sort_values("role", key=lambda role: role.map(_ORDER.index), kind="stable")


def head(row: pd.Series) -> str:
    """Return a metric and, where it has one, its unit."""
    return str(row["metric"]) if row["unit"] == "1" else f"{row['metric']} ({row['unit']})"


def score(row: pd.Series) -> str:
    """Return a value and, where there is one, its interval."""
    if pd.isna(row["value"]):
        return ""
    return f"{row['value']:.3g}" + ("" if pd.isna(row["low"]) else f" [{row['low']:.3g}, {row['high']:.3g}]")
