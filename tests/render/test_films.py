import re
import subprocess
import weakref
from itertools import pairwise

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from embryo.render import Panel, RenderError, ffmpeg, film, notes

TIMES = [10.0, 10.5, 11.0, 11.5, 12.0]


@pytest.fixture
def frames(pair):
    return [pair(t, n=60) for t in np.linspace(0, 1, len(TIMES))]


def read(path):
    """Frames and description of a film, as ffmpeg itself decodes it."""
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(words, capture_output=True, check=True)
    about = next(line for line in done.stderr.decode().splitlines() if "Video:" in line)
    width, height = map(int, re.search(r", (\d+)x(\d+)", about).groups())
    return list(np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3).astype(int)), about


def test_frames_size_rate_and_codec(frames, tmp_path):
    path = film(frames, tmp_path / "a.mp4", times_h=TIMES, fps=5, size=(321, 241))
    pictures, about = read(path)
    assert len(pictures) == len(TIMES)
    assert pictures[0].shape == (242, 322, 3)
    assert "h264" in about
    assert "yuv420p" in about
    assert re.search(r"\b5 fps\b", about)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    head = path.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # plays before it is fetched whole


def test_time_runs_on_every_frame_and_the_embryo_moves(frames, tmp_path):
    pictures, _ = read(film(frames, tmp_path / "a.mp4", times_h=TIMES, size=(640, 320)))
    for a, b in pairwise(pictures):
        assert np.abs(a[:20, :100] - b[:20, :100]).max() > 60  # the stamp
        assert (np.abs(a[40:] - b[40:]).max(axis=-1) > 40).mean() > 0.01


def test_the_camera_stands_still(tmp_path):
    marker = np.array([[0.0, -300.0, 0.0]])
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(40, 3)) * 20
    labels = np.array(["cell"] * 40 + ["marker"])
    frames = [[Panel("a", np.vstack([cloud * k, marker]), labels=labels)] for k in (1.0, 2.0, 3.0)]
    palette = {"marker": "#ff0000", "cell": "#0072b2"}
    pictures, _ = read(film(frames, tmp_path / "a.mp4", times_h=[0, 1, 2], size=(480, 480), palette=palette))
    found = [np.argwhere(p[..., 0] - p[..., 1:].max(axis=-1) > 80)[:, :] for p in pictures]
    found = [f[f[:, 0] < 440].mean(axis=0) for f in found]  # without the legend
    np.testing.assert_allclose(found[1:], [found[0]] * 2, atol=1.5)


def test_a_turn_comes_back_to_where_it_began(pair, tmp_path):
    frames = [pair(0.5, n=60)] * 5
    pictures, _ = read(film(frames, tmp_path / "a.mp4", times_h=range(5), size=(480, 240), turn_deg=360))
    body = [p[60:200] for p in pictures]
    assert np.abs(body[0] - body[-1]).mean() < 2
    assert np.abs(body[0] - body[2]).mean() > 4


def test_frames_are_not_kept(pair, tmp_path):
    class Stream:
        alive = most = 0

        def __iter__(self):
            for t in np.linspace(0, 1, 8):
                panels = pair(float(t), n=20)
                Stream.alive += 1
                Stream.most = max(Stream.most, Stream.alive)
                weakref.finalize(panels[0], self.gone)
                yield panels
                del panels

        def gone(self):
            Stream.alive -= 1

    film(Stream(), tmp_path / "a.mp4", times_h=range(8), size=(160, 120))
    assert Stream.most <= 3


def test_a_failure_midway_leaves_nothing(pair, tmp_path):
    class Breaks:
        readings = 0

        def __iter__(self):
            Breaks.readings += 1
            yield pair(0.1, n=20)
            if Breaks.readings > 1:
                raise KeyboardInterrupt
            yield pair(0.2, n=20)

    with pytest.raises(KeyboardInterrupt):
        film(Breaks(), tmp_path / "a.mp4", times_h=[0, 1], size=(160, 120))
    assert list(tmp_path.iterdir()) == []


def test_without_ffmpeg_a_gif_is_written_and_said(frames, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no_such_ffmpeg"))
    assert not ffmpeg.probe().usable
    path = film(frames, tmp_path / "a.mp4", times_h=TIMES, fps=5, size=(320, 240))
    assert path.name == "a.gif"
    with Image.open(path) as gif:
        assert gif.n_frames == len(TIMES)
        assert gif.info["duration"] == 200
        assert gif.info["loop"] == 0
    assert any("GIF" in note and "imageio[ffmpeg]" in note for note in notes())


@pytest.mark.parametrize("count", [2, 100])  # before and after the pipe is full
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio leaves the broken pipe open
def test_ffmpeg_that_dies_is_an_error_for_the_person(frames, tmp_path, monkeypatch, count):
    fake = tmp_path / "ffmpeg"
    fake.write_text(
        '#!/bin/sh\ncase "$*" in *-encoders*) echo libx264;; *-version*) echo ffmpeg version 7.0;; esac\nexit 0\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(fake))
    with pytest.raises(RenderError, match="ffmpeg stopped"):
        film((frames * 20)[:count], tmp_path / "out" / "a.mp4", times_h=range(count), size=(320, 240))
    assert list((tmp_path / "out").iterdir()) == []


def test_what_does_not_fit_together_is_said_at_once(pair, tmp_path):
    with pytest.raises(RenderError, match="read only once"):
        film((p for p in [pair()]), tmp_path / "a.mp4", times_h=[0])
    with pytest.raises(RenderError) as error:
        film([pair(), pair()[:1]], tmp_path / "a.mp4", times_h=[0], fps=0)
    for words in ("2 frames and 1 times", "different panels", "0 frames per second"):
        assert words in str(error.value)
    with pytest.raises(RenderError, match="0 frames"):
        film([], tmp_path / "a.mp4", times_h=[])
    assert list(tmp_path.iterdir()) == []
