"""Groups of arrays: whatever is missing, cut, damaged, foreign or newer is told, all at once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from embryo.core.errors import Problem, StoreError
from embryo.core.store.groups import Layout, read_group, write_group

LAYOUT = Layout(
    format="test-format",
    version=2,
    arrays={"x": ("f", ("times", "cells", "space")), "n": ("i", ("cells",)), "text": ("u", ("bytes",))},
    units={"x": "um"},
)
ARRAYS = {
    "x": np.arange(18, dtype=np.float32).reshape(2, 3, 3),
    "n": np.array([1, 2, 3]),
    "text": np.frombuffer(b"abc", np.uint8),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "x.zarr"
    write_group(path, LAYOUT, ARRAYS, {"note": {"µ": float("inf")}})
    return path


def faults(path: Path) -> list[Problem]:
    """Problems, whether they are returned or raised."""
    try:
        return read_group(path, LAYOUT)[2]
    except StoreError as error:
        return list(error.problems)


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_there_and_back_is_exact(folder: Path) -> None:
    attributes, arrays, problems = read_group(folder, LAYOUT)
    assert problems == []
    assert attributes["note"] == {"µ": float("inf")}
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_the_layout_on_disk_is_the_documented_one(tmp_path: Path) -> None:
    big = {"x": np.zeros((2, 140_000, 3), np.float32), "n": np.zeros(1_100_000, np.int64), "text": ARRAYS["text"]}
    write_group(tmp_path / "x.zarr", LAYOUT, big, {})
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert (group.metadata.zarr_format, group["x"].chunks, group["n"].chunks) == (3, (1, 131_072, 3), (1_048_576,))
    assert group["x"].metadata.dimension_names == ("times", "cells", "space")
    codecs = json.loads((tmp_path / "x.zarr" / "x" / "zarr.json").read_text())["codecs"]
    assert [codec["name"] for codec in codecs] == ["bytes", "blosc", "crc32c"]
    blosc = codecs[1]["configuration"]
    assert (blosc["cname"], blosc["shuffle"]) == ("lz4", "bitshuffle")


def test_arrays_of_another_kind_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"(?s)2 problems.*'x' of int64.*'n' of float64"):
        write_group(tmp_path / "x", LAYOUT, ARRAYS | {"x": np.zeros((1, 1, 1), int), "n": np.zeros(1)}, {})
    with pytest.raises(StoreError, match="note of type set"):
        write_group(tmp_path / "x", LAYOUT, ARRAYS, {"note": {1}})
    assert list(tmp_path.iterdir()) == []


def test_several_faults_are_listed_at_once(folder: Path) -> None:
    shutil.rmtree(folder / "n")
    (folder / "x" / "c" / "1" / "0" / "0").unlink()
    rewrite(folder / "zarr.json", lambda r: r["attributes"].update(units={"x": "mm"}, note="other"))
    found = [p.found for p in faults(folder)]
    assert found == [
        "attributes other than those written",
        "units {'x': 'mm'}",
        "1 of 2 chunks of 'x' lost",
        "no array 'n'",
    ]


def test_another_shape_than_the_written_one_is_told(folder: Path) -> None:
    rewrite(folder / "n" / "zarr.json", lambda r: r.update(shape=[2]))
    assert [p.found for p in faults(folder)] == ["array 'n' of shape (2,)"]


def test_another_kind_of_array_is_told(folder: Path) -> None:
    group = zarr.open_group(folder, mode="a")
    del group["n"]
    group.create_array("n", data=np.ones(3))
    assert [(p.found, p.expected) for p in faults(folder)] == [("array 'n' of float64", "integers")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.clear(), "a file that embryo did not write"),
        (lambda a: a.update(format="other-format"), "format 'other-format'"),
        (lambda a: a.update(version=3), "test-format version 3"),
        (lambda a: a.pop("version"), "version 'None'"),
        (lambda a: a.update(note={"__float__": "much"}), "no zarr v3 group that can be read"),
    ],
)
def test_foreign_and_future_groups_are_told(change: Callable[[dict], object], said: str, folder: Path) -> None:
    rewrite(folder / "zarr.json", lambda r: change(r["attributes"]))
    with pytest.raises(StoreError) as caught:
        read_group(folder, LAYOUT)
    assert caught.value.problems[0].found.startswith(said)


def test_what_is_no_group_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    zarr.create_array(tmp_path / "array", data=np.zeros(3))
    zarr.open_group(tmp_path / "old", mode="w", zarr_format=2)
    for name in ("file", "empty", "array", "old"):
        with pytest.raises(StoreError, match="no zarr v3 group that can be read"):
            read_group(tmp_path / name, LAYOUT)
    with pytest.raises(StoreError, match="no such file or folder"):
        read_group(tmp_path / "none", LAYOUT)


def test_every_file_cut_or_lost_is_noticed(folder: Path) -> None:
    for file in [p for p in folder.rglob("*") if p.is_file()]:
        whole = file.read_bytes()
        for n in {0, 1, len(whole) // 2, len(whole) - 1}:
            file.write_bytes(whole[:n])
            assert faults(folder), f"{file.relative_to(folder)} cut to {n} bytes"
        file.unlink()
        assert faults(folder), f"{file.relative_to(folder)} lost"
        file.write_bytes(whole)
    assert faults(folder) == []


def test_every_damaged_byte_is_noticed_or_harmless(folder: Path) -> None:
    harmless = total = 0
    for file in [p for p in folder.rglob("*") if p.is_file()]:
        whole = file.read_bytes()
        chunk = file.name != "zarr.json"
        for k in range(0, len(whole), 1 if chunk else 19):
            file.write_bytes(whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :])
            where = f"byte {k} of {file.relative_to(folder)}"
            total += 1
            if not faults(folder):
                assert not chunk, where
                harmless += 1
                attributes, arrays, _ = read_group(folder, LAYOUT)
                assert attributes["note"] == {"µ": float("inf")}, where
                assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS), where
        file.write_bytes(whole)
    assert harmless < total / 2  # fill values, blanks and names of axes carry no data
