import subprocess
import sys

import pytest

import embryo.render
from embryo.render import machine


@pytest.mark.parametrize("name", embryo.render.__all__)
def test_every_word_is_there(name):
    assert getattr(embryo.render, name).__doc__


def test_words_that_are_not_there_say_so():
    assert set(embryo.render.__all__) <= set(dir(embryo.render))
    with pytest.raises(AttributeError, match="pictrue"):
        embryo.render.pictrue  # noqa: B018


def test_importing_render_imports_nothing_heavy():
    heavy = ("torch", "pyvista", "vtkmodules", "matplotlib", "pandas")
    code = f"import sys, embryo.render; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_notes_say_what_is_missing_and_how_to_cure_it(monkeypatch):
    assert any("EMBRYO_GL" in note for note in machine.notes())
    monkeypatch.setattr(machine.gl, "probe", lambda: machine.gl.GL(usable=True))
    assert not any("OpenGL" in note for note in machine.notes())
