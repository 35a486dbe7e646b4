"""Scores of a predicted state against the held-out truth, each with the influence of every true cell on it."""

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

from embryo import measure
from embryo.evaluate.ledger import Metric
from embryo.evaluate.time.clouds import Cloud, Held, Score, spread
from embryo.evaluate.time.form import forms
from embryo.evaluate.time.series import Series

ENERGY: Final = Metric("energy distance of states", "z", "lower")
ENERGY_X: Final = Metric("energy distance of positions", "µm", "lower")
ENERGY_JOINT: Final = Metric("energy distance of states and positions", "training spreads", "lower")
MMD: Final = Metric("MMD² of states", "1", "lower")
NUMBER: Final = Metric("error of cell number", "|log|", "lower", least=0.0)
TYPES: Final = Metric("W1 within types", "z", "lower", least=0.0)
SURROUNDINGS: Final = Metric("MMD² of neighbourhoods", "1", "lower")
TRANSPORTS: Final = tuple(
    Metric(f"W{order}{how}", "z", "lower", least=0.0) for order in (1, 2) for how in ("", ", every particle once")
)
_LEAST = 10  # true cells of a type, below which nothing is said of it
_VOTERS = _NEAR = 15


class Yardstick:
    """Scores predictions of one held-out stage.

    Units and bandwidths come from the training stages or the truth, never from a prediction.

    Parameters
    ----------
    training
        All other stages: spreads of states and positions, and the cells that predicted types are read from.
    truth
        A series of the held-out stage alone; every cell counts once.
    max_cells
        Cells of a cloud in energy distances and MMD; larger clouds are thinned in proportion to mass.
    max_transport
        The same for Wasserstein distances, whose cost is cubic; twice as many of the prediction.
    seed
        Of the draws of pairs of cells.
    """

    def __init__(
        self, training: Series, truth: Series, *, max_cells: int = 2000, max_transport: int = 1000, seed: int = 0
    ) -> None:
        self.max_cells, self.max_transport, self.seed = max_cells, max_transport, seed
        self.number = float(truth.numbers[0]) if truth.counts_grow else None
        z, x = ([np.asarray(getattr(s, part).double()) for s in training.states] for part in ("z", "x"))
        known = np.concatenate(training.labels).astype(str)
        self._typed = bool((known != "").any())
        if self._typed:
            voters = KNeighborsClassifier(min(_VOTERS, int((known != "").sum())), algorithm="brute")
            self._reader = voters.fit(np.concatenate(z)[known != ""], known[known != ""])
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        whole = Cloud.of(truth.states[0], "truth").level()
        rows = measure.thin(whole.mass, max_cells)[0]
        labels, groups = (part[0][rows].astype(str) for part in (truth.labels, truth.groups))
        self.held = Held(whole[rows], labels, groups, spread(z), spread(x))
        self._few = measure.thin(self.held.cells.mass, max_transport)[0]
        self.curvature = self._within()

    @property
    def space(self) -> bool:
        """Whether the truth has positions."""
        return bool(self.held.cells.x.shape[1])

    def _within(self) -> dict[Metric, Float[np.ndarray, "cells cells"]]:
        """Return the matrices of distances (or less kernels) within the truth, which all predictions share."""
        t = self.held.cells
        squares = cdist(t.z, t.z, "sqeuclidean")
        self._median = measure.median_square(squares)
        out = {ENERGY: np.sqrt(squares), MMD: -measure.kernels(squares, self._median)}
        if self.space:
            squares_x = cdist(t.x, t.x, "sqeuclidean")
            out |= {ENERGY_X: np.sqrt(squares_x), ENERGY_JOINT: self._joint(squares, squares_x)}
            self._around = measure.surroundings(t.x, t.z, neighbours=_NEAR)
            near = cdist(self._around, self._around, "sqeuclidean")
            self._median_around = measure.median_square(near)
            out[SURROUNDINGS] = -measure.kernels(near, self._median_around)
        return out

    def score(self, prediction: Cloud) -> dict[Metric, Score]:
        """Return every score that applies, the gate first.

        ======================================== ============================================================
        metric                                   meaning
        ======================================== ============================================================
        energy distance of states                the gate without space; unbiased, weighted by mass
        energy distance of states and positions  the gate with space; each in spreads of the training stages
        energy distance of positions             µm, in the body frame
        MMD² of states                           five Gaussian kernels about the median distance of the truth
        W1, W2                                   exact, with the masses of the prediction
        W1, W2, every particle once              exact, without them
        W1 within types                          by type of the truth, weighted by its share; predicted types are those
                                                 of the nearest training cells; a type that is not predicted is held
                                                 against the whole prediction
        error of cell number                     ``|log|`` of the ratio, where counts grow
        form, size, neighbourhoods, hand         with space: `embryo.evaluate.time.form.forms`
        ======================================== ============================================================
        """
        cloud = prediction.thin(self.max_cells)
        scores = {metric: Score(found.value, found.influence) for metric, found in self._energies(cloud)}
        scores |= self.transports(prediction)
        scores |= dict(self._types(cloud))
        if self.space:
            scores |= dict(self._neighbourhoods(cloud))
            read = self._read if self._typed else None
            scores |= dict(forms(cloud, self.held, read, seed=self.seed))
        if self.number is not None:
            scores[NUMBER] = self._number(float(prediction.mass.sum()))
        return scores

    def _energies(self, p: Cloud) -> Iterator[tuple[Metric, measure.Discrepancy]]:
        t = self.held.cells
        pairs = ((p, t), (p, p))
        across, within = (cdist(a.z, b.z, "sqeuclidean") for a, b in pairs)
        yield ENERGY, self._apart(ENERGY, np.sqrt(across), np.sqrt(within), p)
        if self.space:
            across_x, within_x = (cdist(a.x, b.x, "sqeuclidean") for a, b in pairs)
            joint = self._joint(across, across_x), self._joint(within, within_x)
            yield ENERGY_JOINT, self._apart(ENERGY_JOINT, *joint, p)
            yield ENERGY_X, self._apart(ENERGY_X, np.sqrt(across_x), np.sqrt(within_x), p)
        across, within = (-measure.kernels(squares, self._median) for squares in (across, within))
        yield MMD, self._apart(MMD, across, within, p)

    def _apart(self, metric: Metric, across: np.ndarray, within: np.ndarray, p: Cloud) -> measure.Discrepancy:
        return measure.discrepancy(across, within, self.curvature[metric], p.mass, self.held.cells.mass)

    def _joint(self, squares_z: np.ndarray, squares_x: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(squares_z / self.held.spread_z**2 + squares_x / self.held.spread_x**2))

    def transports(self, prediction: Cloud) -> dict[Metric, Score]:
        """Return the Wasserstein distances of the whole, which `score` has too."""
        most = 2 * self.max_transport  # the plan between two stages of n cells has up to 2n - 1 pairs
        weighted = prediction.thin(most)
        level = weighted if prediction.even else prediction.level().thin(most)
        orders: tuple[Literal[1], Literal[2]] = (1, 2)
        found = [self._transport(weighted, order) for order in orders]
        once = found if level is weighted else [self._transport(level, order) for order in orders]
        return dict(zip(TRANSPORTS, (found[0], once[0], found[1], once[1]), strict=True))

    def _transport(self, p: Cloud, order: Literal[1, 2]) -> Score:
        found = measure.wasserstein(p.z, self.held.cells.z[self._few], p.mass, order=order)
        return Score(found.value, self._spread_out(self._few, found.influence))

    def _spread_out(self, rows: np.ndarray, influence: np.ndarray) -> Float[np.ndarray, " cells"]:
        """Return influences over all cells from those over a sample: the sample's share of the weight is what moves."""
        full = np.zeros(len(self.held.cells))
        full[rows] = influence * len(full) / len(rows)
        return full

    def _types(self, p: Cloud) -> Iterator[tuple[Metric, Score]]:
        names, counts = np.unique(self.held.labels, return_counts=True)
        chosen = [n for n, count in zip(names, counts, strict=True) if n and count >= _LEAST]
        if not self._typed or len(chosen) < 2:
            return
        read = self._read(p.z)
        own = np.isin(self.held.labels, chosen)
        value, influence = 0.0, np.zeros(len(self.held.cells))
        for name in chosen:
            rows = np.flatnonzero(self.held.labels == name)
            kept = rows[measure.thin(np.ones(len(rows)), self.max_transport // 2)[0]]
            mine = p[read == name] if (p.mass[read == name] > 0).any() else p
            mine = mine.thin(self.max_transport // 2)
            found = measure.wasserstein(mine.z, self.held.cells.z[kept], mine.mass)
            value += len(rows) / own.sum() * found.value
            influence[kept] += found.influence * len(rows) / len(kept)
            influence[rows] += found.value
        influence[own] -= value
        yield TYPES, Score(value, influence * len(own) / own.sum())

    def _read(self, z: Float[np.ndarray, "cells dims"]) -> np.ndarray:
        """Return the commonest type among the nearest training cells; the same cells are read once."""
        if self._last is None or self._last[0] is not z:
            self._last = (z, np.asarray(self._reader.predict(z)))
        return self._last[1]

    def _neighbourhoods(self, p: Cloud) -> Iterator[tuple[Metric, Score]]:
        around = measure.surroundings(p.x, p.z, p.mass, neighbours=_NEAR)
        squares = (cdist(around, other, "sqeuclidean") for other in (self._around, around))
        across, within = (-measure.kernels(s, self._median_around) for s in squares)
        found = self._apart(SURROUNDINGS, across, within, p)
        overlapping = np.sqrt(_NEAR)  # each cell is part of so many neighbourhoods, which are not so many draws
        yield SURROUNDINGS, Score(found.value, found.influence * overlapping)

    def _number(self, predicted: float) -> Score:
        assert self.number is not None  # noqa: S101  asked for only where counts grow
        off = float(np.log(predicted / self.number))
        names, member = np.unique(self.held.groups, return_inverse=True)
        if len(names) < 2:
            return Score(abs(off))
        sizes = np.bincount(member)
        influence = np.sign(off) * (sizes.mean() / sizes)[member]
        return Score(abs(off), np.asarray(influence - influence.mean()))
