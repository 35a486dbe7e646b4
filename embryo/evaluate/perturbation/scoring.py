"""One prediction against the embryos that truly carry the edit: every score, for equal weights and for all draws."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from embryo.evaluate.perturbation import effects, views
from embryo.evaluate.perturbation.draws import DRAWS, embryo_weights
from embryo.evaluate.perturbation.population import Prediction
from embryo.evaluate.perturbation.predictor import Trial
from embryo.evaluate.perturbation.views import View, Viewer, bray_curtis, mean_distances

RECOVERY = "effect recovery in fates"
PAIRED = "effect recovery in fates, paired"
MAP = "effect recovery in the fate map"
MAP_PAIRED = "effect recovery in the fate map, paired"
STATES = "effect recovery in states"
PLACES = "effect recovery in places and fates"
LFC, LFC_PAIRED = "LFC r", "LFC r, paired"
CENTRED = "LFC r, centred"
RETRIEVAL = "retrieval of the edit"
ENSEMBLE = "effect recovery in fates, seeds pooled"
SIZE = "error of cell number"
LENGTHS = "error of body lengths"
COVERAGE = "coverage of 90% intervals"
ERROR = "Bray-Curtis error of fates"
UNITS = {SIZE: "|log|", LENGTHS: "|log|"}
LOWER = (SIZE, LENGTHS, ERROR)
_LEAST = 0.25  # draws of the effect's size do not fall below this share of it: a ratio has no moments near 0

Rows = Float[np.ndarray, " rows"]  # equal weights first, then the draws
Draws = Float[np.ndarray, "rows embryos"]


@dataclass(frozen=True, eq=False)
class Bench:
    """The truth of a trial in all views, and the weights of its embryos in all draws."""

    trial: Trial
    seed: int = 0
    draws: int = DRAWS
    max_cells: int = 250
    _sizes: dict[tuple, Rows] = field(default_factory=dict)

    @cached_property
    def viewer(self) -> Viewer:
        """What makes views."""
        return Viewer(self.trial, self.max_cells)

    @cached_property
    def wild(self) -> View:
        """The wild type."""
        return self.viewer.view(self.trial.wild)

    @cached_property
    def truth(self) -> dict[str, View]:
        """The edited embryos."""
        return {label: self.viewer.view(p) for label, p in self.trial.truth.items()}

    @cached_property
    def wild_weights(self) -> Float[np.ndarray, "rows embryos"]:
        """Weights of the wild embryos."""
        return embryo_weights(len(self.wild.numbers), [self.seed, 0], self.draws)

    @cached_property
    def weights(self) -> dict[str, Float[np.ndarray, "rows embryos"]]:
        """Weights of the edited embryos."""
        return {
            label: embryo_weights(len(view.numbers), [self.seed, k + 1], self.draws)
            for k, (label, view) in enumerate(self.truth.items())
        }

    @cached_property
    def true_lfc(self) -> Float[np.ndarray, "edits genes"]:
        """Log fold changes of all edits, embryos weighted alike."""
        wild = self.wild.levels.mean(axis=0)
        return np.stack(
            [effects.log_fold_change(v.levels.mean(axis=0), wild, views.FLOOR) for v in self.truth.values()]
        )

    def own(self, label: str, seen: tuple[str, ...] = ()) -> Float[np.ndarray, "rows embryos"]:
        """Return the weights of the edited embryos, none for those that a prediction was made of."""
        kept = ~np.isin(self.trial.truth[label].embryos, seen)
        weights = self.weights[label] * kept
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def size(self, label: str, kind: str, seen: tuple[str, ...] = ()) -> Rows:
        """Return the distance of the wild type from the edited embryo: the size of the effect."""
        key = (label, kind, seen)
        if key not in self._sizes:
            truth, own = self.truth[label], self.own(label, seen)
            if kind in ("shares", "maps"):
                a, b = self.wild_weights @ getattr(self.wild, kind), own @ getattr(truth, kind)
                found = bray_curtis(a, b)
            else:
                across = mean_distances(getattr(self.wild, kind), getattr(truth, kind))
                first = 2 * np.einsum("dw,wt,dt->d", self.wild_weights, across, own)
                found = first - self._within(None, kind) - self._within(label, kind, seen)
            self._sizes[key] = np.asarray(found)
        return self._sizes[key]

    def _within(self, label: str | None, kind: str, seen: tuple[str, ...] = ()) -> Rows:
        key = (label, f"within {kind}", seen)
        if key not in self._sizes:
            view = self.wild if label is None else self.truth[label]
            weights = self.wild_weights if label is None else self.own(label, seen)
            matrix = mean_distances(getattr(view, kind))
            self._sizes[key] = np.asarray(np.einsum("dw,wv,dv->d", weights, matrix, weights))
        return self._sizes[key]

    def scores(self, label: str, prediction: Prediction, seed: int = 0) -> dict[str, Rows]:
        """Return every score of one prediction of one edit, equal weights first, then all draws."""
        unchanged = prediction.edited is self.trial.wild
        view = self.viewer.view(prediction.edited, seed, one=True)
        shares = self.wild_weights @ self.wild.shares if unchanged else view.shares.mean(axis=0)[None]
        truth, own, seen = self.truth[label], self.own(label, prediction.seen), prediction.seen
        apart = bray_curtis(shares, own @ truth.shares)
        out = {RECOVERY: 1 - apart / self._sized(label, "shares", seen), ERROR: apart}
        if truth.maps.shape[1]:
            maps = self.wild_weights @ self.wild.maps if unchanged else view.maps.mean(axis=0)[None]
            out[MAP] = 1 - bray_curtis(maps, own @ truth.maps) / self._sized(label, "maps", seen)
        for name, kind in ((STATES, "states"), (PLACES, "places")):
            if getattr(truth, kind) is not None:
                out[name] = np.zeros(len(own)) if unchanged else self._energy(label, kind, view, seen)
        numbers = self.wild_weights @ self.wild.numbers if unchanged else view.numbers.mean()
        out[SIZE] = np.abs(np.log(numbers / (own @ truth.numbers)))
        if truth.lengths.shape[1]:
            lengths = self.wild_weights @ self.wild.lengths if unchanged else view.lengths.mean(axis=0)
            out[LENGTHS] = np.abs(lengths - own @ truth.lengths).mean(axis=1)
        out |= self._expression(label, view, own, unchanged=unchanged)
        if prediction.control is not None:
            out |= self._paired(label, view, self.viewer.view(prediction.control, seed, one=True), own)
        return {name: np.broadcast_to(np.asarray(rows, float), (len(own),)) for name, rows in out.items()}

    def pooled(self, label: str, shares: Float[np.ndarray, "seeds fates"], seen: tuple[str, ...] = ()) -> Rows:
        """Return the effect recovery of the mean of several predictions."""
        apart = bray_curtis(shares.mean(axis=0)[None], self.own(label, seen) @ self.truth[label].shares)
        return np.asarray(1 - apart / self._sized(label, "shares", seen))

    def _sized(self, label: str, kind: str, seen: tuple[str, ...] = ()) -> Rows:
        size = self.size(label, kind, seen)
        whole = size[0] if size[0] > 0 else np.nan
        return np.asarray(np.maximum(size, _LEAST * whole))

    def _energy(self, label: str, kind: str, view: View, seen: tuple[str, ...]) -> Rows:
        cloud = getattr(view, kind)
        across = mean_distances(cloud, getattr(self.truth[label], kind))[0]
        within = float(mean_distances(cloud)[0, 0])
        found = 2 * self.own(label, seen) @ across - within - self._within(label, kind, seen)
        return np.asarray(1 - found / self._sized(label, kind, seen))

    def _expression(self, label: str, view: View, own: Draws, *, unchanged: bool) -> dict[str, Rows]:
        wild, truth, genes = self._levels(label, own)
        levels = wild[:1] if unchanged else view.levels.mean(axis=0)[None, genes]
        predicted = effects.log_fold_change(levels, wild[:1], views.FLOOR)  # what it says does not change with draws
        predicted = np.broadcast_to(predicted, wild.shape)
        true = effects.log_fold_change(truth, wild, views.FLOOR)
        out = {LFC: effects.pearson(predicted, true)}
        k = self.trial.labels.index(label)
        others = [i for i, name in enumerate(self.trial.labels) if name != label]
        if others:
            mean = self.true_lfc[np.ix_(others, genes)].mean(axis=0)
            out[CENTRED] = effects.pearson(predicted - mean, true - mean)
            out[RETRIEVAL] = np.full(len(wild), effects.retrieval(predicted[0], self.true_lfc[:, genes], k))
        return out

    def _levels(self, label: str, own: Draws) -> tuple[np.ndarray, np.ndarray, list[int]]:
        gene = self.trial.edits[label].gene
        genes = [i for i, name in enumerate(self.trial.panel) if name != gene]
        wild = self.wild_weights @ self.wild.levels[:, genes]
        return wild, own @ self.truth[label].levels[:, genes], genes

    def _paired(self, label: str, view: View, control: View, own: Draws) -> dict[str, Rows]:
        """Return scores of the measured wild type plus what the edit changes in the prediction."""
        truth = self.truth[label]
        out = {}
        for name, kind in ((PAIRED, "shares"), (MAP_PAIRED, "maps")):
            if not getattr(truth, kind).shape[1]:
                continue
            delta = getattr(view, kind).mean(axis=0) - getattr(control, kind).mean(axis=0)
            moved = np.clip(self.wild_weights @ getattr(self.wild, kind) + delta, 0, None)
            moved /= moved.sum(axis=1, keepdims=True)
            out[name] = 1 - bray_curtis(moved, own @ getattr(truth, kind)) / self._sized(label, kind)
        wild, true, genes = self._levels(label, own)
        predicted = effects.log_fold_change(
            view.levels.mean(axis=0)[genes], control.levels.mean(axis=0)[genes], views.FLOOR
        )
        true_lfc = effects.log_fold_change(true, wild, views.FLOOR)
        out[LFC_PAIRED] = effects.pearson(np.broadcast_to(predicted, true_lfc.shape), true_lfc)
        return out
