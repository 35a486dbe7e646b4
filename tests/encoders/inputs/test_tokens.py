import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from embryo.encoders.inputs.tokens import SPECIAL, Profiles, Tokens, by_length, masked_mean


def tokens(lengths: list[int]) -> Tokens:
    ids = tuple(np.arange(1, n + 1) + 100 * k for k, n in enumerate(lengths))
    return Tokens(
        ids, tuple(np.arange(n) for n in lengths), tuple(i / 2.0 for i in ids), {"depth": np.arange(len(ids))}
    )


def test_a_batch_pads_after_the_tokens():
    batch = tokens([2, 3]).batch([1, 0], pad=0, pad_value=-2.0)
    assert batch.ids.tolist() == [[101, 102, 103], [1, 2, 0]]
    assert batch.columns.tolist() == [[0, 1, 2], [0, 1, SPECIAL]]
    assert batch.values is not None
    assert batch.values.tolist() == [[50.5, 51.0, 51.5], [0.5, 1.0, -2.0]]
    assert batch.keep.tolist() == [[True] * 3, [True, True, False]]
    assert batch.extra["depth"].tolist() == [1, 0]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 80))
def test_batches_hold_every_cell_once_and_no_more_tokens_than_allowed(lengths, limit):
    batches = list(by_length(lengths, limit))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    longest = [max(lengths[r] for r in rows) for rows in batches]
    assert all(len(rows) == 1 or len(rows) * most <= limit for rows, most in zip(batches, longest, strict=True))
    assert longest == sorted(longest)


def test_a_mean_sees_only_what_is_kept():
    hidden = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert masked_mean(hidden, mask).tolist() == [[2.0, 3.0], [0.0, 0.0]]


def test_what_is_drawn_hangs_on_the_cell_not_on_its_place():
    counts = sparse.csr_array(np.array([[1.0, 0, 2], [0, 3.0, 0]]))
    cells = Profiles(counts, np.array([3.0, 3.0]), np.array([7, 9], dtype=np.uint64))
    turned = Profiles(counts[[1, 0]], np.array([3.0, 3.0]), np.array([9, 7], dtype=np.uint64))
    assert cells.rng(0, 1).random() == turned.rng(1, 1).random() != cells.rng(1, 1).random()
    assert cells.rng(0, 1).random() != cells.rng(0, 2).random()
    columns, found = cells.row(0)
    assert (columns.tolist(), found.tolist()) == ([0, 2], [1.0, 2.0])


@pytest.mark.parametrize("device", ["cpu"])
def test_a_batch_moves_whole(device):
    moved = tokens([1, 2]).batch([0, 1], pad=0).to(device)
    assert moved.values is not None
    assert {moved.ids.device.type, moved.values.device.type, moved.extra["depth"].device.type} == {device}
