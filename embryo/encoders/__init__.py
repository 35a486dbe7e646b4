"""Encoders: gene counts -> cell embedding. One file per model; the registry names them without importing them.

``"pca"`` and ``"hvg"`` are the leak-free baselines, fitted on the training cells of a run. To add a model, write a
class with the protocol `embryo.core.encoder.Encoder` plus `record` and `restore`, and add its line to `_REGISTRY`.
"""

import json
import os
import struct
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem, StoreError
from embryo.encoders.contract import Storable, require_fitted

_REGISTRY = {"pca": "embryo.encoders.pca:PCA", "hvg": "embryo.encoders.hvg:HVG"}
_FORMAT = "embryo-encoder"
_VERSION = 1


def names() -> tuple[str, ...]:
    """Return the names that `build` knows."""
    return tuple(_REGISTRY)


def build(name: str, *, dims: int, seed: int = 0) -> Storable:
    """Return the encoder called `name`, not yet fitted.

    Parameters
    ----------
    name
        One of `names`.
    dims
        Dimensions of the embedding.
    seed
        Seed of whatever is random in it.

    Raises
    ------
    ConfigError
        If the name is unknown or `dims` is not positive.
    """
    problems = []
    if name not in _REGISTRY:
        found = f"encoder {name!r}{phrases.nearest(name, _REGISTRY)}"
        problems.append(Problem(found, f"one of {', '.join(_REGISTRY)}", "choose one of these"))
    if dims < 1:
        problems.append(Problem(f"{dims} dimensions", "1 or more", "set dims"))
    if problems:
        raise ConfigError(*problems)
    encoder: Storable = _class(name)(dims=dims, seed=seed)
    return encoder


def save(encoder: Storable, path: str | Path) -> Path:
    """Write a fitted encoder to a safetensors file; all or nothing.

    Format version 1: the tensors of `Encoder.tensors`, and in the header's metadata ``format``, ``version``, ``name``
    and ``record`` (JSON: genes and settings).

    Parameters
    ----------
    encoder
        Fitted encoder.
    path
        File to write; replaced if it exists.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StaleError
        If the encoder is not fitted.
    """
    from safetensors.numpy import save_file  # noqa: PLC0415  its owner is this function and `load`

    require_fitted(encoder.name, encoder.genes)
    path = Path(path)
    metadata = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "name": encoder.name,
        "record": json.dumps(encoder.record()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file({k: np.ascontiguousarray(v) for k, v in encoder.tensors().items()}, part, metadata=metadata)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> Storable:
    """Read what `save` wrote.

    Raises
    ------
    StoreError
        If the file is missing, damaged, of another kind, or of a version that this package does not read.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    path = Path(path)
    if not path.is_file():
        raise StoreError(
            Problem("no such file", "an encoder file", "fit and save the encoder first"), subject=str(path)
        )
    try:
        with safe_open(path, framework="numpy") as store:
            metadata = store.metadata() or {}
            tensors = {key: store.get_tensor(key) for key in store.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError, struct.error) as error:
        raise StoreError(
            Problem(f"a file that safetensors cannot read ({error})", "an encoder file", "write it again"),
            subject=str(path),
        ) from error
    return _restore(metadata, tensors, path)


def _restore(metadata: dict[str, str], tensors: dict[str, np.ndarray], path: Path) -> Storable:
    form, version, name = (metadata.get(key) for key in ("format", "version", "name"))
    problem = None
    if form != _FORMAT:
        problem = Problem(f"a safetensors file of format {form!r}", _FORMAT, "give a file that save() wrote")
    elif version != str(_VERSION):
        problem = Problem(f"format version {version}", f"version {_VERSION}", "install the embryo that wrote it")
    elif name not in _REGISTRY:
        problem = Problem(f"encoder {name!r}", f"one of {', '.join(_REGISTRY)}", "install the embryo that wrote it")
    if problem is not None:
        raise StoreError(problem, subject=str(path))
    try:
        encoder: Storable = _class(metadata["name"]).restore(tensors, json.loads(metadata["record"]))
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            Problem(f"an incomplete encoder ({type(error).__name__}: {error})", "all its parts", "write it again"),
            subject=str(path),
        ) from error
    return encoder


def _class(name: str) -> Any:
    module, attribute = _REGISTRY[name].split(":")
    return getattr(import_module(module), attribute)
