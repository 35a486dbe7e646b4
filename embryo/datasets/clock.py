"""One clock for many movies: frames of each embryo mapped to hours by an affine map fitted to its division times.

Movies start at different moments, are sampled at different rates and develop at different temperatures. The births of
named cells happen in every wild-type embryo at the same developmental times, up to one affine map of the clock. The
consensus of these times is the median over embryos; the map of an embryo is fitted robustly, as the regression of its
frames (which carry the noise) on the consensus.

An affine clock takes away a development that is slower or faster as a whole. Where that is the phenotype, use the
nominal clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from embryo.core.checks import phrases
from embryo.core.errors import Problem, SchemaError
from embryo.datasets import lineage

MIN_EVENTS = 5  # shared births that an affine map is fitted to
_GAP = 3.0  # frames that may lie between the last of the mother and the first of the daughter
_ROUNDS = 12
_TOLERANCE_H = 1e-3
_HUBER = 1.345  # residuals beyond so many standard deviations count by their sign only
_REWEIGHTINGS = 30

# Births in hours after the division of AB: consensus of the EPIC movies that were taken every minute.
LANDMARKS_H: Mapping[str, float] = {
    "AB": -0.23,
    "ABa": 0.0,
    "EMS": 0.03,
    "ABal": 0.22,
    "MS": 0.29,
    "C": 0.34,
    "ABala": 0.46,
    "MSa": 0.56,
    "Ea": 0.58,
    "Ca": 0.64,
    "ABalaa": 0.74,
    "D": 0.74,
    "MSaa": 0.91,
    "Caa": 1.03,
    "ABalaaa": 1.16,
    "Eal": 1.24,
    "Da": 1.31,
    "MSaaa": 1.33,
    "Caaa": 1.55,
    "ABalaaaa": 1.66,
    "MSaaaa": 1.82,
    "Eala": 1.97,
    "ABalaaaal": 2.33,
}


@dataclass(frozen=True)
class Clock:
    """Affine map from the frames of an embryo to hours, ``t = slope_h * frame + offset_h``.

    Parameters
    ----------
    slope_h
        Hours per frame.
    offset_h
        Time of frame 0, hours.
    events
        How many births it was fitted to; 0 for a nominal clock.
    residual_h
        Median distance of these births from the consensus, hours.
    last_h
        Time of the latest birth used; nothing later than this was looked at. -inf for a nominal clock.
    """

    slope_h: float
    offset_h: float
    events: int = 0
    residual_h: float = 0.0
    last_h: float = float("-inf")

    def __call__(self, frame: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """Return the hours of frames."""
        return self.slope_h * np.asarray(frame, dtype=np.float64) + self.offset_h


def births(spans: pd.DataFrame) -> pd.Series:
    """Return the frame of each birth that the movie shows: the daughter appears just after its mother was last seen.

    Parameters
    ----------
    spans
        Columns first and last (frames), indexed by cell, as `Movie.spans` gives.
    """
    mother = lineage.mothers(spans.index)
    last = spans["last"].reindex(mother.to_numpy()).to_numpy()
    gap = spans["first"].to_numpy() - last
    seen: pd.Series = spans["first"][(gap > 0) & (gap <= _GAP)].astype(float)
    return seen


def synchronise(
    births: Mapping[str, pd.Series],
    *,
    held_out: Mapping[str, float] | None = None,
    landmarks_h: Mapping[str, float] | None = LANDMARKS_H,
    frame_min: float = 1.0,
) -> tuple[dict[str, Clock], pd.Series]:
    """Fit one clock per embryo.

    Parameters
    ----------
    births
        Per embryo, frames of births indexed by cell; see `births`.
    held_out
        Embryos that the consensus must not know, each with the time where its future begins (hours on the consensus
        clock; inf for none). Their clocks are fitted to the consensus of the others, from births up to that time
        only: nothing that happens later in a held-out embryo changes its clock.
    landmarks_h
        Known times of some births, hours: they give the consensus its unit and origin. With None, or where fewer than
        five of them are seen, the median embryo runs at `frame_min` and the earliest birth is 0.
    frame_min
        Nominal minutes per frame.

    Returns
    -------
    clocks
        One per embryo.
    consensus
        Time of each birth in hours, indexed by cell.

    Raises
    ------
    SchemaError
        For every embryo that shares too few births with the others to be put on their clock.
    """
    future = held_out or {}
    train = {name: frames for name, frames in births.items() if name not in future}
    consensus, clocks, lost = _consensus(train, frame_min)
    scale, shift = _gauge(consensus, clocks, landmarks_h, frame_min)
    consensus = scale * consensus + shift
    clocks = {
        name: Clock(
            scale * c.slope_h, scale * c.offset_h + shift, c.events, scale * c.residual_h, scale * c.last_h + shift
        )
        for name, c in clocks.items()
    }
    for name in births.keys() - train.keys():
        clock = _causal(births[name], consensus, future[name])
        if clock is None:
            lost.append(name)
        else:
            clocks[name] = clock
    if lost:
        raise SchemaError(
            *(_unshared(name, births[name], consensus, future.get(name, np.inf)) for name in sorted(lost))
        )
    return {name: clocks[name] for name in births}, consensus.sort_values()


def _unshared(name: str, frames: pd.Series, consensus: pd.Series, until_h: float) -> Problem:
    shared = frames.index.intersection(consensus.index)
    when = f" by {until_h:g} h" if np.isfinite(until_h) else ""
    return Problem(
        f"{len(shared)} births of named cells in embryo {name} that the other embryos share{when}"
        + (f" ({phrases.few(shared)})" if len(shared) else ""),
        f"at least {MIN_EVENTS}, spread over time, to put it on the common clock",
        'use clock="nominal" (frames times minutes per frame), a later synchronise_until_h, or leave the embryo out',
    )


def _consensus(train: Mapping[str, pd.Series], frame_min: float) -> tuple[pd.Series, dict[str, Clock], list[str]]:
    """Alternate between clocks given the consensus and the consensus (median over embryos) given the clocks."""
    usable = {name: frames for name, frames in train.items() if len(frames) >= MIN_EVENTS}
    if not usable:
        return pd.Series(dtype=float), {}, list(train)
    reference = max(usable, key=lambda name: (len(usable[name]), name))
    consensus = usable[reference] * (frame_min / 60)
    for _ in range(_ROUNDS):
        clocks = _fits(usable, consensus)
        times = pd.DataFrame({n: pd.Series(c(usable[n].to_numpy()), usable[n].index) for n, c in clocks.items()})
        scale = frame_min / 60 / float(np.median([c.slope_h for c in clocks.values()]))
        seen_twice = times.notna().sum(axis=1) >= min(2, len(usable))  # else an embryo is fitted to itself
        update = times[seen_twice].median(axis=1) * scale
        moved = (update - consensus.reindex(update.index)).abs()
        consensus = update
        if not moved.isna().any() and moved.max() < _TOLERANCE_H:
            break
    clocks = _fits(usable, consensus)
    return consensus, clocks, [name for name in train if name not in clocks]


def _fits(births: Mapping[str, pd.Series], consensus: pd.Series) -> dict[str, Clock]:
    return {name: clock for name, frames in births.items() if (clock := _fit(frames, consensus)) is not None}


def _gauge(
    consensus: pd.Series, clocks: Mapping[str, Clock], landmarks_h: Mapping[str, float] | None, frame_min: float
) -> tuple[float, float]:
    """Return scale and shift that give the consensus its unit and origin."""
    if not clocks:
        return 1.0, 0.0
    if landmarks_h is not None:
        known = pd.Series(landmarks_h, dtype=float)
        fit = _fit(consensus, known)  # consensus as "frames", landmarks as the clock
        if fit is not None:
            return fit.slope_h, fit.offset_h
    scale = frame_min / 60 / float(np.median([c.slope_h for c in clocks.values()]))
    return scale, -scale * float(consensus.min())


def _fit(frames: pd.Series, consensus: pd.Series) -> Clock | None:
    """Fit ``frame = (t - offset) / slope`` robustly; None with too few shared births or none that spread in time."""
    shared = frames.index.intersection(consensus.index)
    t, f = consensus[shared].to_numpy(dtype=float), frames[shared].to_numpy(dtype=float)
    if len(shared) < MIN_EVENTS or np.ptp(t) <= 0 or np.ptp(f) <= 0:
        return None
    rate, zero = _line(t, f)
    if not rate > 0:
        return None
    residual = float(np.median(np.abs((f - zero) / rate - t)))
    return Clock(1 / rate, -zero / rate, len(shared), residual, float(t.max()))


def _line(t: Float[np.ndarray, " births"], f: Float[np.ndarray, " births"]) -> tuple[float, float]:
    """Regress f on t with Huber's loss, by iteratively reweighted least squares; return slope and intercept."""
    weight = np.ones_like(t)
    slope = intercept = 0.0
    for _ in range(_REWEIGHTINGS):
        total, before = weight.sum(), (slope, intercept)
        t0, f0 = weight @ t / total, weight @ f / total
        slope = float(weight @ ((t - t0) * (f - f0)) / (weight @ (t - t0) ** 2))
        intercept = float(f0 - slope * t0)
        residual = np.abs(f - slope * t - intercept)
        sigma = 1.4826 * float(np.median(residual))
        if sigma <= 1e-9 or np.allclose(before, (slope, intercept), rtol=1e-9, atol=1e-9):
            break
        weight = np.minimum(1.0, _HUBER * sigma / np.maximum(residual, 1e-12))
    return slope, intercept


def _causal(frames: pd.Series, consensus: pd.Series, until_h: float) -> Clock | None:
    """Fit to the births of a held-out embryo in the order of its frames, and stop before the first after `until_h`."""
    shared = frames[frames.index.intersection(consensus.index)].sort_values(kind="stable")
    if not np.isfinite(until_h):
        return _fit(shared, consensus)
    best = None
    for frame in _distinct(shared):
        clock = _fit(shared[shared <= frame], consensus)
        if clock is None:
            continue
        if clock.slope_h * frame + clock.offset_h > until_h:
            break
        best = Clock(
            clock.slope_h, clock.offset_h, clock.events, clock.residual_h, clock.slope_h * frame + clock.offset_h
        )
    return best


def _distinct(frames: pd.Series) -> list[float]:
    return [float(f) for f in np.unique(frames.to_numpy(dtype=float))]
