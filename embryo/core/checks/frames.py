"""Frames: embryos that share named cells must be proper rotations of one another, in one unit, unmirrored.

The best similarity between two point sets in correspondence is that of Umeyama (IEEE PAMI 13:376, 1991): with both sets
centred and scaled to unit norm and S the singular values of their cross-covariance, the best proper rotation leaves the
squared residual ``2 - 2 (S_1 + ... + d S_n)``, d the sign of the determinant; a reflection has the other sign of d.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from embryo.core.checks import phrases
from embryo.core.errors import Problem

MIN_SHARED = 5  # shared cells at a time
_MIN_AFFINE = 40  # shared cells for a test of unequal axes
_THIN = 0.05  # a cloud thinner than this share of its length is flat: its mirror image is a rotation
_ALIKE = 0.7  # relative residual above which the names do not mean the same cells
_MIRROR = 0.6  # unmirrored real embryos (EPIC, 55 pairs, 5 or more shared cells) stay above 0.69
_SCALE = 2.0  # real embryos stay below 1.2 for 20 or more shared cells, 1.9 for five
_ANISOTROPY = 3.0  # real embryos stay below 2.1 for 40 or more shared cells
_TIMES = 8  # times compared per pair


@dataclass(frozen=True)
class _Fit:
    """How one embryo lies against another.

    Residuals of the best rotation, reflection and linear map are in units of its size; `anisotropy` is the ratio of the
    linear map's largest to smallest stretch. Where cells are too few for a linear map, it is NaN.
    """

    proper: float
    mirrored: float
    linear: float
    scale: float
    anisotropy: float
    size_um: float
    shared: int


def problems(
    x: Float[np.ndarray, "cells dims"],
    embryos: Int[np.ndarray, " cells"],
    cells: Int[np.ndarray, " cells"],
    times: Int[np.ndarray, " cells"],
    names: Sequence[object],
) -> Iterator[Problem]:
    """Yield mirrored embryos and embryos in another unit or with stretched axes.

    Parameters
    ----------
    x
        Positions.
    embryos
        Row of `names` for each cell, -1 where unknown.
    cells
        Number of each cell's name, -1 where unnamed.
    times
        Number of each cell's time point. Embryos develop at different rates, so that time points of two embryos are
        paired by the names alive, not by the clock.
    names
        Names of the embryos.
    """
    for reference, fits in _families(_parts(x, embryos, cells, times)):
        yield from _mirrored(reference, fits, names)
        yield from _stretched(reference, fits, names)


def motions(value: Any, slot: str) -> Iterator[Problem]:
    """Yield stored transforms that mirror, scale or shear.

    Parameters
    ----------
    value
        Mapping from embryo to a matrix of shape (dims, dims), (dims, dims + 1) or (dims + 1, dims + 1), or to a
        mapping that holds one under ``rotation``.
    slot
        What it is called, for the text.
    """
    cure = "align again with rotations only (embryo.reconstruct.body_frame), after flipping the mirrored axis back"
    if not isinstance(value, Mapping):
        yield Problem(f"{slot} of kind {type(value).__name__}", "a mapping from embryo to its rotation", cure)
        return
    for name, motion in value.items():
        rotation = _rotation(motion)
        if rotation is None:
            yield Problem(f"{slot} of {name} not a finite square rotation matrix", "a rotation", cure)
            continue
        singular = np.linalg.svd(rotation, compute_uv=False)
        if np.abs(singular - 1).max() > 1e-4:
            held = ", ".join(phrases.number(s) for s in singular)
            yield Problem(f"{slot} of {name} with singular values {held}", "a rigid motion (all 1)", cure)
        elif np.linalg.det(rotation) < 0:
            yield Problem(f"{slot} of {name} mirrored (determinant -1)", "a proper rotation (determinant +1)", cure)


def _rotation(motion: Any) -> Float[np.ndarray, "dims dims"] | None:
    if isinstance(motion, Mapping):
        motion = motion.get("rotation")
    if not isinstance(motion, np.ndarray | list | tuple):
        return None
    try:
        matrix = np.asarray(motion, dtype=float)
    except (TypeError, ValueError):
        return None
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        return None
    dims = min(matrix.shape[0], 3) if matrix.shape[1] in (matrix.shape[0], matrix.shape[0] + 1) else 0
    if matrix.shape == (4, 4) or (
        matrix.shape == (3, 3) and np.array_equal(matrix[2], [0, 0, 1]) and matrix[:2, 2].any()
    ):
        dims = matrix.shape[0] - 1
    return matrix[:dims, :dims] if dims in (2, 3) else None


@dataclass(frozen=True)
class _Part:
    """The cells of one embryo that other embryos also name, sorted by time, then name; times numbered from 0."""

    embryo: int
    cells: np.ndarray
    times: np.ndarray
    x: np.ndarray

    def at(self, time: int) -> tuple[np.ndarray, np.ndarray]:
        """Return names and positions at one time."""
        rows = slice(*np.searchsorted(self.times, [time, time + 1]))
        return self.cells[rows], self.x[rows]


def _parts(x: np.ndarray, embryos: np.ndarray, cells: np.ndarray, times: np.ndarray) -> deque[_Part]:
    rows = np.flatnonzero((embryos >= 0) & (cells >= 0) & np.isfinite(x).all(axis=1))
    pairs = np.unique(cells[rows] * (int(embryos.max(initial=0)) + 1) + embryos[rows]) // (
        int(embryos.max(initial=0)) + 1
    )
    shared = pairs[1:][np.diff(pairs) == 0]  # names that two embryos use
    rows = rows[np.isin(cells[rows], shared)]
    rows = rows[np.lexsort((cells[rows], times[rows], embryos[rows]))]
    first = np.ones(len(rows), dtype=bool)  # a cell that stands twice is another problem; its first row counts here
    first[1:] = (np.diff(cells[rows]) != 0) | (np.diff(times[rows]) != 0) | (np.diff(embryos[rows]) != 0)
    rows = rows[first]
    groups = np.split(rows, np.flatnonzero(np.diff(embryos[rows])) + 1) if len(rows) else []
    made = [
        _Part(int(embryos[g[0]]), cells[g], np.unique(times[g], return_inverse=True)[1].reshape(-1), x[g])
        for g in groups
    ]
    return deque(sorted(made, key=lambda part: -len(part.cells)))


def _families(parts: deque[_Part]) -> Iterator[tuple[int, dict[int, _Fit]]]:
    """Yield each reference embryo with the fits of the embryos that share enough cells with it."""
    rounds = 0
    while len(parts) > 1 and rounds < 20:
        reference, fits = parts.popleft(), {}
        rest: deque[_Part] = deque()
        for part in parts:
            fit = _compare(reference, part)
            if fit is None:
                rest.append(part)
            else:
                fits[part.embryo] = fit
        if fits:
            yield reference.embryo, fits
        parts, rounds = rest, rounds + 1


def _compare(a: _Part, b: _Part) -> _Fit | None:
    fits = [_fit(*pair) for pair in _moments(a, b)]
    useful = [f for f in fits if f is not None]
    if not useful:
        return None
    weights = np.array([f.shared for f in useful], dtype=float)

    def mean(part: Callable[[_Fit], float]) -> float:
        return float(np.average([part(f) for f in useful], weights=weights))

    many = [f for f in useful if f.shared >= _MIN_AFFINE]
    fit = _Fit(
        proper=mean(lambda f: f.proper),
        mirrored=mean(lambda f: f.mirrored),
        linear=float(np.median([f.linear for f in many])) if many else np.nan,
        scale=float(np.median([f.scale for f in useful])),
        anisotropy=float(np.median([f.anisotropy for f in many])) if many else np.nan,
        size_um=mean(lambda f: f.size_um),
        shared=int(weights.max()),
    )
    return fit if np.nanmin([fit.proper, fit.mirrored, fit.linear]) < _ALIKE else None


def _moments(a: _Part, b: _Part) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions of shared cells at times of a, spread evenly over its rows, and the times of b most like them."""
    alive = np.bincount(b.times)
    middle = (np.arange(_TIMES) + 0.5) / _TIMES * len(a.times)
    for time in np.unique(a.times[middle.astype(int)]).tolist():
        cells, x = a.at(time)
        shared = np.bincount(b.times[np.isin(b.cells, cells)], minlength=len(alive))
        likest = int(np.argmax(shared / (len(cells) + alive - shared)))  # Jaccard index of the names
        others, y = b.at(likest)
        _, i, j = np.intersect1d(cells, others, assume_unique=True, return_indices=True)
        yield x[i], y[j]


def _fit(a: np.ndarray, b: np.ndarray) -> _Fit | None:
    """Fit b to a; None where there are too few cells or those of a lie in a plane."""
    if len(a) < MIN_SHARED:
        return None
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    width_a, width_b = (np.linalg.svd(p, compute_uv=False) for p in (a, b))
    if width_a[-1] <= _THIN * width_a[0]:
        return None
    norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    cross = a.T @ b / (norm_a * norm_b)
    singular = np.linalg.svd(cross, compute_uv=False)
    best, other = float(singular.sum()), float(singular.sum() - 2 * singular[-1])
    proper, mirrored = (best, other) if np.linalg.det(cross) > 0 else (other, best)
    if width_b[-1] <= _THIN * width_b[0]:  # a cloud in a plane has no hand, but may be one that was squeezed
        proper = mirrored = best
    linear, anisotropy = np.nan, np.nan
    if len(a) >= _MIN_AFFINE:
        best_map = np.linalg.lstsq(a, b, rcond=None)[0]
        linear = float(np.linalg.norm(a @ best_map - b) / norm_b)
        stretch = np.linalg.svd(best_map, compute_uv=False)
        anisotropy = float(stretch[0] / max(stretch[-1], 1e-12))
    return _Fit(
        proper=float(np.sqrt(max(2 - 2 * proper, 0.0))),
        mirrored=float(np.sqrt(max(2 - 2 * mirrored, 0.0))),
        linear=linear,
        scale=norm_b / norm_a,
        anisotropy=anisotropy,
        size_um=norm_a / float(np.sqrt(len(a))),
        shared=len(a),
    )


def _mirrored(reference: int, fits: dict[int, _Fit], names: Sequence[object]) -> Iterator[Problem]:
    odd = [e for e, f in fits.items() if f.mirrored < min(_ALIKE, _MIRROR * f.proper)]
    if not odd:
        return
    worst = max((fits[e] for e in odd), key=lambda f: f.proper - f.mirrored)
    if len(odd) > (len(fits) + 1) / 2:  # the reference is the odd one
        odd = [reference, *(e for e in fits if e not in odd)]
    ones = sorted(str(names[e]) for e in odd)
    others = "embryo " + str(names[reference]) if reference not in odd else "the other embryos"
    tie = " (or the others are: half against half)" if 2 * len(odd) == len(fits) + 1 else ""
    yield Problem(
        f"mirrored embryos: {phrases.few(ones)} against {others}{tie}; over {worst.shared} shared cells a reflection "
        f"leaves {phrases.number(worst.mirrored * worst.size_um)} µm, "
        f"the best rotation {phrases.number(worst.proper * worst.size_um)} µm",
        "right-handed positions, so that embryos differ by a proper rotation",
        "read the mirrored file with one axis flipped back (--key flip_axis=z, config read.keys.flip_axis); if the "
        "body is truly inverted (situs inversus), give its cells the names of their mirror images",
    )


def _stretched(reference: int, fits: dict[int, _Fit], names: Sequence[object]) -> Iterator[Problem]:
    scales = {reference: 1.0} | {e: f.scale for e, f in fits.items()}
    other = {e for e, s in scales.items() if not 1 / _SCALE < s < _SCALE}
    if len(other) > len(scales) / 2:  # the reference is the odd one
        usual = float(np.median([s for e, s in scales.items() if e in other]))
        scales = {e: s / usual for e, s in scales.items()}
        other = {e for e, s in scales.items() if not 1 / _SCALE < s < _SCALE}
    skew = {e for e, f in fits.items() if f.anisotropy > _ANISOTROPY and f.linear < _ALIKE}
    stretched = sorted(skew) if 2 * len(skew) <= len(fits) + 1 else [reference, *(e for e in fits if e not in skew)]
    other -= set(stretched) if skew else set()
    if other:
        shown = phrases.few(f"{names[e]} ({phrases.number(scales[e])} times the rest)" for e in sorted(other))
        yield Problem(
            f"non-rigid frames: shared cells say that embryos differ in scale: {shown}",
            "one unit for all embryos",
            "read each file with its own unit (--space-unit, config read.space_unit) and join them in µm",
        )
    if skew:
        most = max(fits[e].anisotropy for e in skew)
        yield Problem(
            f"non-rigid frames: {phrases.few(names[e] for e in stretched)} stretched up to {phrases.number(most)} "
            "times more along one axis than along another, against embryos with the same cells",
            "axes in one unit",
            "read pixels and planes with their own sizes (--space-unit px --key pixel_um=... --key z_um=...)",
        )
