"""Named tensors in safetensors, with a JSON record in the header: encoders, fields, whatever has weights."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from embryo.core.errors import Problem, StoreError
from embryo.core.store.files import atomic, check_format, find
from embryo.core.store.records import dumps, loads

FORMAT, VERSION = "embryo-tensors", 1
_EXPECTED = f"a safetensors file of format {FORMAT}"


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write named tensors and a record about them.

    Parameters
    ----------
    path
        File to write, whole or not at all.
    tensors
        Any shapes and dtypes, kept bit for bit (NaN too); views are written out, devices are forgotten.
    meta
        What the tensors are: kind, config, provenance; see `to_plain` for what it may hold.

    Raises
    ------
    StoreError
        If `meta` holds what JSON cannot, or a tensor is sparse.
    """
    sparse = [
        Problem(f"tensor {name!r} of layout {t.layout}", "a dense tensor", "call to_dense() first")
        for name, t in tensors.items()
        if t.layout is not torch.strided
    ]
    if sparse:
        raise StoreError(*sparse, subject=str(path))
    record = dumps(meta, subject=f"meta of {path}")
    dense = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    header = {"format": FORMAT, "version": str(VERSION), "meta": record, "sha256": _digest(dense, record)}
    with atomic(path) as partial:
        save_file(dense, partial, metadata=header)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Returns
    -------
    tuple
        The tensors by name, on the CPU, and the record.

    Raises
    ------
    StoreError
        If the file is missing, cut, damaged (the checksum in the header tells), foreign or of a newer version.
    """
    file = find(path, _EXPECTED)
    try:
        with safe_open(file, framework="pt") as parts:
            header = parts.metadata() or {}
            tensors = {name: parts.get_tensor(name) for name in parts.keys()}  # noqa: SIM118  not a mapping
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        problem = Problem(f"a file that cannot be read ({error})", _EXPECTED, "write it again")
        raise StoreError(problem, subject=str(path)) from error
    check_format(header, FORMAT, VERSION, subject=str(path))
    record = header.get("meta", "")
    damaged = Problem("bytes other than those written", "the checksum in the header", "write it again")
    if header.get("sha256") != _digest(tensors, record):
        raise StoreError(damaged, subject=str(path))
    try:
        return tensors, loads(record)
    except ValueError as error:
        raise StoreError(damaged, subject=str(path)) from error


def _digest(tensors: Mapping[str, Tensor], record: str) -> str:
    """Return the SHA-256 of the record and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        t = tensors[name]
        digest.update(f"\n{name} {t.dtype} {tuple(t.shape)}\n".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
