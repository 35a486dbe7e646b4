"""Two bodies without shared cell names: the rotation that brings like cells to like places.

Expression must break the symmetry of the shape. Soft matches and the best rotation are found in turn, from every pose
that the bodies' own axes suggest, with a spatial width that shrinks: expectation-maximisation as in coherent point
drift (Myronenko & Song, IEEE PAMI 32:2262, 2010) with an expression term in the matching, and mutual matches in place
of its outlier class. No step draws random numbers, and none depends on the pose or order in which the cells come.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from embryo.core.errors import FrameError, Problem
from embryo.core.frame import Rigid, best
from embryo.reconstruct.rigid import Fit, measured, principal

MIN_CELLS = 10
_COARSE, _FINE = 150, 500  # cells that stand for a body in the search and in the last fit
_NEIGHBOURS = 10  # over which expression is averaged, so that single-cell noise does not decide
_WIDTHS = np.geomspace(0.6, 0.12, 8)  # spatial width of a match, in units of the body's radius
_ALIKE = 0.8  # neighbouring axes whose lengths differ by less than this ratio may be exchanged
_TURNS = 8  # starts around a pair of axes of like length
_ROUNDING = 1e-9  # variation of a feature, relative to its size, that is none
_EXACT = 1e-6  # least share of a feature's variance that counts as noise
_CONVERGED, _ROUNDS = 1e-5, 15


@dataclass(frozen=True)
class Cloud:
    """Cells of one body at one time.

    Parameters
    ----------
    x
        Positions, µm.
    e
        Expression features.
    """

    x: Float[np.ndarray, "cells dims"]
    e: Float[np.ndarray, "cells features"]


def register(source: Cloud, target: Cloud) -> Fit:
    """Return the proper rigid motion that carries `source` onto `target` by space and expression.

    Where neither shape nor expression tells one side from another (a round body with expression along one axis only)
    the turn is arbitrary; a residual near the body's radius is the sign of it. A body of which a part is missing comes
    out shifted, since its own centroid is.

    Parameters
    ----------
    source, target
        Two bodies of about the same stage; their cells need not correspond, nor be equal in number.

    Returns
    -------
    Fit
        Its residuals are distances to the mean place of the cells of the target with like expression.

    Raises
    ------
    FrameError
        If a body has too few cells, they lie on one line, or expression is the same everywhere.
    """
    fewest = min(len(source.x), len(target.x))
    if fewest < MIN_CELLS:
        raise FrameError(
            Problem(f"{fewest} cells", f"at least {MIN_CELLS} to align by expression", "use a time with more cells")
        )
    to_source, to_target = principal(source.x), principal(target.x)
    (a, noise_a), (b, noise_b) = _prepared(source, to_source), _prepared(target, to_target)
    spread = a.e.var(axis=0) + b.e.var(axis=0)
    told = spread > (_ROUNDING * np.abs(np.concatenate([source.e, target.e])).max(axis=0)) ** 2
    if not told.any():
        raise FrameError(
            Problem("expression that is the same everywhere", "expression that tells places apart", "embed the cells")
        )
    noise = np.sqrt(np.maximum(noise_a + noise_b, _EXACT * spread))[told]
    a, b = (Cloud(c.x, c.e[:, told] / noise) for c in (a, b))
    coarse = _Matching(_thinned(a, _COARSE), _thinned(b, _COARSE))
    found = [coarse.annealed(start) for start in _starts(coarse)]
    pose = min(found, key=coarse.cost)
    fine = _Matching(_thinned(a, _FINE), _thinned(b, _FINE))
    pose = fine.settled(pose)
    fit = measured(pose, fine.a.x, fine.expected())
    motion = to_target.inverse().after(pose).after(to_source)
    return Fit(motion, fit.median_um, fit.mirrored_um, fit.pairs)


class _Matching:
    """Soft mutual matches of two small clouds."""

    def __init__(self, a: Cloud, b: Cloud) -> None:
        self.a, self.b = a, b
        self.radius = float(np.sqrt((b.x**2).sum(axis=1).mean()))
        unlike = cdist(a.e, b.e, "sqeuclidean") / 2
        nearest = np.median(np.concatenate([unlike.min(axis=0), unlike.min(axis=1)]))
        expected = a.e.shape[1] / 2  # of a true match, if bodies differ by nothing but measured noise
        self.expression = unlike / max(1.0, nearest / expected)

    def fused(self, pose: Rigid, width: float) -> np.ndarray:
        far = cdist(pose(self.a.x), self.b.x, "sqeuclidean")
        return np.asarray(self.expression + far / (2 * (width * self.radius) ** 2))

    def step(self, cost: np.ndarray, pose: Rigid) -> Rigid:
        """Return the best motion for the mutual matches under `cost`; `pose` where they leave it open."""
        p = _shares(cost, axis=1) * _shares(cost, axis=0)
        p /= p.sum()
        x, y = self.a.x, self.b.x
        mean_x, mean_y = p.sum(axis=1) @ x, p.sum(axis=0) @ y
        return best(mean_x, mean_y, (x - mean_x).T @ p @ (y - mean_y)) or pose

    def annealed(self, pose: Rigid) -> Rigid:
        for width in _WIDTHS:
            pose = self.step(self.fused(pose, width), pose)
        return pose

    def settled(self, pose: Rigid) -> Rigid:
        """Iterate at the smallest width until the pose stands still."""
        for _ in range(_ROUNDS):
            moved = self.step(self.fused(pose, _WIDTHS[-1]), pose)
            turned = np.abs(moved.rotation - pose.rotation).max()
            shifted = np.abs(moved.translation - pose.translation).max() / self.radius
            pose = moved
            if max(turned, shifted) < _CONVERGED:
                break
        return pose

    def cost(self, pose: Rigid) -> float:
        """Mean fused cost of the best match of every cell, both ways."""
        cost = self.fused(pose, _WIDTHS[-1])
        return float(cost.min(axis=0).mean() + cost.min(axis=1).mean())

    def expected(self) -> np.ndarray:
        """Where the target holds cells like each cell of the source, by expression alone."""
        return np.asarray(_shares(self.expression, axis=1) @ self.b.x)


def _shares(cost: np.ndarray, axis: int) -> np.ndarray:
    """``exp(-cost)`` divided by its sum along `axis`."""
    weight = np.exp(cost.min(axis=axis, keepdims=True) - cost)
    weight /= weight.sum(axis=axis, keepdims=True)
    return np.asarray(weight)


def _prepared(cloud: Cloud, axes: Rigid) -> tuple[Cloud, np.ndarray]:
    """Put a cloud on its own axes and average expression over neighbours; also the variance of these averages."""
    _, near = cKDTree(cloud.x).query(cloud.x, k=min(_NEIGHBOURS, len(cloud.x)))
    around = cloud.e[near]
    e = around.mean(axis=1)
    return Cloud(axes(cloud.x), e - e.mean(axis=0)), around.var(axis=1, ddof=1).mean(axis=0) / near.shape[1]


def _thinned(cloud: Cloud, n: int) -> Cloud:
    """Return `n` cells that cover the body: each the farthest from those before it, the first from the centroid."""
    if len(cloud.x) <= n:
        return cloud
    chosen = farthest(cloud.x, n)
    return Cloud(cloud.x[chosen], cloud.e[chosen])


def farthest(x: Float[np.ndarray, "cells dims"], n: int) -> Int[np.ndarray, " n"]:
    """Return farthest-point samples (Gonzalez, Theor Comput Sci 38:293, 1985)."""
    chosen = np.empty(n, dtype=np.int64)
    chosen[0] = ((x - x.mean(axis=0)) ** 2).sum(axis=1).argmax()
    far = np.full(len(x), np.inf)
    for i in range(1, n):
        far = np.minimum(far, ((x - x[chosen[i - 1]]) ** 2).sum(axis=1))
        chosen[i] = far.argmax()
    return chosen


def _starts(matching: _Matching) -> Iterator[Rigid]:
    """Yield poses to start from: what expression alone says, and every pose that brings the axes onto the axes."""
    x = matching.a.x
    here = Rigid.identity(x.shape[1])
    yield matching.step(matching.expression, here)
    if x.shape[1] == 2:
        for angle in np.linspace(0, 2 * np.pi, _TURNS, endpoint=False):
            yield Rigid(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), np.zeros(2))
        return
    lengths = x.std(axis=0)
    first, last = lengths[1] > _ALIKE * lengths[0], lengths[2] > _ALIKE * lengths[1]
    if first and last:
        rotations = Rotation.create_group("O").as_matrix()
    else:
        flips = [np.diag([i, j, i * j]) for i, j in product((1.0, -1.0), repeat=2)]
        axis = np.eye(3)[2 if first else 0]
        turns = np.linspace(0, np.pi, _TURNS // 2, endpoint=False) if first or last else [0.0]
        rotations = np.array([flip @ Rotation.from_rotvec(t * axis).as_matrix() for t in turns for flip in flips])
    for rotation in rotations:
        yield Rigid(rotation, np.zeros(3))
