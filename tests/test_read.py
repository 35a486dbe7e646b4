"""Reading: names and units of other systems, one conversion, exact round trips, atomic writing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from broken import make
from broken.make import dense, same
from broken.odd import odd
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo import read
from embryo.core import schema
from embryo.core.errors import ConfigError, SchemaError
from embryo.core.schema import Needs
from embryo.read import Keys, conventions, units

H, UM = Keys(time_unit="h"), Keys(time_unit="h", space_unit="um")
ANY = Needs(times=1)


def cells(n: int = 12, **obs: Sequence[object]) -> AnnData:
    """Return cells at two times, with counts and nothing stated."""
    frame = pd.DataFrame(obs or {"time": np.repeat([1.0, 2.0], n // 2)}, index=[f"c{k}" for k in range(n)])
    counts = np.random.default_rng(0).poisson(3, size=(n, 4)) + 1.0
    return AnnData(counts, obs=frame, var=pd.DataFrame(index=[f"g{k}" for k in range(4)]))


def placed(dims: int = 3, slot: str = "spatial") -> AnnData:
    adata = cells()
    adata.obsm[slot] = np.random.default_rng(1).normal(size=(12, dims)) * 40
    return adata


# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("column", "value", "unit", "hours"),
    [
        ("time", 2.0, "h", 2.0),
        ("time", 90, "min", 1.5),
        ("time", 7200, "s", 2.0),
        ("Time", 2, "d", 48.0),
        ("timepoint", 1, "week", 168.0),
        ("time_point_processed", 20, "1.5 min", 0.5),
        ("samples", 2, "E", 48.0),
        ("day", 2.5, None, 60.0),
        ("hpf", 36, None, 36.0),
        ("time_min", 30, None, 0.5),
        ("dpf", 2, None, 48.0),
        ("time_h", 7, None, 7.0),
        ("stage", "E9.5", None, 228.0),
        ("stage", "e9.5", None, 228.0),
        ("timepoint", "24hpf", None, 24.0),
        ("time", "24 hpf", None, 24.0),
        ("day", "d3", None, 72.0),
        ("day", "Day 3", None, 72.0),
        ("time", "90 min", None, 1.5),
        ("time", "12h", None, 12.0),
        ("development_stage", "Theiler stage 13", None, 204.0),
        ("time", "36", "h", 36.0),
        ("stage", "E2", "day", 48.0),
    ],
)
def test_times_become_hours(column: str, value: object, unit: str | None, hours: float) -> None:
    made = read.adopt(cells(**{column: [value] * 12}), Keys(time_unit=unit), needs=ANY)
    np.testing.assert_allclose(made.obs["time"], hours, rtol=1e-15)
    assert made.obs["time"].dtype == float
    assert made.uns["embryo"]["time_unit"] == "h"


def test_categories_of_stages() -> None:
    column = pd.Categorical(["E8.5", "E7.5"] * 6)
    made = read.adopt(cells(stage=column))
    assert made.obs["time"].tolist() == [204.0, 180.0] * 6
    assert made.obs["stage"].tolist() == list(column)  # the source stays


def test_a_given_unit_wins_over_the_file_and_its_names() -> None:
    adata = cells(day=np.repeat([1.0, 2.0], 6))
    adata.uns["time_unit"] = "min"
    assert read.adopt(adata).obs["time"].tolist() == [1 / 60] * 6 + [2 / 60] * 6
    assert read.adopt(adata, H).obs["time"].tolist() == [1.0] * 6 + [2.0] * 6
    del adata.uns["time_unit"]
    assert read.adopt(adata).obs["time"].tolist() == [24.0] * 6 + [48.0] * 6


def test_numbers_without_a_unit_are_not_guessed() -> None:
    for column in ("time", "timepoint", "stage", "age", "samples"):
        with pytest.raises(SchemaError, match="units missing: no time_unit"):
            read.adopt(cells(**{column: np.repeat([9.5, 10.5], 6)}))


@given(st.lists(st.floats(0, 1e4), min_size=12, max_size=12, unique=True))
@settings(max_examples=30)
def test_minutes_and_hours_read_alike(hours: list[float]) -> None:
    a = read.adopt(cells(time=hours), H)
    b = read.adopt(cells(time=[60 * h for h in hours]), Keys(time_unit="min"))
    same(a, b, rtol=1e-14)


# ---------------------------------------------------------------- positions


@given(st.sampled_from([2, 3]), st.sampled_from([("mm", 1e-3), ("nm", 1e3), ("m", 1e-6), ("cm", 1e-4), ("5 um", 0.2)]))
@settings(max_examples=10)
def test_any_unit_and_micrometres_read_alike(dims: int, unit: tuple[str, float]) -> None:
    a = placed(dims)
    b = a.copy()
    b.obsm["spatial"] = b.obsm["spatial"] * unit[1]
    same(read.adopt(a, UM), read.adopt(b, Keys(time_unit="h", space_unit=unit[0])), rtol=1e-13)


def test_pixels_and_planes() -> None:
    adata = placed()
    made = read.adopt(adata, Keys(time_unit="h", space_unit="px", pixel_um=0.5, z_um=2.0))
    np.testing.assert_array_equal(made.obsm["spatial"], adata.obsm["spatial"] * [0.5, 0.5, 2.0])
    flat = read.adopt(placed(2), Keys(time_unit="h", space_unit="px", pixel_um=0.5))
    np.testing.assert_array_equal(flat.obsm["spatial"], placed(2).obsm["spatial"] * 0.5)


@pytest.mark.parametrize(
    "slot",
    ["spatial", "spatial_3D", "3d_align_spatial", "align_spatial", "spatial_aligned", "X_spatial", "X_spatial_input"],
)
def test_slots_of_other_systems(slot: str) -> None:
    adata = placed(slot=slot)
    made = read.adopt(adata, UM)
    np.testing.assert_array_equal(made.obsm["spatial"], adata.obsm[slot])
    assert "spatial_aligned" not in made.obsm  # another's frame is not our body frame
    assert made.uns["embryo"]["read"]["space"] == slot


@pytest.mark.parametrize(
    ("columns", "unit"),
    [(("x", "y", "z"), "um"), (("X", "Y"), "um"), (("spatial_x", "spatial_y"), "um"), (("x_um", "y_um", "z_um"), None),
     (("x_centroid", "y_centroid"), None), (("center_x", "center_y"), None)],
)  # fmt: skip
def test_columns_of_other_systems(columns: tuple[str, ...], unit: str | None) -> None:
    x = np.random.default_rng(0).normal(size=(12, len(columns))) * 50
    adata = cells(time=np.repeat([1.0, 2.0], 6), **dict(zip(columns, x.T, strict=True)))
    made = read.adopt(adata, Keys(time_unit="h", space_unit=unit))
    np.testing.assert_array_equal(made.obsm["spatial"], x)


def test_columns_with_their_unit_in_mm() -> None:
    x = np.random.default_rng(0).normal(size=(12, 2))
    made = read.adopt(cells(hpf=np.repeat([1, 2], 6), x_mm=x[:, 0], y_mm=x[:, 1]), Keys(space=("x_mm", "y_mm")))
    np.testing.assert_array_equal(made.obsm["spatial"], x * 1000)


def test_a_built_body_goes_before_its_flat_slices() -> None:
    adata = placed(2)
    adata.obsm["3d_align_spatial"] = np.random.default_rng(2).normal(size=(12, 3)) * 40
    made = read.adopt(adata, UM)
    np.testing.assert_array_equal(made.obsm["spatial"], adata.obsm["3d_align_spatial"])
    chosen = read.adopt(adata, UM.replace(space="spatial"))
    np.testing.assert_array_equal(chosen.obsm["spatial"], adata.obsm["spatial"])


def test_flat_data_have_two_columns() -> None:
    adata = placed(2)
    padded = placed(2)
    padded.obsm["spatial"] = np.c_[padded.obsm["spatial"], np.full(12, 7.0)]
    same(read.adopt(adata, UM), read.adopt(padded, UM))
    assert read.adopt(padded, UM).obsm["spatial"].shape == (12, 2)


def test_positions_divided_by_their_maximum_are_refused() -> None:
    adata = placed(slot="X_spatial_input")
    adata.obsm["X_spatial_input"] /= np.abs(adata.obsm["X_spatial_input"]).max()
    with pytest.raises(SchemaError, match="units missing: no space_unit"):
        read.adopt(adata, H)
    with pytest.raises(SchemaError, match="largest coordinate is exactly 1"):
        read.adopt(adata, UM)


@pytest.mark.parametrize(("axis", "k"), [("x", 0), ("y", 1), ("z", 2)])
def test_flipping_an_axis_back(axis: str, k: int) -> None:
    """A mirrored embryo beside a right one is refused; the file read with one axis flipped is right again."""
    x, y = make.whole(), make.whole()
    y.obsm["spatial"] = y.obsm["spatial"] * np.where(np.arange(3) == k, -1.0, 1.0)
    fixed = read.adopt(y, Keys(flip_axis=axis))
    np.testing.assert_array_equal(fixed.obsm["spatial"], x.obsm["spatial"])


# ---------------------------------------------------------------- groups and genes


def test_names_of_other_systems() -> None:
    adata = cells(
        day=np.repeat([1, 2], 6), donor_id=[1, 2] * 6, celltype=["a", None] * 6, track_id=np.arange(12.0),
        mother=[None, *"abcdefghijk"], section=list("xyz") * 4,
    )  # fmt: skip
    obs = read.adopt(adata).obs
    assert obs["embryo"].tolist() == ["1", "2"] * 6
    assert obs["cell_type"].tolist() == ["a", ""] * 6
    assert obs["cell"].tolist() == [str(k) for k in range(12)]  # no 3.0
    assert obs["parent"].tolist() == ["", *"abcdefghijk"]
    assert obs["slice"].tolist() == list("xyz") * 4
    assert all(isinstance(obs[c].dtype, pd.CategoricalDtype) for c in ("embryo", "cell", "parent", "cell_type"))


def test_given_names_go_before_recognised_ones() -> None:
    adata = cells(time=np.repeat([1, 2], 6), when=np.repeat([3, 4], 6), embryo=["a"] * 12, who=["b"] * 12)
    obs = read.adopt(adata, Keys(time="when", embryo="who", time_unit="h")).obs
    assert obs["time"].tolist() == [3.0] * 6 + [4.0] * 6
    assert set(obs["embryo"]) == {"b"}


COUNTS = np.random.default_rng(3).poisson(4, size=(12, 4)) + 1.0
LOG = np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * 1e4)


def expressed(x: np.ndarray | None, *, raw: np.ndarray | None = None, **layers: np.ndarray) -> AnnData:
    adata = cells()
    adata.X = x if raw is None else raw
    if raw is not None:
        adata.raw = adata.copy()
        adata.X = x
    for name, values in layers.items():
        adata.layers[name] = values
    return adata


@pytest.mark.parametrize(
    ("adata", "keys", "expression", "former"),
    [
        (expressed(COUNTS), H, "counts", False),
        (expressed(LOG, counts=COUNTS), H, "counts", True),
        (expressed(LOG, count=COUNTS), H, "counts", True),
        (expressed(LOG, raw=COUNTS), H, "counts", True),
        (expressed(LOG, raw_counts=COUNTS), H, "counts", True),
        (expressed(LOG, mine=COUNTS), Keys(time_unit="h", counts="mine"), "counts", True),
        (expressed(COUNTS, counts=LOG), Keys(time_unit="h", counts="X"), "counts", False),
        (expressed(LOG), H, "log1p", False),
        (expressed(LOG - 9), H, "relative", False),
        (expressed(LOG, raw=LOG + 0.5), H, "log1p", False),
    ],
)
def test_counts_are_found(adata: AnnData, keys: Keys, expression: str, former: bool) -> None:
    made = read.adopt(adata, keys)
    assert made.uns["embryo"]["expression"] == expression
    assert made.raw is None
    if expression == "counts":
        np.testing.assert_array_equal(dense(made.layers["counts"]), COUNTS)
        np.testing.assert_array_equal(dense(made.X), COUNTS)
        assert made.X is not made.layers["counts"]
        assert not np.shares_memory(dense(made.X), dense(made.layers["counts"]))
    else:
        assert "counts" not in made.layers
        np.testing.assert_array_equal(made.X, adata.X)
    assert ("X_input" in made.layers) == former
    if former:
        np.testing.assert_array_equal(made.layers["X_input"], LOG)


def test_raw_counts_of_more_genes_are_matched_by_name() -> None:
    whole = cells()
    whole.X = COUNTS
    part = whole[:, ["g3", "g1"]].copy()
    part.raw = whole
    part.X = LOG[:, [3, 1]]
    made = read.adopt(part, H)
    np.testing.assert_array_equal(made.layers["counts"], COUNTS[:, [3, 1]])


IDS = [f"ENSMUSG{k:011d}" for k in range(4)]


@pytest.mark.parametrize("column", ["feature_name", "gene_short_name", "Symbol"])
def test_ids_are_replaced_by_symbols_and_kept(column: str) -> None:
    adata = cells()
    adata.var_names = IDS
    adata.var[column] = ["Wnt3", "T", "T", ""]
    made = read.adopt(adata, H)
    assert made.var_names.tolist() == ["Wnt3", f"T_{IDS[1]}", f"T_{IDS[2]}", IDS[3]]
    assert made.var["gene_id"].tolist() == IDS


def test_symbols_are_taken_where_asked() -> None:
    adata = cells()
    adata.var["other"] = list("abcd")
    assert read.adopt(adata, H).var_names.tolist() == ["g0", "g1", "g2", "g3"]
    made = read.adopt(adata, H.replace(gene_symbols="other"))
    assert made.var_names.tolist() == list("abcd")
    assert made.var["gene_id"].tolist() == ["g0", "g1", "g2", "g3"]


# ---------------------------------------------------------------- the whole


def test_the_input_is_not_modified() -> None:
    adata = placed()
    adata.layers["count"] = COUNTS
    before = adata.copy()
    read.adopt(adata, UM)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert set(adata.layers) == {"count"}
    assert dict(adata.uns) == {}
    np.testing.assert_array_equal(adata.X, before.X)
    np.testing.assert_array_equal(adata.obsm["spatial"], before.obsm["spatial"])


@given(st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_permuting_cells_permutes_the_result(random: Any) -> None:
    adata = make.foreign()
    order = list(range(adata.n_obs))
    random.shuffle(order)
    same(read.adopt(adata[order].copy(), UM), read.adopt(adata, UM)[order].copy())


@given(odd(), st.sampled_from([Keys(), UM, Keys(space_unit="px", pixel_um=1.0, z_um=1.0), Keys(counts="X", space="x")]))
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_odd_input_is_read_or_refused(adata: AnnData, keys: Keys) -> None:
    try:
        made = read.adopt(adata, keys, needs=ANY)
    except SchemaError:
        return
    assert schema.check(made, ANY) == []


def test_reading_what_was_read_changes_nothing() -> None:
    once = read.adopt(make.foreign(), UM)
    once.obsm["spatial_aligned"] = once.obsm["spatial"] + 1
    once.uns["embryo"]["frame"] = "body"
    twice = read.adopt(once)
    same(once, twice)
    assert twice.uns["embryo"] == once.uns["embryo"]


def test_files_of_others_are_read_like_the_object(tmp_path: Path) -> None:
    adata = make.foreign()
    adata.write_h5ad(tmp_path / "a.h5ad")
    same(read.auto(tmp_path / "a.h5ad", UM), read.adopt(adata, UM))
    same(read.h5ad(str(tmp_path / "a.h5ad"), UM), read.adopt(adata, UM))


# ---------------------------------------------------------------- keys


def test_keys_from_text() -> None:
    keys = Keys.of({"time": "day", "space": "x, y,z", "pixel_um": "0.09", "z_um": 1, "genes": "wnt", "cell": None})
    assert keys == Keys(time="day", space=("x", "y", "z"), pixel_um=0.09, z_um=1.0, genes=("wnt",))
    assert Keys.of({}) == Keys()


def test_all_wrong_keys_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Keys.of({"tme": "day", "pixel_um": "small", "embryos": "e", "z_um": True, "cell": ["a"]})
    assert len(caught.value.problems) == 5
    with pytest.raises(ConfigError) as caught:
        Keys(pixel_um=0.0, z_um=float("nan"), flip_axis="xy")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("unit", ["", "h h", "-1 h", "0 min", "hours per day", "7"])
def test_units_that_are_none(unit: str) -> None:
    assert "h, min, s" in units.hours(unit).expected


def test_conventions_do_not_contradict_each_other() -> None:
    assert conventions.find(["Day", "TIME"], conventions.OBS["time"]) == "TIME"
    assert conventions.find([3, None, "umap"], conventions.OBS["time"]) is None
    for names in conventions.OBS.values():
        assert len({n.lower() for n in names}) == len(names)


def test_candidates_for_time_are_columns_of_the_file() -> None:
    adata = cells(dose=np.arange(12.0))
    for column in set(adata.obs) - {"dose"}:
        del adata.obs[column]
    with pytest.raises(SchemaError) as told:
        read.adopt(adata, UM)
    assert "among the columns dose" in str(told.value)
    assert "embryo" not in str(told.value).split("among the columns")[1].split("\n")[0]
