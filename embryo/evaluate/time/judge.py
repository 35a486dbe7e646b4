"""Predictors of a held-out stage, judged: rows of the table, paired differences to the best floor, and sentences."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float

from embryo.core import table
from embryo.core.errors import EmbryoError, Problem
from embryo.core.table import Interval
from embryo.evaluate.ledger import Metric
from embryo.evaluate.result import Result
from embryo.evaluate.time import ceilings
from embryo.evaluate.time.clouds import Cloud, Score
from embryo.evaluate.time.floors import FLOORS
from embryo.evaluate.time.intervals import DRAWS, Bootstrap, Sample
from embryo.evaluate.time.predictor import Predictor
from embryo.evaluate.time.scores import Yardstick
from embryo.evaluate.time.series import Series

_ROUNDED = 1e-5, 1e-6  # gains within so much of the scores, or of 1, are rounding: states are 32-bit numbers

_Tick = Callable[[str, int, int], None]
_Ceiling = Callable[..., Iterator[tuple[Metric, str, Interval]]]


@dataclass(frozen=True)
class Limits:
    """How much of a stage is scored.

    Parameters
    ----------
    cells
        In energy distances and MMD, whose cost is quadratic.
    transport
        Of the truth in Wasserstein distances, whose cost is cubic; twice as many of a prediction.
    draws
        Of the bootstrap.
    """

    cells: int = 2000
    transport: int = 1000
    draws: int = DRAWS


def judge(  # noqa: PLR0913  what is judged, on what, by whom, and how much of it
    board: str,
    series: Series,
    truth: Series,
    predictors: Sequence[Predictor],
    *,
    seeds: Sequence[int] = tuple(range(5)),
    split: str | None = None,
    floors: Sequence[Predictor] = FLOORS,
    limits: Limits = Limits(),
    tick: _Tick | None = None,
) -> Result:
    """Judge predictors of one held-out stage beside every floor and the noise ceiling.

    ================================================ ========== ====================================================
    model                                            role       what it is
    ================================================ ========== ====================================================
    what `predictors` bring                          ours       under test
    what `floors` bring                              floor      needs no learning; never left out
    half against half of the truth (N against N)     ceiling    mean over 4 to 20 splits of the true cells
    ... carried on to M against M cells              ceiling    for Wasserstein distances, whose floor falls with N
    half of the embryos against the other half       repeat     where the truth has several embryos
    MODEL minus FLOOR                                difference paired gain over the best floor; positive is better
    ================================================ ========== ====================================================

    The best floor is chosen per metric by its score on the truth, which favours the floor. Intervals: Bayesian
    bootstrap over the embryos of the truth, or over the cells of the only one, times seeds
    (`embryo.evaluate.time.intervals`); they say how the scores of these predictions may be off for want of truth, not
    what other training embryos would have given. A gain that is no more than rounding is none: "the same as" the floor.

    Parameters
    ----------
    board
        What the rows are called.
    series
        The training stages: all that a predictor may see. Where one is of the time of the truth, as when cells are held
        out and not stages, floors carry other stages on to it and never copy it.
    truth
        A series of the held-out stage alone.
    predictors
        Under test.
    seeds
        Every random predictor, floor or not, predicts once per seed; the others once.
    split
        What was held out; by default its time, and whether it lies within the training stages.
    floors
        The floors.
    limits
        How much of a large stage is scored.
    tick
        Called with (what, done, of).

    Returns
    -------
    Result
        Rows with further columns better, n_particles (of the prediction), n_cells (of the truth), verdict.

    Raises
    ------
    EmbryoError
        Without a floor, with fewer than two seeds for something random, where the truth is not one stage, or where two
        predictors share a name.
    """
    _require(truth, [*predictors, *floors], seeds)
    t = truth.times_h[0]
    sheet = Sheet(board, split or split_name(series, t), truth, Yardstick(
        series, truth, max_cells=limits.cells, max_transport=limits.transport
    ), limits.draws)  # fmt: skip
    everyone = [*predictors, *floors]
    for k, predictor in enumerate(everyone):
        runs = [predictor.predict(series, t, seed) for seed in (seeds if predictor.random else seeds[:1])]
        made = [Cloud.of(state, f"{predictor.name} at {t:g} h") for state in runs if state is not None]
        if len(made) == len(runs):
            sheet.add(predictor, made)
        else:
            sheet.missing.append(predictor.name)
        if tick is not None:
            tick("judging", k + 1, len(everyone))
    return sheet.result(series)


def split_name(series: Series, t_h: float) -> str:
    """Return what a split is called: the time held out, and whether stages lie on both sides of it."""
    kind = "extrapolation" if None in series.flanks(t_h) else "interpolation"
    return f"t = {t_h:g} h, {kind}"


def require_bounds(frame: pd.DataFrame) -> None:
    """Raise unless floors stand beside every score under test, and a ceiling beside every held-out stage.

    Raises
    ------
    EmbryoError
        Naming what stands alone.
    """
    problems = []
    for (board, split), part in frame.groupby(["board", "split"], sort=False):
        bare = [
            str(metric)
            for metric, of in part.groupby("metric", sort=False)
            if "ours" in set(of["role"]) and "floor" not in set(of["role"])
        ]
        if bare:
            problems.append(Problem(f"{board}, {split}: {', '.join(bare)} without a floor", "floors", "judge again"))
        if "ours" in set(part["role"]) and "ceiling" not in set(part["role"]):
            found = f"{board}, {split}: no ceiling"
            problems.append(Problem(found, "half of the truth against half", f"hold out {2 * ceilings.LEAST} cells"))
    if problems:
        raise EmbryoError(*problems, subject="table of dynamics")


def _require(truth: Series, everyone: Sequence[Predictor], seeds: Sequence[int]) -> None:
    problems = []
    if len(truth) != 1:
        problems.append(Problem(f"{len(truth)} true stages", "one", "judge one held-out stage at a time"))
    if not any(p.role == "floor" for p in everyone):
        problems.append(Problem("no floor", "one or more", "leave floors at its default"))
    names = [p.name for p in everyone]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        problems.append(Problem(f"predictors of one name ({', '.join(twice)})", "names that differ", "rename them"))
    if len(seeds) < 2 and any(p.random for p in everyone):
        problems.append(Problem(f"{len(seeds)} seeds", "two or more", "what is random has no interval from one run"))
    if problems:
        raise EmbryoError(*problems, subject="judge")


@dataclass
class Sheet:
    """Scores of all predictors of one held-out stage."""

    board: str
    split: str
    truth: Series
    yard: Yardstick
    draws: int
    samples: dict[Metric, dict[str, Sample]] = field(default_factory=dict)
    roles: dict[str, table.Role] = field(default_factory=dict)
    particles: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bootstrap = Bootstrap.over(self.yard.held.groups, draws=self.draws)
        self.wobble = {m: self.bootstrap.wobble(within) for m, within in self.yard.curvature.items()}

    def add(self, predictor: Predictor, made: Sequence[Cloud]) -> None:
        """Score the predictions of one predictor, one per seed."""
        self.roles[predictor.name], self.particles[predictor.name] = predictor.role, len(made[0])
        scored = [self.yard.score(cloud) for cloud in made]
        for metric in scored[0]:
            scores = [one[metric] for one in scored if metric in one]
            if len(scores) == len(scored):
                sample = _sample(scores, self.wobble.get(metric), random=predictor.random)
                self.samples.setdefault(metric, {})[predictor.name] = sample

    def result(self, series: Series) -> Result:
        """Return the table and the sentences."""
        rows, sentences = [], [f"{self.split}: {name}: left out, makes no prediction here." for name in self.missing]
        ceilings = self._ceilings(series)
        for metric, by_model in self.samples.items():
            rows += [self._row(metric, m, self.roles[m], self.bootstrap.interval(s)) for m, s in by_model.items()]
            rows += ceilings.get(metric, [])
            for model, floor, gain, words in self._compared(metric):
                rows.append(self._row(metric, f"{model} minus {floor}", "difference", gain) | {"verdict": words})
                span = f"gain {gain.value:.3g}, 95% interval {gain.low:.3g} to {gain.high:.3g}"
                span = span if np.isfinite(gain.low) else f"gain {gain.value:.3g}, no interval"
                sentences.append(f"{self.split}: {metric.name}: {model}: {words} ({span}).")
        frame = table.table(rows)
        require_bounds(frame)
        return Result(frame, tuple(sentences))

    def _row(self, metric: Metric, model: str, role: table.Role, found: Interval) -> dict[str, object]:
        row = table.row(
            board=self.board, split=self.split, model=model, role=role, metric=metric.name, unit=metric.unit,
            values=metric.bounded(found, role),
        )  # fmt: skip
        return row | {
            "better": metric.better,
            "n_particles": self.particles.get(model, 0), "n_cells": len(self.yard.held.cells), "verdict": "",
        }  # fmt: skip

    def _compared(self, metric: Metric) -> Iterator[tuple[str, str, Interval, str]]:
        """Yield (model, best floor, gain, words) of every model under test."""
        sign = 1 if metric.better == "higher" else -1
        by_model = {m: s for m, s in self.samples[metric].items() if np.isfinite(s.values).all()}
        floors = [m for m in by_model if self.roles[m] == "floor"]
        if not floors:
            return
        best = max(floors, key=lambda m: sign * float(by_model[m].values.mean()))
        for model in (m for m in by_model if self.roles[m] == "ours"):
            mine, theirs = by_model[model], by_model[best]
            gain = self.bootstrap.interval(mine.minus(theirs) if sign > 0 else theirs.minus(mine))
            scale = max(abs(float(s.values.mean())) for s in (mine, theirs))
            yield model, best, gain, f"{_head(gain, max(_ROUNDED[0] * scale, _ROUNDED[1]))} {best}"

    def _ceilings(self, series: Series) -> Mapping[Metric, list[dict[str, object]]]:
        limits = {"cells": self.yard.max_cells, "transport": self.yard.max_transport}
        out: dict[Metric, list[dict[str, object]]] = {}
        parts: tuple[tuple[table.Role, _Ceiling], ...] = (("ceiling", ceilings.halves), ("repeat", ceilings.embryos))
        for role, made in parts:
            for metric, name, found in made(series, self.truth, **limits):
                out.setdefault(metric, []).append(self._row(metric, name, role, found))
        return out


def _head(gain: Interval, rounded: float) -> str:
    """Say how a model compares with a floor; `rounded` is what two scores differ by for the rounding of numbers."""
    low, high = (gain.value if np.isnan(end) else end for end in (gain.low, gain.high))
    if max(abs(low), abs(high), abs(gain.value)) <= rounded:
        return "the same as"
    if gain.low > rounded:
        return "better than"
    return "worse than" if gain.high < -rounded else "not better than"


def _sample(scores: Sequence[Score], wobble: Float[np.ndarray, " draws"] | None, *, random: bool) -> Sample:
    known = [s.influence for s in scores if s.influence is not None]
    influence = np.mean(known, axis=0) if len(known) == len(scores) else None
    return Sample(np.array([s.value for s in scores]), influence, random, wobble)
