"""Frames and the proper rigid motions between them. Right-handed, µm, never mirrored."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from embryo.core.errors import FrameError, Problem

RAW = "raw"
BODY = "body"
_TOLERANCE = 1e-6
DEGENERATE = 1e-9  # of the largest singular value: points that leave a rotation open


@dataclass(frozen=True, eq=False)
class Rigid:
    """A proper rigid motion ``x -> R x + t``.

    Parameters
    ----------
    rotation
        Orthogonal matrix R with determinant +1, shape (dims, dims).
    translation
        Vector t in µm, shape (dims,).

    Raises
    ------
    FrameError
        If R scales, shears or mirrors, or the shapes do not fit.
    """

    rotation: Float[np.ndarray, "dims dims"]
    translation: Float[np.ndarray, " dims"]

    def __post_init__(self) -> None:
        rotation = self.rotation
        problems = []
        if rotation.shape != 2 * self.translation.shape:
            found = f"a rotation of shape {rotation.shape} with a translation of shape {self.translation.shape}"
            problems.append(Problem(found, "(dims, dims) and (dims,)", "fit both in the same space"))
        elif not (np.isfinite(rotation).all() and np.isfinite(self.translation).all()):
            problems.append(Problem("a transform with NaN or infinite entries", "finite numbers", "fit it again"))
        elif not np.allclose(rotation @ rotation.T, np.eye(len(rotation)), atol=_TOLERANCE):
            scales = np.linalg.svd(rotation, compute_uv=False)
            problems.append(
                Problem(
                    f"a linear map with singular values {np.round(scales, 4).tolist()}",
                    "a rigid motion (all singular values 1)",
                    "scale coordinates to µm first and align with rotations only",
                )
            )
        elif np.linalg.det(rotation) < 0:
            problems.append(
                Problem(
                    "a mirroring transform (det -1)",
                    "a proper rotation (det +1)",
                    "flip one axis of the input back; embryos are not their mirror images",
                )
            )
        if problems:
            raise FrameError(*problems)

    @classmethod
    def identity(cls, dims: int = 3) -> "Rigid":
        """Return the motion that leaves everything where it is."""
        return cls(np.eye(dims), np.zeros(dims))

    def __call__(self, x: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells dims"]:
        """Return the positions `x` (µm) after the motion."""
        return np.asarray(x @ self.rotation.T + self.translation)

    def inverse(self) -> "Rigid":
        """Return the motion that undoes this one."""
        return Rigid(self.rotation.T, -self.rotation.T @ self.translation)

    def after(self, first: "Rigid") -> "Rigid":
        """Return the motion that does `first`, then this one."""
        return Rigid(self.rotation @ first.rotation, self.rotation @ first.translation + self.translation)


@dataclass(frozen=True)
class Frame:
    """The coordinate frame of positions: whose axes they are. Always µm, right-handed.

    Parameters
    ----------
    name
        ``"body"`` for the common body frame, ``"raw"`` for the microscope's.
    axes
        What the axes mean, where it is known (``("anterior-posterior", ...)``), else x, y, z.
    """

    name: str = BODY
    axes: tuple[str, ...] = field(default=("x", "y", "z"))

    def require_same(self, other: "Frame") -> None:
        """Raise `FrameError` unless `other` is this frame.

        Raises
        ------
        FrameError
            If the frames differ.
        """
        if self != other:
            raise FrameError(
                Problem(
                    f"positions in frame {other.name!r} {other.axes} beside frame {self.name!r} {self.axes}",
                    "one frame",
                    "align both with embryo.reconstruct.body_frame first",
                )
            )


def best(
    source_mean: Float[np.ndarray, " dims"],
    target_mean: Float[np.ndarray, " dims"],
    cross: Float[np.ndarray, "dims dims"],
) -> Rigid | None:
    """Return the proper motion for these moments, or None where they leave it open.

    Parameters
    ----------
    source_mean, target_mean
        Weighted means.
    cross
        Weighted cross-covariance, source by target.
    """
    u, s, vt = np.linalg.svd(cross)
    sign = float(np.sign(np.linalg.det(u) * np.linalg.det(vt)))
    if not s[-2] + sign * s[-1] > DEGENERATE * s[0]:
        return None
    u[:, -1] *= sign
    rotation = vt.T @ u.T
    return Rigid(rotation, target_mean - rotation @ source_mean)
