import subprocess
import sys

import numpy as np
import pytest

from embryo.render import RenderError, gl
from embryo.render.painters import painter
from embryo.render.pictures import choose
from embryo.render.spheres import Spheres


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("EMBRYO_GL")
    gl._asked.cache_clear()
    yield
    gl._asked.cache_clear()


def interpreter(tmp_path, monkeypatch, body):
    """A stand-in for Python that does what a broken OpenGL may do."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_a_window_that_kills_the_process_is_reported_and_does_not_kill_this_one(monkeypatch):
    monkeypatch.setenv("VTK_DEFAULT_OPENGL_WINDOW", "no_such_window")
    found = gl.probe()
    assert not found.usable
    assert "libegl1 libgl1" in found.cure
    assert "libegl1 libgl1" in found.note
    assert found.reason in found.note
    assert choose("auto") == "software"
    with pytest.raises(RenderError, match="libegl1 libgl1"):
        choose("opengl")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("kill -SEGV $$", "signal 11"),
        ("echo 'cannot open display' >&2; exit 3", "cannot open display"),
        ("exit 4", "exit code 4"),
    ],
)
def test_every_way_to_fail_says_why(tmp_path, monkeypatch, body, reason):
    interpreter(tmp_path, monkeypatch, body)
    found = gl.probe()
    assert not found.usable
    assert reason in found.reason


def test_a_probe_that_hangs_is_given_up(tmp_path, monkeypatch):
    interpreter(tmp_path, monkeypatch, "exec sleep 60")
    found = gl._asked(sys.executable, (), 0.3)
    assert not found.usable
    assert "more than 0" in found.reason


def test_an_interpreter_that_is_absent_is_reported(tmp_path):
    assert "could not be started" in gl._asked(str(tmp_path / "nothing"), (), 5.0).reason


def test_the_answer_is_asked_for_once(tmp_path, monkeypatch):
    interpreter(tmp_path, monkeypatch, f"echo asked >> {tmp_path}/log; echo 'renderer: llvmpipe (LLVM 15)'")
    first, second = gl.probe(), gl.probe()
    assert first is second
    assert first.usable
    assert first.emulated
    assert first.note == ""
    assert (tmp_path / "log").read_text().split() == ["asked"]
    assert choose("auto") == "software"  # ours is faster than an emulated OpenGL
    assert choose("opengl") == "opengl"


def test_a_graphics_card_is_used(tmp_path, monkeypatch):
    interpreter(tmp_path, monkeypatch, "echo 'renderer: NVIDIA H200/PCIe/SSE2'")
    assert not gl.probe().emulated
    assert choose("auto") == "opengl"


def test_the_switch_answers_without_asking(tmp_path, monkeypatch):
    interpreter(tmp_path, monkeypatch, f"touch {tmp_path}/asked")
    monkeypatch.setenv("EMBRYO_GL", "off")
    assert not gl.probe().usable
    assert "EMBRYO_GL=off" in gl.probe().note
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("platform", "display", "expected"),
    [("linux", "", "vtkEGLRenderWindow"), ("linux", ":0", None), ("darwin", "", None)],
)
def test_the_off_screen_window_is_for_linux_without_a_display(monkeypatch, platform, display, expected):
    monkeypatch.delenv("VTK_DEFAULT_OPENGL_WINDOW", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("DISPLAY", display)
    assert gl.window_class().get("VTK_DEFAULT_OPENGL_WINDOW") == expected


def test_what_the_person_set_is_kept(monkeypatch):
    monkeypatch.setenv("VTK_DEFAULT_OPENGL_WINDOW", "vtkOSOpenGLRenderWindow")
    assert gl.window_class() == {"VTK_DEFAULT_OPENGL_WINDOW": "vtkOSOpenGLRenderWindow"}


def test_a_picture_without_opengl_never_imports_vtk(tmp_path):
    code = (
        "import sys, numpy as np, embryo.render as r;"
        f"r.picture([r.Panel('a', np.eye(3))], {str(tmp_path / 'a.png')!r});"
        "sys.exit(any(name.split('.')[0] in ('pyvista', 'vtk', 'vtkmodules') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.filterwarnings("ignore::DeprecationWarning:vtkmodules", "ignore::DeprecationWarning:pyvista")
def test_opengl_paints_what_software_paints():
    if not gl.probe().usable:
        pytest.skip(gl.probe().note)
    rng = np.random.default_rng(3)
    centres = rng.uniform([10, 10, -40], [150, 110, 40], (80, 3))
    balls = Spheres(centres, rng.uniform(5, 14, 80), rng.random((80, 3)))
    pictures = []
    for backend in ("opengl", "software"):
        with painter(backend) as paint:
            pictures.append(paint(balls, (160, 120)).astype(int))
    from embryo.render.opengl import self_test  # noqa: PLC0415  kills the process where the probe says no

    assert self_test() == gl.probe().renderer
    apart = np.abs(pictures[0] - pictures[1]).max(axis=-1)
    assert (pictures[1] < 255).any(axis=-1).mean() > 0.5
    assert apart.mean() < 3
    assert (apart > 40).mean() < 0.005
