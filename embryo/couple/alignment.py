"""Two populations whose frames differ -> the proper motion between them, alternated with their coupling.

In turn: couple at the present motion, then move the targets onto the sources by the weighted least-squares rotation
under the plan (Kabsch; stVCR alternates alike, but may mirror). Each of the two steps can only lower the cost, so the
end is a local optimum; it is sought from many rotations between the principal axes of both populations, so that the
result does not depend on the poses in which they come.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float

from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.core.frame import Rigid, best
from embryo.couple.costs import Populations, squares
from embryo.couple.options import Transport
from embryo.couple.solvers import Solved, solve

_CELLS, _FEW = 1000, 200  # of each population: in the last search, and from every start
_ROUNDS, _SOME = 30, 10  # alternations at most, likewise
_STILL = 1e-3  # rotation (radians) that counts as none
_TURNS = 12  # starts in the plane
_APART = np.deg2rad(20)  # two optima that differ by less are one
_CLOSE = 0.05  # relative cost within which another optimum makes the rotation ambiguous


@dataclass(frozen=True, eq=False)
class Aligned:
    """The motion of the targets onto the sources and how well it is determined."""

    motion: Rigid
    notes: dict[str, Any]


def align(
    pair: Populations, extra: Float[np.ndarray, "sources targets"] | None, options: Transport, seed: int
) -> Aligned:
    """Find the proper motion of the targets at which both populations couple at the least cost.

    Parameters
    ----------
    pair
        Both populations; large ones are represented by a sample.
    extra
        What is added to the cost of each pair, such as penalties of types.
    options
        Solver and its parameters.
    seed
        Draws the samples.

    Returns
    -------
    Aligned
        Notes: the angle in degrees, rotation and translation, the cost, that of the best other rotation more than
        20 degrees away, and whether it comes within 5 % (``ambiguous``).
    """
    rng = np.random.default_rng(seed)
    few, added = _sample(pair, extra, _FEW, rng)
    starts = _starts(*few.space) if options.align == "free" else [_centred(np.eye(few.space[0].shape[1]), *few.space)]
    ends = [_alternate(few, added, start, options, _SOME) for start in starts]
    ends.sort(key=lambda end: end[1].objective)
    first, rest = ends[0], [e for e in ends if angle(e[0].rotation @ ends[0][0].rotation.T) > _APART]
    more, added = _sample(pair, extra, _CELLS, rng)
    motion, solved = _alternate(more, added, first[0], options, _ROUNDS)
    excess = rest[0][1].objective / max(first[1].objective, np.finfo(float).tiny) - 1 if rest else np.inf
    notes = {
        "angle_deg": float(np.rad2deg(angle(motion.rotation))),
        "rotation": motion.rotation.tolist(),
        "translation_um": motion.translation.tolist(),
        "rms_um": _rms(more, solved.plan, motion),
        "other_excess": float(excess),
        "ambiguous": bool(excess < _CLOSE),
    }
    return Aligned(motion, notes)


def placed(adata: AnnData, couplings: Sequence[Coupling]) -> AnnData:
    """Return a copy of the data with the positions of every time in the frame of the first.

    Parameters
    ----------
    adata
        The data that were coupled.
    couplings
        Of consecutive times, in order, coupled with ``align``; a time that was not turned keeps the pose that it has
        beside the time before it.
    """
    moved = adata.copy()
    x = np.array(adata.obsm[schema.ALIGNED], dtype=float)
    t = adata.obs[schema.TIME].to_numpy(float)
    motion = Rigid.identity(x.shape[1])
    for c in couplings:
        found = c.diagnostics.get("alignment")
        if found is not None:
            motion = motion.after(Rigid(np.array(found["rotation"]), np.array(found["translation_um"])))
        rows = t == c.t1_h
        x[rows] = motion(x[rows])
    moved.obsm[schema.ALIGNED] = x
    return moved


def angle(rotation: Float[np.ndarray, "dims dims"]) -> float:
    """Return by how much a proper rotation turns, radians, 0 to pi."""
    if len(rotation) == 2:
        return float(abs(np.arctan2(rotation[1, 0], rotation[0, 0])))
    half = np.linalg.norm(rotation - np.eye(len(rotation))) / np.sqrt(8)  # sin of half the angle
    return float(2 * np.arcsin(min(half, 1.0)))


def _sample(
    pair: Populations, extra: np.ndarray | None, n: int, rng: np.random.Generator
) -> tuple[Populations, np.ndarray | None]:
    i, j = (np.sort(rng.permutation(len(x))[:n]) for x in pair.space)
    return pair.some(i, j), None if extra is None else extra[np.ix_(i, j)]


def _alternate(
    pair: Populations, extra: np.ndarray | None, motion: Rigid, options: Transport, rounds: int
) -> tuple[Rigid, Solved]:
    body = squares(*pair.body) if extra is None else squares(*pair.body) + extra
    x, y = pair.space
    solved = solve(body, pair.scale * x, pair.scale * motion(y), options)
    for _ in range(rounds):
        moved = _onto(solved.plan, x, y)
        if moved is None:
            break
        turned = angle(moved.rotation @ motion.rotation.T)
        motion, solved = moved, solve(body, pair.scale * x, pair.scale * moved(y), options, last=solved)
        if turned < _STILL:
            break
    return motion, solved


def _onto(plan: np.ndarray, x: np.ndarray, y: np.ndarray) -> Rigid | None:
    """Return the best proper motion of targets onto sources under a plan; None where it is open."""
    plan = plan / plan.sum()
    a, b = plan.sum(axis=1) @ x, plan.sum(axis=0) @ y
    return best(b, a, (y - b).T @ (plan.T @ (x - a)))


def _rms(pair: Populations, plan: np.ndarray, motion: Rigid) -> float:
    x, y = pair.space
    return float(np.sqrt((plan * squares(x, motion(y))).sum() / plan.sum()))


def _starts(x: np.ndarray, y: np.ndarray) -> list[Rigid]:
    """Return rotations about the centroids: principal axes on principal axes, turned by each of a group."""
    dims = x.shape[1]
    mine, theirs = _axes(x), _axes(y)
    rotations = [mine.T @ turn @ theirs for turn in _group(dims)]
    return [_centred(r, x, y) for r in rotations]


def _centred(rotation: np.ndarray, x: np.ndarray, y: np.ndarray) -> Rigid:
    """Return the rotation with the shift that carries centroid to centroid."""
    return Rigid(rotation, x.mean(axis=0) - rotation @ y.mean(axis=0))


def _axes(x: np.ndarray) -> np.ndarray:
    """Return right-handed principal axes as rows; their signs are left open, the group has them all."""
    axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=True)[2]
    axes[-1] *= np.sign(np.linalg.det(axes))
    return np.asarray(axes)


def _group(dims: int) -> list[np.ndarray]:
    """Return the rotations to start from: twelfths of a turn in the plane, the 24 of the cube in space."""
    if dims == 2:
        turns = 2 * np.pi * np.arange(_TURNS) / _TURNS
        return [np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in turns]
    signed = (
        np.eye(dims)[list(order)] * np.array(signs)[:, None]
        for order in itertools.permutations(range(dims))
        for signs in itertools.product((1.0, -1.0), repeat=dims)
    )
    return [m for m in signed if np.linalg.det(m) > 0]
