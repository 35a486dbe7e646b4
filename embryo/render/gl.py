"""Does OpenGL work here? Asked in a process of its own, because without its libraries VTK kills the process."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SWITCH = "EMBRYO_GL"
PACKAGES = "libegl1 libgl1"
_WINDOW = "VTK_DEFAULT_OPENGL_WINDOW"
_TIMEOUT_S = 90.0
_EMULATORS = ("llvmpipe", "softpipe", "swrast", "swiftshader")
_MARK = "renderer: "
_CURE = f"install the Debian packages {PACKAGES} (apt-get install {PACKAGES}) and run again"


@dataclass(frozen=True)
class GL:
    """Whether OpenGL can be used.

    Parameters
    ----------
    usable
        True where a small picture was painted and looked right.
    reason
        Why not.
    cure
        What the person can do about it.
    renderer
        What draws, as OpenGL names it.
    """

    usable: bool
    reason: str = ""
    cure: str = ""
    renderer: str = ""

    @property
    def emulated(self) -> bool:
        """Whether OpenGL itself is computed on the processor, where our own painter is faster."""
        return any(name in self.renderer.lower() for name in _EMULATORS)

    @property
    def note(self) -> str:
        """One sentence for the report; empty where OpenGL works."""
        if self.usable:
            return ""
        return f"Pictures were painted without OpenGL ({self.reason}). To use it, {self.cure}."


def probe() -> GL:
    """Paint a small picture in a subprocess with a time limit; the answer is kept for this process.

    ``EMBRYO_GL=off`` answers no without asking.

    Returns
    -------
    GL
        Whether it worked, and if not, why and what to do.
    """
    if os.environ.get(SWITCH, "").lower() == "off":
        return GL(usable=False, reason=f"it is switched off by {SWITCH}=off", cure=f"unset {SWITCH}")
    return _asked(sys.executable, tuple(sorted(window_class().items())), _TIMEOUT_S)


def window_class() -> dict[str, str]:
    """Return the environment that makes VTK draw off-screen through EGL on Linux without a display.

    What the person has set is kept.
    """
    if _WINDOW in os.environ:
        return {_WINDOW: os.environ[_WINDOW]}
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        return {_WINDOW: "vtkEGLRenderWindow"}
    return {}


@cache
def _asked(python: str, window: tuple[tuple[str, str], ...], timeout_s: float) -> GL:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and our own words
            [python, "-c", f"from embryo.render.opengl import self_test; print({_MARK!r} + self_test())"],
            env={**os.environ, **dict(window), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return GL(usable=False, reason=f"a test picture took more than {timeout_s:.0f} s", cure=_CURE)
    except OSError as error:
        return GL(usable=False, reason=f"the test could not be started: {error}", cure="run with a working Python")
    if done.returncode == 0:
        names = [line.removeprefix(_MARK) for line in done.stdout.splitlines() if line.startswith(_MARK)]
        return GL(usable=True, renderer=names[-1] if names else "")
    return GL(usable=False, reason=_why(done.returncode, done.stderr), cure=_CURE)


def _why(code: int, stderr: str) -> str:
    if code < 0:
        return f"a test picture was killed by signal {-code}, as happens where its libraries are absent"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"a test picture failed: {lines[-1][:200]}" if lines else f"a test picture failed with exit code {code}"
