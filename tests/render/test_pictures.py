import imageio.v3 as iio
import numpy as np
import pytest

from embryo.render import Camera, Panel, RenderError, picture, pictures
from embryo.render.camera import view
from embryo.render.palette import CATEGORIES, Survey
from embryo.render.sheet import arrange


def crops(panels, path, rows=1, size=(640, 320), **options):
    """The painted part of each panel, found by the same layout as the picture's."""
    image = iio.imread(picture(panels, path, rows=rows, size=size, **options)).astype(int)
    survey = Survey()
    survey.add(panels)
    layout = arrange(len(panels), rows, options.get("camera") or Camera.over([panels]), survey.key(), size=size)
    assert image.shape == (*layout.size[::-1], 3)
    w, h = layout.panel
    return [image[y : y + h, x : x + w] for x, y in layout.corners]


def painted(image):
    return (np.abs(image - 255).max(axis=-1) > 20).mean()


def centroid(image, colour):
    """Where the colour is, shaded or not."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    lit = image / np.maximum(np.linalg.norm(image, axis=-1, keepdims=True), 1)
    near = (lit @ (rgb / np.linalg.norm(rgb)) > 0.995) & (painted_mask(image))
    return np.argwhere(near)


def painted_mask(image):
    return np.abs(image - 255).max(axis=-1) > 20


def test_both_embryos_are_there(pair, tmp_path):
    left, right = crops(pair(), tmp_path / "a.png")
    assert 0.15 < painted(left) < 0.8
    assert 0.1 < painted(right) < 0.8


def test_a_cell_at_the_same_place_has_the_same_pixels_in_every_panel(pair, tmp_path):
    front = np.array([[0.0, -400.0, 0.0]])  # hides all others
    panels = []
    for title, panel in zip("ab", pair(), strict=True):
        labels = np.where(np.arange(len(panel.x) + 1) == len(panel.x), "marker", "cell")
        panels.append(Panel(title, np.vstack([panel.x, front]), labels=labels))
    palette = {"marker": "#ff0000", "cell": "#0072b2"}
    found = [centroid(crop, "#ff0000") for crop in crops(panels * 2, tmp_path / "a.png", rows=2, palette=palette)]
    assert len(found[0]) > 20
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_the_same_embryo_twice_is_the_same_picture_twice(pair, tmp_path):
    control, _ = pair()
    left, right = crops([control, control], tmp_path / "a.png")
    above = slice(0, int(0.7 * len(left)))  # the letters of the scale bar may be smoothed differently
    np.testing.assert_array_equal(left[above], right[above])


def test_the_mirror_image_is_another_picture(pair, tmp_path):
    control, _ = pair()
    camera = Camera.over([[control]])
    for axis in range(3):
        mirrored = control.x * np.where(np.arange(3) == axis, -1.0, 1.0)
        panels = [control, Panel("mirrored", mirrored, labels=control.labels)]
        left, right = crops(panels, tmp_path / f"{axis}.png", camera=camera)
        assert (np.abs(left - right).max(axis=-1) > 30).mean() > 0.05


def test_the_same_input_gives_the_same_bytes(pair, tmp_path):
    a, b = (picture(pair(), tmp_path / name, size=(640, 320)).read_bytes() for name in ("a.png", "b.png"))
    assert a == b


@pytest.mark.parametrize("dims", [2, 3])
def test_every_category_has_its_colour(tmp_path, dims):
    columns, rows = np.meshgrid(np.arange(5) * 20.0, np.arange(4) * 20.0)
    flat = np.column_stack([columns.ravel(), rows.ravel()])
    x = flat if dims == 2 else flat @ view()[:2]  # facing the viewer: none fades
    names = np.array([f"type {i}" for i in range(20)])
    (image,) = crops([Panel("all", x, labels=names)], tmp_path / "a.png")
    for colour in CATEGORIES:
        assert len(centroid(image, colour)) > 30


def test_flat_data_keep_right_and_up(tmp_path):
    x = np.array([[0.0, 0.0], [60.0, 0.0], [0.0, 60.0]])
    names = np.array(["origin", "right", "up"])
    palette = {"origin": "#0072b2", "right": "#d55e00", "up": "#009e73"}
    (image,) = crops([Panel("flat", x, labels=names)], tmp_path / "a.png", palette=palette)
    origin, right, up = (centroid(image, palette[name]).mean(axis=0) for name in names)
    assert right[1] - origin[1] == pytest.approx(origin[0] - up[0], abs=1.5)
    assert right[1] > origin[1] + 20
    assert up[0] < origin[0] - 20


def test_the_scale_bar_is_as_long_as_it_says(tmp_path):
    x = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 60.0]])
    palette = {"a": "#d55e00", "b": "#009e73", "c": "#0072b2"}
    panel = Panel("flat", x, labels=np.array(["a", "b", "c"]))
    (image,) = crops([panel], tmp_path / "a.png", palette=palette)
    a, b = (centroid(image, palette[name])[:, 1].mean() for name in "ab")
    camera = Camera.over([[panel]])
    dark = (image.max(axis=-1) < 90)[-40:, image.shape[1] // 2 :]
    bar = dark.sum(axis=1).max()
    per_um = (b - a) / 100
    assert bar / per_um == pytest.approx(20, abs=1.0) or bar / per_um == pytest.approx(50, abs=1.0)
    assert per_um == pytest.approx(camera.scale((image.shape[1], image.shape[0])), rel=0.01)


def test_a_size_is_kept_and_made_even(pair, tmp_path):
    assert iio.imread(picture(pair(), tmp_path / "a.png", size=(501, 301))).shape == (302, 502, 3)


def test_nothing_is_too_odd_to_draw(tmp_path):
    """Hostile names (mathtext, other scripts), no cells, one cell, one pile of cells, hull, arrows, masses."""
    x = np.random.default_rng(0).normal(size=(40, 3)) * 30
    tetrahedron = (
        np.vstack([np.eye(3), -np.ones((1, 3))]) * 90,
        np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]),
    )
    panels = [
        Panel("$x^{ " * 30, x, labels=np.array(["$\\frac{", "<script>"] * 20), arrows=x * 0.2),
        Panel("", np.zeros((0, 3)), labels=np.array([], dtype=str)),
        Panel("one", x[:1], values=np.array([np.nan]), name="gene"),
        Panel("pile", np.ones((5, 3)), mass=np.arange(5.0), ghost=x, surface=tetrahedron),
    ]
    assert iio.imread(picture(panels, tmp_path / "deep" / "a.png", rows=2, size=(640, 640))).std() > 5


def test_the_input_is_not_changed(pair, tmp_path):
    panels = pair()
    before = [panel.x.copy() for panel in panels]
    picture(panels, tmp_path / "a.png")
    for panel, x in zip(panels, before, strict=True):
        np.testing.assert_array_equal(panel.x, x)


def test_all_that_is_wrong_with_a_panel_is_said_at_once():
    x = np.eye(3)
    x[1, 2] = np.nan
    with pytest.raises(RenderError) as error:
        Panel("broken", x, labels=np.array(["a", "b", "c"]), values=np.ones(3), mass=np.array([-1.0, 1.0, np.inf]))
    for words in ("'broken'", "x of 1 cells", "mass of 1 cells", "a mass of -1", "labels and values"):
        assert words in str(error.value)


def test_all_that_is_wrong_with_a_sheet_is_said_at_once(tmp_path):
    with pytest.raises(RenderError) as error:
        picture([Panel("a", np.eye(3)), Panel("b", np.eye(2))], tmp_path / "a.png", rows=5)
    assert "flat and solid" in str(error.value)
    assert "5 rows" in str(error.value)
    with pytest.raises(RenderError, match="no panels"):
        picture([], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_midway_leaves_what_was_there(pair, tmp_path, monkeypatch):
    def half(path, *_args, **_kwargs):
        path.write_bytes(b"half a picture")
        raise KeyboardInterrupt

    target = tmp_path / "a.png"
    target.write_bytes(b"the old picture")
    monkeypatch.setattr(pictures.iio, "imwrite", half)
    with pytest.raises(KeyboardInterrupt):
        picture(pair(), target)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert target.read_bytes() == b"the old picture"
