from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist

from embryo.core.errors import FrameError, SchemaError
from embryo.core.frame import Frame
from embryo.core.table import COLUMNS
from embryo.measure import difference, energy_distance, size
from embryo.measure.difference import _band_of_pairs, _band_of_values

SEEDS = (1, 2, 3, 4)


def pick(table, role, metric, t_h=12.0, model=None):
    found = table[(table["role"] == role) & (table["metric"] == metric) & (table["time_h"] == t_h)]
    found = found if model is None else found[found["model"] == model]
    assert len(found) == 1, (role, metric, found)
    return found.iloc[0]


def test_table_has_the_common_form(rolled, read_out):
    table = difference([rolled(1)], [rolled(1, switched=5)], fate=read_out, board="knockout sox2")
    assert tuple(table.columns) == (*COLUMNS, "time_h", "beyond_repeats")
    assert set(table["board"]) == {"knockout sox2"}
    assert set(table["split"]) == {"t=0 h", "t=6 h", "t=12 h"}
    assert table["beyond_repeats"].dtype == bool
    assert not table["unit"].isna().any()
    assert not table.duplicated(["split", "model", "role", "metric"]).any()


def test_an_empty_edit_changes_exactly_nothing(rolled, read_out):
    control = [rolled(s, wild_noise=0.05) for s in SEEDS]
    table = difference(control, [rolled(s, wild_noise=0.05) for s in SEEDS], fate=read_out)
    effect = table[table["role"] == "difference"].set_index("metric")
    assert (effect[["value", "low", "high"]] == 0).all(axis=None)
    assert not table["beyond_repeats"].any()


def test_known_edit_is_measured_right(rolled, read_out):
    how = {"shift_um": (3.0, 0.0, 4.0), "switched": 15, "grown": 2.0}
    table = difference([rolled(1)], [rolled(1, **how)], fate=read_out)
    assert pick(table, "control", "fraction[left]")["value"] == pytest.approx(30 / 90)
    assert pick(table, "edited", "fraction[left]")["value"] == pytest.approx(15 / 90)
    assert pick(table, "difference", "fraction[left]")["value"] == pytest.approx(-15 / 90)
    assert pick(table, "difference", "fraction[right]")["value"] == pytest.approx(15 / 90)
    assert pick(table, "difference", "bray_curtis[fates]")["value"] == pytest.approx(15 / 90)
    assert pick(table, "difference", "switched")["value"] == pytest.approx(15 / 90)
    assert pick(table, "difference", "cells")["value"] == pytest.approx(90)
    assert pick(table, "difference", "volume_um3")["value"] == pytest.approx(0, abs=1e-6)
    assert pick(table, "difference", "displacement_um")["value"] == pytest.approx(5)
    assert pick(table, "difference", "displacement_um[left]", 6.0)["value"] == pytest.approx(2.5)
    assert pick(table, "difference", "displacement_um")["unit"] == "µm"
    spacing = [pick(table, role, "spacing_um")["value"] for role in ("control", "edited")]
    assert spacing[1] == pytest.approx(spacing[0] / 2 ** (1 / 3))


def test_rows_agree_with_the_functions_they_name(rolled, read_out):
    control, edited = rolled(1), rolled(1, shift_um=(30.0, 0.0, 0.0), switched=15)
    table = difference([control], [edited], fate=read_out, times_h=[12.0])
    a, b = control.at(2), edited.at(2)
    for name in ("z", "x"):
        expected = energy_distance(getattr(a, name).numpy(), getattr(b, name).numpy(), paired=True)
        assert pick(table, "difference", f"energy_distance[{name}]")["value"] == pytest.approx(expected)
    for name, value in size(b).items():
        assert pick(table, "edited", name)["value"] == pytest.approx(value)


def test_no_size_and_no_distance_has_an_interval_below_zero(rolled, read_out):
    """Two seeds that differ much make wide intervals; those of changes and of unbiased distances stay open."""
    control = [rolled(1), rolled(2, grown=9.0)]
    edited = [rolled(1, grown=9.0, switched=15), rolled(2, shift_um=(40.0, 0.0, 0.0))]
    table = difference(control, edited, fate=read_out, repeats=[], times_h=[12.0])
    for role in ("control", "edited"):
        assert pick(table, role, "cells")["low"] == 0
        assert pick(table, role, "fraction[left]")["low"] >= 0
    for metric in ("bray_curtis[fates]", "chamfer_um", "displacement_um", "switched"):
        assert pick(table, "difference", metric)["low"] >= 0
    assert pick(table, "difference", "switched")["low"] == 0
    assert pick(table, "difference", "cells")["low"] < 0
    assert pick(table, "difference", "energy_distance[x]")["low"] < 0
    assert _band_of_pairs(np.array([0.01, 0.01, 3.0]), 3, 0.0).low == 0


def test_difference_is_paired_by_seed(rolled, read_out):
    control = [rolled(s, wild_noise=0.2) for s in SEEDS]
    edited = [replace(c, x=c.x * 1.1) for c in control]
    table = difference(control, edited, fate=read_out, times_h=[12.0])
    c, e = (np.array([size(t.at(2))["axis_1_um"] for t in arm]) for arm in (control, edited))
    found = pick(table, "difference", "axis_1_um")
    expected = stats.ttest_rel(e, c).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["n_seeds"] == 4
    alone = pick(table, "control", "axis_1_um")
    assert found["high"] - found["low"] < (alone["high"] - alone["low"]) / 5
    assert found["low"] > 0  # sure that it grows by a tenth ...
    assert not found["beyond_repeats"]  # ... which wild-type seeds differ by anyway


def test_yardsticks_by_hand(rolled, read_out):
    control = [rolled(s, wild_noise=0.2) for s in SEEDS]
    table = difference(control, control, fate=read_out, times_h=[12.0])
    values = np.array([size(t.at(2))["radius_um"] for t in control])
    apart = values[:, None] - values
    floor = pick(table, "floor", "radius_um")
    assert floor["model"] == "no change"
    assert floor["value"] == pytest.approx(0, abs=1e-9)
    assert (floor["low"], floor["high"]) == pytest.approx((apart.min(), apart.max()))
    repeat = pick(table, "repeat", "radius_um", model="wild-type seeds")
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) * np.sqrt(2)
    assert (repeat["low"], repeat["high"]) == pytest.approx((-half, half))
    assert repeat["value"] == pytest.approx(np.abs(apart[np.triu_indices(4, 1)]).mean())
    moved = pick(table, "floor", "displacement_um")
    assert moved["value"] > 0
    assert moved["low"] > 0


def test_band_holds_the_share_of_wild_type_differences_that_it_says():
    rng = np.random.default_rng(0)
    outside = [_band_of_values(rng.normal(5, 2, 4)).excludes(np.diff(rng.normal(5, 2, 2))[0]) for _ in range(2000)]
    assert np.mean(outside) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(("dims", "n"), [(1, 3), (3, 5)])
def test_band_of_distances_is_exceeded_as_seldom_as_the_docstring_says(dims, n):
    rng = np.random.default_rng(dims)
    above = [
        pdist(rng.normal(size=(2, dims)))[0] > _band_of_pairs(pdist(rng.normal(size=(n, dims))), n, 0.0).high
        for _ in range(1500)
    ]
    assert 0.01 < np.mean(above) < 0.09


def test_a_change_beyond_the_repeats_is_said_so(rolled, read_out):
    control = [rolled(s, wild_noise=0.02) for s in SEEDS]
    edited = [replace(c, x=c.x * torch.tensor([2.0, 1.0, 1.0])) for c in control]
    table = difference(control, edited, fate=read_out, times_h=[12.0])
    for metric in ("axis_1_um", "volume_um3", "energy_distance[x]", "displacement_um", "chamfer_um"):
        assert pick(table, "difference", metric)["beyond_repeats"], metric
    assert not pick(table, "difference", "fraction[left]")["beyond_repeats"]
    assert set(table.loc[table["beyond_repeats"], "role"]) == {"difference"}


def test_measured_embryos_are_a_second_yardstick_that_must_be_passed_too(rolled, read_out):
    control = [rolled(s, wild_noise=0.001) for s in SEEDS]
    edited = [replace(c, x=c.x * 1.1) for c in control]
    embryos = [{12.01: rolled(s, wild_noise=0.3).at(2)[: 60 + s], 90.0: rolled(s).at(2)} for s in SEEDS]
    table = difference(control, edited, fate=read_out, repeats=embryos)
    assert not pick(table, "difference", "radius_um")["beyond_repeats"]
    assert pick(difference(control, edited, fate=read_out), "difference", "radius_um")["beyond_repeats"]
    band = pick(table, "repeat", "radius_um", model="wild-type embryos")
    assert band["n_seeds"] == 4
    assert band["high"] > pick(table, "repeat", "radius_um", model="wild-type seeds")["high"]
    assert pick(table, "repeat", "energy_distance[x]", model="wild-type embryos")["n_seeds"] == 4
    embryo_rows = table[table["model"] == "wild-type embryos"]
    assert set(embryo_rows["time_h"]) == {12.0}  # measured nowhere else
    assert not embryo_rows["metric"].str.startswith("displacement").any()  # their cells are nobody else's


def test_one_seed_says_no_more_than_it_can(rolled, read_out):
    table = difference([rolled(1)], [rolled(1, switched=20)], fate=read_out)
    assert table["low"].isna().all()
    assert table["high"].isna().all()
    assert (table.loc[table["role"] == "floor", "value"] == 0).all()
    assert "repeat" not in set(table["role"])
    assert not table["beyond_repeats"].any()


def test_order_of_cells_does_not_matter(rolled, read_out):
    def mixed_up(t):
        order = torch.from_numpy(np.random.default_rng(5).permutation(90))
        names = tuple(t.cells[i] for i in order)
        return replace(t, z=t.z[:, order], g=t.g[:, order], x=t.x[:, order], log_mass=t.log_mass[:, order], cells=names)

    arms = [rolled(1, wild_noise=0.1)], [rolled(1, wild_noise=0.1, switched=9, shift_um=(5.0, 1.0, 0.0))]
    found = difference(*arms, fate=read_out)
    again = difference(*([mixed_up(t) for t in arm] for arm in arms), fate=read_out)
    pd.testing.assert_frame_equal(found, again, rtol=1e-8, atol=1e-9)


def test_data_without_space_or_in_the_plane(rolled, read_out):
    for space in (0, 2):
        control, edited = [rolled(1, space=space)], [rolled(1, space=space, switched=6)]
        table = difference(control, edited, fate=read_out, times_h=[12.0])
        metrics = set(table["metric"])
        assert pick(table, "difference", "switched")["value"] == pytest.approx(6 / 90)
        assert ("area_um2" in metrics) == (space == 2)
        assert ("energy_distance[x]" in metrics) == (space == 2)
        assert "volume_um3" not in metrics


def test_a_lost_fate_has_no_rows_of_displacement(rolled, read_out):
    gone = [rolled(1, switched=30)]
    table = difference(gone, gone, fate=read_out, times_h=[12.0])
    assert pick(table, "control", "fraction[left]")["value"] == 0
    assert "displacement_um[left]" not in set(table["metric"])


def test_arms_that_do_not_pair_are_refused(rolled, read_out):
    with pytest.raises(SchemaError, match="found 2 controls and 1 edits"):
        difference([rolled(1), rolled(2)], [rolled(1)], fate=read_out)
    with pytest.raises(SchemaError, match="found 0 controls"):
        difference([], [], fate=read_out)
    with pytest.raises(FrameError):
        difference([rolled(1)], [rolled(1, frame=Frame("raw"))], fate=read_out)
    late = replace(rolled(2), times_h=torch.tensor([0.0, 6.0, 24.0]))
    with pytest.raises(SchemaError, match="controls on different times"):
        difference([rolled(1), late], [rolled(1), late], fate=read_out)
    with pytest.raises(SchemaError, match=r"times \[7.0\] h; expected stored times, 0 to 12 h"):
        difference([rolled(1)], [rolled(1)], fate=read_out, times_h=[7.0])
