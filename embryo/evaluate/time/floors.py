"""What predicts a stage without learning: copies, pairs of the stages around it, and moved or scaled clouds.

With ``s = (t - t0) / (t1 - t0)`` every floor interpolates between the stages around t; copies, the mean shift and the
moved clouds extrapolate the last two stages. Numbers of cells grow exponentially between stages and beyond, except for
copies, which keep theirs. Nothing here was fitted or chosen on held-out cells but the entropy and penalty of the
unbalanced plan, in units of the mean cost, which are near to what the trajectory papers use on whitened components.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from jaxtyping import Float

from embryo import measure
from embryo.core.state import State
from embryo.evaluate.time.pairs import Pairs, balanced, fused, unbalanced
from embryo.evaluate.time.predictor import Predictor
from embryo.evaluate.time.series import Series

_PARTICLES = 4000  # of a plan with more pairs than that
_RIDGE = 1e-6  # of the mean variance


def copy_previous(series: Series, t_h: float) -> State | None:
    """Return the last stage before t."""
    before, _ = series.flanks(t_h)
    return None if before is None else series.states[before]


def copy_next(series: Series, t_h: float) -> State | None:
    """Return the first stage after t."""
    _, after = series.flanks(t_h)
    return None if after is None else series.states[after]


def nearest(series: Series, t_h: float) -> State | None:
    """Return the stage nearest in time, the earlier of two."""
    around = [k for k in series.flanks(t_h) if k is not None]
    return series.states[min(around, key=lambda k: abs(series.times_h[k] - t_h))] if around else None


def union(series: Series, t_h: float) -> State | None:
    """Return both stages around t laid together, each with half of the cells."""
    k0, k1 = series.flanks(t_h)
    if k0 is None or k1 is None:
        return None
    both = series.states[k0], series.states[k1]
    halves = [_massed(s, s.mass.double().numpy(), number(series, t_h) / 2) for s in both]
    return State(*(torch.cat(parts) for parts in zip(*(h.parts() for h in halves), strict=True)))


def random_pairs(series: Series, t_h: float, seed: int) -> State | None:
    """Return points between cells of the stages around t that are paired at random."""

    def paired(a: State, b: State) -> Pairs:
        rng = np.random.default_rng(seed)
        n = min(max(len(a), len(b)), _PARTICLES)
        i, j = (rng.choice(len(c), n, p=c.mass.double().numpy() / float(c.mass.double().sum())) for c in (a, b))
        return i, j, np.ones(n)

    return _between(series, t_h, paired)


def mccann(series: Series, t_h: float) -> State | None:
    """Return points between the pairs of the exact balanced optimal plan: McCann's displacement interpolation."""
    return _between(series, t_h, balanced)


def unbalanced_midpoint(series: Series, t_h: float) -> State | None:
    """Return points between the pairs of an unbalanced entropic plan, weighted by it."""
    return _between(series, t_h, unbalanced)


def fused_gromov(series: Series, t_h: float) -> State | None:
    """Return the nearest stage's body at the interpolated size, with states between its cells and their partners.

    Partners are those of a fused Gromov-Wasserstein plan (states, and distances within each body): expression of both
    stages is assigned to positions without averaging them.
    """
    k0, k1 = series.flanks(t_h)
    if k0 is None or k1 is None or series.space == 0:
        return None
    s = _share(series, t_h, k0, k1)
    base, other = (k0, k1) if s <= 0.5 else (k1, k0)
    i, j, weight = fused(series.states[base], series.states[other])
    here, there = series.states[base][torch.from_numpy(i)], series.states[other][torch.from_numpy(j)]
    s = min(s, 1 - s)
    body = _resized(series, t_h)[torch.from_numpy(i)]
    met = State((1 - s) * here.z + s * there.z, (1 - s) * here.g + s * there.g, body.x, here.log_mass)
    return _massed(met, weight, number(series, t_h))


def mean_shift(series: Series, t_h: float) -> State | None:
    """Return the nearest stage moved so that its mean lies where those around it say."""
    if len(series) < 2:
        return None
    k0, k1, s = anchors(series, t_h)
    base = series.states[_nearer(series, t_h)]
    z, g, x = (_moved(base, series, part, (k0, k1, s)) for part in ("z", "g", "x"))
    return _massed(State(z, g.clamp(min=0), x, base.log_mass), base.mass.double().numpy(), number(series, t_h))


def rms_growth(series: Series, t_h: float) -> State | None:
    """Return the nearest stage, its body (without space its cloud of states) scaled to the interpolated RMS radius."""
    return None if len(series) < 2 else _resized(series, t_h)


def affine(series: Series, t_h: float) -> State | None:
    """Return the nearest stage carried on along the optimal map between the means and covariances around t.

    The map between Gaussians is linear, symmetric and positive (Gelbrich 1990, Math. Nachr. 147:185): it never mirrors.
    Beyond the stages it is raised to the power that the time asks for.
    """
    if len(series) < 2:
        return None
    k0, k1, s = anchors(series, t_h)
    if _nearer(series, t_h) == k1:
        k0, k1, s = k1, k0, 1 - s  # from here on k0 is the nearest
    base, other = series.states[k0], series.states[k1]
    z, x = (_carried(getattr(base, part), getattr(other, part), s) for part in ("z", "x"))
    g = _moved(base, series, "g", (k0, k1, s))
    return _massed(State(z, g.clamp(min=0), x, base.log_mass), base.mass.double().numpy(), number(series, t_h))


def _fixed(name: str, predict: Callable[[Series, float], State | None]) -> Predictor:
    return Predictor(name, "floor", lambda series, t_h, _: predict(series, t_h))


COPIES: Final = ("copy previous", "copy next", "nearest")
FLOORS: Final = (
    *(_fixed(name, copy) for name, copy in zip(COPIES, (copy_previous, copy_next, nearest), strict=True)),
    _fixed("union", union),
    Predictor("random pairs", "floor", random_pairs, random=True),
    _fixed("McCann midpoint", mccann),
    _fixed("unbalanced midpoint", unbalanced_midpoint),
    _fixed("mean shift", mean_shift),
    _fixed("RMS growth", rms_growth),
    _fixed("affine growth", affine),
    _fixed("FGW-assigned", fused_gromov),
)


def anchors(series: Series, t_h: float) -> tuple[int, int, float]:
    """Return two stages and ``s``, where t lies from the first (0) to the second (1); beyond them outside the series.

    A series of one stage has none: ask for two.
    """
    k0, k1 = series.flanks(t_h)
    if k0 is None:
        k0, k1 = 0, 1
    elif k1 is None:
        k0, k1 = len(series) - 2, len(series) - 1
    return k0, k1, _share(series, t_h, k0, k1)


def number(series: Series, t_h: float) -> float:
    """Return the number of cells at t, on exponentials through the stages around it or the last two; 1 if none grow."""
    if not series.counts_grow or len(series) < 2:
        return float(series.numbers[0])
    k0, k1, s = anchors(series, t_h)
    return float(np.exp((1 - s) * np.log(series.numbers[k0]) + s * np.log(series.numbers[k1])))


def _share(series: Series, t_h: float, k0: int, k1: int) -> float:
    return (t_h - series.times_h[k0]) / (series.times_h[k1] - series.times_h[k0])


def _nearer(series: Series, t_h: float) -> int:
    """Return which of the anchors is nearest in time, the earlier of two, never a training stage of this very time."""
    k0, k1, s = anchors(series, t_h)
    return k1 if s > 0.5 and k1 != series.index(t_h) else k0


def _between(series: Series, t_h: float, pair: Callable[[State, State], Pairs]) -> State | None:
    k0, k1 = series.flanks(t_h)
    if k0 is None or k1 is None:
        return None
    a, b = series.states[k0], series.states[k1]
    i, j, weight = pair(a, b)
    kept, weight = measure.thin(weight, _PARTICLES)
    a, b = a[torch.from_numpy(i[kept])], b[torch.from_numpy(j[kept])]
    s = _share(series, t_h, k0, k1)
    met = State(*((1 - s) * p + s * q for p, q in zip(a.parts(), b.parts(), strict=True)))
    return _massed(met, weight, number(series, t_h))


def _massed(state: State, weight: Float[np.ndarray, " cells"], total: float) -> State:
    """Return the state with masses in proportion to `weight` that sum to `total`."""
    mass = torch.from_numpy(np.asarray(weight, dtype=np.float64) * (total / float(np.sum(weight))))
    return State(state.z, state.g, state.x, mass.log().float())


def _mean(series: Series, k: int, part: str) -> torch.Tensor:
    mass = series.states[k].mass.double()
    points: torch.Tensor = getattr(series.states[k], part).double()
    return (mass / mass.sum()) @ points


def _moved(base: State, series: Series, part: str, place: tuple[int, int, float]) -> torch.Tensor:
    k0, k1, s = place
    mass = base.mass.double()
    points: torch.Tensor = getattr(base, part)
    goal = (1 - s) * _mean(series, k0, part) + s * _mean(series, k1, part)
    return (points + (goal - (mass / mass.sum()) @ points.double())).float()


def _resized(series: Series, t_h: float) -> State:
    """Return the nearest stage at the interpolated RMS radius about the interpolated centre."""
    k0, k1, s = anchors(series, t_h)
    base = series.states[_nearer(series, t_h)]
    part = "x" if series.space else "z"
    radii = [_radius(series.states[k], part) for k in (k0, k1)]
    goal = float(np.exp((1 - s) * np.log(radii[0]) + s * np.log(radii[1]))) if min(radii) > 0 else 0.0
    points = _moved(base, series, part, (k0, k1, s)).double()
    mass = base.mass.double()
    centre = (mass / mass.sum()) @ points
    own = _radius(base, part)
    scaled = (centre + (points - centre) * (goal / own if own > 0 else 1.0)).float()
    grown = State(base.z, base.g, scaled, base.log_mass) if part == "x" else State(scaled, *base.parts()[1:])
    return _massed(grown, mass.numpy(), number(series, t_h))


def _radius(state: State, part: str) -> float:
    points, mass = getattr(state, part).double(), state.mass.double()
    share = mass / mass.sum()
    return float((share @ ((points - share @ points) ** 2).sum(dim=1)).sqrt())


def _carried(base: torch.Tensor, other: torch.Tensor, s: float) -> torch.Tensor:
    """Return `base` carried the share s of the way to `other` by the optimal map of their first two moments."""
    if base.shape[1] == 0:
        return base
    a, b = (np.asarray(p.double()) for p in (base, other))
    here, there = (np.atleast_2d(np.cov(p.T)) for p in (a, b))
    here, there = (c + _RIDGE * np.trace(c) / len(c) * np.eye(len(c)) for c in (here, there))
    root = _power(here, 0.5)
    back = np.linalg.inv(root)
    step = back @ _power(root @ there @ root, 0.5) @ back
    step = (1 - s) * np.eye(len(step)) + s * step if 0 <= s <= 1 else _power(step, s)
    centre = (1 - s) * a.mean(axis=0) + s * b.mean(axis=0)
    return torch.from_numpy(centre + (a - a.mean(axis=0)) @ step).float()


def _power(matrix: Float[np.ndarray, "dims dims"], power: float) -> Float[np.ndarray, "dims dims"]:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.maximum(values, np.finfo(float).tiny) ** power) @ vectors.T)
