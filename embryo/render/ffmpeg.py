"""Can films be written as MP4 here? Asked of ffmpeg itself."""

import os
import subprocess
from dataclasses import dataclass
from functools import cache

import imageio_ffmpeg  # type: ignore[import-untyped]

_CURE = "install imageio[ffmpeg] again, or point IMAGEIO_FFMPEG_EXE at an ffmpeg with libx264"


@dataclass(frozen=True)
class Ffmpeg:
    """Whether ffmpeg can write H.264.

    Parameters
    ----------
    usable
        True where it starts and has libx264.
    reason
        Why not.
    cure
        What the person can do about it.
    """

    usable: bool
    reason: str = ""
    cure: str = ""

    @property
    def note(self) -> str:
        """One sentence for the report; empty where ffmpeg works."""
        return "" if self.usable else f"Films were written as GIF instead of MP4 ({self.reason}). Cure: {self.cure}."


def probe() -> Ffmpeg:
    """Ask ffmpeg for its encoders; the answer is kept for this process."""
    return _asked(os.environ.get("IMAGEIO_FFMPEG_EXE", ""))


@cache
def _asked(_chosen: str) -> Ffmpeg:
    try:
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
        done = subprocess.run([ffmpeg, "-hide_banner", "-encoders"], capture_output=True, timeout=60, check=True)  # noqa: S603
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Ffmpeg(usable=False, reason=f"ffmpeg does not run: {error}", cure=_CURE)
    if b"libx264" not in done.stdout:
        return Ffmpeg(usable=False, reason="this ffmpeg has no libx264", cure=_CURE)
    return Ffmpeg(usable=True)
