"""MindSpore checkpoint files, read and written without MindSpore.

The file is the wire form of one protobuf message (``checkpoint.proto`` of MindSpore, proto2; the public record)::

    Checkpoint { repeated Value value = 1 }
    Value      { required string tag = 1; required TensorProto tensor = 2 }
    TensorProto{ repeated int64 dims = 1; required string tensor_type = 2; required bytes tensor_content = 3 }

A tensor of more than 512 MiB is sliced: consecutive values of one tag, each with the dims of the whole, their contents
joined. Dims ``[0]`` mean a single number. A file may end in a checksum: ``crc_num`` and the CRC-32 of what stands
before it, ten bytes, the highest first.

The file is mapped, not read, and each tensor is copied once: the memory needed is that of the tensors. (The protobuf
library holds the whole message and refuses one of 2 GiB; these files have 3.) Every length is checked against the bytes
that are there before anything is allocated. What protobuf cannot notice, a file cut exactly between two tensors,
shows as missing tensors when they are loaded into a network.
"""

import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from embryo.core import store
from embryo.core.errors import Problem, StoreError

TYPES = {
    "Float16": torch.float16,
    "Float32": torch.float32,
    "Float64": torch.float64,
    "BFloat16": torch.bfloat16,
    "Int8": torch.int8,
    "Int16": torch.int16,
    "Int32": torch.int32,
    "Int64": torch.int64,
    "UInt8": torch.uint8,
    "Uint8": torch.uint8,  # as earlier versions spelled it
    "Bool": torch.bool,
}
OPTIMISER = re.compile(
    r"(moments?\d?|adam_[mv]|accum|velocity)\.|"
    r"(global_step|learning_rate|beta[12]_power|epoch_num|step_num|scale_sense|loss_scale|random_op|"
    r"(current|last_overflow)_iterator_step)$"
)
_NORMS = {"gamma": "weight", "beta": "bias"}
_SLICE = 512 * 2**20
_MAX_DIMS = 16
_CRC = b"crc_num"
_BLOCK = 2**24
_VARINT, _BYTES = 0, 2

Bytes = UInt8[np.ndarray, " _"]


class _DamagedError(Exception):
    """What is wrong with the bytes; becomes a `StoreError` that names the file."""


def _damaged(found: str) -> NoReturn:
    raise _DamagedError(found)


def read(path: str | Path, *, skip: re.Pattern[str] = OPTIMISER) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, each in its own type, by MindSpore's names.

    Parameters
    ----------
    path
        File.
    skip
        Tensors whose name it matches (from the start) are passed over: by default what optimisers keep.

    Returns
    -------
    dict
        Name to tensor, in the order of the file.

    Raises
    ------
    StoreError
        If the file is missing, truncated, damaged, encrypted or no MindSpore checkpoint, or holds a type that is not
        one of `TYPES`.
    """
    path = Path(path)
    try:
        if not path.stat().st_size:
            _damaged("an empty file")
        return _tensors(np.memmap(path, np.uint8, "r"), skip)
    except OSError as error:
        cure = "give the path of the file that was downloaded"
        raise StoreError(Problem(f"no readable file ({error})", "a checkpoint", cure), subject=path.name) from error
    except _DamagedError as error:
        cure = "download it again and compare its size; an encrypted file must be saved without a key"
        raise StoreError(Problem(str(error), "a whole MindSpore checkpoint", cure), subject=path.name) from None


def write(path: str | Path, tensors: Mapping[str, Tensor], *, slice_bytes: int = _SLICE, crc: bool = False) -> Path:
    """Write tensors as MindSpore would; all or nothing.

    Parameters
    ----------
    path
        File to write; replaced if it exists.
    tensors
        Name to tensor, on the CPU.
    slice_bytes
        Tensors with more bytes are sliced.
    crc
        Whether to end with the checksum.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        If a tensor is empty or of a type that is not one of `TYPES`.
    """
    path = Path(path)
    names = {dtype: name for name, dtype in reversed(TYPES.items())}
    odd = [
        f"{key} ({t.dtype}, {tuple(t.shape)})" for key, t in tensors.items() if t.dtype not in names or not t.numel()
    ]
    if odd:
        cure = f"convert or leave out {', '.join(odd)}"
        raise StoreError(Problem(f"{len(odd)} tensors that cannot be written", "a known type", cure), subject=path.name)
    total = 0
    with store.atomic(path) as partial, partial.open("wb") as file:
        for key, tensor in tensors.items():
            for record in _records(key, tensor, names[tensor.dtype], slice_bytes):
                total = zlib.crc32(record, total)
                file.write(record)
        if crc:
            file.write(_CRC + total.to_bytes(10, "big"))
    return path


def torch_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under torch's names for what a norm holds: ``gamma`` is ``weight``, ``beta`` is ``bias``."""
    parts = {name: name.rpartition(".") for name in tensors}
    return {f"{a}{dot}{_NORMS.get(b, b)}": tensors[name] for name, (a, dot, b) in parts.items()}


@dataclass(frozen=True)
class _Entry:
    """One value of the file: a tensor, or a slice of one."""

    tag: str
    dims: tuple[int, ...]
    kind: str
    content: Bytes


def _tensors(data: Bytes, skip: re.Pattern[str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    entries = (_entry(_message(value, _VALUE, "a value")) for _, value in _fields(_body(data), {1: _BYTES}))
    for tag, group in groupby(entries, key=lambda entry: entry.tag):
        if skip.match(tag):
            continue
        if tag in found:
            _damaged(f"two tensors called {tag!r}")
        found[tag] = _joined(list(group))
    return found


def _joined(slices: list[_Entry]) -> Tensor:
    """Check that the bytes are those of the shape, then copy them once."""
    first = slices[0]
    if any((piece.dims, piece.kind) != (first.dims, first.kind) for piece in slices):
        _damaged(f"slices of tensor {first.tag!r} that differ in shape or type")
    if first.kind not in TYPES:
        _damaged(f"tensor {first.tag!r} of type {first.kind!r}, none of {', '.join(TYPES)}")
    shape, dtype = () if first.dims == (0,) else first.dims, TYPES[first.kind]
    content = [piece.content for piece in slices]
    found, needed = sum(map(len, content)), math.prod(shape) * dtype.itemsize
    if found != needed or min(shape, default=1) < 1 or len(shape) > _MAX_DIMS:
        _damaged(f"tensor {first.tag!r} with {found} bytes for shape {shape} of {first.kind}")
    if dtype == torch.bool and any(piece.max(initial=0) > 1 for piece in content):
        _damaged(f"tensor {first.tag!r} with other bytes than 0 and 1 for {first.kind}")
    out = torch.empty(shape, dtype=dtype)
    np.concatenate(content, out=out.reshape(-1).view(torch.uint8).numpy())
    return out


def _body(data: Bytes) -> Bytes:
    """Return what stands before the checksum, if there is one and it is right."""
    end = len(data) - len(_CRC) - 10
    if end < 0 or data[end : end + len(_CRC)].tobytes() != _CRC:
        return data
    total = 0
    for start in range(0, end, _BLOCK):
        total = zlib.crc32(data[start : min(start + _BLOCK, end)].tobytes(), total)
    if total != int.from_bytes(data[end + len(_CRC) :].tobytes(), "big"):
        _damaged("bytes that do not have the checksum at their end")
    return data[:end]


# ---------------------------------------------------------------- the wire format of protobuf

_VALUE = {1: _BYTES, 2: _BYTES}
_TENSOR = {1: _VARINT, 2: _BYTES, 3: _BYTES}


def _entry(value: dict[int, list[Any]]) -> _Entry:
    tensor = _message(value[2][-1], _TENSOR, f"a tensor {_text(value[1][-1])!r}")
    return _Entry(_text(value[1][-1]), tuple(tensor.get(1, ())), _text(tensor[2][-1]), tensor[3][-1])


def _message(data: Bytes, kinds: Mapping[int, int], what: str) -> dict[int, list[Any]]:
    """Return the fields of one message by number, in their order; every field of bytes is required."""
    found: dict[int, list[Any]] = {}
    for number, value in _fields(data, kinds):
        found.setdefault(number, []).append(value)
        if len(found[number]) > _MAX_DIMS:
            _damaged(f"{what} with more than {_MAX_DIMS} times field {number}")
    missing = [number for number, kind in kinds.items() if kind == _BYTES and number not in found]
    if missing:
        _damaged(f"{what} without field {missing[0]}")
    return found


def _fields(data: Bytes, kinds: Mapping[int, int]) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field: a signed integer, or a view of bytes. Others than `kinds` are refused."""
    at = 0
    while at < len(data):
        key, start = _varint(data, at)
        number, wire = key >> 3, key & 7
        if kinds.get(number) != wire:
            _damaged(f"field {number} of wire type {wire} at byte {at} of {len(data)}, which has no place there")
        value, at = _varint(data, start)
        if wire == _VARINT:
            yield number, value - (value >> 63 << 64)
            continue
        if value > len(data) - at:
            _damaged(f"{value} bytes announced where {len(data) - at} are left")
        yield number, data[at : at + value]
        at += value


def _varint(data: Bytes, at: int) -> tuple[int, int]:
    """Return an unsigned number of up to 64 bits, seven to the byte, the lowest first, and where it ends."""
    value = 0
    for k, byte in enumerate(data[at : at + 10].tolist()):
        value |= (byte & 127) << 7 * k
        if byte < 128:
            return value & (2**64 - 1), at + k + 1
    _damaged(f"a number without end at byte {at} of {len(data)}")


def _text(data: Bytes) -> str:
    try:
        return data.tobytes().decode()
    except UnicodeDecodeError:
        _damaged("a name that is no text")


def _records(key: str, tensor: Tensor, kind: str, slice_bytes: int) -> Iterator[bytes]:
    """Yield the values of one tensor, as fields of the checkpoint."""
    content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    dims = b"".join(b"\x08" + _number(n) for n in tensor.shape or (0,))
    step = max(slice_bytes // tensor.element_size(), 1) * tensor.element_size()
    for start in range(0, len(content), step):
        piece = content[start : start + step].tobytes()
        value = _field(1, key.encode()) + _field(2, dims + _field(2, kind.encode()) + _field(3, piece))
        yield _field(1, value)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _BYTES]) + _number(len(content)) + content


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
