"""What is drawn over painted cells, in their pixels: scale bar, axes, outline, arrows, hull."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib import patheffects
from matplotlib.collections import PolyCollection
from scipy import ndimage

from embryo.render.camera import Camera

DPI = 100
INK, QUIET = "#1d2733", "#66717d"
_HALO = [patheffects.withStroke(linewidth=3, foreground="white")]
_ARROWS_ACROSS = 16


def points(pixels: float) -> float:
    """Return a font size for a text height in pixels."""
    return pixels * 72 / DPI


def scale_bar(axes: Any, camera: Camera, size: tuple[int, int], font: float) -> None:
    """Draw a bar of a round number of µm in the lower right corner."""
    scale = camera.scale(size)
    length_um = nice(0.22 * size[0] / scale)
    right, bottom = size[0] - 0.8 * font, size[1] - 0.9 * font
    left = right - length_um * scale
    axes.plot(
        [left, right], [bottom, bottom], color=INK, lw=points(0.22 * font), solid_capstyle="butt", path_effects=_HALO
    )
    _write(axes, ((left + right) / 2, bottom - 0.45 * font), length_text(length_um), font)


def nice(length: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, 50, ... that is not above `length`."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(power * max(step for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)))


def length_text(length_um: float) -> str:
    """Return a length for people: 50 µm, 2 mm."""
    return f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"


def triad(axes: Any, camera: Camera, names: tuple[str, ...], size: tuple[int, int], font: float) -> None:
    """Draw the directions of the body axes in the lower left corner; those towards the viewer last."""
    arms = camera.rotation[:, : len(names)].T  # per axis: right, up, towards the viewer
    reach = 2.3 * font
    ends = reach * np.column_stack([arms[:, 0], -arms[:, 1]])
    low, high = np.minimum(ends.min(axis=0), 0), np.maximum(ends.max(axis=0), 0)
    origin = np.array([1.4 * font - low[0], size[1] - 1.4 * font - high[1]])
    for i in np.argsort(arms[:, 2]):
        tip = origin + ends[i]
        style = {"arrowstyle": "-|>", "color": INK, "lw": points(0.12 * font), "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=tip, xytext=origin, arrowprops=style | {"mutation_scale": 0.6 * font})
        away = ends[i] / max(float(np.linalg.norm(ends[i])), 1e-9)
        side = "center" if abs(away[0]) < 0.4 else "left" if away[0] > 0 else "right"
        _write(
            axes,
            tip + (0.45 if side != "center" else 0.7) * font * away,
            axis_name(names[i]),
            font,
            ha=side,
            va="center",
        )


def axis_name(name: str) -> str:
    """Return a short name of an axis: "anterior-posterior" is A–P."""
    return name if len(name) <= 3 else "–".join(word[0].upper() for word in name.replace("_", "-").split("-") if word)


def outline(
    axes: Any, ghost: Float[np.ndarray, "others space"], camera: Camera, size: tuple[int, int], apart: float
) -> None:
    """Draw the silhouette of other cells as a dashed line."""
    coarse = 3
    shape = (size[1] // coarse + 1, size[0] // coarse + 1)
    empty = np.ones(shape, dtype=bool)
    p = np.floor(camera.project(ghost, size)[:, :2] / coarse).astype(int)
    p = p[(p >= 0).all(axis=1) & (p[:, 0] < shape[1]) & (p[:, 1] < shape[0])]
    if not len(p):
        return
    empty[p[:, 1], p[:, 0]] = False
    radius = 1.1 * apart * camera.scale(size) / coarse
    body = ndimage.binary_fill_holes(ndimage.distance_transform_edt(empty) < radius)
    inside = ndimage.distance_transform_edt(body) - ndimage.distance_transform_edt(~body)
    level = ndimage.gaussian_filter(inside, 1.5)
    x, y = (coarse * (np.arange(n) + 0.5) for n in (shape[1], shape[0]))
    for width, colour, style in ((3.0, "white", "solid"), (1.5, INK, "dashed")):
        axes.contour(x, y, level, levels=[0.5 * radius], colors=colour, linewidths=width, linestyles=style)


def arrows(
    axes: Any,
    x: Float[np.ndarray, "cells space"],
    shift: Float[np.ndarray, "cells space"],
    camera: Camera,
    size: tuple[int, int],
) -> None:
    """Draw displacements, to scale, of the cells nearest to the viewer in each part of the picture."""
    start, end = camera.project(x, size), camera.project(x + shift, size)
    chosen = _in_front(start, size[0] / _ARROWS_ACROSS)
    a, b = start[chosen, :2], end[chosen, :2]
    style = {"angles": "xy", "scale_units": "xy", "scale": 1, "units": "dots", "minlength": 0.5}
    axes.quiver(*a.T, *(b - a).T, width=3.0, headwidth=3.6, color=INK, edgecolor="white", linewidth=0.7, **style)


def hull(
    axes: Any,
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    *,
    camera: Camera,
    size: tuple[int, int],
) -> None:
    """Draw a mesh as glass: clear where it faces the viewer, denser towards the rim."""
    corners = camera.project(vertices, size)[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    order = np.argsort(corners[:, :, 2].mean(axis=1))
    alpha = 0.03 + 0.45 * (1 - facing[order]) ** 2
    colours = np.column_stack([np.tile([0.30, 0.40, 0.50], (len(order), 1)), alpha])
    glass = PolyCollection(corners[order][:, :, :2], facecolors=colours, edgecolors="none", antialiaseds=False)
    axes.add_collection(glass)


def _in_front(p: Float[np.ndarray, "cells 3"], bin_px: float) -> Int[np.ndarray, " chosen"]:
    """Return the cell nearest to the viewer in each square of `bin_px` pixels."""
    nearest_first = np.argsort(-p[:, 2], kind="stable")
    squares = np.floor(p[nearest_first, :2] / bin_px).astype(int)
    _, first = np.unique(squares, axis=0, return_index=True)
    return nearest_first[first]


def _write(
    axes: Any, at: tuple[float, float] | np.ndarray, words: str, font: float, *, ha: str = "center", va: str = "bottom"
) -> None:
    style = {"color": INK, "fontsize": points(0.85 * font), "parse_math": False, "path_effects": _HALO}
    axes.text(at[0], at[1], words, ha=ha, va=va, **style)
