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
_EVERY_CHUNK: Any = {"write_empty_chunks": True}
_KINDS = {"f": "floating-point numbers", "i": "integers", "u": "bytes"}
DAMAGE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)

Arrays = dict[str, np.ndarray]
Form = tuple[tuple[int, ...], np.dtype]


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
    forms = {name: (arrays[name].shape, arrays[name].dtype) for name in layout.arrays}
    with atomic(path) as partial:
        for name, array in create_group(partial, layout, forms, attributes, subject=str(path)).items():
            array[...] = arrays[name]


def create_group(
    path: str | Path, layout: Layout, forms: Mapping[str, Form], attributes: Mapping[str, Any], *, subject: str
) -> dict[str, Any]:
    """Create a group whose arrays are still to be filled; see `write_group`.

    Parameters
    ----------
    path
        Folder that does not exist yet.
    layout, attributes
        As of `write_group`.
    forms
        Shape and type of each array.
    subject
        The file, for the message.

    Returns
    -------
    dict
        The arrays, zarr's, ready to be written.

    Raises
    ------
    StoreError
        If an array is of another kind, or an attribute does not fit JSON; nothing is created then.
    """
    problems = [p for name, (kind, _) in layout.arrays.items() for p in _kind(name, forms[name][1], kind)]
    if problems:
        raise StoreError(*problems, subject=subject)
    head = {"format": layout.format, "version": layout.version, "units": dict(layout.units)}
    head["shapes"] = {name: forms[name][0] for name in layout.arrays}
    plain = to_plain(head | dict(attributes), subject=f"attributes of {subject}")
    plain["sha256"] = _digest(plain)
    group = zarr.open_group(Path(path), mode="w", zarr_format=3, attributes=plain)
    return {
        name: group.create_array(
            name,
            shape=forms[name][0],
            dtype=forms[name][1],
            chunks=_chunks(forms[name][0]),
            compressors=(BloscCodec(cname="lz4", shuffle="bitshuffle"), Crc32cCodec()),
            dimension_names=axes,
            config=_EVERY_CHUNK,
        )
        for name, (_, axes) in layout.arrays.items()
    }


def reopen_group(path: str | Path, layout: Layout) -> dict[str, Any]:
    """Return the arrays of a group that `create_group` made, ready to be written further."""
    group = zarr.open_group(Path(path), mode="r+", zarr_format=3)
    return {name: group[name].with_config(_EVERY_CHUNK) for name in layout.arrays}


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
    attributes, found, problems = open_group(path, layout)
    arrays: Arrays = {}
    for name, array in found.items():
        try:
            arrays[name] = np.asarray(array[...])
        except DAMAGE as error:
            problems.append(unreadable(name, error))
    return attributes, arrays, problems


def open_group(path: str | Path, layout: Layout) -> tuple[dict[str, Any], dict[str, Any], list[Problem]]:
    """Open a group and read nothing but its attributes; returns and raises as `read_group`, its arrays zarr's."""
    expected = f"a zarr v3 group of format {layout.format}"
    folder = find(path, expected)
    try:
        group = zarr.open_group(folder, mode="r", zarr_format=3)
        plain = group.attrs.asdict()
        check_format(plain, layout.format, layout.version, subject=str(path))
        attributes = from_plain(plain)
    except DAMAGE as error:
        problem = Problem(f"no zarr v3 group that can be read ({_said(error)})", expected, "write it again")
        raise StoreError(problem, subject=str(path)) from error
    problems = []
    if plain.pop("sha256", None) != _digest(plain):
        problems.append(Problem("attributes other than those written", "their checksum", "write it again"))
    if attributes.get("units") != layout.units:
        problems.append(Problem(f"units {attributes.get('units')}", f"{dict(layout.units)}", "write it again"))
    arrays: dict[str, Any] = {}
    shapes = attributes.get("shapes")
    for name, (kind, _) in layout.arrays.items():
        shape = shapes.get(name) if isinstance(shapes, dict) else None
        problems += _find_array(group, name, kind, shape, arrays)
    return attributes, arrays, problems


def unreadable(name: str, error: BaseException) -> Problem:
    """Return the problem of an array whose chunks cannot be read."""
    return Problem(f"array {name!r} that cannot be read ({_said(error)})", "whole chunks", "write it again")


def _find_array(group: zarr.Group, name: str, kind: str, shape: Any, arrays: dict[str, Any]) -> list[Problem]:
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
            arrays[name] = array
    except DAMAGE as error:
        return [unreadable(name, error)]
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
