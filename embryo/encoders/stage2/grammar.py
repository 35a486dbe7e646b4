"""Sentences of cells and times: ``cell [dt] cell [dt] ... <boq> query <eoq> answer``.

A query that is a cell asks how long after the last cell of the context it is (TimeBetweenCells: the answer is a number,
read at ``<eoq>``); a query that is a time asks for the cell then (NextCell: the answer is a cell). Times are whole
numbers of a unit, each a token appended to the Stage 1 vocabulary behind ``<boq>`` and ``<eoq>``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from embryo.core.errors import ConfigError, Problem


@dataclass(frozen=True)
class Grammar:
    """Tokens of Stage 2.

    Parameters
    ----------
    first
        Number of Stage 1 tokens, which is the token of ``<boq>``.
    longest
        Largest time, in units, that has a token; 0 is the smallest.
    unit_h
        Hours of a unit.
    """

    first: int
    longest: int
    unit_h: float

    @property
    def boq(self) -> int:
        """Token that opens a query."""
        return self.first

    @property
    def eoq(self) -> int:
        """Token that closes a query."""
        return self.first + 1

    @property
    def rows(self) -> int:
        """Tokens of both stages."""
        return self.first + 3 + self.longest

    def time(self, hours: float) -> int:
        """Return the token of a time, rounded to whole units.

        Raises
        ------
        ConfigError
            If it is negative or longer than any time of the training series.
        """
        units = round(hours / self.unit_h)
        if not 0 <= units <= self.longest:
            found = f"a time of {hours:g} h"
            expected = f"0 to {self.longest * self.unit_h:g} h, the span of the training stages"
            raise ConfigError(Problem(found, expected, "order the context by time, or train on a longer series"))
        return self.first + 2 + units

    def time_between(
        self, cells: Sequence[np.ndarray], times_h: Sequence[float], query: np.ndarray
    ) -> Int[np.ndarray, " tokens"]:
        """Return the tokens that ask how long after the last of `cells` the cell `query` is.

        Parameters
        ----------
        cells
            Tokens of each cell of the context, in order of time.
        times_h
            Their times.
        query
            Tokens of a cell.
        """
        return np.concatenate([self._context(cells, times_h), [self.boq], query, [self.eoq]]).astype(np.int64)

    def next_cell(
        self, cells: Sequence[np.ndarray], times_h: Sequence[float], hours: float
    ) -> Int[np.ndarray, " tokens"]:
        """Return the tokens that ask for the cell `hours` after the last of `cells`; the answer comes behind them."""
        query = [self.boq, self.time(hours), self.eoq]
        return np.concatenate([self._context(cells, times_h), query]).astype(np.int64)

    def _context(self, cells: Sequence[np.ndarray], times_h: Sequence[float]) -> np.ndarray:
        gaps = [self.time(after - before) for before, after in pairwise(times_h)]
        parts = [cells[0], *(np.concatenate([[gap], cell]) for gap, cell in zip(gaps, cells[1:], strict=True))]
        return np.concatenate(parts)
