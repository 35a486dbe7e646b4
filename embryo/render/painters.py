"""Painters: OpenGL or our own software, smooth at the edges; both paint the same picture."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from embryo.render.spheres import Image, Spheres, paint

Painter = Callable[[Spheres, tuple[int, int]], Image]  # paints spheres on white, width and height in pixels
_FINE = 2  # pictures are painted this many times larger and averaged, against jagged edges


@contextmanager
def painter(backend: str) -> Iterator[Painter]:
    """Open the painter called ``"opengl"`` or ``"software"``."""
    if backend == "software":
        yield _smooth(paint)
        return
    from embryo.render.opengl import Canvas  # noqa: PLC0415  VTK, only after the probe said yes

    canvas = Canvas()
    try:
        yield _smooth(canvas.paint)
    finally:
        canvas.close()


def _smooth(rough: Painter) -> Painter:
    def smooth(spheres: Spheres, size: tuple[int, int]) -> Image:
        width, height = size
        large = rough(spheres.larger(_FINE), (_FINE * width, _FINE * height)).astype(np.uint16)
        parts = [large[i::_FINE, j::_FINE] for i in range(_FINE) for j in range(_FINE)]
        return (sum(parts[1:], parts[0]) // len(parts)).astype(np.uint8)

    return smooth
