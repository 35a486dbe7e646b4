"""Strict JSON: exact there and back, and a clear no to what JSON cannot hold."""

import json
import math
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core.edit import Operation
from embryo.core.errors import StoreError
from embryo.core.store import from_plain, read_json, to_plain, write_json

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(text, v, max_size=4), max_leaves=12)


def same(a: Any, b: Any) -> bool:
    """Equal in type and, for floats, in every bit (any NaN equals any other)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return a == b


@settings(deadline=None)
@given(value=values)
def test_there_and_back_is_exact_and_strict(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    write_json(value, path)
    assert same(read_json(path), value)
    json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(2.5), 2.5),
        (np.int64(2**60), 2**60),
        (np.bool_(True), True),
        (np.str_("µm"), "µm"),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.array([0.5, np.nan]), [0.5, {"__float__": "nan"}]),
        (np.longdouble("inf"), {"__float__": "inf"}),
        (torch.tensor(3), 3),
        (torch.tensor([-math.inf, 1.0]), [{"__float__": "-inf"}, 1.0]),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (("a", 1), ["a", 1]),
        (Operation.KNOCKOUT, "knockout"),
        (-0.0, -0.0),
    ],
)
def test_scalars_arrays_and_tensors_become_plain(value: Any, plain: Any) -> None:
    assert same(to_plain(value), plain)
    assert type(to_plain(value)) is type(plain)


def test_infinities_and_nan_come_back() -> None:
    assert from_plain(to_plain({"a": [math.inf, -math.inf]})) == {"a": [math.inf, -math.inf]}
    assert math.isnan(from_plain(to_plain(math.nan)))


def test_everything_that_json_cannot_hold_is_listed_and_nothing_written(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json({"old": 1}, path)
    bad = {"a": [1, {2}], "b": {"c": Path("x"), 3: 1}, "d": datetime.now(UTC), "e": b"x", "f": 1j, "g": "\ud800"}
    with pytest.raises(StoreError) as caught:
        write_json(bad | {"__float__": 1}, path)
    message = str(caught.value)
    assert len(caught.value.problems) == 8
    for said in (
        "a[1] of type set",
        "b.c of type",
        "key 3 at b",
        "d of type datetime",
        "e of type bytes",
        "f of",
        "g =",
    ):
        assert said in message
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a": 1',
        b"[NaN]",
        b"[-Infinity]",
        b'{"a": "\xff"}',
        b"{'a': 1}",
        b'{"__float__": "much"}',
        b'{"__float__": null}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_strict_json_is_told(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="cannot be read"):
        read_json(path)


def test_a_file_cut_anywhere_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json({"name": "x", "list": [1.5, None]}, path)
    whole = path.read_bytes()
    for n in range(len(whole) - 2):  # the last two are the closing brace and the end of the line
        path.write_bytes(whole[:n])
        with pytest.raises(StoreError):
            read_json(path)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        read_json(tmp_path / "x.json")
    with pytest.raises(StoreError, match="cannot be read"):
        read_json(tmp_path)
