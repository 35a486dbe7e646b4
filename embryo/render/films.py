"""A film: embryos side by side over time, one camera, the time on every frame."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import imageio.v2 as iio
import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
import PIL.Image
from rich.console import Console
from rich.progress import Progress

from embryo.core.errors import Problem
from embryo.core.store import atomic
from embryo.render import ffmpeg
from embryo.render.camera import Bounds
from embryo.render.painters import painter
from embryo.render.palette import Survey
from embryo.render.panel import Panel, RenderError
from embryo.render.pictures import check, choose
from embryo.render.sheet import arrange, compose
from embryo.render.spheres import Image

_WIDTH = 1280
_GIF_WIDTH = 720
_FFMPEG_CURE = "free disk space, or install imageio[ffmpeg] again"
Frames = Iterable[Sequence[Panel]]
_Item = tuple[Sequence[Panel], float, float]


def film(
    frames: Frames,
    path: Path,
    *,
    times_h: Iterable[float | int],
    fps: float | int = 12,
    size: tuple[int, int] | None = None,
    palette: Mapping[str, str] | None = None,
    turn_deg: float | int = 0,
) -> Path:
    """Draw each frame and write an MP4 (H.264, yuv420p: plays in every browser).

    Camera, scale and colours are the same on all frames. Frames are read twice, once for the view and once for the
    pictures, one at a time, so memory does not grow with their number.

    Parameters
    ----------
    frames
        The panels of each frame: a list, or any object that starts anew each time it is iterated.
    path
        Where the film goes; its folder is made. Where ffmpeg does not work a GIF with the suffix ``.gif`` is written.
    times_h
        Time of each frame in hours, printed on it.
    fps
        Frames per second.
    size
        Width and height in pixels, made even; by default 1280 wide and as high as the embryo needs.
    palette
        Category to ``"#rrggbb"``, as in `picture`.
    turn_deg
        How far the embryo turns about its z axis over the whole film, degrees.

    Returns
    -------
    Path
        The film that was written.

    Raises
    ------
    RenderError
        If frames and times differ in number, panels in number or kind, frames can be read only once, or ffmpeg stops.
    """
    times = [float(t) for t in times_h]
    bounds, survey, kinds = _read(frames, turn_deg)
    _check(kinds, times, fps)
    camera, key, count = bounds.camera(), survey.key(palette), kinds[0][0]
    layout = arrange(count, 1 if count < 4 else 2, camera, key, size=size or (_WIDTH, None), header=True)
    path = Path(path).with_suffix(".mp4" if ffmpeg.probe().usable else ".gif")
    turns = np.linspace(0.0, turn_deg, len(times)).tolist()
    with atomic(path) as draft:
        with _writer(draft, fps) as write, painter(choose("auto")) as paint:
            for panels, t_h, turn in _watched(zip(frames, times, turns, strict=True), len(times), path.name):
                view = camera.turned(turn) if turn else camera
                write(compose(panels, view, key, layout, paint=paint, stamp=_stamp(t_h, times)))
        _count(draft, len(times))
    return path


def _read(frames: Frames, turn_deg: float | int) -> tuple[Bounds, Survey, list[tuple[int, bool]]]:
    """Read all frames once: what the camera must hold, what the colours mean, and number and kind of each's panels."""
    if iter(frames) is frames:
        problem = Problem("frames that can be read only once", "frames that can be read twice", "hand over a list")
        raise RenderError(problem, subject="film")
    bounds, survey, kinds = Bounds(turn_deg), Survey(), []
    for panels in frames:
        check(panels, 1)
        bounds.add(panels)
        survey.add(panels)
        kinds.append((len(panels), panels[0].flat))
    return bounds, survey, kinds


def _check(kinds: list[tuple[int, bool]], times: list[float], fps: float | int) -> None:
    problems = []
    if len(kinds) != len(times) or not times:
        problems.append(Problem(f"{len(kinds)} frames and {len(times)} times", "a time per frame", "make them match"))
    if len(set(kinds)) > 1:
        problems.append(Problem("frames with different panels", "the same panels on all frames", "make them match"))
    if not fps > 0:
        problems.append(Problem(f"{fps} frames per second", "more than 0", "give another fps"))
    if problems:
        raise RenderError(*problems, subject="film")


def _watched(items: Iterable[_Item], total: int, name: str) -> Iterator[_Item]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=f"drawing {name}")


def _stamp(t_h: float, times: Sequence[float]) -> str:
    """Return the time with as many digits, up to two, as all times need."""
    digits = next((d for d in range(3) if all(abs(round(t, d) - t) < 1e-6 for t in times)), 2)
    return f"{t_h:.{digits}f} h"


def _count(film: Path, expected: int) -> None:
    """Raise unless the film holds all frames: imageio does not tell when ffmpeg ends badly."""
    if film.suffix == ".gif":
        return
    try:
        found = int(imageio_ffmpeg.count_frames_and_secs(str(film))[0])
    except (OSError, RuntimeError):
        found = 0
    if found != expected:
        problem = Problem(f"ffmpeg stopped after {found} frames", f"{expected} frames", _FFMPEG_CURE)
        raise RenderError(problem, subject="film")


@contextmanager
def _writer(path: Path, fps: float | int) -> Iterator[Callable[[Image], None]]:
    """Yield a function that takes the next frame."""
    if path.suffix == ".gif":
        frames: list[Any] = []
        yield lambda image: frames.append(_small(image))
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
        return
    options = {"codec": "libx264", "pixelformat": "yuv420p", "macro_block_size": 2, "quality": None}
    crisp = ["-crf", "20", "-preset", "medium", "-movflags", "+faststart"]
    writer: Any = iio.get_writer(
        path, format="FFMPEG", mode="I", fps=fps, ffmpeg_params=crisp, ffmpeg_log_level="error", **options
    )
    with closing(writer):

        def write(image: Image) -> None:
            try:
                writer.append_data(image)
            except OSError as error:
                problem = Problem(f"ffmpeg stopped: {error}", "a film", _FFMPEG_CURE)
                raise RenderError(problem, subject="film") from error

        yield write


def _small(image: Image) -> PIL.Image.Image:
    frame = PIL.Image.fromarray(image)
    frame.thumbnail((_GIF_WIDTH, _GIF_WIDTH))
    return frame.quantize(256)
