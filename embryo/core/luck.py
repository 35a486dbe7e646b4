"""Luck: random numbers that belong to a cell and a moment, so that wild type and edited embryo share them.

A stream of random numbers shifts for every later cell as soon as one more cell divides. Here each number is a function
of (seed, purpose, step, cell, column) instead: a cell that exists in both embryos meets the same luck in both, and what
differs between them is the edit. The mixing function is SplitMix64 (Steele, Lea and Flood 2014, OOPSLA, figure 19).
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


class Purpose(IntEnum):
    """What a random number is for; each purpose has its own numbers."""

    EXPRESSION = 1
    MOTION = 2
    CYCLE = 3
    AXIS = 4
    PARTITION = 5
    MOSAIC = 6
    FATE = 7


def _mixed(word: np.ndarray) -> np.ndarray:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(word ^ (word >> np.uint64(31)))


@dataclass(frozen=True)
class KeyedRandom:
    """Random numbers looked up by what they are for.

    Parameters
    ----------
    seed
        Of the embryo.
    """

    seed: int

    def uniform(
        self, purpose: Purpose, step: int, cell: Int[np.ndarray, " cells"], columns: int
    ) -> Float[np.ndarray, "cells columns"]:
        """Return numbers uniform on the open interval (0, 1)."""
        start = int(np.random.SeedSequence((self.seed, int(purpose), step)).generate_state(1, np.uint64)[0])
        row = _mixed(cell.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(start))
        offset = np.array([(k * _GOLDEN) & _WORD for k in range(1, columns + 1)], dtype=np.uint64)
        bits = _mixed(row[:, None] + offset) >> np.uint64(11)
        return (bits.astype(np.float64) + 0.5) * 2.0**-53

    def normal(
        self, purpose: Purpose, step: int, cell: Int[np.ndarray, " cells"], columns: int
    ) -> Float[np.ndarray, "cells columns"]:
        """Return standard normal numbers (inverse of the normal distribution function at `uniform`)."""
        numbers: np.ndarray = ndtri(self.uniform(purpose, step, cell, columns))
        return numbers
