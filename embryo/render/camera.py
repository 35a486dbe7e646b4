"""Camera: one orthographic view for all panels, so that sizes can be compared and a scale bar is true everywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from embryo.render.panel import Panel, solid

_AZIMUTH, _ELEVATION = np.deg2rad(25.0), np.deg2rad(22.0)
_MARGIN = 1.1
_STRAY = 1.6  # cells that would stretch the view by more than this are left outside, and counted


@dataclass(frozen=True)
class Camera:
    """An orthographic view of the body.

    Parameters
    ----------
    rotation
        Rows are the directions right, up and towards the viewer in body axes; right-handed, det +1.
    centre
        The point in the middle of the picture, µm.
    half_um
        Half the width and half the height that the picture must hold, µm.
    """

    rotation: Float[np.ndarray, "3 3"]
    centre: Float[np.ndarray, " 3"]
    half_um: tuple[float, float]

    def scale(self, size: tuple[int, int]) -> float:
        """Pixels per µm in a picture of `size` (width, height) pixels."""
        return min(size[0] / (2 * self.half_um[0]), size[1] / (2 * self.half_um[1]))

    def project(self, x: Float[np.ndarray, "cells space"], size: tuple[int, int]) -> Float[np.ndarray, "cells 3"]:
        """Return pixels from the left, pixels from the top, and depth towards the viewer in pixels."""
        p = self.scale(size) * ((solid(x) - self.centre) @ self.rotation.T)
        return np.column_stack([size[0] / 2 + p[:, 0], size[1] / 2 - p[:, 1], p[:, 2]])

    def turned(self, degrees: float | int) -> "Camera":
        """Return the camera after the embryo has turned about its vertical (z) axis, counter-clockwise from above."""
        return replace(self, rotation=self.rotation @ _about_z(np.deg2rad(degrees)))

    @classmethod
    def over(cls, frames: Iterable[Sequence[Panel]], *, turn_deg: float | int = 0) -> "Camera":
        """Return the camera that holds all frames, in one pass and constant memory.

        Single cells far from all others do not shrink the view: they stay outside (see `outside`).

        Parameters
        ----------
        frames
            The panels of each frame.
        turn_deg
            How far the camera will turn.
        """
        bounds = Bounds(turn_deg)
        for panels in frames:
            bounds.add(panels)
        return bounds.camera()


class Bounds:
    """The part of the view that frames fill, gathered frame by frame."""

    def __init__(self, turn_deg: float | int = 0) -> None:
        self._turn_deg = turn_deg
        self._apart = 0.0
        self._views: list[np.ndarray] = []
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)

    def add(self, panels: Sequence[Panel]) -> None:
        """Widen to hold `panels`."""
        points = _points(panels)
        if not len(points):
            return
        if not self._views:
            self._start(points, flat=all(panel.flat for panel in panels))
        self._apart = max(self._apart, spacing(panels))
        for rotation in self._views:
            low, high = _without_strays((points - self._origin) @ rotation.T)
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def camera(self) -> Camera:
        """Return the camera that holds what was added; a view of 100 µm where that was nothing."""
        if not self._views:
            return Camera(view(), np.zeros(3), (50.0, 50.0))
        rotation = self._views[0]
        if len(self._views) > 1:  # the embryo turns about the centre
            half, centre = np.maximum(-self._low, self._high), self._origin
        else:
            half, centre = (self._high - self._low) / 2, self._origin + (self._low + self._high) / 2 @ rotation
        half = _MARGIN * (half + self._apart / 2)
        return Camera(rotation, centre, (float(half[0]), float(half[1])))

    def _start(self, points: Float[np.ndarray, "points 3"], *, flat: bool) -> None:
        self._origin = points.mean(axis=0)
        turns = np.deg2rad(np.linspace(0, self._turn_deg, 9 if self._turn_deg and not flat else 1))
        self._views = [np.eye(3) if flat else view() @ _about_z(angle) for angle in turns]


def view() -> Float[np.ndarray, "3 3"]:
    """Return the usual view: x to the right, z up, y away from the viewer, seen from a little right of and above."""
    a, e = _AZIMUTH, _ELEVATION
    towards = np.array([np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e)])
    right = np.array([np.cos(a), np.sin(a), 0.0])
    return np.stack([right, np.cross(towards, right), towards])


def spacing(panels: Sequence[Panel]) -> float:
    """Return the usual distance between neighbouring cells over all panels, µm; 10 µm for lone cells.

    The distance to the sixth neighbour (fourth in the plane): that is the spacing of a packed tissue, and stays near
    it where cells lie irregularly, while the nearest neighbour may be much closer.
    """
    near = [distance for panel in panels if len(panel.x) > 1 for distance in _neighbour(panel.x).tolist()]
    median = float(np.median(near)) if near else 0.0
    return median if median > 0 else 10.0


def _neighbour(x: Float[np.ndarray, "cells space"]) -> Float[np.ndarray, " cells"]:
    k = min(2 * x.shape[1], max(1, len(x) // 3))
    return np.asarray(cKDTree(x).query(x, k=[k + 1])[0][:, 0])


def outside(pixels: Float[np.ndarray, "cells 3"], size: tuple[int, int]) -> int:
    """Return how many cells lie outside a picture of `size` pixels."""
    inside = (pixels[:, :2] >= 0).all(axis=1) & (pixels[:, 0] < size[0]) & (pixels[:, 1] < size[1])
    return int((~inside).sum())


def _about_z(angle: float) -> Float[np.ndarray, "3 3"]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _points(panels: Sequence[Panel]) -> Float[np.ndarray, "points 3"]:
    parts = [solid(part) for panel in panels for part in (panel.x, panel.ghost) if part is not None]
    parts += [panel.surface[0] for panel in panels if panel.surface is not None]
    return np.concatenate(parts) if parts else np.zeros((0, 3))


def _without_strays(p: Float[np.ndarray, "points 3"]) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    low, high = p.min(axis=0), p.max(axis=0)
    q0, q1 = np.percentile(p, [0.5, 99.5], axis=0)
    stray = (high - low) > _STRAY * (q1 - q0)
    pad = 0.15 * (q1 - q0)
    return np.where(stray & (q1 > q0), q0 - pad, low), np.where(stray & (q1 > q0), q1 + pad, high)
