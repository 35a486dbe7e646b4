"""Tensors: every bit back, and every damaged byte noticed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from embryo.core.errors import StoreError
from embryo.core.store import read_tensors, write_tensors

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


def bits(t: torch.Tensor) -> tuple:
    return t.dtype, tuple(t.shape), bytes(t.contiguous().reshape(-1).view(torch.uint8).numpy())


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
    names=st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=5), max_size=3, unique=True),
)
def test_there_and_back_is_exact(shape, dtype, seed, names, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("st") / "x.safetensors"
    gen = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randint(0, 2, shape, generator=gen).to(dtype) for name in names if name != "__metadata__"}
    meta = {"kind": "flow", "low": float("-inf"), "config": {"width": seed, "µ": [0.1, None]}}
    write_tensors(path, tensors, meta)
    back, record = read_tensors(path)
    assert record == meta
    assert {name: bits(t) for name, t in back.items()} == {name: bits(t) for name, t in tensors.items()}


def test_nan_views_shared_memory_and_gradients(tmp_path: Path) -> None:
    base = torch.tensor([[float("nan"), -0.0, 1.0], [2.0, float("inf"), 3.0]], requires_grad=True)
    tensors = {"whole": base, "transposed": base.T, "row": base[0], "again": base}
    write_tensors(tmp_path / "x.safetensors", tensors, {})
    back, _ = read_tensors(tmp_path / "x.safetensors")
    assert all(bits(back[name]) == bits(t.detach()) for name, t in tensors.items())
    back["whole"].mul_(0)  # what was read is ours to change, and the file does not follow
    assert bits(read_tensors(tmp_path / "x.safetensors")[0]["whole"]) == bits(base.detach())


def test_an_empty_array_without_strides_is_written(tmp_path: Path) -> None:
    empty = torch.as_tensor(np.zeros((5, 0)).mean(axis=0))  # numpy gives it stride 0
    assert empty.stride() == (0,)
    write_tensors(tmp_path / "x.safetensors", {"empty": empty}, {})
    assert read_tensors(tmp_path / "x.safetensors")[0]["empty"].shape == (0,)


def test_what_does_not_fit_is_told_and_the_old_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(2)}, {"old": True})
    with pytest.raises(StoreError, match="path of type"):
        write_tensors(path, {"a": torch.zeros(2)}, {"path": tmp_path})
    with pytest.raises(StoreError, match=r"'s' of layout torch\.sparse_coo"):
        write_tensors(path, {"s": torch.eye(2).to_sparse()}, {})
    assert read_tensors(path)[1] == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_every_damaged_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)}, {"kind": "flow"})
    whole = path.read_bytes()
    truth, record = read_tensors(path)
    noticed = 0
    for k in range(len(whole)):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :])
        try:
            back, meta = read_tensors(path)
        except StoreError:
            noticed += 1
            continue
        same = {n: bits(t) for n, t in back.items()} == {n: bits(t) for n, t in truth.items()}
        assert same and meta == record, f"byte {k} ({whole[k : k + 1]!r}) changed what was read"  # noqa: PT018
    assert noticed > 0.95 * len(whole)  # the rest is padding
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        with pytest.raises(StoreError):
            read_tensors(path)


def test_foreign_and_future_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(StoreError, match="embryo did not write; expected format embryo-tensors"):
        read_tensors(path)
    save_file({"a": torch.ones(2)}, path, metadata={"format": "embryo-tensors", "version": "2", "meta": json.dumps({})})
    with pytest.raises(StoreError, match=r"version 2; expected up to version 1.*update embryo"):
        read_tensors(path)
    path.write_text("not a tensor in sight")
    with pytest.raises(StoreError, match="cannot be read"):
        read_tensors(path)
    with pytest.raises(StoreError, match="no such file"):
        read_tensors(tmp_path / "none")
    with pytest.raises(StoreError, match="cannot be read"):
        read_tensors(tmp_path)
