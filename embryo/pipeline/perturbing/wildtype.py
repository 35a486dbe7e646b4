"""The control beside measured wild type: where it drifts away, the effect of an edit means nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from embryo import measure
from embryo.core.state import State
from embryo.core.table import row, table
from embryo.core.trajectory import Trajectory
from embryo.measure.moment import moment

CONTROL = "control beside measured wild type"
STILL = "no change beside measured wild type"
ONE = "one wild-type embryo beside the others"
MODELS = (CONTROL, STILL, ONE)
METRICS = {"fates apart": "1", "levels apart": "log1p"}
_USUAL = 0.95  # quantile of wild-type embryos beyond which a control is none of them

Wild = Mapping[float, Sequence[State]]


def rows(controls: Sequence[Trajectory], wild: Wild, fate: measure.FateClassifier) -> pd.DataFrame:
    """Hold the control against wild-type embryos measured at later times.

    Two distances from the mean over these embryos: ``fates apart``, half the sum of absolute differences of fate
    fractions (Bray-Curtis), and ``levels apart``, the root mean square over the panel of differences of mean levels.
    Beside them stand the start left as it is, and every single embryo against the mean of the others.

    Parameters
    ----------
    controls
        One roll-out per seed.
    wild
        Embryos by time, hours; times with fewer than two are left out: nothing is known of how embryos differ.
    fate
        The read-out of fates.

    Returns
    -------
    pd.DataFrame
        Tidy rows with ``time_h``, the stored time that is nearest (where embryos lie closer in time than what is
        stored, those nearest to it); the interval is over seeds, that of the embryos their quantiles 5 and 95 %.
    """
    stored = controls[0].times_h.double().numpy()
    begin = [_seen(one.at(0), fate) for one in controls]
    out: list[dict[str, Any]] = []
    for k, embryos in _nearest(stored, wild):
        at = float(stored[k])
        those = [_seen(state, fate) for state in embryos]
        own = [_seen(one.at(k), fate) for one in controls]
        apart = {CONTROL: [_apart(one, those) for one in own], STILL: [_apart(one, those) for one in begin]}
        single = [_apart(one, those[:j] + those[j + 1 :]) for j, one in enumerate(those)]
        for m, (metric, unit) in enumerate(METRICS.items()):
            about = {"board": "", "split": f"t={at:g} h", "metric": metric, "unit": unit}
            for model, values in apart.items():
                role: Any = "control" if model == CONTROL else "floor"
                out.append(row(model=model, role=role, values=[v[m] for v in values], **about) | {"time_h": at})
            spread = np.array([v[m] for v in single])
            made = row(model=ONE, role="repeat", values=spread, **about)
            low, high = np.quantile(spread, [1 - _USUAL, _USUAL])
            out.append(made | {"low": float(low), "high": float(high), "time_h": at})
    return table(out)


def _nearest(stored: np.ndarray, wild: Wild) -> list[tuple[int, Sequence[State]]]:
    """Return stored times after the start, by number, with the embryos that were measured nearest to each."""
    near: dict[int, float] = {}
    for t, embryos in sorted(wild.items()):
        k = int(np.abs(stored - t).argmin())
        usable = len(embryos) > 1 and stored[0] < t <= stored[-1] + 1e-6 and k > 0
        if usable and abs(t - stored[k]) < abs(near.get(k, np.inf) - stored[k]):
            near[k] = t
    return [(k, wild[t]) for k, t in near.items()]


def sentence(found: pd.DataFrame, whose: str) -> str:
    """Return what the yardstick says, for the line beside the tier.

    Parameters
    ----------
    found
        A table with the rows that `rows` returns.
    whose
        Which embryos it was held against.
    """
    found = found[found["metric"].isin(METRICS)]
    if found.empty:
        return "Control: no later wild-type embryos were measured that it could be held against."
    wide = found.pivot_table(index=["metric", "time_h"], columns="model", values="value")
    usual = found[found["model"] == ONE].set_index(["metric", "time_h"])["high"]
    off = wide[CONTROL] > usual.reindex(wide.index)
    worse = wide[CONTROL] >= wide[STILL]
    numbers = "; ".join(
        f"{metric} {wide[CONTROL][metric].mean():.2g} (no change {wide[STILL][metric].mean():.2g}, "
        f"one embryo {wide[ONE][metric].mean():.2g})"
        for metric in METRICS
    )
    said = f"{numbers}, mean over {wide[CONTROL].groupby('time_h').ngroups} times of {whose}."
    if off.any() or worse.any():
        which = f"beyond 95 % of single wild-type embryos in {off.sum()} of {len(off)} comparisons"
        still = f"no better than no change in {worse.sum()}"
        return f"CONTROL DRIFTS: {which}, {still}. The size of an effect is not claimed. {said}"
    return f"Control holds: among single wild-type embryos in all {len(off)} comparisons. {said}"


_Seen = tuple[pd.Series, np.ndarray]


def _seen(state: State, fate: measure.FateClassifier) -> _Seen:
    g = state.g.detach().cpu().double().numpy()
    mass = state.mass.detach().cpu().double().numpy()
    return moment(state, fate).share, np.average(g, axis=0, weights=mass)


def _apart(one: _Seen, others: Sequence[_Seen]) -> tuple[float, float]:
    share = pd.concat([s for s, _ in others], axis=1).fillna(0.0).mean(axis=1)
    level = np.mean([g for _, g in others], axis=0)
    return measure.bray_curtis(one[0], share), float(np.sqrt(((one[1] - level) ** 2).mean()))
