"""Tables as markdown, and tidy rows as models x metrics."""

from collections.abc import Callable, Sequence

import pandas as pd


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
