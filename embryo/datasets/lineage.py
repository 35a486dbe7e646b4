"""Names of the *C. elegans* lineage: who is whose mother, and which founder a cell descends from.

The rules are those of Sulston et al. (Dev Biol 100:64, 1983): a cell is named after its mother plus one letter for the
direction of the division, except for the founders.
"""

import re
from collections.abc import Iterable

import pandas as pd

MOTHER_OF_FOUNDER = {
    "AB": "P0",
    "P1": "P0",
    "EMS": "P1",
    "P2": "P1",
    "MS": "EMS",
    "E": "EMS",
    "C": "P2",
    "P3": "P2",
    "D": "P3",
    "P4": "P3",
    "Z2": "P4",
    "Z3": "P4",
}
UNNAMED = "unnamed"
_NAMED = re.compile(r"(AB|MS|EMS|P[0-4]|Z[23]|E|C|D)([aplrdvx]*)")
_MAJOR = ("ABal", "ABar", "ABpl", "ABpr")
_POLAR = re.compile(r"polar", re.IGNORECASE)


def named(cell: str) -> bool:
    """Whether `cell` is a name of the lineage (``ABala``, ``P4``), not a number that the tracker gave (``Nuc12``)."""
    return _NAMED.fullmatch(cell) is not None


def polar(cell: str) -> bool:
    """Whether `cell` is a polar body, which is no cell of the embryo."""
    return _POLAR.match(cell) is not None


def mother(cell: str) -> str:
    """Return the name of the mother of a cell of the lineage; ``""`` for P0 and for names outside the lineage."""
    if not named(cell):
        return ""
    return MOTHER_OF_FOUNDER.get(cell, "" if cell == "P0" else cell[:-1])


def founder(cell: str) -> str:
    """Return the major lineage of a cell.

    One of ABal, ABar, ABpl, ABpr, MS, E, C, D, P4 (with Z2 and Z3), or the cell itself before these exist (P0, AB,
    ABa, ABp, P1, EMS, P2, P3); ``"unnamed"`` outside the lineage.
    """
    match = _NAMED.fullmatch(cell)
    if match is None:
        return UNNAMED
    root, rest = match.groups()
    if root in ("Z2", "Z3"):
        return "P4"
    if root != "AB" or not rest:
        return root
    return cell[:4] if cell[:4] in _MAJOR else cell[:3] if len(cell) == 3 else UNNAMED


def ancestors(cell: str) -> list[str]:
    """Return mother, grandmother ... up to P0."""
    line = []
    while cell := mother(cell):
        line.append(cell)
    return line


def mothers(cells: Iterable[str], present: Iterable[str] | None = None) -> pd.Series:
    """Return the mother of each cell; of unnamed tracks too where their name says it.

    Parameters
    ----------
    cells
        Names.
    present
        All tracks of the embryo: an unnamed ``Nuc12a`` is a daughter of ``Nuc12`` if that track exists.

    Returns
    -------
    Series
        Indexed by cell; ``""`` where unknown.
    """
    tracks = set(present) if present is not None else set()
    found = {c: mother(c) or (c[:-1] if c[-1:].isalpha() and c[:-1] in tracks else "") for c in cells}
    return pd.Series(found, dtype=object)
