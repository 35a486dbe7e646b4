"""Sheet: painted embryos set side by side with titles, scale bar, axes and legend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from embryo.render import overlay
from embryo.render.camera import Camera, outside, spacing
from embryo.render.legend import Legend, cut, ruler
from embryo.render.overlay import DPI, INK, QUIET, points
from embryo.render.painters import Painter
from embryo.render.palette import Key
from embryo.render.panel import Panel
from embryo.render.spheres import Image, Spheres

_FOG = 0.28  # how much the farthest cell fades to white
_ROUND = 0.98  # diameter of a cell over the spacing of cells
_SIDES = (0.42, 1.05)  # height over width of a panel


@dataclass(frozen=True)
class Layout:
    """Where everything lies on the sheet, in pixels from the upper left.

    Parameters
    ----------
    size
        Width and height of the sheet, both even.
    panel
        Width and height of one panel.
    corners
        Upper left corner of each panel.
    font
        Height of the text.
    legend
        The lines at the bottom.
    header
        Height kept free at the top, for the time stamp.
    """

    size: tuple[int, int]
    panel: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    font: float
    legend: Legend
    header: int


def arrange(
    count: int,
    rows: int,
    camera: Camera,
    key: Key,
    *,
    size: tuple[int | None, int | None] = (None, None),
    header: bool = False,
) -> Layout:
    """Lay out `count` panels in `rows` rows.

    Parameters
    ----------
    size
        Width and height in pixels; a height that is not given fits the embryo. Odd ones are made even: films need it.
    header
        Keep a line free at the top.
    """
    columns = -(-count // rows)
    width = _even(size[0] or min(1800, max(900, 800 * columns)))
    font = float(np.clip(width / 78, 11, 24))
    legend = Legend.over(key, width, font)
    gap, title, top = round(0.8 * font), round(3.0 * font), round((2.2 if header else 0.2) * font)
    w = (width - gap * (columns + 1)) // columns
    if size[1]:
        height = _even(size[1])
        h = max((height - top - legend.height) // rows - title, 16)
    else:
        h = round(w * float(np.clip(camera.half_um[1] / camera.half_um[0], *_SIDES)))
        height = _even(top + rows * (h + title) + legend.height)
    corners = [(gap + (w + gap) * (i % columns), top + title + (h + title) * (i // columns)) for i in range(count)]
    return Layout((width, height), (w, h), tuple(corners), font, legend, top)


def _even(length: int) -> int:
    return length + length % 2


def compose(
    panels: Sequence[Panel], camera: Camera, key: Key, layout: Layout, *, paint: Painter, stamp: str = ""
) -> Image:
    """Return the finished sheet as pixels."""
    width, height = layout.size
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    apart = spacing(panels)
    for panel, corner in zip(panels, layout.corners, strict=True):
        _place(figure, panel, corner, (camera, key, layout), paint=paint, apart=apart)
    layout.legend.draw(figure, layout.size)
    if stamp:
        _text(figure, layout, (layout.corners[0][0], layout.header * 0.62), stamp, size=1.25, weight="bold")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def spheres(panel: Panel, camera: Camera, key: Key, *, size: tuple[int, int], apart: float) -> Spheres:
    """Return the cells of `panel` as a painter takes them; far cells fade."""
    pixels = camera.project(panel.x, size)
    radius = np.full(len(pixels), _ROUND / 2 * apart * camera.scale(size))
    if panel.mass is not None and len(pixels) and panel.mass.max() > 0:
        radius *= np.clip(np.cbrt(panel.mass / np.mean(panel.mass)), 0.4, 2.5)
    rgb = key.rgb(panel)
    if len(pixels) and not panel.flat:
        depth = pixels[:, 2]
        fog = _FOG * (depth.max() - depth) / max(float(np.ptp(depth)), 1e-9)
        rgb = rgb + fog[:, None] * (1 - rgb)
    return Spheres(pixels, np.maximum(radius, 0.6), rgb, flat=panel.flat)


def _place(
    figure: Figure,
    panel: Panel,
    corner: tuple[int, int],
    shared: tuple[Camera, Key, Layout],
    *,
    paint: Painter,
    apart: float,
) -> None:
    camera, key, layout = shared
    balls = spheres(panel, camera, key, size=layout.panel, apart=apart)
    axes = _axes(figure, corner, layout)
    below = layout.size[1] - corner[1] - layout.panel[1]
    figure.figimage(paint(balls, layout.panel), corner[0], below, origin="upper", zorder=-1)  # pixel for pixel
    if panel.surface is not None:
        overlay.hull(axes, *panel.surface, camera=camera, size=layout.panel)
    if panel.ghost is not None and len(panel.ghost):
        overlay.outline(axes, panel.ghost, camera, layout.panel, apart)
    if panel.arrows is not None:
        overlay.arrows(axes, panel.x, panel.arrows, camera, layout.panel)
    overlay.scale_bar(axes, camera, layout.panel, layout.font)
    overlay.triad(axes, camera, panel.axes[: panel.x.shape[1]], layout.panel, layout.font)
    _say(figure, panel, corner, layout, strays=outside(balls.centres, layout.panel))


def _say(figure: Figure, panel: Panel, corner: tuple[int, int], layout: Layout, *, strays: int) -> None:
    x, y = corner
    measure = ruler(1.1 * layout.font, weight="bold")
    title = cut(panel.title, lambda words: measure(words) <= layout.panel[0])
    _text(figure, layout, (x, y - 1.45 * layout.font), title, size=1.1, weight="bold")
    _text(figure, layout, (x, y - 0.35 * layout.font), _count(panel, strays), size=0.8, color=QUIET)
    if not len(panel.x):
        middle = (x + layout.panel[0] / 2, y + layout.panel[1] / 2)
        _text(figure, layout, middle, "no cells", size=1.2, color=QUIET, ha="center")


def _count(panel: Panel, strays: int) -> str:
    cells = f"{len(panel.x):,} cells"
    if panel.mass is not None:
        cells = f"{len(panel.x):,} particles standing for {panel.mass.sum():,.0f} cells"
    return f"{cells}, {strays:,} of them outside the picture" if strays else cells


def _axes(figure: Figure, corner: tuple[int, int], layout: Layout) -> Any:
    (width, height), (w, h), (x, y) = layout.size, layout.panel, corner
    axes = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))
    axes.set_xlim(0, w)
    axes.set_ylim(h, 0)
    axes.set_axis_off()
    return axes


def _text(
    figure: Figure, layout: Layout, at: tuple[float | int, float | int], words: str, *, size: float, **style: Any
) -> None:
    place = (at[0] / layout.size[0], 1 - at[1] / layout.size[1])
    style = {"color": INK} | style
    figure.text(*place, words, fontsize=points(size * layout.font), parse_math=False, **style)
