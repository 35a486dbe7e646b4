"""Trajectories and couplings: every bit back, every number finite, every name in its place."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from embryo.core.coupling import Coupling
from embryo.core.errors import StoreError
from embryo.core.frame import BODY, RAW, Frame
from embryo.core.store import read_coupling, read_trajectory, write_coupling, write_trajectory
from embryo.core.store.arrays import COUPLING, TRAJECTORY
from embryo.core.store.groups import write_group
from embryo.core.trajectory import Trajectory

PARTS = ("times_h", "z", "g", "x", "log_mass")
names = st.text(min_size=1, max_size=5)


def build(
    *, times: int = 3, cells: int = 4, genes: int = 2, space: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Trajectory:
    gen = torch.Generator().manual_seed(seed)
    z, g, x = (torch.randn(times, cells, n, generator=gen, dtype=dtype) for n in (5, genes, space))
    log_mass = torch.randn(times, cells, generator=gen, dtype=dtype)
    panel = tuple(f"gene-{k}" for k in range(genes))
    return Trajectory(
        torch.arange(times, dtype=dtype) / 3,
        z,
        g,
        x,
        log_mass,
        panel,
        Frame(BODY, ("anterior-posterior", "y", "z")),
        tuple(f"cell {k}" for k in range(cells)),
        {"seed": 3, "step_h": 0.1, "window": [0.5, math.inf], "µ": None},
    )


def assert_same(a: Trajectory, b: Trajectory) -> None:
    for name in PARTS:
        assert getattr(a, name).dtype == getattr(b, name).dtype
        assert getattr(a, name).shape == getattr(b, name).shape
        assert getattr(a, name).numpy().tobytes() == getattr(b, name).numpy().tobytes()
    assert (a.panel, a.frame, a.cells, a.provenance) == (b.panel, b.frame, b.cells, b.provenance)


@settings(deadline=None, max_examples=25)
@given(
    times=st.integers(1, 4),
    cells=st.integers(0, 5),
    genes=st.integers(0, 3),
    space=st.sampled_from([0, 2, 3]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    data=st.data(),
)
def test_a_trajectory_comes_back_bit_for_bit(
    times, cells, genes, space, dtype, data, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t") / "x.zarr"
    plain = build(times=times, cells=cells, genes=genes, space=space, dtype=dtype)
    called = tuple(data.draw(st.lists(names, min_size=cells, max_size=cells)))
    panel = tuple(
        data.draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=genes, max_size=genes))
    )
    trajectory = replace(plain, cells=called, panel=panel, frame=Frame(RAW, ("x", "y")))
    write_trajectory(trajectory, path)
    assert_same(read_trajectory(path), trajectory)


def test_a_population_that_died_out_keeps_its_infinite_log_mass(tmp_path: Path) -> None:
    trajectory = build()
    trajectory.log_mass[1, 2] = -math.inf
    write_trajectory(trajectory, tmp_path / "x.zarr")
    assert_same(read_trajectory(tmp_path / "x.zarr"), trajectory)


def test_numbers_that_are_not_finite_are_refused_and_the_old_kept(tmp_path: Path) -> None:
    old = build(seed=1)
    write_trajectory(old, tmp_path / "x.zarr")
    bad = build()
    bad.x[0, 0, 0], bad.g[0, 0, 0], bad.log_mass[0, 0] = math.nan, -math.inf, math.inf
    with pytest.raises(StoreError) as caught:
        write_trajectory(bad, tmp_path / "x.zarr")
    found = [p.found for p in caught.value.problems]
    assert found == [
        "1 of 24 numbers of g NaN or infinite",
        "1 of 36 numbers of x NaN or infinite",
        "1 of 12 numbers of log_mass NaN or infinite",
    ]
    assert_same(read_trajectory(tmp_path / "x.zarr"), old)
    assert [p.name for p in tmp_path.iterdir()] == ["x.zarr"]


def test_what_numpy_or_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    t = build()
    with pytest.raises(StoreError, match=r"z of torch.bfloat16"):
        write_trajectory(replace(t, z=t.z.bfloat16()), tmp_path / "x")
    with pytest.raises(StoreError, match=r"provenance.out of type Posix"):
        write_trajectory(replace(t, provenance={"out": Path("/x").parent.joinpath("y")}), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_midway_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = build(seed=1)
    write_trajectory(old, tmp_path / "x.zarr")
    create, made = zarr.Group.create_array, []

    def failing(self: zarr.Group, name: str, **options: object) -> zarr.Array:
        made.append(name)
        if len(made) == 3:
            raise KeyboardInterrupt
        return create(self, name, **options)

    monkeypatch.setattr(zarr.Group, "create_array", failing)
    with pytest.raises(KeyboardInterrupt):
        write_trajectory(build(), tmp_path / "x.zarr")
    assert made == ["times_h", "z", "g"]
    assert_same(read_trajectory(tmp_path / "x.zarr"), old)
    assert [p.name for p in tmp_path.iterdir()] == ["x.zarr"]


def forge(path: Path, *, arrays: dict | None = None, **attributes: object) -> None:
    """Write a group with a true checksum and untrue content, as another program might."""
    t = build()
    parts = {name: getattr(t, name).numpy() for name in PARTS} | {
        "names": np.frombuffer(b'["a","b","c","d"]', np.uint8)
    }
    head = {"frame": {"name": "body", "axes": ["x"]}, "panel": ["a", "b"], "provenance": {}}
    write_group(path, TRAJECTORY, parts | (arrays or {}), head | attributes)


@pytest.mark.parametrize(
    ("arrays", "attributes", "said"),
    [
        ({"names": np.frombuffer(b"[1]", np.uint8)}, {}, "names that cannot be read"),
        ({"names": np.frombuffer(b"[", np.uint8)}, {}, "names that cannot be read"),
        ({"names": np.frombuffer(b'["a"]', np.uint8)}, {}, "different numbers of cells: 4 in z, g, x, log_mass; 1 in"),
        ({}, {"panel": None}, "panel that cannot be read"),
        ({}, {"panel": ["a"]}, "different numbers of genes: 2 in g; 1 in panel"),
        ({}, {"frame": "body"}, "frame 'body'"),
        ({}, {"frame": {"name": "body", "axes": "xyz"}}, "axes of the frame that cannot be read"),
        ({"x": np.zeros((3, 5, 3))}, {}, "different numbers of cells: 4 in z, g, log_mass, cells; 5 in x"),
        ({"z": np.full((3, 4, 1), np.nan)}, {}, "12 of 12 numbers of z NaN"),
        ({"times_h": np.zeros(3)}, {}, "strictly rising or falling"),
    ],
)
def test_a_trajectory_that_contradicts_itself_is_told(
    arrays: dict, attributes: dict, said: str, tmp_path: Path
) -> None:
    forge(tmp_path / "good")
    read_trajectory(tmp_path / "good")
    forge(tmp_path / "bad", arrays=arrays, **attributes)
    with pytest.raises(StoreError, match=said):
        read_trajectory(tmp_path / "bad")


def couple(plan: sparse.csr_array, **diagnostics: object) -> Coupling:
    n, m = plan.shape
    return Coupling(0.25, 1.5, plan, np.arange(n) * 3, np.arange(m, dtype=np.int32)[::-1].copy(), diagnostics)


def assert_same_coupling(a: Coupling, b: Coupling) -> None:
    assert (a.t0_h, a.t1_h, a.diagnostics, a.plan.shape) == (b.t0_h, b.t1_h, b.diagnostics, b.plan.shape)
    for left, right in (
        (a.plan.data, b.plan.data),
        (a.plan.indices, b.plan.indices),
        (a.plan.indptr, b.plan.indptr),
        (a.sources, b.sources),
        (a.targets, b.targets),
    ):
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    density=st.floats(0, 1),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 99),
)
def test_a_coupling_comes_back_bit_for_bit(shape, density, dtype, seed, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("c") / "x.zarr"
    rng = np.random.default_rng(seed)
    plan = sparse.csr_array(np.where(rng.random(shape) < density, rng.random(shape), 0).astype(dtype))
    coupling = couple(plan, method="tracks", error=math.inf, converged=True, counts=[1, 2])
    write_coupling(coupling, path)
    assert_same_coupling(read_coupling(path), coupling)


def test_the_order_of_entries_and_explicit_zeros_are_kept(tmp_path: Path) -> None:
    data, indices, indptr = np.array([1.0, 0.0, 2.0]), np.array([1, 0, 1], np.int32), np.array([0, 2, 3], np.int32)
    coupling = couple(sparse.csr_array((data, indices, indptr), shape=(2, 2)))
    write_coupling(coupling, tmp_path / "x.zarr")
    assert_same_coupling(read_coupling(tmp_path / "x.zarr"), coupling)


@pytest.mark.parametrize(
    ("arrays", "attributes", "said"),
    [
        ({"indices": np.array([0, 5])}, {}, "no csr matrix"),
        ({"indices": np.array([0, -1])}, {}, "no csr matrix"),
        ({"indptr": np.array([0, 1])}, {}, "no csr matrix"),
        ({"indptr": np.array([0, 2, 1])}, {}, "no csr matrix"),
        ({"data": np.array([1.0])}, {}, "no csr matrix"),
        ({"data": np.array([1.0, np.nan])}, {}, "1 of 2 entries of the plan"),
        ({"data": np.array([1.0, -1.0])}, {}, "1 of 2 entries of the plan"),
        ({}, {"t0_h": None}, "times None and 1.0"),
        ({}, {"t0_h": 2.0}, "from 2.0 to 1.0 h"),
    ],
)
def test_a_coupling_that_contradicts_itself_is_told(arrays: dict, attributes: dict, said: str, tmp_path: Path) -> None:
    index = {"indices": np.array([0, 1]), "indptr": np.array([0, 1, 2])}
    parts = {"data": np.ones(2), "sources": np.arange(2), "targets": np.arange(2)} | index
    head = {"t0_h": 0.0, "t1_h": 1.0, "diagnostics": {}}
    write_group(tmp_path / "good", COUPLING, parts, head)
    read_coupling(tmp_path / "good")
    write_group(tmp_path / "bad", COUPLING, parts | arrays, head | attributes)
    with pytest.raises(StoreError, match=said):
        read_coupling(tmp_path / "bad")


def test_one_noun_is_not_read_as_the_other(tmp_path: Path) -> None:
    write_trajectory(build(), tmp_path / "t")
    write_coupling(couple(sparse.csr_array(np.eye(2))), tmp_path / "c")
    with pytest.raises(StoreError, match="format 'embryo-coupling'; expected format embryo-trajectory"):
        read_trajectory(tmp_path / "c")
    with pytest.raises(StoreError, match="format 'embryo-trajectory'; expected format embryo-coupling"):
        read_coupling(tmp_path / "t")
