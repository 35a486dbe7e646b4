"""The checks one by one, against scipy, numpy and closed forms."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import sparse
from scipy.spatial.transform import Rotation

from embryo import datasets
from embryo.core import schema
from embryo.core.checks import frames, matrices, names, phrases, positions, times
from embryo.core.errors import DataError, Problem

MIRROR = np.diag([1.0, 1.0, -1.0])


def body(n: int = 60, seed: int = 0) -> np.ndarray:
    """Return cells of an embryo without symmetry, µm."""
    return np.random.default_rng(seed).normal(size=(n, 3)) * [25, 15, 9]


def compared(*embryos: np.ndarray, cells: np.ndarray | None = None) -> list[Problem]:
    """Check the frames of embryos that name their cells alike, at one time."""
    count = [len(x) for x in embryos]
    which = np.repeat(np.arange(len(embryos)), count)
    cells = np.concatenate([np.arange(n) for n in count]) if cells is None else cells
    labels = [f"e{k}" for k in range(len(embryos))]
    return list(frames.problems(np.concatenate(embryos), which, cells, np.zeros_like(cells), labels))


# ---------------------------------------------------------------- frames

turns = st.integers(0, 2**32 - 1).map(lambda seed: Rotation.random(random_state=seed).as_matrix())


@given(st.lists(turns, min_size=2, max_size=4), st.floats(0.75, 1.3), st.floats(0, 3), st.integers(0, 99))
def test_rotated_embryos_of_similar_size_are_alike(
    rotations: list[np.ndarray], size: float, noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = body(seed=seed)
    sizes = np.linspace(1, size, len(rotations))
    embryos = [
        s * x @ R.T + 100 * k + noise * rng.normal(size=x.shape)
        for k, (R, s) in enumerate(zip(rotations, sizes, strict=True))
    ]
    assert compared(*embryos) == []


@given(turns, turns, st.integers(0, 2), st.floats(0, 2), st.integers(0, 99))
def test_one_mirrored_embryo_of_three_is_named(a: np.ndarray, b: np.ndarray, odd: int, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = [np.eye(3), a, b]
    maps[odd] = maps[odd] @ MIRROR
    embryos = [body() @ m.T + noise * rng.normal(size=(60, 3)) for m in maps]
    (problem,) = compared(*embryos)
    assert f"mirrored embryos: e{odd} against" in problem.found
    assert "flip_axis" in problem.cure


def test_the_best_rotation_is_that_of_scipy() -> None:
    x = body()
    y = x @ MIRROR + [3, 4, 5]
    (problem,) = compared(x, y)
    _, rssd = Rotation.align_vectors(x - x.mean(0), y - y.mean(0))
    assert f"the best rotation {phrases.number(rssd / np.sqrt(len(x)))} µm" in problem.found
    leaves = float(problem.found.split("leaves ")[1].split(" ")[0])
    assert leaves < 1e-5


@pytest.mark.parametrize(("shared", "found"), [(4, 0), (5, 1), (60, 1)])
def test_a_mirror_image_needs_five_shared_cells(shared: int, found: int) -> None:
    x, y = body(), body() @ MIRROR
    cells = np.concatenate([np.arange(60), np.where(np.arange(60) < shared, np.arange(60), -1)])
    assert len(compared(x, y, cells=cells)) == found


def test_flat_clouds_have_no_hand() -> None:
    """The mirror image of cells in a plane is a rotation of them."""
    flat = body() * [1, 1, 0]
    turned = Rotation.from_euler("xyz", [0.3, 1.0, 2.0]).as_matrix()
    assert compared(flat, flat @ MIRROR @ turned) == []


def test_flat_data_have_a_hand_in_their_plane() -> None:
    x = body()[:, :2]
    (problem,) = compared(x, x * [1, -1])
    assert problem.found.startswith("mirrored embryos")
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert compared(x, x @ turn) == []


def test_names_that_do_not_mean_the_same_cells_say_nothing() -> None:
    """Track numbers are shared by all embryos and mean nothing."""
    assert compared(*(body(seed=k) for k in range(6))) == []


@pytest.mark.parametrize(("scale", "found"), [(1e-3, 1), (0.4, 1), (0.6, 0), (1.7, 0), (2.5, 1), (1000.0, 1)])
def test_embryos_in_another_unit(scale: float, found: int) -> None:
    problems = compared(body(), scale * body() @ Rotation.from_euler("x", 1).as_matrix())
    assert len(problems) == found
    assert all(f"e1 ({phrases.number(scale)} times the rest)" in p.found for p in problems)


def test_the_odd_unit_is_named_even_if_it_is_the_reference() -> None:
    (problem,) = compared(np.concatenate([body(), body(9, 5)]) / 1000, body(), body(), body())
    assert "e0 (0.001 times the rest)" in problem.found


@pytest.mark.parametrize(("planes", "found"), [(1.0, 0), (2.0, 0), (8.0, 1), (0.1, 1)])
def test_embryos_with_another_distance_of_planes(planes: float, found: int) -> None:
    problems = compared(body(), body(), body() * [1, 1, planes])
    assert len(problems) == found
    assert all(p.found.startswith("non-rigid frames: e2 stretched") for p in problems)


def test_embryos_of_different_pace_are_compared_by_the_names_alive() -> None:
    """At the same clock time they share nothing; a quarter as fast, the second shows the same cells later."""
    rng = np.random.default_rng(1)
    place = rng.normal(size=(8 * 12, 3)) * [25, 15, 9]
    cells = np.arange(8 * 12)
    born = cells // 12
    x = np.concatenate([place, place @ MIRROR])
    when = np.concatenate([born, 20 + 4 * born])
    (problem,) = frames.problems(x, np.repeat([0, 1], 96), np.tile(cells, 2), when, ["fast", "slow"])
    assert "mirrored embryos: slow against embryo fast" in problem.found
    assert "over 12 shared cells" in problem.found


@given(turns, st.sampled_from(["matrix", "with translation", "homogeneous", "mapping"]), st.booleans())
def test_stored_motions(turn: np.ndarray, form: str, mirrored: bool) -> None:
    turn = turn @ MIRROR if mirrored else turn
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = turn, [4, 5, 6]
    value = {
        "matrix": turn,
        "with translation": whole[:3],
        "homogeneous": whole,
        "mapping": {"rotation": turn.tolist()},
    }
    found = [p.found for p in frames.motions({"e": value[form]}, "motions")]
    assert found == (["motions of e mirrored (determinant -1)"] if mirrored else [])


def test_stored_motions_that_scale() -> None:
    (problem,) = frames.motions({"e": 2 * np.eye(2)}, "motions")
    assert "singular values 2, 2" in problem.found


@pytest.mark.real
@pytest.mark.parametrize("mirrored", [(), (0,), (5,), (1, 4), (1, 2, 3, 4, 5, 6, 7)])
def test_real_embryos_are_told_from_their_mirror_images(mirrored: tuple[int, ...]) -> None:
    """Eight tracked C. elegans embryos on their own clocks, in the frames of their microscopes."""
    try:
        datasets.locate("celegans-epic")
    except DataError as error:
        pytest.skip(f"celegans-epic is in neither the cache nor EMBRYO_DATA_MIRROR: {error.problems[0].found}")
    adata = datasets.load("celegans-epic", embryos=8, clock="nominal", step_min=10.0, assemble_from=[])
    labels = list(adata.obs["embryo"].cat.categories)
    x = np.array(adata.obsm["spatial"])
    for k in mirrored:
        x[(adata.obs["embryo"] == labels[k]).to_numpy(), 2] *= -1
    adata.obsm["spatial"] = x
    found = [p.found for p in schema.check(adata)]
    fewer = mirrored if len(mirrored) <= 4 else tuple(set(range(8)) - set(mirrored))
    assert len(found) == bool(mirrored)
    assert all(f"mirrored embryos: {', '.join(labels[k] for k in fewer)} against" in f for f in found)


# ---------------------------------------------------------------- matrices

values = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.one_of(st.sampled_from([0.0, 1.0, 7.0, 0.5, -2.0]), st.floats(width=64)),
)


@given(values)
def test_summary_is_that_of_numpy(x: np.ndarray) -> None:
    finite = x[np.isfinite(x)]
    expected = matrices.Summary(
        nan=int(np.isnan(x).sum()),
        infinite=int(np.isinf(x).sum()),
        negative=int((finite < 0).sum()),
        fractional=int((np.modf(finite)[0] != 0).sum()),
        lowest=min(float(finite.min(initial=0)), 0.0),
        highest=max(float(finite.max(initial=0)), 0.0),
    )
    for form in (np.asarray, sparse.csr_matrix, sparse.csc_array, sparse.coo_array, sparse.lil_array):
        assert matrices.summary(form(x)) == expected


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_whole_numbers_of_any_kind_are_counts(dtype: type) -> None:
    assert matrices.kind(np.array([[0, 1], [1, 0]], dtype=dtype)) == "counts"


def test_kinds_of_values(rng: np.random.Generator) -> None:
    counts = rng.poisson(3, size=(20, 8)).astype(float)
    scaled = counts / counts.sum(1, keepdims=True) * 1e4
    assert matrices.kind(counts) == "counts"
    assert matrices.kind(np.log1p(scaled)) == "log1p"
    assert matrices.kind(scaled) == "relative"
    assert matrices.kind(np.log1p(scaled) - 1) == "relative"
    assert matrices.kind(np.where(counts == 3, np.nan, counts)) == "relative"


@pytest.mark.parametrize("total", [1e4, 1e6])
def test_the_size_of_normalised_cells_is_told(total: float, rng: np.random.Generator) -> None:
    counts = rng.poisson(3, size=(20, 8)) + 1.0
    scaled = sparse.csr_array(counts / counts.sum(1, keepdims=True) * total)
    (problem,) = matrices.problems(scaled.log1p(), "X", counts=True, signed=False)
    assert f"log1p of counts scaled to {phrases.number(total)} per cell" in problem.found
    (problem,) = matrices.problems(scaled, "X", counts=True, signed=False)
    assert f"normalised to {phrases.number(total)} per cell" in problem.found


def test_relative_levels_may_be_negative() -> None:
    x = np.array([[-1.5, 2.0]])
    assert list(matrices.problems(x, "X", counts=False, signed=True)) == []
    assert len(list(matrices.problems(x, "X", counts=False, signed=False))) == 1


# ---------------------------------------------------------------- times


def grid(present: np.ndarray) -> Iterator[Problem]:
    e, t = np.nonzero(present)
    return times.gaps(t * 0.5, e, [f"e{k}" for k in range(len(present))], "time")


def test_a_hole_in_the_middle_of_one_embryo() -> None:
    present = np.ones((3, 8), dtype=bool)
    assert list(grid(present)) == []
    present[1, 4] = False
    (problem,) = grid(present)
    assert "e1 at 2 h" in problem.found
    present[1, 4:] = False  # it ends earlier
    assert list(grid(present)) == []


def test_a_time_that_most_embryos_lack_is_no_hole() -> None:
    present = np.ones((4, 8), dtype=bool)
    present[1:, 3] = False
    assert list(grid(present)) == []


# ---------------------------------------------------------------- positions


@pytest.mark.parametrize(("factor", "guess"), [(1e-3, "mm"), (1e-6, "m"), (1e3, "nm"), (1e-12, None)])
def test_the_unit_is_guessed_from_the_extent(factor: float, guess: str | None) -> None:
    zero = np.zeros(60, dtype=np.int64)
    (problem,) = positions.scale(4 * body() * factor, zero, zero, ["e"], "place")
    assert ("the numbers look like" in problem.found) == (guess is not None)
    assert f"--space-unit {guess or 'mm'}," in problem.cure


def test_a_single_cell_has_no_extent() -> None:
    x = np.array([[0.0, 0, 0], [0.01, 0, 0], [0, 0.02, 0]])
    zero = np.zeros(3, dtype=np.int64)
    assert list(positions.scale(x, zero, np.arange(3), ["e"], "place")) == []
    assert len(list(positions.scale(x, zero, zero, ["e"], "place"))) == 1


def test_thin_tissue_is_not_flat() -> None:
    index = pd.Index([f"c{k}" for k in range(60)])
    thin = body() * [1, 1, 1e-3]
    assert list(positions.problems(thin, "place", index)) == []
    plane = np.c_[thin[:, :2], thin[:, 0] + 2 * thin[:, 1]]
    assert len(list(positions.problems(plane, "place", index))) == 1


# ---------------------------------------------------------------- names and phrases

words = st.sampled_from(["a", "b", "", "  ", None])


@given(st.lists(words, max_size=12), st.booleans())
def test_blank_names(column: list[str | None], category: bool) -> None:
    series = pd.Series(column, dtype="category" if category else object)
    assert names.blank(series).tolist() == [w is None or not w.strip() for w in column]


@given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 2), st.sampled_from(["a", "b", ""])), max_size=15))
@settings(max_examples=50)
def test_duplicate_cells_are_counted(rows: list[tuple[str, int, str]]) -> None:
    frame = pd.DataFrame(rows, columns=["embryo", "time", "cell"])
    found = list(names.observations(frame, ["embryo", "time", "cell"]))
    named = [row for row in rows if row[2]]
    extra = len(named) - len(set(named))
    assert len(found) == bool(extra)
    assert all(p.found.startswith(f"{extra} duplicate cells, the same embryo, time, cell: ") for p in found)


def test_a_mother_that_is_there_makes_a_track() -> None:
    cell, parent = pd.Series(["P0", "AB"]), pd.Series(["", "P0"])
    slots = ("cell", "parent")
    assert list(names.followed(np.array([0, 0]), cell, parent, slots=slots)) == []
    assert len(list(names.followed(np.array([0, 1]), cell, parent, slots=slots))) == 1
    assert len(list(names.followed(np.array([0, 0]), cell, None, slots=slots))) == 1


def test_lists_are_cut_and_counted() -> None:
    assert phrases.few("abc") == "a, b, c"
    assert phrases.few(range(9), 3) == "0, 1, 2 and 6 more"
    bad = np.arange(20) % 3 == 0
    assert phrases.cells(bad, pd.Index([f"c{k}" for k in range(20)])) == (
        "7 of 20 cells (rows 0, 3, 6, 9, 12, ...: c0, c3, c6, c9, c12)"
    )


@pytest.mark.parametrize(
    ("name", "known", "says"),
    [
        ("tme", ["time", "embryo"], " (did you mean 'time'?)"),
        ("TIME", ["Time"], " (did you mean 'Time'?)"),
        ("q", ["time"], ""),
    ],
)
def test_near_misses(name: str, known: list[Any], says: str) -> None:
    assert phrases.nearest(name, known) == says
