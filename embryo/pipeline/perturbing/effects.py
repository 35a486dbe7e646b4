"""What an edit changes: the table, where in time it begins, what came through neighbours, how far it left the data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from embryo import measure
from embryo.core.state import State
from embryo.core.table import Interval, Role, interval, row, table
from embryo.core.trajectory import Trajectory
from embryo.measure.moment import least, moment, of_one, unit
from embryo.pipeline.perturbing.support import Support

MEASURED = "measured wild type"
ADDED = "measured wild type + effect"
_AXES = ("ap", "dv", "lr")
_ALONG = {"length_um": "µm", "middle_um": "µm", "edge": "% of length", "side": "1"}
_HAND = "laterality"
_ANY, _SHARE = (-np.inf, np.inf), (-1.0, 1.0)
_BOUNDS = {"middle_um": _ANY, "edge": _ANY, "side": _SHARE, _HAND: _SHARE, "cosine": _SHARE, "growth": _ANY}
_PLACES = ("middle_um", "edge", "side", _HAND)
_EDGES = {"low": 0.1, "high": 0.9}  # share of a fate's cells on the near side of its edges
_EXPRESSED = 0.05  # of the highest level of the training cells: below it a gene counts as not expressed
_SAME = 1e-6  # relative: differences below it are rounding

Arms = Sequence[tuple[Trajectory, Trajectory]]  # (control, edited), one pair per seed, over the same cells


def along_axes(state: State, fate: np.ndarray) -> dict[str, float]:
    """Return lengths along the axes of the body frame, where the middle of each fate lies (µm), and where its edges.

    An edge is the place with 10 (low) or 90 % (high) of a fate's cells on the near side, in percent of the length.
    ``side[FATE]`` is the share of a fate beyond the middle of the third axis less that before it (`measure.sides`):
    embryos are laid onto one another by proper rotations only, so that its sign means the same in all of them, though
    only who knows the reference can say whether that axis leads from left to right, and which end is left.
    """
    x, mass = state.x.double().numpy(), state.mass.double().numpy()
    alive = mass > 0
    x, mass, fate = x[alive], mass[alive], fate[alive]
    out = {}
    for k, axis in enumerate(_AXES[: x.shape[1]]):
        low, high = np.quantile(x[:, k], [0.02, 0.98])
        out[f"length_um[{axis}]"] = float(high - low)
        for name in np.unique(fate):
            rows = fate == name
            out[f"middle_um[{name}, {axis}]"] = float(np.average(x[rows, k], weights=mass[rows]))
            for side, share in _EDGES.items() if high > low else ():
                at = _quantile(x[rows, k], mass[rows], share)
                out[f"edge[{name}, {axis}, {side}]"] = float(100 * (at - low) / (high - low))
        if k == _AXES.index("lr") and high > low:
            out |= {f"side[{name}]": value for name, value in measure.sides(x[:, k], fate, mass).items()}
    return out


def _quantile(x: np.ndarray, mass: np.ndarray, share: float) -> float:
    """Return the least value with this share of the mass at or below it."""
    order = np.argsort(x, kind="stable")
    below = np.cumsum(mass[order])
    return float(x[order][min(np.searchsorted(below, share * below[-1]), len(x) - 1)])


def quantities(state: State, fate: measure.FateClassifier, landmarks: tuple[str, ...] = ()) -> dict[str, float]:
    """Return every quantity of one moment of one embryo; its hand where there are landmarks (`measure.laterality`)."""
    m = moment(state, fate)
    out = {**of_one(m), **along_axes(state, m.fate)}
    if landmarks:
        out[f"{_HAND}[{', '.join(landmarks)}]"] = measure.laterality(m.x, m.fate, landmarks, m.mass)
    return out


def landmarks(arms: Arms, fate: measure.FateClassifier) -> tuple[str, ...]:
    """Return the fates that tell the control of the first seed at its end from its mirror image best.

    None where no fates do: those that hold all cells lie in one plane with the centroid.
    """
    m = moment(arms[0][0].at(-1), fate)
    alive = m.mass > 0
    x, fates = m.x[alive], m.fate[alive].astype(str)
    found = measure.landmarks(x, fates) if x.shape[1] > 1 else ()
    return found if found and abs(measure.laterality(x, fates, found, m.mass[alive])) > _SAME else ()


def readable(found: pd.DataFrame, column: str, *, posed: bool) -> pd.DataFrame:
    """Return a table without lengths and places on axes that mean nothing, where embryos have no common pose."""
    along = found[column].str.partition("[")[0].isin(_ALONG)
    return found if posed else found[~along].reset_index(drop=True)


def unit_of(metric: str) -> str:
    """Return the unit of one of them."""
    head = metric.partition("[")[0]
    return "1" if head == _HAND else _ALONG.get(head) or unit(metric)


def added(
    arms: Arms, measured: Mapping[float, State], fate: measure.FateClassifier, board: str, times_h: Sequence[float]
) -> pd.DataFrame:
    """Return lengths, places on the axes and the hand, and the measured wild type with the effect added to it.

    The second is the difference in differences, ``measured + (edited - control)``: what the model is wrong about in
    both arms falls out of it. Its interval is that of the effect.
    """
    stored = np.array(arms[0][0].times_h.tolist())
    rows: list[dict[str, Any]] = []
    marks = landmarks(arms, fate)
    for t in sorted({*times_h, *measured}):
        k = int(np.abs(stored - t).argmin())
        control, edited = (pd.DataFrame([quantities(pair[j].at(k), fate, marks) for pair in arms]) for j in (0, 1))
        base = next((quantities(s, fate, marks) for u, s in measured.items() if abs(u - t) < _SAME), {})
        for metric in map(str, control.columns.intersection(edited.columns)):
            about = {"board": board, "split": f"t={t:g} h", "metric": metric, "unit": unit_of(metric)}
            values = _rows(metric, control[metric].to_numpy(), edited[metric].to_numpy(), base)
            rows += [row(model=model, role=role, values=v, **about) | {"time_h": t} for model, role, v in values]
    return table(record for record in rows if record["n_seeds"])  # a landmark may be lost


def _rows(
    metric: str, control: np.ndarray, edited: np.ndarray, base: Mapping[str, float]
) -> Iterator[tuple[str, Role, Interval]]:
    head = metric.partition("[")[0]
    if head in (*_ALONG, _HAND):
        ends = _ends(metric)  # places have signs
        yield "embryo", "control", interval(control).within(*ends)
        yield "embryo", "edited", interval(edited).within(*ends)
        yield "embryo", "difference", interval(edited - control)
    if metric in base:
        yield MEASURED, "control", interval(base[metric])
        yield ADDED, "edited", interval(base[metric] + edited - control)  # a sum with a difference: no bound


def over_embryos(found: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose intervals over seeds are those of laws fitted to embryos drawn with replacement.

    The laws of a bootstrap spread as the result itself would over other embryos, so that their standard deviation is
    its error and not to be divided by the root of their number: ends lie that many times further away. No end passes
    what the quantity can be.
    """
    plain = pd.Series("difference", found.index)  # of tables of differences alone
    role, model = found.get("role", plain), found.get("model", plain)
    ours = role.isin(["control", "edited", "difference"]) & (found["n_seeds"] > 1)
    half = np.maximum(found["high"] - found["value"], found["value"] - found["low"]) * np.sqrt(found["n_seeds"])
    single = set(found.loc[role == "control", "metric"])
    free = model.eq(ADDED) | (role.eq("difference") & found["metric"].isin(single))
    ends = [_ANY if any_ else _ends(m) for m, any_ in zip(found["metric"], free, strict=True)]
    low, high = np.clip([found["value"] - half, found["value"] + half], *np.array(ends).reshape(-1, 2).T)
    return found.assign(low=np.where(ours, low, found["low"]), high=np.where(ours, high, found["high"]))


def _ends(metric: str) -> tuple[float, float]:
    """Return what a quantity lies between."""
    return _BOUNDS.get(metric.partition("[")[0], (least(metric), np.inf))


def divergence(arms: Arms, fate: measure.FateClassifier) -> pd.DataFrame:
    """Return when each gene, fate, size and place first differs.

    Columns ``kind name unit first_h any_h effect spread``: first stored time at which the mean effect over seeds is
    larger than the standard deviation of the control over seeds (NaN: never), first time at which the arms differ at
    all, effect and spread at the end. One seed has no spread: then both times are the same.
    """
    times = arms[0][0].times_h.double().numpy()
    marks = landmarks(arms, fate)
    series = [[[_series(arm, k, fate, marks) for k in range(len(times))] for arm in pair] for pair in arms]
    names = sorted({key for pair in series for arm in pair for at in arm for key in at})
    rows = []
    for kind, what in names:
        values = np.array([[[at.get((kind, what), np.nan) for at in arm] for arm in pair] for pair in series])
        effect, control = values[:, 1] - values[:, 0], values[:, 0]
        mean = np.abs(effect.mean(axis=0))
        spread = control.std(axis=0, ddof=1) if len(arms) > 1 else np.zeros(len(times))
        least = _SAME * np.maximum(1.0, np.abs(control).max(axis=0))
        rows.append({
            "kind": kind, "name": what, "unit": "log1p" if kind == "gene" else unit_of(what),
            "first_h": _first(times, mean > np.maximum(spread, least)),
            "any_h": _first(times, np.abs(effect).max(axis=0) > least),
            "effect": float(effect.mean(axis=0)[-1]), "spread": float(spread[-1]) if len(arms) > 1 else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows).sort_values(["first_h", "any_h", "kind", "name"], ignore_index=True)


def _series(
    arm: Trajectory, k: int, fate: measure.FateClassifier, marks: tuple[str, ...]
) -> dict[tuple[str, str], float]:
    state = arm.at(k)
    levels = np.average(state.g.double().numpy(), axis=0, weights=state.mass.double().numpy())
    out = {("gene", name): float(level) for name, level in zip(arm.panel, levels, strict=True)}
    for name, value in quantities(state, fate, marks).items():
        head = name.partition("[")[0]
        out["fate" if head == "fraction" else "position" if head in _PLACES else "size", name] = value
    return out


def _first(times: np.ndarray, differs: np.ndarray) -> float:
    return float(times[differs.argmax()]) if differs.any() else float("nan")


def autonomy(
    arms: Arms,
    direct: Sequence[Trajectory],
    carrying: Sequence[Bool[np.ndarray, " founders"]],
    genes: Sequence[str],
    fate: measure.FateClassifier,
    support: Support,
) -> pd.DataFrame:
    """Return how much of the effect lies in which cells, and how much remains with the neighbours held as they were.

    Columns ``group metric value low high n_seeds unit``. Groups: cells that carry the edit and express an edited gene
    in the control at any time, that carry it and never express one, that do not carry it; ``all cells``, and where the
    law can hold neighbours ``all cells, neighbours as in the control``.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for k, ((control, edited), founders) in enumerate(zip(arms, carrying, strict=True)):
        carries = np.pad(founders, (0, len(control.cells) - len(founders)))
        every = np.ones(len(carries), bool)
        columns = [control.panel.index(g) for g in genes if g in control.panel]
        levels = control.g[:, :, columns].double().numpy().max(axis=0)
        makes = (levels > np.log1p(_EXPRESSED * np.expm1(support.high[columns]))).any(axis=1) if columns else every
        groups = {
            "carry it and express the gene": carries & makes,
            "carry it, never express the gene": carries & ~makes,
            "do not carry it": ~carries,
            "all cells": every,
        }
        effects = {group: _effect(control, edited, rows, fate) for group, rows in groups.items()}
        if direct:
            effects["all cells, neighbours as in the control"] = _effect(control, direct[k], every, fate)
        for group, values in effects.items():
            for metric, value in values.items():
                found.setdefault((group, metric), []).append(value)
    return _grouped(found)


_UNITS = {"cells": "cells", "switched": "1", "panel_change": "log1p", "displacement_um": "µm", "growth": "1"}


def _grouped(found: Mapping[tuple[str, str], list[float]]) -> pd.DataFrame:
    records = [
        row(
            board="",
            split="",
            model="",
            role="difference",
            metric=metric,
            unit=_UNITS[metric],
            values=interval(values).within(*_ends(metric)),
        )
        | {"group": group}
        for (group, metric), values in found.items()
    ]
    return pd.DataFrame(records, columns=["group", "metric", "value", "low", "high", "n_seeds", "unit"])


def _effect(
    control: Trajectory, edited: Trajectory, group: Bool[np.ndarray, " cells"], fate: measure.FateClassifier
) -> dict[str, float]:
    a, b = control.at(-1), edited.at(-1)
    rows = group & a.alive.numpy()
    if not rows.any():
        return {"cells": 0.0}
    mass = a.mass.double().numpy()
    total = float(mass[rows].sum())
    out = {"cells": total, "growth": float(b.mass.double().numpy()[rows].sum() / total - 1)}
    there = rows & b.alive.numpy()
    if not there.any():
        return out
    za, zb, ga, gb, xa, xb = (p.double().numpy()[there] for p in (a.z, b.z, a.g, b.g, a.x, b.x))
    out["switched"] = float(np.average(fate.predict(za) != fate.predict(zb), weights=mass[there]))
    out["panel_change"] = float(np.average(np.sqrt(((gb - ga) ** 2).mean(axis=1)), weights=mass[there]))
    if xa.shape[1]:
        out["displacement_um"] = float(np.average(np.linalg.norm(xb - xa, axis=1), weights=mass[there]))
    return out


def supported(arms: Arms, support: Support) -> pd.DataFrame:
    """Return the share of states beyond the support by time and arm, and of cells outside each gene's training range.

    Columns ``kind arm name time_h share``: kind ``states`` or ``gene`` (over all times).
    """
    return pd.DataFrame(list(_supported(arms, support)), columns=["kind", "arm", "name", "time_h", "share"])


def _supported(arms: Arms, support: Support) -> Iterator[tuple[str, str, str, float, float]]:
    times = arms[0][0].times_h.tolist()
    for j, arm in enumerate(("control", "edited")):
        for k, t in enumerate(times):
            beyond = [support.beyond(pair[j].at(k)).mean() for pair in arms]
            yield "states", arm, "genes and niche", t, float(np.mean(beyond))
        outside = np.mean([[support.outside(pair[j].at(k)) for k in range(len(times))] for pair in arms], axis=(0, 1))
        for name, of_cells in zip(arms[0][0].panel, np.asarray(outside), strict=True):
            yield "gene", arm, name, float("nan"), float(of_cells)


def share(reach: pd.DataFrame, arm: str) -> float:
    """Return the mean share of states beyond the support of an arm, without the start."""
    chosen = reach[(reach["kind"] == "states") & (reach["arm"] == arm)]["share"].to_numpy()
    return float(chosen[1:].mean() if len(chosen) > 1 else chosen.mean())
