import imageio_ffmpeg
import numpy as np
import pytest
import torch

from embryo.core.errors import FrameError, SchemaError
from embryo.core.frame import RAW, Frame
from embryo.core.trajectory import Trajectory
from embryo.render import Moments, RenderError, film, gene, picture


def rollout(scale=1.0, *, frame=None, times=(0.0, 1.0, 2.0), mass=0.0, cells=30):
    generator = torch.Generator().manual_seed(0)
    x = 20 * scale * torch.randn(1, cells, 3, generator=generator) * torch.linspace(1, 2, len(times))[:, None, None]
    g = torch.rand(len(times), cells, 2, generator=generator)
    parts = torch.zeros(len(times), cells, 1), g, x, torch.full((len(times), cells), mass)
    names = tuple(map(str, range(cells)))
    return Trajectory(torch.tensor(times), *parts, ("a", "b"), frame or Frame(), names)


def test_control_stands_first_and_haunts_its_edit():
    moments = Moments({"control": rollout(), "edit": rollout(0.5)})
    control, edit = moments[-1]
    assert (control.title, edit.title) == ("control", "edit")
    assert control.ghost is None
    np.testing.assert_array_equal(edit.ghost, control.x)
    np.testing.assert_allclose(edit.x, rollout(0.5).x[-1].numpy())
    assert edit.ghost_name == "control"
    assert control.mass is None
    assert moments.times_h == [0.0, 1.0, 2.0]
    assert len(moments) == len(list(moments)) == len(list(moments)) == 3


def test_colours_are_labels_or_numbers():
    trajectory = rollout(mass=0.5)
    (number,) = Moments({"control": trajectory}, gene(trajectory, "b"), "b", "log1p")[1]
    np.testing.assert_allclose(number.values, trajectory.g[1, :, 1].numpy())
    np.testing.assert_allclose(number.mass, np.exp(0.5))
    (word,) = Moments({"control": trajectory}, lambda state: np.where(state.x[:, 0] > 0, "right", "left"))[0]
    assert set(word.categories) == {"left", "right"}


def test_a_picture_and_a_film_of_trajectories(tmp_path):
    moments = Moments({"control": rollout(), "edit": rollout(0.5)})
    assert picture(moments[-1], tmp_path / "a.png").stat().st_size > 5000
    path = film(moments, tmp_path / "a.mp4", times_h=moments.times_h, size=(320, 200))
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert (frames, seconds) == (3, 0.25)


def test_what_cannot_stand_side_by_side_is_refused():
    with pytest.raises(RenderError, match="different times"):
        Moments({"a": rollout(), "b": rollout(times=(0.0, 1.0, 2.5))})
    with pytest.raises(FrameError):
        Moments({"a": rollout(), "b": rollout(frame=Frame(RAW))})
    with pytest.raises(RenderError, match="no trajectories"):
        Moments({})
    with pytest.raises(SchemaError, match="'c'"):
        gene(rollout(), "c")
