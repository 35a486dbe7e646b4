"""Legend: dots and names on as many lines as they need, colour bars for numbers. Nothing is cropped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from embryo.render.overlay import DPI, INK, QUIET, points
from embryo.render.palette import GREY, Key, colormap
from embryo.render.panel import UNKNOWN

_LINE = 1.8  # height of a line over font size
_LONGEST = 34  # letters of a name
_BAR = 11.0  # length of a colour bar over font size
_SMALL = 0.9  # size of the text over font size


@dataclass(frozen=True)
class Entry:
    """One thing that is explained.

    Parameters
    ----------
    kind
        ``"name"`` (plain words), ``"dot"``, ``"bar"``, ``"dash"`` or ``"arrow"``.
    words
        Printed after the mark.
    colour
        Of the mark; for a bar the name of its colour map.
    ends
        The numbers at the two ends of a bar.
    width
        Pixels.
    left, line
        Where it stands: pixels from the left, and line from the top.
    """

    kind: str
    words: str
    colour: str = INK
    ends: tuple[str, str] = ("", "")
    width: float = 0.0
    left: float = 0.0
    line: int = 0


@dataclass(frozen=True)
class Legend:
    """Entries laid out in centred lines of text with a height of `font` pixels."""

    entries: tuple[Entry, ...]
    font: float

    @property
    def height(self) -> int:
        """Height of all lines, pixels."""
        lines = 1 + max((entry.line for entry in self.entries), default=-1)
        return round((lines * _LINE + 0.9) * self.font)

    @classmethod
    def over(cls, key: Key, width: int, font: float) -> "Legend":
        """Lay out what `key` explains on a sheet `width` pixels wide."""
        measure = ruler(_SMALL * font)
        entries = [_measured(entry, measure, font) for entry in _entries(key)]
        lines: list[list[Entry]] = [[]]
        for entry in entries:
            full = sum(e.width for e in lines[-1]) + entry.width > width - 2 * font
            if lines[-1] and (full or (entry.kind == "bar" and lines[-1][-1].kind == "dot")):
                lines.append([])
            lines[-1].append(entry)
        placed = [entry for i, line in enumerate(lines) for entry in _centred(line, i, width)]
        return cls(tuple(placed), font)

    def draw(self, figure: Figure, size: tuple[int, int]) -> None:
        """Draw at the bottom of a sheet of `size` pixels."""
        if not self.entries:
            return
        axes = figure.add_axes((0, 0, 1, self.height / size[1]))
        axes.set_xlim(0, size[0])
        axes.set_ylim(self.height, 0)
        axes.set_axis_off()
        for entry in self.entries:
            _draw(axes, entry, (entry.line + 0.95) * _LINE * self.font * 0.98, self.font)


def _entries(key: Key) -> list[Entry]:
    entries = [Entry("dot", _cut(name), colour) for name, colour in key.colours.items()]
    rare = [name for name in key.others if name != UNKNOWN]
    if rare:
        entries.append(Entry("dot", _cut(rare[0]) if len(rare) == 1 else f"{len(rare)} rarer ones", GREY))
    if UNKNOWN in key.others:
        entries.append(Entry("dot", UNKNOWN, GREY))
    if entries and key.name:
        entries.insert(0, Entry("name", _cut(key.name), QUIET))
    for name, (low, high) in key.ranges.items():
        unit = key.units.get(name, "")
        words = f"{_cut(name)} ({unit})" if unit else _cut(name)
        entries.append(Entry("bar", words, colormap(low, high), (f"{low:.3g}", f"{high:.3g}")))
    if key.ghost:
        entries.append(Entry("dash", f"outline of {key.ghost}"))
    if key.arrows:
        entries.append(Entry("arrow", "displacement, to scale"))
    return entries


def _measured(entry: Entry, measure: Callable[[str], float], font: float) -> Entry:
    mark = {"name": 0.0, "dot": 1.3, "dash": 2.6, "arrow": 2.6, "bar": _BAR + 1.6}[entry.kind] * font
    ends = sum(measure(end) for end in entry.ends) if entry.kind == "bar" else 0.0
    return replace(entry, width=mark + ends + measure(entry.words) + 1.5 * font)


def _centred(line: Sequence[Entry], number: int, width: int) -> list[Entry]:
    left = (width - sum(entry.width for entry in line)) / 2
    placed = []
    for entry in line:
        placed.append(replace(entry, left=left, line=number))
        left += entry.width
    return placed


def _draw(axes: Any, entry: Entry, y: float, font: float) -> None:
    x, middle = entry.left, y - 0.33 * font
    if entry.kind == "dot":
        axes.scatter([x + 0.5 * font], [middle], s=points(0.85 * font) ** 2, color=entry.colour, linewidths=0)
        x += 1.3 * font
    elif entry.kind in ("dash", "arrow"):
        line = {
            "arrowstyle": "-|>" if entry.kind == "arrow" else "-",
            "color": INK,
            "lw": 1.5,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        line |= {} if entry.kind == "arrow" else {"linestyle": "dashed"}
        axes.annotate("", xy=(x + 2.1 * font, middle), xytext=(x, middle), arrowprops=line)
        x += 2.6 * font
    elif entry.kind == "bar":
        x = _bar(axes, entry, (x, middle), font)
    colour = QUIET if entry.kind == "name" else INK
    _say(axes, x, y, entry.words, font, color=colour)


def _bar(axes: Any, entry: Entry, at: tuple[float, float], font: float) -> float:
    measure = ruler(_SMALL * font)
    (x, middle), (low, high) = at, entry.ends
    _say(axes, x, middle + 0.33 * font, low, font, color=QUIET)
    left = x + measure(low) + 0.4 * font
    right = left + _BAR * font
    colours = colormaps[entry.colour](np.linspace(0, 1, 256))[None]
    axes.imshow(colours, extent=(left, right, middle + 0.4 * font, middle - 0.4 * font), aspect="auto")
    axes.set_xlim(0, axes.figure.bbox.width)
    axes.set_ylim(axes.bbox.height, 0)
    _say(axes, right + 0.4 * font, middle + 0.33 * font, high, font, color=QUIET)
    return right + measure(high) + 1.2 * font


def _say(axes: Any, x: float, y: float, words: str, font: float, *, color: str) -> None:
    axes.text(x, y, words, fontsize=points(_SMALL * font), color=color, parse_math=False, va="baseline")


def ruler(pixels: float, **face: Any) -> Callable[[str], float]:
    """Return a function that tells the width in pixels of words that are `pixels` high."""
    renderer: Any = FigureCanvasAgg(Figure(dpi=DPI)).get_renderer()
    letters = FontProperties(size=points(pixels), **face)
    return lambda words: float(renderer.get_text_width_height_descent(words, letters, ismath=False)[0])


def cut(words: str, fits: Callable[[str], bool]) -> str:
    """Take letters out of the middle of `words` until they fit: names often differ at the end."""
    keep = len(words)
    shown = words
    while keep > 2 and not fits(shown):
        keep -= 1
        tail = keep // 3
        shown = f"{words[: keep - tail].rstrip()}…{words[len(words) - tail :].lstrip()}"
    return shown


def _cut(words: str) -> str:
    return cut(words, lambda shown: len(shown) <= _LONGEST)
