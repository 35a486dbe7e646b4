"""Which named cell each cell of an unnamed embryo is: pose and one-to-one assignment in turn, from many poses.

No name, no frame and no order of the cells is used. Poses start where the principal axes of both bodies coincide, in
every proper way; assignments are exact (Crouse, IEEE Trans Aerosp Electron Syst 52:1679, 2016, as in scipy), with the
spread of every named cell widened at first and then drawn in, as in deterministic annealing.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from embryo.core.frame import Rigid, best

_ALIKE = 0.8  # axes whose lengths differ by less than this ratio may be exchanged
_TURNS = 8  # around the longest axis; twice as many in the plane
_WIDE, _DRAWN_IN = 4.0, 0.7  # widening of all variances at first, and its factor per round
_SCREEN, _ROUNDS = 4, 12  # rounds before the worst poses are left, and in all
_KEPT = 0.25  # share of the poses that goes on


@dataclass(frozen=True, eq=False)
class Slots:
    """Where named cells may be.

    Parameters
    ----------
    mean, cov
        Place and spread of each, µm and µm².
    share
        In which share of the embryos the cell is there at that time, above 0.
    """

    mean: Float[np.ndarray, "slots space"]
    cov: Float[np.ndarray, "slots space space"]
    share: Float[np.ndarray, " slots"]


@dataclass(frozen=True, eq=False)
class Naming:
    """Who each cell is held to be.

    Parameters
    ----------
    slot
        Slot of each cell; all different while there are slots enough.
    certainty
        Weight of that slot among all for this cell, 0 to 1.
    motion
        From the frame of the cells to that of the slots.
    cost
        Mean cost of a cell, in nats; low is good.
    """

    slot: Int[np.ndarray, " cells"]
    certainty: Float[np.ndarray, " cells"]
    motion: Rigid
    cost: float


def identify(
    x: Float[np.ndarray, "cells space"], slots: Slots, unlike: Float[np.ndarray, "cells slots"] | None = None
) -> Naming:
    """Assign cells to slots and find the proper rigid motion that lays them there.

    Parameters
    ----------
    x
        Positions in any right-handed frame, µm.
    slots
        Where named cells may be.
    unlike
        Further cost of each pair, nats: by expression.
    """
    far = _Quadratic(slots)
    prior = np.linalg.slogdet(slots.cov)[1] / 2 - np.log(slots.share)
    further = prior if unlike is None else prior + unlike

    def cost(motion: Rigid, wide: float) -> np.ndarray:
        return np.asarray(far(motion(x)) / (2 * wide) + further)

    def settled(motion: Rigid, first: int, last: int) -> tuple[float, Rigid]:
        for k in range(first, last):
            rows, columns = linear_sum_assignment(cost(motion, max(1.0, _WIDE * _DRAWN_IN**k)))
            motion = _laid(x[rows], slots.mean[columns]) or motion
        found = cost(motion, 1.0)
        return float(found[linear_sum_assignment(found)].mean()), motion

    poses = [settled(start, 0, _SCREEN) for start in _starts(x, slots.mean)]
    poses.sort(key=lambda pose: pose[0])
    kept = poses[: max(1, round(_KEPT * len(poses)))]
    value, motion = min((settled(pose, _SCREEN, _ROUNDS) for _, pose in kept), key=lambda pose: pose[0])
    return _named(cost(motion, 1.0), motion, value)


class _Quadratic:
    """Squared Mahalanobis distances of points to slots, as one product of matrices."""

    def __init__(self, slots: Slots) -> None:
        self.centre = slots.mean.mean(axis=0)
        m, p = slots.mean - self.centre, np.linalg.inv(slots.cov)
        linear = np.einsum("jkl,jl->jk", p, m)
        self.weights = np.concatenate([p.reshape(len(p), -1), -2 * linear, (m * linear).sum(axis=1)[:, None]], axis=1).T

    def __call__(self, x: Float[np.ndarray, "cells space"]) -> Float[np.ndarray, "cells slots"]:
        c = x - self.centre
        squares = (c[:, :, None] * c[:, None]).reshape(len(c), -1)
        return np.asarray(np.concatenate([squares, c, np.ones((len(c), 1))], axis=1) @ self.weights)


def _named(cost: Float[np.ndarray, "cells slots"], motion: Rigid, value: float) -> Naming:
    slot = cost.argmin(axis=1)  # of cells beyond the number of slots
    rows, columns = linear_sum_assignment(cost)
    slot[rows] = columns
    weight = np.exp(cost.min(axis=1, keepdims=True) - cost)
    certainty = weight[np.arange(len(cost)), slot] / weight.sum(axis=1)
    return Naming(slot, certainty, motion, value)


def _laid(x: Float[np.ndarray, "pairs space"], y: Float[np.ndarray, "pairs space"]) -> Rigid | None:
    a, b = x.mean(axis=0), y.mean(axis=0)
    return best(a, b, (x - a).T @ (y - b))


def _starts(x: Float[np.ndarray, "cells space"], y: Float[np.ndarray, "slots space"]) -> list[Rigid]:
    """Motions that bring the principal axes of `x` onto those of `y`, in every proper way."""
    (a, lengths), (b, _) = _axes(x), _axes(y)
    if x.shape[1] == 2:
        turns = [_plane(angle) for angle in np.linspace(0, 2 * np.pi, 2 * _TURNS, endpoint=False)]
    elif lengths[1] > _ALIKE * lengths[0]:
        turns = list(Rotation.create_group("I").as_matrix())
    else:
        angles = np.linspace(0, 2 * np.pi, _TURNS, endpoint=False)
        around = Rotation.from_rotvec(angles[:, None] * np.eye(3)[0]).as_matrix()
        turns = [turn @ flip for turn in around for flip in (np.eye(3), np.diag([-1.0, 1.0, -1.0]))]
    rotations = [b.T @ turn @ a for turn in turns]
    return [Rigid(r, y.mean(axis=0) - r @ x.mean(axis=0)) for r in rotations]


def _axes(x: Float[np.ndarray, "cells space"]) -> tuple[Float[np.ndarray, "space space"], Float[np.ndarray, " space"]]:
    """Right-handed principal axes as rows, longest first, and their lengths."""
    _, lengths, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    if np.linalg.det(axes) < 0:
        axes[-1] *= -1
    return axes, lengths


def _plane(angle: float) -> Float[np.ndarray, "2 2"]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
