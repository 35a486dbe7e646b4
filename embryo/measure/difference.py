"""The table of a perturbation: control, edit and their difference, beside what wild-type embryos differ by anyway."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State
from embryo.core.table import LEVEL, Interval, Role, interval, row, student, table
from embryo.core.trajectory import Trajectory
from embryo.measure.composition import FateClassifier
from embryo.measure.moment import Moment, least, moment, of_one, of_two, unit
from embryo.measure.paired import require_paired

Repeat = Mapping[float, State]

_TIMES = 5  # stored times in the table by default
_MODEL = "embryo"
_SEEDS, _EMBRYOS = "wild-type seeds", "wild-type embryos"


@dataclass(frozen=True)
class _Band:
    """By how much wild-type repeats differ: typically, and the limits of 95 % of such differences."""

    typical: float
    low: float
    high: float
    n: int
    distance: bool = False  # a small distance is no effect: only those above the band lie outside it

    def excludes(self, value: float) -> bool:
        return bool(value > self.high or (value < self.low and not self.distance))


_NO_BAND = _Band(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class _Yardstick:
    """What no change looks like: the differences between controls of two seeds, and the bands of the repeats."""

    pairs: list[float]
    seeds: int
    bands: Mapping[str, _Band]


def difference(
    control: Sequence[Trajectory],
    edited: Sequence[Trajectory],
    *,
    fate: FateClassifier,
    repeats: Sequence[Repeat] = (),
    times_h: Sequence[float] | None = None,
    board: str = "perturbation",
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what an edit does, and whether that is more than wild-type embryos differ by anyway.

    Parameters
    ----------
    control, edited
        Roll-outs, one per seed; ``control[i]`` and ``edited[i]`` share seed, start, grid and frame.
    fate
        Reads fates off z; its own error is in ``fate.error``.
    repeats
        Measured wild-type embryos: for each, its states by time (h), z in the same embedding and x in the same
        frame. They are the honest yardstick: the seeds of one model differ less than embryos do.
    times_h
        Stored times to measure; by default at most five, evenly from the first to the last.
    board
        Name of the perturbation, such as ``Edit.label``.
    seed
        Seed of the subsample of the energy distances (1000 particles).

    Returns
    -------
    pd.DataFrame
        Columns ``board split model role metric value low high n_seeds unit time_h beyond_repeats``. Roles:

        ``control``, ``edited``
            Mean over seeds; low and high its t-interval at 95 %, no lower than the quantity can be. A distance belongs
            to two embryos and has neither.
        ``difference``
            Edited minus control of the same seed (for a distance: the distance between them), mean over seeds with
            its t-interval. ``beyond_repeats`` is True where this mean lies outside the band of every ``repeat`` row
            of its quantity; False where it does not, or where there is no band for want of repeats.
        ``floor``, model "no change"
            The same statistic between the controls of two seeds: mean, least and greatest pair (0 in the mean for
            signed differences, as each pair counts both ways); 0 by definition with one seed.
        ``repeat``, models "wild-type seeds" and "wild-type embryos"
            Mean absolute difference between two repeats; low and high the band that holds 95 % of the differences
            between two further repeats. For a quantity of one embryo, ``± t(n - 1) s sqrt(2)``, exact for normal
            values (the difference of two has variance 2 s²); needs two repeats. For a distance, mean ± ``t(n - 1) s
            sqrt(1 + 1/n)`` of the distances of all pairs; needs three. That one is approximate, as pairs share
            embryos: of simulated normal embryos 2 to 7 % of further pairs lie above it.

        The quantities are those of `moment.of_one` and `moment.of_two`. One that is defined nowhere has no row.

    Raises
    ------
    FrameError
        If roll-outs stand in different frames.
    SchemaError
        If the two arms do not pair up, or a time is not stored.
    """
    _require_arms(control, edited)
    rows: list[dict[str, Any]] = []
    for k in _chosen(control[0], times_h):
        t_h = float(control[0].times_h[k])
        wild = [moment(c.at(k), fate, c.cells) for c in control]
        altered = [moment(e.at(k), fate, e.cells) for e in edited]
        measured = [moment(state, fate) for state in _measured_at(repeats, t_h)]
        found = [*_rows_of_one(wild, altered, measured), *_rows_of_two(wild, altered, measured, seed)]
        label = {"board": board, "split": f"t={t_h:g} h", "time_h": t_h}
        rows += [record | label for record in found if record["n_seeds"] > 0]
    return table(rows)


def _require_arms(control: Sequence[Trajectory], edited: Sequence[Trajectory]) -> None:
    if not control or len(control) != len(edited):
        raise SchemaError(
            Problem(
                f"{len(control)} controls and {len(edited)} edits",
                "at least one of each, paired by seed",
                "simulate both arms with the same seeds",
            ),
            subject="difference",
        )
    first = control[0]
    for c, e in zip(control, edited, strict=True):
        require_paired(c, e)
        first.frame.require_same(c.frame)
        if len(c) != len(first) or not bool((c.times_h == first.times_h).all()):
            raise SchemaError(
                Problem("controls on different times", "one time grid for all seeds", "simulate them on one grid"),
                subject="difference",
            )


def _chosen(trajectory: Trajectory, times_h: Sequence[float] | None) -> list[int]:
    stored = trajectory.times_h.detach().cpu().double().numpy()
    if times_h is None:
        return sorted(set(np.linspace(0, len(stored) - 1, min(_TIMES, len(stored))).round().astype(int).tolist()))
    nearest = [int(np.abs(stored - t).argmin()) for t in times_h]
    missing = [t for t, k in zip(times_h, nearest, strict=True) if abs(stored[k] - t) > schema.SAME_TIME_H]
    if missing:
        raise SchemaError(
            Problem(f"times {missing} h", f"stored times, {stored.min():g} to {stored.max():g} h", "store these too"),
            subject="difference",
        )
    return nearest


def _measured_at(repeats: Sequence[Repeat], t_h: float) -> Iterator[State]:
    for repeat in repeats:
        for t in sorted(repeat, key=lambda t: abs(t - t_h))[:1]:
            if abs(t - t_h) <= schema.SAME_TIME_H:
                yield repeat[t]


def _rows_of_one(
    wild: Sequence[Moment], altered: Sequence[Moment], measured: Sequence[Moment]
) -> Iterator[dict[str, Any]]:
    c, e, m = (pd.DataFrame([of_one(one) for one in group]) for group in (wild, altered, measured))
    for metric in map(str, c):
        values, embryos = c[metric].to_numpy(), m[metric].to_numpy() if metric in m else np.empty(0)
        yield _row("control", _MODEL, metric, interval(values).within(least(metric)))
        yield _row("edited", _MODEL, metric, interval(e[metric].to_numpy()).within(least(metric)))
        pairs = [b - a for a, b in permutations(values.tolist(), 2)]
        bands = {_SEEDS: _band_of_values(values), _EMBRYOS: _band_of_values(embryos)}
        change = interval(e[metric].to_numpy() - values)
        yield from _compared(metric, change, _Yardstick(pairs, len(wild), bands))


def _rows_of_two(
    wild: Sequence[Moment], altered: Sequence[Moment], measured: Sequence[Moment], seed: int
) -> Iterator[dict[str, Any]]:
    effect = pd.DataFrame([of_two(c, e, seed) for c, e in zip(wild, altered, strict=True)])
    c, m = (pd.DataFrame([of_two(a, b, seed) for a, b in combinations(group, 2)]) for group in (wild, measured))
    for metric in map(str, effect):
        pairs, embryos = (f[metric].to_numpy() if metric in f else np.empty(0) for f in (c, m))
        low = least(metric)
        bands = {_SEEDS: _band_of_pairs(pairs, len(wild), low), _EMBRYOS: _band_of_pairs(embryos, len(measured), low)}
        apart = interval(effect[metric].to_numpy()).within(low)
        yield from _compared(metric, apart, _Yardstick(pairs.tolist(), len(wild), bands))


def _compared(metric: str, effect: Interval, yardstick: _Yardstick) -> Iterator[dict[str, Any]]:
    """Rows difference, floor and repeat of one quantity."""
    record = _row("difference", _MODEL, metric, effect)
    known = [band for band in yardstick.bands.values() if np.isfinite([band.low, band.high]).all()]
    beyond = bool(known) and all(band.excludes(record["value"]) for band in known)
    yield record | {"beyond_repeats": beyond}
    if record["n_seeds"] == 0:
        return
    pairs = [pair for pair in yardstick.pairs if not np.isnan(pair)]
    mean, low, high = (float(np.mean(pairs)), min(pairs), max(pairs)) if pairs else (0.0, np.nan, np.nan)
    yield _spread("floor", "no change", metric, _Band(mean, low, high, yardstick.seeds))
    for name, band in yardstick.bands.items():
        yield _spread("repeat", name, metric, band)


def _band_of_values(values: np.ndarray) -> _Band:
    """By how much a quantity differs between two repeats, from its value in each."""
    finite = values[~np.isnan(values)].astype(float)
    n = len(finite)
    if n < 2:
        return _NO_BAND
    half = student(LEVEL, n - 1) * float(finite.std(ddof=1)) * np.sqrt(2)
    return _Band(float(pdist(finite[:, None]).mean()), 0.0 - half, half, n)


def _band_of_pairs(distances: np.ndarray, n: int, low: float) -> _Band:
    """By how much two repeats differ, from the distances between all pairs of n, none of which falls below `low`."""
    finite = distances[~np.isnan(distances)].astype(float)
    if len(finite) == 0:
        return _NO_BAND
    typical = float(finite.mean())
    if n < 3 or len(finite) < 2:
        return _Band(typical, np.nan, np.nan, n, distance=True)
    half = student(LEVEL, n - 1) * float(finite.std(ddof=1)) * np.sqrt(1 + 1 / n)
    return _Band(typical, max(typical - half, low), typical + half, n, distance=True)


def _row(role: Role, model: str, metric: str, values: Interval) -> dict[str, Any]:
    record = row(board="", split="", model=model, role=role, metric=metric, unit=unit(metric), values=values)
    return record | {"time_h": np.nan, "beyond_repeats": False}


def _spread(role: Role, model: str, metric: str, band: _Band) -> dict[str, Any]:
    """Return a row whose low and high are not an interval of the mean but the limits of the differences themselves."""
    return _row(role, model, metric, Interval(band.typical, band.low, band.high, band.n))
