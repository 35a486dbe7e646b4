"""A zarr v3 group of named arrays with a format, a version and attributes: written whole, read with every fault listed.

Every chunk carries a CRC-32C and every chunk is on disk, so that a lost or damaged one is told and not read as zeros;
the attributes hold the shapes of the arrays and a checksum of themselves.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from embryo.core.errors import Problem, StoreError
from embryo.core.store.files import atomic, check_format, find
from embryo.core.store.records import from_plain, to_plain

_CELLS = 131_072  # per chunk
_ENTRIES = 1_048_576  # per chunk of an array with one axis
_KINDS = {"f": "floating-point numbers", "i": "integers", "u": "bytes"}
_DAMAGE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layout:
    """What a group of one format holds.

    Parameters
    ----------
    format, version
        Its name and newest version.
    arrays
        Kind (``f`` floating point, ``i`` integer, ``u`` bytes) and names of the axes of each array.
    units
        Units of the quantities.
    """

    format: str
    version: int
    arrays: Mapping[str, tuple[str, tuple[str, ...]]]
    units: Mapping[str, str]


def write_group(path: str | Path, layout: Layout, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
    """Write a group; see `Layout`.

    Arrays with several axes have one chunk per step of the first and 131,072 of the second.

    Raises
    ------
    StoreError
        If an array is of another kind, or an attribute does not fit JSON.
    """
    problems = [p for name, (kind, _) in layout.arrays.items() for p in _kind(name, arrays[name].dtype, kind)]
    if problems:
        raise StoreError(*problems, subject=str(path))
    head = {"format": layout.format, "version": layout.version, "units": dict(layout.units)}
    head["shapes"] = {name: arrays[name].shape for name in layout.arrays}
    plain = to_plain(head | dict(attributes), subject=f"attributes of {path}")
    plain["sha256"] = _digest(plain)
    with atomic(path) as partial:
        group = zarr.open_group(partial, mode="w", zarr_format=3, attributes=plain)
        for name, (_, axes) in layout.arrays.items():
            values = arrays[name]
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=_chunks(values.shape),
                compressors=(BloscCodec(cname="lz4", shuffle="bitshuffle"), Crc32cCodec()),
                dimension_names=axes,
                config={"write_empty_chunks": True},
            )
            array[...] = values


def read_group(path: str | Path, layout: Layout) -> tuple[dict[str, Any], Arrays, list[Problem]]:
    """Read a group.

    Returns
    -------
    tuple
        Attributes; the arrays that could be read; what is wrong with the others, and with the attributes.

    Raises
    ------
    StoreError
        If there is no group, or it is of another format or of a newer version.
    """
    expected = f"a zarr v3 group of format {layout.format}"
    folder = find(path, expected)
    try:
        group = zarr.open_group(folder, mode="r", zarr_format=3)
        plain = group.attrs.asdict()
        check_format(plain, layout.format, layout.version, subject=str(path))
        attributes = from_plain(plain)
    except _DAMAGE as error:
        problem = Problem(f"no zarr v3 group that can be read ({_said(error)})", expected, "write it again")
        raise StoreError(problem, subject=str(path)) from error
    problems = []
    if plain.pop("sha256", None) != _digest(plain):
        problems.append(Problem("attributes other than those written", "their checksum", "write it again"))
    if attributes.get("units") != layout.units:
        problems.append(Problem(f"units {attributes.get('units')}", f"{dict(layout.units)}", "write it again"))
    arrays: Arrays = {}
    shapes = attributes.get("shapes")
    for name, (kind, _) in layout.arrays.items():
        shape = shapes.get(name) if isinstance(shapes, dict) else None
        problems += _load(group, name, kind, shape, arrays)
    return attributes, arrays, problems


def _load(group: zarr.Group, name: str, kind: str, shape: Any, arrays: Arrays) -> list[Problem]:
    try:
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            return [Problem(f"no array {name!r}", "all arrays of the format", "write it again")]
        faults = _kind(name, array.dtype, kind)
        if list(array.shape) != shape:
            faults.append(Problem(f"array {name!r} of shape {array.shape}", f"shape {shape}", "write it again"))
        lost = array.nchunks - array.nchunks_initialized
        if lost:
            faults.append(
                Problem(f"{lost} of {array.nchunks} chunks of {name!r} lost", "every chunk", "write it again")
            )
        if not faults:
            arrays[name] = np.asarray(array[...])
    except _DAMAGE as error:
        return [Problem(f"array {name!r} that cannot be read ({_said(error)})", "whole chunks", "write it again")]
    return faults


def _digest(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _kind(name: str, dtype: np.dtype, kind: str) -> list[Problem]:
    if dtype.kind == kind:
        return []
    return [Problem(f"array {name!r} of {dtype}", _KINDS[kind], f"store {name} as {_KINDS[kind]}")]


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 1:
        return (max(1, min(shape[0], _ENTRIES)),)
    return (1, max(1, min(shape[1], _CELLS)), *(max(1, n) for n in shape[2:]))


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
