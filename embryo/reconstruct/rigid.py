"""Least-squares rigid motions between matched points, never mirrored.

With H the weighted cross-covariance of centred source and target and ``H = U S V^T``, the best rotation is
``R = V diag(1, .., d) U^T`` with d the sign of ``det(V U^T)`` (Kabsch, Acta Cryst A32:922, 1976; Umeyama, IEEE PAMI
13:376, 1991). The best reflection has the other sign of d.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from embryo.core.errors import FrameError, Problem
from embryo.core.frame import DEGENERATE, Rigid, best

_TRIM, _ROUNDS = 3.0, 5  # refits keep pairs within 3 medians of the residual


@dataclass(frozen=True)
class Fit:
    """A rigid motion and how well it does.

    Parameters
    ----------
    motion
        Source to target.
    median_um
        Median distance of matched cells after the motion, µm.
    mirrored_um
        The same after the best reflection, µm; far below `median_um` where one of the two is mirrored.
    pairs
        Number of matched cells.
    """

    motion: Rigid
    median_um: float
    mirrored_um: float
    pairs: int

    @property
    def mirrored(self) -> bool:
        """Whether a reflection fits far better (below 0.6 of the residual)."""
        return self.mirrored_um < 0.6 * self.median_um


def rigid(
    source: Float[np.ndarray, "points dims"],
    target: Float[np.ndarray, "points dims"],
    weights: Float[np.ndarray, " points"] | None = None,
) -> Rigid:
    """Return the proper rigid motion that carries `source` onto `target` with the least weighted squared distance.

    Parameters
    ----------
    source, target
        Matched points, µm, two or three dimensions.
    weights
        Weight of each pair, 0 or more; equal by default.

    Raises
    ------
    FrameError
        If the points do not determine a rotation (too few, on one line, or a mirror image of high symmetry), or
        positions or weights are not usable numbers.
    """
    w = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=np.float64)
    problems = []
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        problems.append(Problem("NaN or infinite positions", "finite positions", "drop these cells"))
    if not (np.isfinite(w).all() and (w >= 0).all()):
        problems.append(Problem("negative, NaN or infinite weights", "weights of 0 or more", "correct the weights"))
    if problems:
        raise FrameError(*problems, subject="alignment")
    if int((w > 0).sum()) < source.shape[1]:
        raise FrameError(_undetermined(int((w > 0).sum()), source.shape[1]), subject="alignment")
    rotation = best(*_moments(source, target, w))
    if rotation is None:
        raise FrameError(_undetermined(len(source), source.shape[1]), subject="alignment")
    return rotation


def robust(source: Float[np.ndarray, "points dims"], target: Float[np.ndarray, "points dims"]) -> Fit | None:
    """Fit matched points, refitting on those within three medians of the residual; None where undetermined."""
    kept = np.ones(len(source), dtype=bool)
    motion = _fit(source, target, kept)
    for _ in range(_ROUNDS):
        if motion is None:
            return None
        residual = np.linalg.norm(motion(source) - target, axis=1)
        near = residual <= _TRIM * np.median(residual)
        refit = _fit(source, target, near) if near.sum() > source.shape[1] else None
        if refit is None or (near == kept).all():
            break
        motion, kept = refit, near
    return None if motion is None else measured(motion, source, target)


def measured(motion: Rigid, source: Float[np.ndarray, "points dims"], target: Float[np.ndarray, "points dims"]) -> Fit:
    """Return the residuals that `motion` and the best reflection leave between matched points."""
    residual = np.linalg.norm(motion(source) - target, axis=1)
    flip = np.ones(source.shape[1])
    flip[0] = -1
    mirror = best(*_moments(source * flip, target, np.ones(len(source))))
    other = np.inf if mirror is None else float(np.median(np.linalg.norm(mirror(source * flip) - target, axis=1)))
    return Fit(motion, float(np.median(residual)), other, len(source))


def principal(x: Float[np.ndarray, "cells dims"]) -> Rigid:
    """Return the motion that puts a cloud on its own axes: origin at its centroid, longest axis first, right-handed.

    The signs follow the cloud itself: every axis points to its longer tail (positive third moment), except that the
    least skewed axis yields where the frame would be left-handed. The result therefore does not depend on the pose in
    which the cloud comes.

    Raises
    ------
    FrameError
        If there are too few cells or all lie on one line.
    """
    centre = x.mean(axis=0)
    _, s, axes = np.linalg.svd(x - centre, full_matrices=False)
    if len(x) < x.shape[1] or s[1] <= np.sqrt(DEGENERATE) * s[0]:
        raise FrameError(_undetermined(len(x), x.shape[1]), subject="body axes")
    along = (x - centre) @ axes.T
    skew = (along**3).mean(axis=0) / (along**2).mean(axis=0).clip(np.finfo(float).tiny) ** 1.5
    axes = axes * np.where(skew < 0, -1.0, 1.0)[:, None]
    if np.linalg.det(axes) < 0:
        axes[np.abs(skew).argmin()] *= -1
    return Rigid(axes, -axes @ centre)


def _moments(source: np.ndarray, target: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    w = (w / w.sum())[:, None]
    source_mean, target_mean = (w * source).sum(axis=0), (w * target).sum(axis=0)
    return source_mean, target_mean, (w * (source - source_mean)).T @ (target - target_mean)


def _fit(source: np.ndarray, target: np.ndarray, kept: np.ndarray) -> Rigid | None:
    return best(*_moments(source, target, kept.astype(np.float64))) if kept.any() else None


def _undetermined(n: int, dims: int) -> Problem:
    return Problem(
        f"{n} matched cells that leave the rotation open (too few, or on one line)",
        f"at least {dims} cells that span a {'plane' if dims == 3 else 'line'}",
        "use a later time, more cells, or another reference embryo",
    )
