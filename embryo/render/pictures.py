"""One picture: embryos side by side, same camera, same scale, same colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import imageio.v3 as iio

from embryo.core.errors import Problem
from embryo.core.store import atomic
from embryo.render.camera import Camera
from embryo.render.gl import probe
from embryo.render.painters import painter
from embryo.render.palette import Survey
from embryo.render.panel import Panel, RenderError
from embryo.render.sheet import arrange, compose

Backend = Literal["auto", "opengl", "software"]


def picture(
    panels: Sequence[Panel],
    path: Path,
    *,
    rows: int = 1,
    size: tuple[int, int] | None = None,
    palette: Mapping[str, str] | None = None,
    camera: Camera | None = None,
    backend: Backend = "auto",
) -> Path:
    """Draw `panels` beside each other and write a PNG.

    Cells are shaded spheres about as large as the spacing of the cells; every panel has the same orthographic camera,
    so one scale bar in µm is true for all. Flat data are drawn flat.

    Parameters
    ----------
    panels
        In reading order; the control first, its edit beside it.
    path
        Where the PNG goes; its folder is made.
    rows
        Number of rows of panels.
    size
        Width and height in pixels; by default the sheet fits the embryo.
    palette
        Category to ``"#rrggbb"``, to keep colours of other pictures; by default colours go by sorted names.
    camera
        To keep the view of other pictures; by default it holds all cells.
    backend
        ``"opengl"`` (VTK), ``"software"`` (numpy; needs no libraries), or ``"auto"``: OpenGL where it works and
        is not itself emulated on the processor. Both paint the same picture.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    RenderError
        If there is nothing to draw, flat and solid embryos are mixed, or OpenGL was asked for and does not work.
    """
    check(panels, rows)
    survey = Survey()
    survey.add(panels)
    key = survey.key(palette)
    camera = camera or Camera.over([panels])
    layout = arrange(len(panels), rows, camera, key, size=size or (None, None))
    with painter(choose(backend)) as paint:
        pixels = compose(panels, camera, key, layout, paint=paint)
    with atomic(Path(path)) as draft:
        iio.imwrite(draft, pixels, extension=".png")
    return Path(path)


def choose(backend: Backend) -> Literal["opengl", "software"]:
    """Return the painter to use.

    Raises
    ------
    RenderError
        If OpenGL was asked for and does not work here.
    """
    if backend == "software":
        return "software"
    gl = probe()
    if gl.usable and not (backend == "auto" and gl.emulated):
        return "opengl"
    if backend == "opengl":
        raise RenderError(Problem(gl.reason, "a working OpenGL", gl.cure), subject="OpenGL")
    return "software"


def check(panels: Sequence[Panel], rows: int) -> None:
    """Raise unless `panels` can stand on one sheet.

    Raises
    ------
    RenderError
        Listing why not.
    """
    problems = []
    if not panels:
        problems.append(Problem("no panels", "at least one embryo", "hand over the control and its edit"))
    if len({panel.flat for panel in panels}) > 1:
        problems.append(
            Problem(
                "flat and solid embryos on one sheet", "one kind", "draw them in two pictures, or drop the third axis"
            )
        )
    if not 1 <= rows <= max(len(panels), 1):
        problems.append(Problem(f"{rows} rows for {len(panels)} panels", "at least a panel per row", "use fewer rows"))
    if problems:
        raise RenderError(*problems, subject="picture")
