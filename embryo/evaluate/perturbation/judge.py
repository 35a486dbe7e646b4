"""Predictors of edited embryos, all on the same edits and draws: table, differences to the best floor, sentences."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from embryo.core import table
from embryo.core.table import Interval
from embryo.evaluate.perturbation import effects, scoring
from embryo.evaluate.perturbation.draws import DRAWS, Sampled, edit_weights, interval, moved, widened
from embryo.evaluate.perturbation.population import Prediction
from embryo.evaluate.perturbation.predictor import Predictor, Trial
from embryo.evaluate.perturbation.scoring import Bench
from embryo.evaluate.result import Result

ALL: Final = "all edits"
AUROC: Final = "AUROC of depletion and expansion"
FORM: Final = "AUROC of shorter and longer axes"
ABSTENTION: Final = "error over coverages, against answering at random"
ANSWERED: Final = "effect recovery in fates, where it answers"
ABSTAINS: Final = "share of edits abstained from"
HEADLINES: Final = (scoring.RECOVERY, scoring.MAP, scoring.STATES, scoring.LFC)
_COVERAGES = (0.25, 0.5, 0.75)
_MEDIANS = (
    scoring.RECOVERY,
    scoring.PAIRED,
    scoring.ENSEMBLE,
    scoring.MAP,
    scoring.STATES,
    scoring.PLACES,
    scoring.LFC,
)
_LIKE = {scoring.PAIRED: scoring.RECOVERY, scoring.MAP_PAIRED: scoring.MAP, scoring.LFC_PAIRED: scoring.LFC}
_SMALL = 0.005  # share added before logs of shares
_STRATA = 4  # edits from which on effects are split into weak and strong
Tick = Callable[[str, int, int], None]


@dataclass(eq=False)
class _Found:
    """All scores of one predictor."""

    predictor: Predictor
    sampled: dict[str, Sampled]
    shares: Float[np.ndarray, "edits fates"]
    change: dict[str, Float[np.ndarray, "edits _"]]  # predicted log ratios of shares, of body lengths
    doubt: Float[np.ndarray, " edits"]
    abstains: Float[np.ndarray, " edits"]  # share of seeds


def judge(
    trial: Trial, predictors: Sequence[Predictor], *, seeds: Sequence[int], draws: int = DRAWS, tick: Tick | None = None
) -> Result:
    """Score every predictor on every edit.

    Parameters
    ----------
    trial
        The truth.
    predictors
        Ours, floors and ceilings, in the order of the table; one that predicts no edit has no rows.
    seeds
        One prediction each for those that are random.
    draws
        Of edits and embryos.
    tick
        Called with (predictor, done, of).

    Returns
    -------
    Result
        Splits: all edits; with four or more, those of weak and of strong effects; and every edit by itself. Beside the
        columns of `embryo.core.table`: n_edits, better, verdict and tier.
    """
    bench = Bench(trial, seed=seeds[0], draws=draws)
    found = []
    for k, predictor in enumerate(predictors):
        one = _found(bench, predictor, seeds)
        found += [one] if one is not None else []
        if tick is not None:
            tick(predictor.name, k + 1, len(predictors))
    return _Report(bench, found).result()


@dataclass(eq=False)
class _Runs:
    """What one predictor says of all edits with all seeds; NaN where it says nothing."""

    bench: Bench
    seeds: Sequence[int]
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    partial: bool = False  # whether it is scored against some embryos only

    def __post_init__(self) -> None:
        shape = (len(self.bench.trial.labels), len(self.seeds))
        wild = self.bench.wild
        self.shares, self.lengths, self.against = (
            np.full((*shape, getattr(wild, kind).shape[1]), np.nan) for kind in ("shares", "lengths", "lengths")
        )
        self.doubt, self.abstains = np.full(shape, np.nan), np.full(shape, np.nan)

    def add(self, k: int, s: int, prediction: Prediction) -> None:
        """Score the prediction of the k-th edit with the s-th seed."""
        bench, seed = self.bench, self.seeds[s]
        for name, values in bench.scores(bench.trial.labels[k], prediction, seed).items():
            blank = np.full((*self.doubt.shape, bench.draws + 1), np.nan)
            self.rows.setdefault(name, blank)[k, s] = values
        view = bench.viewer.view(prediction.edited, seed, one=True)
        control = bench.wild if prediction.control is None else bench.viewer.view(prediction.control, seed, one=True)
        self.shares[k, s], self.lengths[k, s] = view.shares.mean(axis=0), view.lengths.mean(axis=0)
        self.against[k, s] = control.lengths.mean(axis=0)
        self.doubt[k, s], self.abstains[k, s] = prediction.doubt, prediction.abstains
        self.partial |= bool(prediction.seen)

    def found(self, predictor: Predictor) -> _Found | None:
        """Return all scores; None where it never says anything."""
        if not self.rows:
            return None
        bench, rows = self.bench, self.rows
        if scoring.RETRIEVAL in rows:  # a rank without a gain is chance
            gain = rows[scoring.RECOVERY][..., 0]
            rows[scoring.RETRIEVAL][np.isfinite(gain) & ~(gain > 0)] = effects.CHANCE
        sampled = {name: _sampled(bench, values) for name, values in rows.items()}
        sampled |= self._together()
        spread = np.zeros(len(self.doubt))
        if len(self.seeds) > 1:
            spread = self.shares.std(axis=1, ddof=1).mean(axis=1)
        own = self.doubt.mean(axis=1)
        wild = np.log(bench.wild.shares.mean(axis=0) + _SMALL)
        change = {AUROC: (np.log(self.shares + _SMALL) - wild).mean(axis=1)}
        change[FORM] = (self.lengths - self.against).mean(axis=1)
        doubt = np.where(np.isfinite(own), own, spread)
        return _Found(predictor, sampled, self.shares.mean(axis=1), change, doubt, self.abstains.mean(axis=1))

    def _together(self) -> dict[str, Sampled]:
        """Return scores of all seeds as one ensemble: their mean, and the interval that they span."""
        bench, out = self.bench, {}
        labels = bench.trial.labels
        if len(self.seeds) == 1:
            out[scoring.ENSEMBLE] = _sampled(bench, self.rows[scoring.RECOVERY])
        elif not self.partial:
            rows = np.stack([bench.pooled(label, self.shares[k]) for k, label in enumerate(labels)])
            out[scoring.ENSEMBLE] = _sampled(bench, rows[:, None])
        if len(self.seeds) > 2:
            inside = [effects.coverage(self.shares[k], bench.truth[label].shares) for k, label in enumerate(labels)]
            out[scoring.COVERAGE] = _still(bench, np.array(inside)[:, None])
        return out


def _found(bench: Bench, predictor: Predictor, seeds: Sequence[int]) -> _Found | None:
    runs = _Runs(bench, list(seeds) if predictor.random else list(seeds[:1]))
    for k, label in enumerate(bench.trial.labels):
        for s, seed in enumerate(runs.seeds):
            prediction = predictor(bench.trial.edits[label], seed)
            if prediction is not None:
                runs.add(k, s, prediction)
    return runs.found(predictor)


def _sampled(bench: Bench, rows: Float[np.ndarray, "edits seeds rows"]) -> Sampled:
    embryos = np.array([len(bench.truth[label].numbers) for label in bench.trial.labels])
    off = np.stack([moved(r.mean(axis=0), n) for r, n in zip(rows, embryos.tolist(), strict=True)], axis=1)
    return Sampled(rows[..., 0], off, embryos)


def _still(bench: Bench, values: Float[np.ndarray, "edits seeds"]) -> Sampled:
    return _sampled(bench, np.repeat(values[..., None], bench.draws + 1, axis=2))


@dataclass(eq=False)
class _Report:
    """Rows and sentences of what was found."""

    bench: Bench
    found: Sequence[_Found]
    sentences: list[str] = field(default_factory=list)

    def result(self) -> Result:
        """Return all."""
        trial = self.bench.trial
        rows = [*self._split(ALL, np.arange(len(trial.labels)), whole=True)]
        wild, truth = self.bench.wild, list(self.bench.truth.values())
        signs = effects.changed([effects.angles(v.shares) for v in truth], effects.angles(wild.shares))
        rows += self._signs(AUROC, signs)
        if wild.lengths.shape[1]:
            rows += self._signs(FORM, effects.changed([v.lengths for v in truth], wild.lengths))
        rows += self._abstention()
        if len(trial.labels) >= _STRATA:
            size = np.array([self.bench.size(label, "shares")[0] for label in trial.labels])
            order = np.argsort(size, kind="stable")
            rows += self._split("weak effects", order[: len(order) // 2], whole=False)
            rows += self._split("strong effects", order[len(order) // 2 :], whole=False)
        if len(trial.labels) > 1:
            for k, label in enumerate(trial.labels):
                rows += self._split(label, np.array([k]), whole=False)
        rows += self._fractions()
        self._counts()
        frame = table.table(rows).fillna({"better": "", "verdict": "", "tier": "", "n_edits": 1})
        return Result(frame.astype({"n_edits": int}), tuple(self.sentences))

    def _fractions(self) -> Iterator[dict[str, Any]]:
        """Return what becomes of each fate: with the edit, without it, and as predicted by ours."""
        trial = self.bench.trial
        for k, (label, view) in enumerate(self.bench.truth.items()):
            for f, fate in enumerate(trial.fates):
                known = {"board": trial.board, "split": label, "metric": f"fraction[{fate}]", "unit": "1"}
                shares = self.bench.wild.shares[:, f], view.shares[:, f]
                wild, truth = (table.interval(share).within(0.0, 1.0) for share in shares)
                yield table.row(**known, model="measured wild type", role="control", values=wild)
                yield table.row(**known, model="measured with the edit", role="edited", values=truth)
                for one in (g for g in self.found if g.predictor.role == "ours"):
                    yield table.row(**known, model=one.predictor.name, role="ours", values=float(one.shares[k, f]))

    def _split(self, split: str, edits: np.ndarray, *, whole: bool) -> Iterator[dict[str, Any]]:
        metrics = dict.fromkeys(m for f in self.found for m in f.sampled)
        for metric in metrics:
            scored = {f.predictor.name: (f, f.sampled[metric].only(edits)) for f in self.found if metric in f.sampled}
            for one, sampled in scored.values():
                yield self._row(split, metric, one.predictor, interval(sampled), len(sampled.known.values))
                if whole and metric in _MEDIANS and len(edits) > 1:
                    middle = interval(sampled, median=True)
                    yield self._row(split, f"median of {metric}", one.predictor, middle, len(sampled.known.values))
            yield from self._gains(split, metric, edits, scored, whole=whole)

    def _gains(
        self, split: str, metric: str, edits: np.ndarray, scored: dict[str, tuple[_Found, Sampled]], *, whole: bool
    ) -> Iterator[dict[str, Any]]:
        sign = -1.0 if metric in scoring.LOWER else 1.0
        like = _LIKE.get(metric, metric)  # floors have no control: theirs is the plain score
        floors = {
            f.predictor.name: f.sampled[like] for f in self.found if f.predictor.role == "floor" and like in f.sampled
        }
        chosen = {n: s.only(edits) for n, s in floors.items()}
        floors = {n: s for n, s in chosen.items() if len(s.known.values)}
        if not floors or metric == scoring.COVERAGE:
            return
        for name, (one, sampled) in scored.items():
            if one.predictor.role != "ours" or not len(sampled.known.values):
                continue
            best = max(floors, key=lambda n: sign * interval(floors[n]).value)
            gain = interval(_times(sampled.minus(floors[best]), sign))
            n = len(sampled.minus(floors[best]).known.values)
            words = f"{_head(gain)} {best}"
            row = self._row(
                split, metric, Predictor(f"{name} minus {best}", "difference", one.predictor.predict), gain, n
            )
            yield row | {"verdict": words}
            if whole:
                self.sentences.append(f"{metric}: {name}: {words} ({_span(gain)}, {self._units(n)}).")

    def _units(self, edits: int) -> str:
        if edits > 1:
            return f"{edits} edits"
        view = next(iter(self.bench.truth.values()))
        return f"one edit, {len(view.numbers)} {self.bench.trial.unit_name}"

    def _signs(self, metric: str, sign: np.ndarray) -> Iterator[dict[str, Any]]:
        edits, each = sign.shape
        drawn = np.vstack([np.ones(edits), edit_weights(edits, self.bench.seed, self.bench.draws)])
        known = {f.predictor.name: f for f in self.found if each and np.isfinite(f.change[metric]).all()}
        weights = np.repeat(drawn, each, axis=1)
        found = {m: effects.sign_auroc(f.change[metric].ravel(), sign.ravel(), weights) for m, f in known.items()}
        floors = [m for m, f in known.items() if f.predictor.role == "floor"]
        n = f"{int((sign != 0).sum())} of {sign.size} truly change"
        for name, one in known.items():
            rows = found[name]
            area = widened(float(rows[0]), rows[1:] - rows[0], max(edits, 2), 1)
            yield self._row(ALL, metric, one.predictor, area, edits)
            if one.predictor.role == "ours" and floors and np.isfinite(rows[0]) and edits > 1:
                best = max(floors, key=lambda m: found[m][0])
                off = rows - found[best]
                gain = widened(float(off[0]), off[1:] - off[0], edits, 1)
                span = f"{_span(gain)}, {edits} edits"
                self.sentences.append(f"{metric} ({n}): {name}: {_head(gain)} {best} ({span}).")

    def _abstention(self) -> Iterator[dict[str, Any]]:
        for one in (f for f in self.found if f.predictor.role == "ours"):
            error = one.sampled[scoring.ERROR].values.mean(axis=1)
            known = np.isfinite(error)
            error, doubt = error[known], one.doubt[known]
            n = len(error)
            for share in _COVERAGES if n > 1 else ():
                value = effects.error_at_coverage(error, doubt, share)
                name = f"{scoring.ERROR}, surest {share:.0%}"
                yield self._row(ALL, name, one.predictor, Interval(value, np.nan, np.nan, 1), n)
            if n > 1:
                yield self._row(ALL, ABSTENTION, one.predictor, self._area(error, doubt), n)
            quiet = one.abstains[known]
            yield self._row(ALL, ABSTAINS, one.predictor, Interval(float(quiet.mean()), np.nan, np.nan, 1), n)
            answers = np.flatnonzero(known)[quiet < 0.5]
            answered = interval(one.sampled[scoring.RECOVERY].only(answers))
            yield self._row(ALL, ANSWERED, one.predictor, answered, len(answers))
            if quiet.any():
                said = f"{one.predictor.name}: abstains on {int((quiet >= 0.5).sum())} of {n} edits"
                self.sentences.append(f"{said}; effect recovery where it answers {answered.value:.3g}.")

    def _area(self, error: np.ndarray, doubt: np.ndarray) -> Interval:
        rng = np.random.default_rng([self.bench.seed, len(error)])
        value = effects.area_under_risk(error, doubt)
        chosen = rng.integers(len(error), size=(min(self.bench.draws, 200), len(error)))
        drawn = np.array([effects.area_under_risk(error[i], doubt[i]) for i in chosen])
        return widened(value, drawn - value, len(error), 1)

    def _counts(self) -> None:
        """Say on how many edits ours beats every simple answer: no number stands for all edits."""
        floors = [f for f in self.found if f.predictor.role == "floor"]
        for one in (f for f in self.found if f.predictor.role == "ours"):
            own = one.sampled[scoring.RECOVERY].values.mean(axis=1)
            best = np.max([f.sampled[scoring.RECOVERY].values.mean(axis=1) for f in floors], axis=0) if floors else 0.0
            n = int(np.isfinite(own).sum())
            self.sentences.append(
                f"{one.predictor.name}: effect recovery above 0 on {int((own > 0).sum())} of {n} edits, above every "
                f"floor on {int((own > best).sum())}."
            )

    def _row(self, split: str, metric: str, predictor: Predictor, found: Interval, edits: int) -> dict[str, Any]:
        base = metric.removeprefix("median of ").partition(", surest")[0]
        row = table.row(
            board=self.bench.trial.board, split=split, model=predictor.name, role=predictor.role, metric=metric,
            unit=scoring.UNITS.get(base, "1"),
            values=found if predictor.role == "difference" else found.within(*_bounds(base)),
        )  # fmt: skip
        better = "lower" if base in (*scoring.LOWER, ABSTENTION) else "higher"
        more = {"n_edits": edits, "better": better, "verdict": "", "tier": predictor.tier}
        return row | more


def _bounds(metric: str) -> tuple[float, float]:
    """Return what a score cannot go beyond; unbiased energy distances may be negative, so that theirs has no end."""
    if metric in (scoring.STATES, scoring.PLACES):
        return -np.inf, np.inf
    if metric in (*scoring.LOWER, ABSTENTION):
        return 0.0, np.inf
    if metric in (AUROC, FORM, scoring.RETRIEVAL, scoring.COVERAGE):
        return 0.0, 1.0
    return (-1.0, 1.0) if metric.startswith("LFC") else (-np.inf, 1.0)


def _times(sampled: Sampled, sign: float) -> Sampled:
    return Sampled(sign * sampled.values, sign * sampled.moved, sampled.embryos)


def _head(gain: Interval) -> str:
    """Return what the interval of the gain allows to say; without an interval nothing is better."""
    if gain.low > 0:
        return "better than"
    return "worse than" if gain.high < 0 else "not better than"


def _span(gain: Interval) -> str:
    if not np.isfinite(gain.low):
        return f"gain {gain.value:.3g}, no interval"
    return f"gain {gain.value:.3g}, {table.LEVEL:.0%} interval {gain.low:.3g} to {gain.high:.3g}"
