from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from embryo.core import schema
from embryo.core.errors import FrameError, SchemaError
from embryo.core.frame import Frame
from embryo.measure import FATE_PROBABILITIES, TERMINAL_STATES, displacement_um, per_cell


def test_displacement_is_the_distance_between_the_two_arms(rolled):
    found = displacement_um(rolled(), rolled(shift_um=(3.0, 0.0, 4.0)))
    assert found.shape == (3, 90)
    np.testing.assert_allclose(found, np.array([[0.0], [2.5], [5.0]]) * np.ones(90))


def test_displacement_knows_no_pose(rolled):
    control, edited = rolled(1, wild_noise=0.1), rolled(2, wild_noise=0.1)
    turn = Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    moved = [t.moved(t.x @ t.x.new_tensor(turn) + 7, t.frame) for t in (control, edited)]
    np.testing.assert_allclose(displacement_um(*moved), displacement_um(control, edited))


def test_displacement_without_space_is_unknown(rolled):
    assert np.isnan(displacement_um(rolled(space=0), rolled(space=0))).all()


def test_arms_in_two_frames_are_refused(rolled):
    with pytest.raises(FrameError, match="frame 'raw'"):
        displacement_um(rolled(), rolled(frame=Frame("raw")))


def test_arms_of_other_cells_and_times_are_refused_at_once(rolled):
    control, edited = rolled(), rolled()
    other = replace(edited, cells=("x", *edited.cells[1:]), times_h=edited.times_h * 2)
    with pytest.raises(SchemaError, match=r"2 problems\n.*89 shared.*\n.*0 to 12 h \(3\) in the control and 0 to 24 h"):
        displacement_um(control, other)
    with pytest.raises(SchemaError, match="positions of 3 numbers per cell in the control and 2 in the edit"):
        displacement_um(control, rolled(space=2))


def test_per_cell_holds_each_cell_beside_its_control(rolled, read_out, tmp_path):
    control, edited = rolled(), rolled(shift_um=(3.0, 0.0, 4.0), switched=10, grown=2.0)
    found = per_cell(control, edited, read_out)
    assert list(found.obs_names) == list(control.cells)
    assert list(found.var_names) == ["sox2"]
    changed = (found.obs["fate_control"].astype(str) != found.obs["fate_edited"].astype(str)).to_numpy()
    assert changed.tolist() == [True] * 10 + [False] * 80
    np.testing.assert_allclose(found.obs["displacement_um"], 5)
    np.testing.assert_allclose(found.obs["mass_edited"] / found.obs["mass_control"], 2)
    np.testing.assert_allclose(found.obsm[schema.SPATIAL], found.obsm["spatial_control"] + [3, 0, 4])
    np.testing.assert_array_equal(found.obsm[schema.ALIGNED], found.obsm[schema.SPATIAL])
    np.testing.assert_array_equal(found.layers["delta_X"][:, 0] != 0, changed)
    assert (found.obs[schema.TIME] == 12).all()
    found.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(again.obsm[FATE_PROBABILITIES], found.obsm[FATE_PROBABILITIES])


def test_fate_slots_are_what_cellrank_reads(rolled, read_out):
    # cellrank's Lineage.from_adata wants a 2-D array whose columns are the categories of the obs key.
    found = per_cell(rolled(), rolled(switched=10), read_out)
    probabilities = found.obsm[FATE_PROBABILITIES]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    names = found.obs[TERMINAL_STATES].cat.categories
    assert probabilities.shape == (90, len(names))
    assert names[probabilities.argmax(axis=1)].tolist() == found.obs["fate_edited"].tolist()


def test_per_cell_at_an_earlier_time_in_the_raw_frame_and_without_space(rolled, read_out):
    raw = Frame("raw")
    early = per_cell(rolled(frame=raw), rolled(shift_um=(4.0, 0, 0), frame=raw), read_out, t_h=6.2)
    assert (early.obs[schema.TIME] == 6).all()
    np.testing.assert_allclose(early.obs["displacement_um"], 2)
    assert schema.ALIGNED not in early.obsm
    assert early.uns[schema.META]["frame"] == "raw"
    flat = per_cell(rolled(space=0), rolled(space=0), read_out)
    assert schema.SPATIAL not in flat.obsm
    assert flat.obs["displacement_um"].isna().all()


def test_panels_must_agree_and_may_be_without_names(rolled, read_out):
    nameless = [replace(rolled(), panel=()) for _ in range(2)]
    assert list(per_cell(*nameless, read_out).var_names) == ["gene 0"]
    with pytest.raises(SchemaError, match=r"gene panels \('sox2',\) and \('pax6',\)"):
        per_cell(rolled(), replace(rolled(), panel=("pax6",)), read_out)
    bare = [replace(t, g=t.g[:, :, :0]) for t in nameless]
    assert per_cell(*bare, read_out).shape == (90, 0)
