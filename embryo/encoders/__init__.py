"""Encoders: gene counts -> cell embedding. One file per model; the registry names them without importing them.

Two kinds: those that are *fitted* on the training cells of a run (``"pca"`` and ``"hvg"`` are the leak-free baselines),
made by `build`; and *pretrained* foundation models, opened by `open_dir` from a folder of weights that the user has
downloaded. To add a fitted one, write a class with the protocol `embryo.encoders.contract.Storable`; to add a
pretrained one, a subclass of `embryo.encoders.pretrained.Pretrained`; then add its line below and its card.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem, StoreError
from embryo.encoders.contract import Storable, require_fitted

if TYPE_CHECKING:
    from embryo.encoders.options import Options
    from embryo.encoders.pretrained import Pretrained

_FITTED = {
    "pca": "embryo.encoders.pca:PCA",
    "hvg": "embryo.encoders.hvg:HVG",
    "scvi": "embryo.encoders.scvi:ScVI",
}
_PRETRAINED = {
    "geneformer": "embryo.encoders.geneformer:Geneformer",
    "maxtoki": "embryo.encoders.maxtoki:MaxToki",
    "c2s": "embryo.encoders.c2s:C2S",
    "scgpt": "embryo.encoders.scgpt:ScGPT",
    "tahoe-x1": "embryo.encoders.tahoe_x1:TahoeX1",
    "scfoundation": "embryo.encoders.scfoundation:ScFoundation",
    "cellfm": "embryo.encoders.cellfm:CellFM",
    "gremln": "embryo.encoders.gremln:GREmLN",
    "teddy": "embryo.encoders.teddy:Teddy",
    "scprint2": "embryo.encoders.scprint2:ScPRINT2",
}
_KEPT = "embryo.encoders.decoding.kept:Kept"
_RESTORED = {
    **_FITTED,
    **dict.fromkeys(_PRETRAINED, _KEPT),
    "programs": "embryo.encoders.programs.head:Programs",
    "precomputed": "embryo.encoders.precomputed:Precomputed",
}
_KIND = "encoder"


def fitted_names() -> tuple[str, ...]:
    """Return the names that `build` knows: encoders fitted on the training cells."""
    return tuple(_FITTED)


def pretrained_names() -> tuple[str, ...]:
    """Return the names that `open_dir` knows: foundation models whose weights the user brings."""
    return tuple(_PRETRAINED)


def names() -> tuple[str, ...]:
    """Return the names of all encoders."""
    return (*fitted_names(), *pretrained_names())


def build(name: str, *, dims: int, seed: int = 0) -> Storable:
    """Return the encoder called `name`, not yet fitted.

    Parameters
    ----------
    name
        One of `fitted_names`.
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
    if name in _PRETRAINED:
        found = f"encoder {name!r}, which is pretrained"
        problems.append(Problem(found, "an encoder that is fitted", "open it with its folder of weights (open_dir)"))
    elif name not in _FITTED:
        problems.append(_unknown(name, names()))
    if dims < 1:
        problems.append(Problem(f"{dims} dimensions", "1 or more", "set dims"))
    if problems:
        raise ConfigError(*problems)
    encoder: Storable = _class(_FITTED[name])(dims=dims, seed=seed)
    return encoder


def open_dir(name: str, folder: str | Path, options: "Options | None" = None) -> "Pretrained":
    """Open a pretrained encoder from a folder that the user has downloaded; nothing is fetched.

    Parameters
    ----------
    name
        One of `pretrained_names`.
    folder
        With the files that the card names (`embryo encoders card NAME`).
    options
        Layer, pooling, device, precision, species.

    Raises
    ------
    ConfigError
        If the name is unknown, or the model has no such layer or pooling.
    StoreError
        If files are missing, damaged, of another model, or would run code when they are read.
    """
    encoder: Pretrained = model(name).from_dir(folder, options)
    return encoder


def model(name: str) -> "type[Pretrained]":
    """Return the class of a pretrained encoder, for `write_tiny` and `from_dir`; `ConfigError` for an unknown name."""
    if name not in _PRETRAINED:
        raise ConfigError(_unknown(name, pretrained_names()))
    cls: type[Pretrained] = _class(_PRETRAINED[name])
    return cls


def save(encoder: Storable, path: str | Path) -> Path:
    """Write a fitted encoder to a safetensors file; all or nothing. Of a pretrained one the weights are left out.

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
    import torch  # noqa: PLC0415  heavy: names are asked for without it

    from embryo.core.store import write_tensors  # noqa: PLC0415

    require_fitted(encoder.name, encoder.genes)
    tensors = {key: torch.as_tensor(np.ascontiguousarray(part)) for key, part in encoder.tensors().items()}
    write_tensors(path, tensors, {"kind": _KIND, "name": encoder.name, "record": json.dumps(encoder.record())})
    return Path(path)


def load(path: str | Path) -> Storable:
    """Read what `save` wrote; of a pretrained encoder, what it knows without its weights (see `decoding.kept`).

    Raises
    ------
    StoreError
        If the file is missing, damaged, of another kind, or of a version that this package does not read.
    """
    from embryo.core.store import read_tensors  # noqa: PLC0415

    tensors, meta = read_tensors(path)
    name = meta.get("name")
    if meta.get("kind") != _KIND:
        problem = Problem(f"tensors of kind {meta.get('kind')!r}", "an encoder", "give a file that save() wrote")
        raise StoreError(problem, subject=str(path))
    if name not in _RESTORED:
        raise StoreError(_unknown(str(name), tuple(_RESTORED)), subject=str(path))
    try:
        parts = {key: part.numpy() for key, part in tensors.items()}
        encoder: Storable = _class(_RESTORED[name]).restore(parts, json.loads(meta["record"]))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise StoreError(
            Problem(f"an incomplete encoder ({type(error).__name__}: {error})", "all its parts", "write it again"),
            subject=str(path),
        ) from error
    return encoder


def reopen(path: str | Path, folder: str | Path, options: "Options | None" = None) -> "Pretrained":
    """Open a pretrained encoder as a run kept it, with its weights: further cells come into the run's own embedding.

    Parameters
    ----------
    path
        What `save` wrote, such as ``encoder.safetensors`` of a run.
    folder
        The same weights as then.
    options
        The same layer, pooling and dims as then.

    Raises
    ------
    StoreError
        If a file is missing or damaged, or the weights or options are others.
    """
    from embryo.encoders.decoding.kept import Kept  # noqa: PLC0415  heavy

    kept = load(path)
    if not isinstance(kept, Kept):
        problem = Problem(f"{kept.name}, which has no weights elsewhere", "a pretrained encoder", "load() it")
        raise StoreError(problem, subject=str(path))
    return open_dir(kept.name, folder, options).resume(kept)


def _unknown(name: str, known: tuple[str, ...]) -> Problem:
    return Problem(
        f"encoder {name!r}{phrases.nearest(name, known)}", f"one of {', '.join(known)}", "choose one of these"
    )


def _class(where: str) -> Any:
    module, attribute = where.split(":")
    return getattr(import_module(module), attribute)
