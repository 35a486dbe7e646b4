"""Names: genes and cells once each, every group named, no group without cells."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from embryo.core.checks import phrases
from embryo.core.errors import Problem


def genes(index: pd.Index) -> Iterator[Problem]:
    """Yield duplicate and empty gene names."""
    twice = index[index.duplicated()].unique()
    if len(twice):
        yield Problem(
            f"{len(twice)} duplicate gene name{'s' if len(twice) > 1 else ''}: {phrases.few(twice)}",
            "every gene name once",
            "add the counts of the copies up, or rename them (adata.var_names_make_unique()), or read names from a "
            "column with unique ones (config read.keys.gene_symbols)",
        )
    nameless = blank(index.to_series())
    if nameless.any():
        yield Problem(
            f"{int(nameless.sum())} genes without a name (columns {phrases.few(np.flatnonzero(nameless).tolist())})",
            "a name for every gene",
            "name or drop them",
        )


def rows(index: pd.Index) -> Iterator[Problem]:
    """Yield duplicate names of rows."""
    if not index.is_unique:
        twice = index[index.duplicated()].unique()
        yield Problem(
            f"{len(twice)} duplicate cell name{'s' if len(twice) > 1 else ''} in obs_names: {phrases.few(twice)}",
            "every row name once",
            "drop the copies, or prefix the names with embryo and time (adata.obs_names_make_unique())",
        )


def observations(keys: pd.DataFrame, slots: list[str]) -> Iterator[Problem]:
    """Yield cells that stand twice under the same keys (embryo, time, name); cells without a name are left out.

    Parameters
    ----------
    keys
        One column per key, the last the cell's name.
    slots
        What the keys are called, for the text.
    """
    keys = keys[~blank(keys.iloc[:, -1])]
    codes = pd.DataFrame({i: pd.factorize(keys.iloc[:, i])[0] for i in range(keys.shape[1])})
    twice = codes.duplicated().to_numpy()
    if twice.any():
        first = keys[twice].drop_duplicates().head(3)
        shown = [" / ".join(map(str, row)) for row in first.itertuples(index=False)]
        yield Problem(
            f"{int(twice.sum())} duplicate cells, the same {', '.join(slots)}: {phrases.few(shown)}",
            "every cell of an embryo once at a time",
            "drop the copies, or tell embryos apart (config read.keys.embryo)",
        )


def groups(column: pd.Series, slot: str) -> Iterator[Problem]:
    """Yield categories without cells."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = np.bincount(column.cat.codes.to_numpy() + 1, minlength=len(column.cat.categories) + 1)[1:]
        empty = column.cat.categories[used == 0]
        if len(empty):
            yield Problem(
                f"{len(empty)} of {len(used)} categories of {slot} without cells: {phrases.few(empty)}",
                "cells in every category",
                f"add the missing cells, or drop the names: {slot}.cat.remove_unused_categories()",
            )


def unnamed(column: pd.Series, slot: str) -> Iterator[Problem]:
    """Yield cells that belong to no group, where the group decides what they are compared with."""
    lost = blank(column)
    if lost.any():
        yield Problem(
            f"no {slot} for {phrases.cells(lost, column.index)}",
            "a name for every cell",
            "name it, or drop these cells",
        )


def sizes(column: pd.Series, slot: str, minimum: int) -> Iterator[Problem]:
    """Yield groups with fewer than `minimum` cells."""
    counts = column[~blank(column)].value_counts()
    small = counts[(counts > 0) & (counts < minimum)]
    if len(small):
        shown = phrases.few(f"{name} ({n})" for name, n in small.items())
        yield Problem(
            f"{len(small)} groups of {slot} with fewer than {minimum} cells: {shown}",
            f"at least {minimum} cells in each, so that it can be placed",
            "merge or drop these groups",
        )


def followed(
    embryos: Int[np.ndarray, " cells"], cell: pd.Series, parent: pd.Series | None, *, slots: tuple[str, str]
) -> Iterator[Problem]:
    """Yield one problem if no cell is seen twice in its embryo and none names a mother that is there.

    Parameters
    ----------
    embryos
        Number of each cell's embryo.
    cell, parent
        Names of the cells and of their mothers, of the same kind.
    slots
        What the two are called, for the text.
    """
    named = ~blank(cell)
    seen = pd.DataFrame({"embryo": embryos, "cell": cell.astype(str).to_numpy()})[named]
    again = bool(seen.duplicated().any())
    if not again and parent is not None:
        mothers = pd.DataFrame({"embryo": embryos, "cell": parent.astype(str).to_numpy()})[~blank(parent)]
        again = len(mothers.merge(seen, on=["embryo", "cell"])) > 0
    if not again:
        yield Problem(
            f"no cell that is followed: {int(named.sum())} names in {slots[0]}, none at two times of an embryo and "
            f"none a mother in {slots[1]}",
            "tracks",
            "name cells alike at all times (config read.keys.cell), or couple by transport (config couple.method)",
        )


def blank(column: pd.Series) -> Bool[np.ndarray, " cells"]:
    """Return where a column holds nothing: NaN, None or an empty string."""
    codes, held = pd.factorize(column)  # few distinct names are quicker to look at than many rows
    empty = np.array([isinstance(name, str) and not name.strip() for name in held], dtype=bool)
    return np.append(empty, np.True_)[codes]
