"""Division and death within one step of the grid: an exact branching process with a pedigree.

Within a step a cell's whole clone takes the mother's path, so that birth and death rates are the same for all of it and
the number of its cells is Kendall's birth-and-death process (Kendall 1948, Ann. Math. Stat. 19:1). Events are drawn one
after the other: a cell waits until the hazard summed since its birth reaches its own exponential number, and leaves
the rest of the step to its daughters. The expected number after a step is therefore exp(integrated growth), exactly,
however long the step; what a step does not resolve is only where within it a daughter began to take a path of her own.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from embryo.core import pedigree
from embryo.core.luck import KeyedRandom, Purpose


@dataclass(frozen=True, eq=False)
class Brood:
    """Cells at the end of a step.

    Parameters
    ----------
    cell
        Number of each; see `embryo.core.pedigree`.
    row
        Which particle of the start of the step it is, or comes from.
    left
        Hazard that it still has to live through.
    shift
        How far it lies from its mother's path, µm.
    """

    cell: Int[np.ndarray, " cells"]
    row: Int[np.ndarray, " cells"]
    left: Float[np.ndarray, " cells"]
    shift: Float[np.ndarray, "cells space"]

    def chosen(self, which: np.ndarray) -> "Brood":
        """Return some of them."""
        return Brood(self.cell[which], self.row[which], self.left[which], self.shift[which])

    def beside(self, *others: "Brood") -> "Brood":
        """Return these and others."""
        every = (self, *others)
        return Brood(*(np.concatenate([getattr(b, name) for b in every]) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Division:
    """How cells divide and die.

    Parameters
    ----------
    seed
        Of the luck, which hangs on the cell: two roll-outs share it until their cells differ.
    spacing_um
        Distance between daughters, along a random axis about their mother's place.
    """

    seed: int
    spacing_um: float

    def begin(self, cells: int, space: int) -> Brood:
        """Return the founders."""
        cell = pedigree.founders(cells)
        return Brood(cell, np.arange(cells), self._patience(cell), np.zeros((cells, space)))

    def step(
        self, brood: Brood, births: Float[np.ndarray, " cells"], deaths: Float[np.ndarray, " cells"]
    ) -> tuple[Brood, int]:
        """Return the cells after a step, and how many divided or died.

        Parameters
        ----------
        brood
            At its start.
        births, deaths
            Birth and death rate of each, integrated over the step.
        """
        cells = len(brood.cell)
        now = Brood(brood.cell, np.arange(cells), brood.left, np.zeros_like(brood.shift))
        hazard, rest, quiet, events = births + deaths, births + deaths, [], 0
        while len(now.cell):
            still = now.left > rest
            calm = now.chosen(still)
            quiet.append(Brood(calm.cell, calm.row, calm.left - rest[still], calm.shift))
            now, rest = now.chosen(~still), (rest - now.left)[~still]
            events += len(now.cell)
            lot = self._luck.uniform(Purpose.FATE, 0, now.cell, 1)[:, 0]
            divides = (lot * hazard[now.row] < births[now.row]) & pedigree.divisible(now.cell)
            now, rest = self._daughters(now.chosen(divides)), np.tile(rest[divides], 2)
        return now.beside(*quiet), events

    def _daughters(self, mother: Brood) -> Brood:
        axis = self._luck.normal(Purpose.AXIS, 0, mother.cell, mother.shift.shape[1])
        length = np.linalg.norm(axis, axis=1, keepdims=True)
        half = 0.5 * self.spacing_um * axis / np.where(length > 0, length, 1)
        born = (
            Brood(cell, mother.row, self._patience(cell), mother.shift + shift)
            for cell, shift in zip(pedigree.daughters(mother.cell), (half, -half), strict=True)
        )
        return next(born).beside(*born)

    def _patience(self, cell: Int[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
        """Return the hazard that a cell lives through before it divides or dies: exponential with mean 1."""
        waits: np.ndarray = -np.log(self._luck.uniform(Purpose.CYCLE, 0, cell, 1)[:, 0])
        return waits

    @property
    def _luck(self) -> KeyedRandom:
        return KeyedRandom(self.seed)
