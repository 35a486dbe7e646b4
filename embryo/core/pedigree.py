"""Pedigree: cell numbers that carry their own.

A cell's number is ``clone * 2**40 + place``, where `place` counts the founder's family tree as a binary heap: the
founder is 1, the daughters of p are 2p and 2p + 1. Mother, founder and generation follow from the number alone, and a
cell has the same number in the wild-type and in the edited embryo. Founders of different seeds have nothing in common.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Shaped

_SHIFT = 40
_PLACE = (1 << _SHIFT) - 1
_LETTERS = str.maketrans("01", "ab")


def founders(n_cells: int) -> Int[np.ndarray, " cells"]:
    """Return the numbers of `n_cells` founders."""
    return (np.arange(n_cells, dtype=np.int64) << _SHIFT) + 1


def clone(cell: Int[np.ndarray, " cells"]) -> Int[np.ndarray, " cells"]:
    """Return the index of each cell's founder."""
    return cell >> _SHIFT


def parent(cell: Int[np.ndarray, " cells"]) -> Int[np.ndarray, " cells"]:
    """Return each cell's mother, -1 for a founder."""
    place = cell & _PLACE
    return np.where(place == 1, -1, (cell - place) + (place >> 1))


def daughters(cell: Int[np.ndarray, " cells"]) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"]]:
    """Return the two daughters of each cell."""
    first = cell + (cell & _PLACE)
    return first, first + 1


def generation(cell: Int[np.ndarray, " cells"]) -> Int[np.ndarray, " cells"]:
    """Return how many divisions lie between each cell and its founder."""
    return np.frexp((cell & _PLACE).astype(np.float64))[1].astype(np.int64) - 1


def divisible(cell: Int[np.ndarray, " cells"]) -> Bool[np.ndarray, " cells"]:
    """Whether the daughters still have numbers: true for the first 39 generations."""
    return (cell & _PLACE) <= (_PLACE >> 1)


def names(cell: Int[np.ndarray, " cells"], founders: Sequence[str] | None = None) -> Shaped[np.ndarray, " cells"]:
    """Return readable names: founder 12 is ``c0012``, its daughters ``c0012a`` and ``c0012b``; "" for -1.

    Parameters
    ----------
    cell
        Numbers.
    founders
        The founders' own names, in place of ``c0000, c0001, ...``.
    """
    return np.array([_name(int(number), founders) for number in cell], dtype=object)


def _name(number: int, founders: Sequence[str] | None) -> str:
    if number < 0:
        return ""
    founder = f"c{number >> _SHIFT:04d}" if founders is None else founders[number >> _SHIFT]
    return founder + bin(number & _PLACE)[3:].translate(_LETTERS)
