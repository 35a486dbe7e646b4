"""Curves: numbers over time, one small plot per quantity, control beside edit, with the spread of the wild type."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from embryo.core.errors import Problem
from embryo.core.store import atomic
from embryo.render.overlay import DPI, INK, QUIET
from embryo.render.palette import CATEGORIES
from embryo.render.panel import RenderError

_COLUMNS = ("metric", "value", "model", "time_h")
_PLOT = (3.6, 2.6)  # width and height of one plot, inches
_FEW = 25  # up to this many times every one is marked


def curves(
    table: pd.DataFrame,
    path: Path,
    *,
    control: str = "control",
    band: str = "spread of wild-type repeats",
    columns: int = 3,
    palette: Mapping[str, str] | None = None,
) -> Path:
    """Draw a tidy table over time and write a PNG.

    Parameters
    ----------
    table
        One row per metric, model and time: columns metric, value, model, time_h (hours), and where known unit, low and
        high. NaN leaves a gap.
    path
        Where the PNG goes; its folder is made.
    control
        The model that is drawn dark, with low to high as a band.
    band
        What that band is, for the legend.
    columns
        Plots per row.
    palette
        Model to ``"#rrggbb"``.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    RenderError
        If columns are missing or there are no rows.
    """
    _check(table)
    metrics = list(dict.fromkeys(table["metric"]))
    colours = _colours(table, control, palette or {})
    columns = min(columns, len(metrics))
    rows = -(-len(metrics) // columns)
    size = (max(_PLOT[0] * columns, 6.0), _PLOT[1] * rows + 0.6)
    figure = Figure(figsize=size, dpi=1.75 * DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, metric in zip(grid.flat, metrics, strict=False):
        _plot(axes, table[table["metric"] == metric], control, colours)
    for axes in grid.flat[len(metrics) :]:
        axes.set_axis_off()
    _legend(figure, table, control, (band, colours))
    with atomic(Path(path)) as draft:
        figure.savefig(draft, format="png")
    return Path(path)


def _check(table: pd.DataFrame) -> None:
    problems = [
        Problem(f"no column {name!r}", "columns metric, value, model, time_h", "hand over a tidy table")
        for name in _COLUMNS
        if name not in table.columns
    ]
    if not problems and table.empty:
        problems.append(Problem("a table without rows", "a row per metric, model and time", "measure something first"))
    if problems:
        raise RenderError(*problems, subject="curves")


def _colours(table: pd.DataFrame, control: str, palette: Mapping[str, str]) -> dict[str, str]:
    models = list(dict.fromkeys(table["model"]))
    models.sort(key=lambda model: model != control)  # the control first, the others as they come
    free = iter(c for c in CATEGORIES[1:] * (1 + len(models) // len(CATEGORIES)) if c != "#f0e442")  # pale on white
    return {m: palette.get(m) or (INK if m == control else next(free)) for m in models}


def _plot(axes: Any, table: pd.DataFrame, control: str, colours: Mapping[str, str]) -> None:
    for model, colour in colours.items():
        rows = table[table["model"] == model].sort_values("time_h")
        if rows.empty:
            continue
        t, y = (rows[name].to_numpy(float) for name in ("time_h", "value"))
        dark = model == control
        marker = "o" if len(t) <= _FEW else None
        axes.plot(t, y, color=colour, lw=2.0 if dark else 1.8, marker=marker, ms=3.2, zorder=3 if dark else 4)
        if _spread(rows):
            low, high = (rows[name].to_numpy(float) for name in ("low", "high"))
            shade = {"color": colour, "alpha": 0.16 if dark else 0.10, "lw": 0}
            if len(t) > 1:
                axes.fill_between(t, low, high, **shade)
            else:
                axes.vlines(t, low, high, color=colour, lw=4, alpha=0.3)
    axes.set_title(_title(table), fontsize=10, fontweight="bold", loc="left", color=INK, parse_math=False)
    axes.set_xlabel("time (h)", fontsize=9, color=QUIET)
    _quieten(axes)


def _title(table: pd.DataFrame) -> str:
    metric = re.sub(r"_um3?(?=$|\[)", "", str(table["metric"].iloc[0])).replace("_", " ")  # the unit follows by itself
    units = table["unit"].dropna().astype(str).tolist() if "unit" in table.columns else []
    return f"{metric} ({units[0]})" if units and units[0] not in ("", "1") else metric


def _quieten(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b8c0c8")
    axes.tick_params(labelsize=8.5, colors=QUIET, length=3)
    axes.grid(axis="y", color="#e8ecf0", lw=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.03, y=0.08)
    axes.locator_params(axis="x", nbins=7)
    axes.locator_params(axis="y", nbins=5)


def _legend(figure: Any, table: pd.DataFrame, control: str, shown: tuple[str, Mapping[str, str]]) -> None:
    band, colours = shown
    marks: list[Any] = [Line2D([], [], color=colour, lw=2) for colour in colours.values()]
    names = [str(model) for model in colours]
    if control in colours and _spread(table[table["model"] == control]):
        marks.append(Patch(facecolor=colours[control], alpha=0.16))
        names.append(band)
    room = figure.get_figwidth() * 11.5  # letters of 9 pt
    fit = max(1, int(room // (max(map(len, names)) + 7)))
    fit = len(names) if sum(len(name) + 7 for name in names) <= room else fit
    legend = figure.legend(
        marks, names, loc="outside lower center", ncols=min(fit, len(names)), frameon=False, fontsize=9
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _spread(rows: pd.DataFrame) -> bool:
    if not {"low", "high"} <= set(rows.columns):
        return False
    return bool(np.isfinite(rows[["low", "high"]].to_numpy(float)).all(axis=1).any())
