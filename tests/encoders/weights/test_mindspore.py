"""The protobuf library is the outside oracle: it writes what we read and reads what we write, byte for byte."""

import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core.errors import StoreError
from embryo.encoders.weights import mindspore

descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
from google.protobuf import descriptor_pool, message_factory  # noqa: E402


def _checkpoint() -> type:
    """Declare MindSpore's checkpoint.proto to the protobuf library."""
    file = descriptor_pb2.FileDescriptorProto(name="checkpoint.proto", syntax="proto2")
    top, value, tensor = (file.message_type.add(name=name) for name in ("Checkpoint", "Value", "TensorProto"))
    rows = [
        (top, "value", 1, 11, 3, ".Value"),
        (value, "tag", 1, 9, 2, None),
        (value, "tensor", 2, 11, 2, ".TensorProto"),
        (tensor, "dims", 1, 3, 3, None),
        (tensor, "tensor_type", 2, 9, 2, None),
        (tensor, "tensor_content", 3, 12, 2, None),
    ]
    for message, name, number, kind, label, kind_name in rows:
        message.field.add(name=name, number=number, type=kind, label=label, type_name=kind_name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Checkpoint"))


CHECKPOINT = _checkpoint()
NUMPY = {
    "Float32": "<f4",
    "Float16": "<f2",
    "Float64": "<f8",
    "Int32": "<i4",
    "Int64": "<i8",
    "UInt8": "u1",
    "Int8": "i1",
}


def oracle(*values: tuple[str, list[int], str, bytes]) -> bytes:
    message = CHECKPOINT()
    for tag, dims, kind, content in values:
        value = message.value.add(tag=tag)
        value.tensor.dims.extend(dims)
        value.tensor.tensor_type, value.tensor.tensor_content = kind, content
    return message.SerializeToString()


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "model.ckpt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", sorted(NUMPY))
def test_reads_what_protobuf_writes(tmp_path: Path, kind: str, rng: np.random.Generator) -> None:
    array = (rng.normal(size=(300, 7)) * 50).astype(NUMPY[kind])
    held = mindspore.read(saved(tmp_path, oracle(("a.weight", [300, 7], kind, array.tobytes()))))
    assert list(held) == ["a.weight"]
    np.testing.assert_array_equal(held["a.weight"].numpy(), array)
    assert held["a.weight"].dtype == mindspore.TYPES[kind]


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625], dtype="<f4")
    upper = (values.view("<u4") >> 16).astype("<u2")
    held = mindspore.read(saved(tmp_path, oracle(("x", [3], "BFloat16", upper.tobytes()))))
    assert held["x"].dtype == torch.bfloat16
    assert held["x"].float().tolist() == values.tolist()


def test_protobuf_reads_what_is_written(tmp_path: Path, rng: np.random.Generator) -> None:
    big = torch.from_numpy(rng.normal(size=(64, 33)).astype(np.float32))
    tensors = {"net.norm.gamma": big, "step": torch.tensor(7, dtype=torch.int32), "b": torch.tensor([True, False])}
    message = CHECKPOINT()
    message.ParseFromString(mindspore.write(tmp_path / "m.ckpt", tensors, slice_bytes=1000).read_bytes())
    slices = [v for v in message.value if v.tag == "net.norm.gamma"]
    assert len(slices) == 9  # 8,448 bytes in pieces of 1,000
    assert all(list(v.tensor.dims) == [64, 33] and v.tensor.tensor_type == "Float32" for v in slices)
    joined = b"".join(v.tensor.tensor_content for v in slices)
    np.testing.assert_array_equal(np.frombuffer(joined, "<f4").reshape(64, 33), big.numpy())
    assert [(v.tag, list(v.tensor.dims), v.tensor.tensor_type) for v in message.value if v not in slices] == [
        ("step", [0], "Int32"),
        ("b", [2], "Bool"),
    ]
    back = mindspore.read(tmp_path / "m.ckpt", skip=re.compile("$."))
    assert {k: torch.equal(t, tensors[k]) for k, t in back.items()} == dict.fromkeys(tensors, True)
    assert back["step"].shape == ()


def test_slices_are_joined_in_the_order_of_the_file(tmp_path: Path) -> None:
    array = np.arange(12, dtype="<f4").reshape(4, 3)
    parts = [("w", [4, 3], "Float32", piece.tobytes()) for piece in np.array_split(array, 3)]
    content = b"".join(oracle(part) for part in parts)  # MindSpore appends one message per slice
    np.testing.assert_array_equal(mindspore.read(saved(tmp_path, content))["w"].numpy(), array)


def test_what_optimisers_keep_is_passed_over(tmp_path: Path) -> None:
    one = np.ones(1, "<f4").tobytes()
    names = ["moment1.a.weight", "moment2.a.weight", "global_step", "learning_rate", "beta1_power", "random_op"]
    content = oracle(*[(name, [1], "str" if name == "random_op" else "Float32", one) for name in [*names, "a.weight"]])
    assert list(mindspore.read(saved(tmp_path, content))) == ["a.weight"]
    assert list(mindspore.read(saved(tmp_path, oracle(("momentous.w", [1], "Float32", one))))) == ["momentous.w"]


def test_norms_get_the_names_of_torch() -> None:
    names = ["layer_norm.gamma", "post_norm1.beta", "gamma", "gamma.weight", "a.gamma_proj"]
    held = mindspore.torch_names({name: torch.zeros(1) for name in names})
    assert list(held) == ["layer_norm.weight", "post_norm1.bias", "weight", "gamma.weight", "a.gamma_proj"]


def test_the_checksum_is_compared(tmp_path: Path) -> None:
    path = mindspore.write(tmp_path / "m.ckpt", {"w": torch.arange(8.0)}, crc=True)
    content = path.read_bytes()
    assert content[-17:-10] == b"crc_num"
    assert int.from_bytes(content[-10:], "big") == zlib.crc32(content[:-17])
    assert torch.equal(mindspore.read(path)["w"], torch.arange(8.0))
    flipped = bytearray(content)
    flipped[-20] ^= 1
    with pytest.raises(StoreError, match="checksum"):
        mindspore.read(saved(tmp_path, bytes(flipped)))


ONE = np.ones(6, "<f4").tobytes()
BAD = {
    "empty": (b"", "empty file"),
    "text": (b"these are no weights", "has no place there"),
    "torch": (b"PK\x03\x04" + bytes(100), "has no place there"),
    "short": (oracle(("w", [2, 3], "Float32", ONE[:-4])), r"20 bytes for shape \(2, 3\)"),
    "huge": (oracle(("w", [2**40, 2**40], "Float32", ONE)), "24 bytes for shape"),
    "negative": (oracle(("w", [-2, -3], "Float32", ONE)), "24 bytes for shape"),
    "nothing": (oracle(("w", [0, 2**62], "Float32", b"")), "0 bytes for shape"),
    "deep": (oracle(("w", [1] * 400, "Float32", ONE[:4])), "more than 16 times field 1"),
    "kind": (oracle(("w", [6], "Complex64", ONE)), "'Complex64', none of"),
    "bool": (oracle(("w", [2], "Bool", b"\x01\x07")), "other bytes than 0 and 1"),
    "twice": (oracle(*[(n, [6], "Float32", ONE) for n in "wvw"]), "two tensors called 'w'"),
    "slices": (oracle(("w", [6], "Float32", ONE[:12]), ("w", [3], "Float32", ONE[:12])), "differ in shape"),
    "nameless": (b"\n\x04\x0a\x02\xff\xfe", "without field 2"),
    "long": (b"\n" + b"\xff" * 9 + b"\x01", "bytes announced where 0 are left"),
    "endless": (b"\n" + b"\xff" * 30, "without end"),
}


@pytest.mark.parametrize("case", BAD)
def test_damage_is_said(tmp_path: Path, case: str) -> None:
    content, says = BAD[case]
    with pytest.raises(StoreError, match=says) as caught:
        mindspore.read(saved(tmp_path, content))
    assert caught.value.subject == "model.ckpt"
    assert all(p.expected and p.cure for p in caught.value.problems)


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.ckpt", tmp_path):
        with pytest.raises(StoreError, match="no readable file"):
            mindspore.read(path)


def test_what_cannot_be_written_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="2 tensors"):
        mindspore.write(tmp_path / "m.ckpt", {"a": torch.zeros(0), "b": torch.zeros(1, dtype=torch.complex64)})
    assert list(tmp_path.iterdir()) == []


def test_memory_is_that_of_the_tensors(tmp_path: Path) -> None:
    """The content is mapped, not read: Python holds little beside the tensors (torch allocates those itself)."""
    path = mindspore.write(tmp_path / "m.ckpt", {f"w{k}": torch.zeros(512, 1024) for k in range(8)})
    tracemalloc.start()
    held = mindspore.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(t.nbytes for t in held.values()) == 8 * 2**21
    assert peak < 2**20


# ---------------------------------------------------------------- any bytes

TENSORS = {
    "a.gamma": torch.arange(5.0),
    "moment1.a": torch.zeros(3),
    "b": torch.arange(6, dtype=torch.int64).reshape(2, 3),
}


def _read_or_refuse(path: Path) -> dict[str, Any] | None:
    try:
        return mindspore.read(path)
    except StoreError:
        return None


def test_every_truncation_is_refused_or_lacks_whole_tensors(tmp_path: Path) -> None:
    content = mindspore.write(tmp_path / "whole.ckpt", TENSORS, slice_bytes=16).read_bytes()
    whole = mindspore.read(tmp_path / "whole.ckpt")
    read = {}
    for end in range(len(content)):
        held = _read_or_refuse(saved(tmp_path, content[:end]))
        if held is not None:
            read[end] = list(held)
            assert all(torch.equal(tensor, whole[name]) for name, tensor in held.items())
    assert list(read.values()) == [["a.gamma"], ["a.gamma"]]  # before and after the optimiser's: whole tensors only
    sealed = mindspore.write(tmp_path / "sealed.ckpt", {"b": TENSORS["b"]}, crc=True).read_bytes()
    refused = [_read_or_refuse(saved(tmp_path, sealed[:end])) is None for end in range(len(sealed))]
    assert [end for end, yes in enumerate(refused) if not yes] == [len(sealed) - 17]


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_never_do_more_than_be_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(mindspore.write(tmp_path / "whole.ckpt", TENSORS, slice_bytes=16).read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    held = _read_or_refuse(saved(tmp_path, bytes(content)))
    assert held is None or sum(t.nbytes for t in held.values()) <= len(content)


@settings(max_examples=200)
@given(st.binary(max_size=64))
def test_any_bytes_are_refused_as_protobuf_refuses_them(tmp_path: Path, content: bytes) -> None:
    held = _read_or_refuse(saved(tmp_path, content))
    if held is not None:
        message = CHECKPOINT()
        message.ParseFromString(content)  # what we read, protobuf reads
        assert {v.tag for v in message.value} >= set(held)


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12),
        st.tuples(st.lists(st.integers(1, 4), max_size=3), st.sampled_from(sorted(NUMPY)), st.integers(0, 2**32 - 1)),
        max_size=4,
    ),
    st.booleans(),
)
def test_round_trip_against_protobuf(tmp_path: Path, parts: dict, crc: bool) -> None:
    arrays = {
        name: np.random.default_rng(seed).integers(0, 100, size=dims).astype(NUMPY[kind])
        for name, (dims, kind, seed) in parts.items()
        if not mindspore.OPTIMISER.match(name)
    }
    if not arrays:
        return
    path = mindspore.write(tmp_path / "m.ckpt", {k: torch.from_numpy(np.array(a)) for k, a in arrays.items()}, crc=crc)
    message = CHECKPOINT()
    message.ParseFromString(path.read_bytes()[: -17 if crc else None])
    by_oracle = {v.tag: v.tensor.tensor_content for v in message.value}
    assert by_oracle == {name: a.tobytes() for name, a in arrays.items()}
    for name, tensor in mindspore.read(path).items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[name])
