"""Colours: one per category, the same everywhere, told apart also with the common colour blindnesses."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps

from embryo.render.panel import UNKNOWN, Panel

# Seven of Okabe & Ito (2008, "Color universal design"), then thirteen chosen so that the smallest distance in OKLab,
# as seen with normal vision, protanopia and deuteranopia (Machado et al. 2009, doi:10.1109/TVCG.2009.113), is largest.
CATEGORIES = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442", "#7a004e", "#37009b", "#644e00",
    "#9059ff", "#59ffa6", "#bc1690", "#9b4e59", "#0b43de", "#90c87a", "#ff436f", "#ffbcff", "#8585d3", "#4e376f",
)  # fmt: skip
GREY = "#c8c8c8"
PLAIN = "#8fa9bf"
_RGB = Float[np.ndarray, "cells 3"]


@dataclass(frozen=True)
class Key:
    """What the colours mean.

    Parameters
    ----------
    colours
        Category to hex colour, in legend order.
    others
        Categories without a colour of their own, drawn grey.
    ranges
        Name of a value to its (lowest, highest) drawn number.
    units
        Name of a value to its unit.
    name
        What the categories are.
    ghost
        Whose outline is drawn; empty where there is none.
    arrows
        Whether displacements are drawn.
    """

    colours: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    ghost: str = ""
    arrows: bool = False

    def rgb(self, panel: Panel) -> _RGB:
        """Return the colour of every cell of `panel`, 0 to 1."""
        if panel.labels is not None:
            table = {name: _hex(colour) for name, colour in self.colours.items()}
            grey = _hex(GREY)
            return np.array([table.get(name, grey) for name in panel.categories]).reshape(-1, 3)
        if panel.values is not None:
            return shade(panel.values, *self.ranges[panel.name])
        return np.tile(_hex(PLAIN), (len(panel.x), 1))


class Survey:
    """Gathers categories and ranges over any number of panels, in constant memory, into one `Key`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._ranges: dict[str, tuple[float, float]] = {}
        self._units: dict[str, str] = {}
        self._name = self._ghost = ""
        self._arrows = False

    def add(self, panels: Iterable[Panel]) -> None:
        """Take in what `panels` show."""
        for panel in panels:
            self._counts.update(panel.categories)
            self._ghost = self._ghost or (panel.ghost_name if panel.ghost is not None else "")
            self._arrows = self._arrows or panel.arrows is not None
            if panel.labels is not None:
                self._name = self._name or panel.name
            elif panel.values is not None:
                self._units[panel.name] = panel.unit
                self._ranges[panel.name] = _widen(self._ranges.get(panel.name), panel.values)

    def key(self, palette: Mapping[str, str] | None = None) -> Key:
        """Return the key; colours of `palette` come first and are kept."""
        colours, others = assign(self._counts, palette or {})
        ranges = {name: _proper(*ends) for name, ends in self._ranges.items()}
        return Key(colours, others, ranges, dict(self._units), self._name, self._ghost, self._arrows)


def assign(counts: Mapping[str, int], palette: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give every category a colour.

    Colours go by the sorted names, so that the same set of categories looks the same in every run. Beyond twenty the
    rarest categories share grey.

    Parameters
    ----------
    counts
        Category to number of cells.
    palette
        Colours that are already agreed on.

    Returns
    -------
    tuple
        Category to hex colour in legend order, and the categories that share grey.
    """
    known = [name for name in counts if name != UNKNOWN and name not in palette]
    free = [colour for colour in CATEGORIES if colour not in {c.lower() for c in palette.values()}]
    common = sorted(known, key=lambda name: (-counts[name], name))[: len(free)]
    colours = {name: colour for name, colour in palette.items() if name in counts}
    colours |= dict(zip(sorted(common, key=_natural), free, strict=False))
    others = sorted(set(known) - set(common), key=_natural)
    return colours, (*others, *([UNKNOWN] if UNKNOWN in counts and UNKNOWN not in palette else []))


def shade(values: Float[np.ndarray, " cells"], low: float, high: float) -> _RGB:
    """Map numbers to colours: viridis, or blue-white-red about zero where the range holds both signs; NaN is grey."""
    s = np.clip((values - low) / (high - low), 0, 1)
    rgb = colormaps[colormap(low, high)](np.nan_to_num(s))[:, :3]
    rgb[np.isnan(values)] = _hex(GREY)
    return np.asarray(rgb)


def colormap(low: float, high: float) -> str:
    """Return the name of the colour map for a range."""
    return "RdBu_r" if low < 0 < high else "viridis"


def _hex(colour: str) -> Float[np.ndarray, " 3"]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def _natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key by which "stage 2" comes before "stage 10", and "0" differs from "00"."""
    runs = re.findall(r"\d+|\D+", name)
    return tuple((0, int(run), "") if run.isdecimal() else (1, 0, run) for run in runs), name


def _widen(old: tuple[float, float] | None, values: Float[np.ndarray, " cells"]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return old or (np.inf, -np.inf)
    low, high = (float(q) for q in np.percentile(known, [1, 99]))
    return (low, high) if old is None else (min(old[0], low), max(old[1], high))


def _proper(low: float, high: float) -> tuple[float, float]:
    if not np.isfinite([low, high]).all():
        return 0.0, 1.0
    if low < 0 < high:
        return -max(-low, high), max(-low, high)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
