"""render: embryos -> picture, film, curves and report. Control beside edit, same camera, same scale, same colours.

Creating verbs: they write one file, whole or not at all, and return its path. Each is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embryo.render.camera import Camera
    from embryo.render.films import film
    from embryo.render.machine import notes
    from embryo.render.moments import Moments, gene
    from embryo.render.panel import Panel, RenderError
    from embryo.render.pictures import picture
    from embryo.render.plots import curves
    from embryo.render.reports import Card, Report, Shot, Step, Table, report

_HOME = {
    "Camera": "camera",
    "Card": "reports",
    "Moments": "moments",
    "Panel": "panel",
    "RenderError": "panel",
    "Report": "reports",
    "Shot": "reports",
    "Step": "reports",
    "Table": "reports",
    "curves": "plots",
    "film": "films",
    "gene": "moments",
    "notes": "machine",
    "picture": "pictures",
    "report": "reports",
}

__all__ = [
    "Camera",
    "Card",
    "Moments",
    "Panel",
    "RenderError",
    "Report",
    "Shot",
    "Step",
    "Table",
    "curves",
    "film",
    "gene",
    "notes",
    "picture",
    "report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"embryo.render.{_HOME[name]}"), name)
    msg = f"module 'embryo.render' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return list(__all__)
