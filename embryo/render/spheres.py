"""Spheres in a picture, and the painter that needs nothing but numpy."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

# Phong's terms; the light comes from the upper left behind the viewer (right, up, towards the viewer).
AMBIENT, DIFFUSE, SPECULAR, SHININESS = 0.42, 0.62, 0.10, 16
LIGHT = (-0.45, 0.55, 0.70)

Image = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Spheres:
    """What a painter paints, in pixels, so that every painter has the same camera.

    Parameters
    ----------
    centres
        Pixels from the left, from the top, and towards the viewer.
    radius
        Pixels.
    rgb
        Colours, 0 to 1.
    flat
        Discs instead of spheres, for two-dimensional data.
    """

    centres: Float[np.ndarray, "cells 3"]
    radius: Float[np.ndarray, " cells"]
    rgb: Float[np.ndarray, "cells 3"]
    flat: bool = False

    def larger(self, factor: int) -> "Spheres":
        """Return the same picture with more pixels."""
        return Spheres(self.centres * factor, self.radius * factor, self.rgb, self.flat)


def paint(spheres: Spheres, size: tuple[int, int]) -> Image:
    """Paint with a depth buffer in numpy: each pixel shows the sphere that is nearest there, lit per pixel."""
    owner, depth = _nearest(spheres, size)
    rows, columns = np.nonzero(owner >= 0)
    who = owner[rows, columns]
    place, r = spheres.centres.astype(np.float32)[who], spheres.radius.astype(np.float32)[who]
    dx = (columns.astype(np.float32) + np.float32(0.5) - place[:, 0]) / r
    dy = (place[:, 1] - rows.astype(np.float32) - np.float32(0.5)) / r
    rgb = spheres.rgb.astype(np.float32)[who]
    if spheres.flat:
        lit = rgb * np.where(dx**2 + dy**2 > 0.72, np.float32(0.72), np.float32(1))[:, None]
    else:
        lit = _phong(np.stack([dx, dy, (depth[rows, columns] - place[:, 2]) / r]), rgb)
    picture = np.full((size[1], size[0], 3), 255, np.uint8)
    picture[rows, columns] = (255 * np.clip(lit, 0, 1) + np.float32(0.5)).astype(np.uint8)
    return picture


def _phong(normal: Float[np.ndarray, "3 pixels"], rgb: Float[np.ndarray, "pixels 3"]) -> Float[np.ndarray, "pixels 3"]:
    light = (np.array(LIGHT) / np.linalg.norm(LIGHT)).astype(np.float32)
    facing: np.ndarray = light @ normal
    mirrored = np.clip(2 * facing * normal[2] - light[2], 0, 1)  # of the light's ray, towards the viewer
    shine = SPECULAR * mirrored**SHININESS * (facing > 0)
    return np.asarray(rgb * (AMBIENT + DIFFUSE * np.clip(facing, 0, 1))[:, None] + shine[:, None])


def _nearest(
    spheres: Spheres, size: tuple[int, int]
) -> tuple[Int[np.ndarray, "height width"], Float[np.ndarray, "height width"]]:
    width, height = size
    owner = np.full((height, width), -1, np.int32)
    depth = np.full((height, width), -np.inf, np.float32)
    ahead = np.arange(max(size), dtype=np.float32) + np.float32(0.5)
    for i, ((cx, cy, cz), r) in enumerate(zip(spheres.centres.tolist(), spheres.radius.tolist(), strict=True)):
        x0, x1 = max(int(cx - r), 0), min(int(cx + r) + 1, width)
        y0, y1 = max(int(cy - r), 0), min(int(cy + r) + 1, height)
        if x0 >= x1 or y0 >= y1:
            continue
        dx2, dy2 = (ahead[x0:x1] - cx) ** 2, (ahead[y0:y1] - cy) ** 2
        square = (r * r - dy2)[:, None] - dx2
        surface = np.full_like(square, cz) if spheres.flat else cz + np.sqrt(np.maximum(square, 0))
        window = depth[y0:y1, x0:x1]
        wins = (square > 0) & (surface > window)
        np.copyto(window, surface, where=wins)
        np.copyto(owner[y0:y1, x0:x1], i, where=wins)
    return owner, depth
