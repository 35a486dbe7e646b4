"""Strict JSON: what a Python value becomes, and back. No NaN literal, no silent conversion."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embryo.core.errors import Problem, StoreError
from embryo.core.store.files import atomic, find

_FLOAT = "__float__"  # {"__float__": "nan" | "inf" | "-inf"}: JSON has no such numbers


def to_plain(value: Any, *, subject: str = "record") -> Any:
    """Turn a value into what strict JSON can hold.

    None, bool, int, finite float and text stay; numpy and torch scalars become Python numbers, arrays and tensors
    nested lists, tuples lists, enum members their values. NaN and infinities become ``{"__float__": "nan"}``, which
    `from_plain` undoes.

    Parameters
    ----------
    value
        Nested mappings, sequences and scalars.
    subject
        What the value is, for the message.

    Raises
    ------
    StoreError
        Listing every entry that JSON cannot hold: other objects, keys that are not text, text that is not Unicode.
    """
    problems: list[Problem] = []
    plain = _plain(value, "", problems)
    if problems:
        raise StoreError(*problems, subject=subject)
    return plain


def from_plain(value: Any) -> Any:
    """Bring NaN and infinities of a value made by `to_plain` back."""
    if isinstance(value, dict):
        if set(value) == {_FLOAT}:
            return float(value[_FLOAT])
        return {key: from_plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [from_plain(entry) for entry in value]
    return value


def dumps(value: Any, *, subject: str = "record", indent: int | None = None) -> str:
    """Return the strict JSON text of `value`; see `to_plain`."""
    return json.dumps(to_plain(value, subject=subject), allow_nan=False, ensure_ascii=False, indent=indent)


def loads(text: str) -> Any:
    """Return the value of a strict JSON text.

    Raises
    ------
    ValueError
        If the text is not strict JSON.
    """
    return from_plain(json.loads(text, parse_constant=_refuse))


def write_json(value: Any, path: str | Path) -> None:
    """Write a record as strict JSON, UTF-8, indented for the person who reads it.

    Parameters
    ----------
    value
        Nested mappings, sequences and scalars; see `to_plain`.
    path
        File to write, whole or not at all.

    Raises
    ------
    StoreError
        Listing every entry that JSON cannot hold; nothing is written then.
    """
    text = dumps(value, subject=str(path), indent=2)
    with atomic(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a record; the inverse of `write_json` for plain values.

    Raises
    ------
    StoreError
        If the file is missing, cut or not strict JSON.
    """
    expected = "a JSON file"
    file = find(path, expected)
    try:
        return loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        problem = Problem(f"a file that cannot be read ({error})", expected, "write it again")
        raise StoreError(problem, subject=str(path)) from error


def _plain(value: Any, where: str, problems: list[Problem]) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray):
        return _plain(value.tolist(), where, problems)
    plain: Any
    match value:
        case None | bool():
            plain = value
        case np.bool_():
            plain = bool(value)
        case int() | np.integer():
            plain = int(value)
        case float() | np.floating():
            plain = float(value) if math.isfinite(value) else {_FLOAT: str(float(value))}
        case str():
            plain = _text(str(value), where, problems)
        case Mapping():
            plain = _mapping(value, where, problems)
        case list() | tuple():
            plain = [_plain(entry, f"{where}[{i}]", problems) for i, entry in enumerate(value)]
        case _:
            plain = None
            found = f"{where or 'the value'} of type {type(value).__name__}"
            cure = "turn it into one of these first (a path: its file name; a date: its ISO text)"
            problems.append(Problem(found, "numbers, text, lists and mappings", cure))
    return plain


def _text(value: str, where: str, problems: list[Problem]) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        problems.append(
            Problem(f"{where or 'the value'} = {value!a}", "Unicode text", "decode it with the right encoding")
        )
    return value


def _mapping(value: Mapping[Any, Any], where: str, problems: list[Problem]) -> dict[str, Any]:
    plain = {}
    for key, entry in value.items():
        here = f"{where}.{key}" if where else str(key)
        if not isinstance(key, str) or key == _FLOAT:
            problems.append(
                Problem(f"key {key!r} at {where or 'the top'}", f"text other than {_FLOAT!r}", "rename the key")
            )
        else:
            plain[_text(str(key), here, problems)] = _plain(entry, here, problems)
    return plain


def _refuse(literal: str) -> float:
    msg = f"the literal {literal}, which JSON does not have"
    raise ValueError(msg)
