"""Neighbour search against brute force, at ties, under permutations, and at size."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from embryo.blocks import neighbours


def brute(x: np.ndarray, k: int) -> np.ndarray:
    """Sort all distances; equal ones by row number."""
    d = np.round(cdist(x, x), 9)
    np.fill_diagonal(d, np.inf)
    return np.argsort(d, axis=1, kind="stable")[:, :k]


@given(st.integers(2, 40), st.integers(2, 3), st.integers(1, 6), st.integers(0, 10_000))
def test_nearest_is_what_sorting_all_distances_gives(n: int, space: int, k: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(n, space))
    rows, distance = neighbours.nearest(torch.tensor(x), k)
    expected = brute(x, min(k, n - 1))
    np.testing.assert_array_equal(rows.numpy(), expected)
    np.testing.assert_allclose(distance.numpy(), np.take_along_axis(cdist(x, x), expected, 1), rtol=1e-9)


@given(st.integers(1, 12), st.integers(0, 50))
def test_ties_go_to_the_lower_row(k: int, seed: int) -> None:
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    x = np.random.default_rng(seed).permutation(grid)  # a lattice: nearly every distance occurs several times
    np.testing.assert_array_equal(neighbours.nearest(torch.tensor(x), k).rows.numpy(), brute(x, k))


def test_points_in_one_place_are_each_others_neighbours_but_not_their_own() -> None:
    rows = neighbours.nearest(torch.zeros(6, 3), 3).rows
    assert rows.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


def test_queries_find_points_and_keep_the_type() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float32)
    rows, distance = neighbours.nearest(points, 2, queries=torch.tensor([[1.0, 0.0], [0.0, 1.9]]))
    assert rows.tolist() == [[1, 0], [2, 0]]
    torch.testing.assert_close(distance, torch.tensor([[0.0, 1.0], [0.1, 1.9]]), atol=1e-6, rtol=0.0)


@given(st.floats(0.01, 1.5), st.integers(0, 1000))
def test_within_is_what_comparing_all_distances_gives(radius: float, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(30, 3))
    near = cdist(x, x) <= radius
    np.fill_diagonal(near, val=False)
    np.testing.assert_array_equal(neighbours.within(torch.tensor(x), radius).numpy(), np.stack(np.nonzero(near)))


def test_one_point_has_no_neighbour() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        neighbours.nearest(torch.zeros(1, 3), 4)
    assert neighbours.within(torch.zeros(1, 3), 1.0).shape == (2, 0)


def test_a_hundred_thousand_points_take_seconds() -> None:
    x = torch.rand(100_000, 3, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    rows = neighbours.nearest(x, 8).rows
    assert rows.shape == (100_000, 8)
    assert time.perf_counter() - start < 30  # a few hundred ms here; all pairs would need 80 GB
