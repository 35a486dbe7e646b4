"""Scores of form, size and hand of a predicted body against the true one."""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from jaxtyping import Float

from embryo import measure
from embryo.evaluate.ledger import Metric
from embryo.evaluate.time.clouds import Cloud, Held, Score
from embryo.evaluate.time.intervals import blocks, jackknife

D2: Final = Metric("D2 form", "RMS radii", "lower", least=0.0)
SCALE: Final = Metric("error of scale", "|log|", "lower", least=0.0)
OVERLAP: Final = Metric("overlap of form", "Dice", "higher", least=0.0)
MARGIN: Final = Metric("margin over the mirror image", "training spreads", "higher")
HAND: Final = Metric("error of laterality", "1", "lower", least=0.0)
_SEVERAL = 1000  # cells in overlaps
_FEW = 400  # cells where the score is computed again without each block of the truth
_BLOCKS = 10


def forms(
    p: Cloud, held: Held, read: Callable[[np.ndarray], np.ndarray] | None, *, seed: int = 0
) -> Iterator[tuple[Metric, Score]]:
    """Yield the scores of a body.

    ============================ =====================================================================
    metric                       meaning
    ============================ =====================================================================
    D2 form                      Wasserstein distance of pair distances in RMS radii; blind to mirrors
    error of scale               ``|log|`` of the ratio of RMS radii
    overlap of form              Dice on principal axes, best rotation, equal numbers of cells
    margin over the mirror image energy distance of the best mirror image of the prediction less that of its best
                                 rotation; a mirrored prediction is below 0
    error of laterality          signed volume of centres of types (`embryo.measure.laterality`) against the truth's
    ============================ =====================================================================

    Parameters
    ----------
    p
        The prediction.
    held
        The truth.
    read
        Reads types of cells off their states; None where no training cell has a type.
    seed
        Of the draws.
    """
    t = held.cells
    found = measure.d2_shape(p.x, t.x, p.mass, seed=seed)
    yield D2, Score(found.value, found.influence)
    off = measure.scale_log_ratio(p.x, t.x, p.mass)
    square = ((t.x - t.x.mean(axis=0)) ** 2).sum(axis=1)
    yield SCALE, Score(abs(off), -np.sign(off) * (square / (square.mean() or 1.0) - 1) / 2)
    few = measure.thin(t.mass, _FEW)[0]

    def overlap(rows: np.ndarray) -> float:
        n = min(len(rows), _SEVERAL, len(p))
        theirs = rows[measure.thin(np.ones(len(rows)), n)[0]]
        return measure.form_overlap(p.thin(n).x, t.x[theirs])

    yield OVERLAP, Score(*_again(overlap, np.arange(len(t)), held, seed))
    thin = p.thin(_FEW)

    def margin(rows: np.ndarray) -> float:
        mine = thin.z / held.spread_z, thin.x / held.spread_x
        theirs = t.z[rows] / held.spread_z, t.x[rows] / held.spread_x
        return measure.handedness_margin(*mine, *theirs, thin.mass, t.mass[rows])

    yield MARGIN, Score(*_again(margin, few, held, seed))
    landmarks = measure.landmarks(t.x, held.labels)
    if read is not None and landmarks:
        hand = measure.laterality(p.x, read(p.z), landmarks, p.mass)

        def laterality(rows: np.ndarray) -> float:
            return abs(hand - measure.laterality(t.x[rows], held.labels[rows], landmarks))

        if np.isfinite(hand):
            yield HAND, Score(*_again(laterality, np.arange(len(t)), held, seed))


def _again(
    score: Callable[[np.ndarray], float], rows: np.ndarray, held: Held, seed: int
) -> tuple[float, Float[np.ndarray, " cells"]]:
    """Return a score on `rows` of the truth, and influences from scores without one block of them each."""
    block, embryos = blocks(held.groups[rows], parts=_BLOCKS, seed=seed)
    whole = score(rows)
    without = np.array([score(rows[block != b]) for b in range(block.max() + 1)])
    without = np.where(np.isfinite(without), without, whole)
    influence = np.zeros(len(held.cells))
    influence[rows] = jackknife(whole, without, block, embryos=embryos) * len(influence) / len(rows)
    return whole, influence
