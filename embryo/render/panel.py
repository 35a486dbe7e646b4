"""Panel: what one picture of one embryo shows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from embryo.core.errors import EmbryoError, Problem

UNKNOWN = "unknown"


class RenderError(EmbryoError):
    """What was handed over cannot be drawn: cells without a place, colours without cells, files that are absent."""


@dataclass(frozen=True)
class Panel:
    """One embryo at one moment, and how its cells are coloured. Panels side by side share camera, scale and colours.

    Parameters
    ----------
    title
        Printed above the embryo, such as ``"knockout pha-4"``.
    x
        Positions in µm in a right-handed frame; two columns are drawn flat.
    labels
        Category per cell. Give labels or values, not both; with neither all cells look alike.
    values
        Number per cell; NaN is drawn grey.
    name, unit
        What labels or values are, for the legend: ``"fate"``, or ``"pha-4"`` in ``"log1p"``.
    mass
        How many cells each drawn particle stands for; its volume is proportional to it.
    arrows
        Displacements in µm, drawn to scale at the cells nearest to the viewer.
    ghost
        Positions in µm of another embryo, drawn as a faint outline for comparison (the control behind an edit).
    ghost_name
        Whose outline it is.
    surface
        Vertices in µm (vertices, 3) and triangles (faces, 3) of a mesh, drawn as a glassy hull.
    axes
        What the axes mean, as in `embryo.core.frame.Frame`.

    Raises
    ------
    RenderError
        Listing everything that does not fit together.
    """

    title: str
    x: Float[np.ndarray, "cells space"]
    labels: Shaped[np.ndarray, " cells"] | None = None
    values: Float[np.ndarray, " cells"] | None = None
    name: str = ""
    unit: str = ""
    mass: Float[np.ndarray, " cells"] | None = None
    arrows: Float[np.ndarray, "cells space"] | None = None
    ghost: Float[np.ndarray, "others space"] | None = None
    ghost_name: str = "the control"
    surface: tuple[Float[np.ndarray, "vertices 3"], Int[np.ndarray, "faces 3"]] | None = None
    axes: tuple[str, ...] = ("x", "y", "z")

    def __post_init__(self) -> None:
        problems = [*_shape_problems(self), *_number_problems(self)]
        if self.labels is not None and self.values is not None:
            problems.append(Problem("labels and values together", "one of them", "draw two panels"))
        if problems:
            raise RenderError(*problems, subject=f"panel {self.title!r}")

    @property
    def flat(self) -> bool:
        """Whether the positions are two-dimensional."""
        return bool(self.x.shape[1] == 2)

    @property
    def categories(self) -> list[str]:
        """Label of every cell as text; absent labels are ``"unknown"``."""
        if self.labels is None:
            return []
        return [UNKNOWN if _absent(label) else str(label) for label in self.labels.tolist()]


def solid(x: Float[np.ndarray, "cells space"]) -> Float[np.ndarray, "cells 3"]:
    """Return positions with three columns; flat ones lie in the plane z = 0."""
    return x if x.shape[1] == 3 else np.column_stack([x, np.zeros(len(x), x.dtype)])


def _absent(label: Any) -> bool:
    return label is None or label in ("", "nan") or bool(isinstance(label, float) and np.isnan(label))


def _shape_problems(panel: Panel) -> list[Problem]:
    x = panel.x
    if x.ndim != 2 or x.shape[1] not in (2, 3):
        return [Problem(f"positions of shape {x.shape}", "(cells, 2) or (cells, 3)", "give x in µm")]
    problems = []
    for slot in ("labels", "values", "mass", "arrows"):
        array = getattr(panel, slot)
        if array is not None and len(array) != len(x):
            problems.append(Problem(f"{len(array)} {slot} for {len(x)} cells", "one per cell", f"index {slot} as x"))
    if panel.ghost is not None and panel.ghost.shape[1] != x.shape[1]:
        problems.append(
            Problem(
                f"a {panel.ghost.shape[1]}D ghost of a {x.shape[1]}D embryo",
                "the same space",
                "drop or add the third axis",
            )
        )
    return problems


def _number_problems(panel: Panel) -> list[Problem]:
    problems = []
    for slot in ("x", "mass", "arrows", "ghost"):
        array = getattr(panel, slot)
        if array is None:
            continue
        broken = int((~np.isfinite(array)).any(axis=tuple(range(1, array.ndim))).sum())
        if broken:
            problems.append(
                Problem(f"{slot} of {broken} cells is NaN or infinite", "finite numbers", "leave those cells out")
            )
    if panel.mass is not None and (panel.mass < 0).any():
        problems.append(Problem(f"a mass of {panel.mass.min():.3g}", "0 or more cells", "hand over exp(log_mass)"))
    return problems
