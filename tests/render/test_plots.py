import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest

from embryo.render import RenderError, curves

BLUE, RED = "#0000ff", "#ff0000"


def tidy(control=(1.0, 2.0, 3.0), edit=(1.0, 1.0, 1.0), spread=0.5):
    rows = []
    for model, values in (("control", control), ("knockout", edit)):
        for t, value in enumerate(values):
            low, high = (value - spread, value + spread) if model == "control" else (np.nan, np.nan)
            rows.append(
                {
                    "metric": "length",
                    "value": value,
                    "low": low,
                    "high": high,
                    "model": model,
                    "time_h": float(t),
                    "unit": "µm",
                }
            )
    return pd.DataFrame(rows)


def pixels(path):
    return iio.imread(path)[..., :3].astype(int)


def line(image, colour):
    target = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    found = np.argwhere(np.abs(image - target).max(axis=-1) < 40)
    return found[found[:, 0] < image.shape[0] * 0.8]  # without the legend


def test_curves_go_where_the_numbers_go(tmp_path):
    image = pixels(curves(tidy(), tmp_path / "a.png", palette={"control": BLUE, "knockout": RED}))
    rising, level = line(image, BLUE), line(image, RED)
    left, right = rising[rising[:, 1].argmin()], rising[rising[:, 1].argmax()]
    assert right[0] < left[0] - 50  # up
    assert np.ptp(level[:, 0]) < 25  # no thicker than its marks


def test_the_band_is_the_spread(tmp_path):
    options = {"palette": {"control": "#000000", "knockout": RED}}
    wide, narrow = (
        (np.abs(pixels(curves(tidy(spread=s), tmp_path / f"{s}.png", **options)) - 214).max(axis=-1) < 4).sum()
        for s in (0.5, 0.05)
    )
    assert wide > 3 * narrow


def test_one_plot_per_metric_and_gaps_for_absent_numbers(tmp_path):
    table = tidy(edit=(1.0, np.nan, 1.0))
    many = pd.concat([table.assign(metric=f"$metric_{{{i}") for i in range(7)], ignore_index=True).drop(
        columns=["unit"]
    )
    one, seven = pixels(curves(table, tmp_path / "a.png")), pixels(curves(many, tmp_path / "b.png"))
    assert seven.shape[0] > 2 * one.shape[0]
    assert seven.shape[1] > one.shape[1]


def test_single_times_without_spread_are_drawn(tmp_path):
    table = tidy().query("time_h == 0").drop(columns=["low", "high"])
    assert len(line(pixels(curves(table, tmp_path / "a.png", palette={"control": BLUE, "knockout": RED})), RED)) > 5


def test_missing_columns_are_named_at_once(tmp_path):
    with pytest.raises(RenderError) as error:
        curves(tidy().drop(columns=["model", "time_h"]), tmp_path / "a.png")
    assert "'model'" in str(error.value)
    assert "'time_h'" in str(error.value)
    with pytest.raises(RenderError, match="without rows"):
        curves(tidy().iloc[:0], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
