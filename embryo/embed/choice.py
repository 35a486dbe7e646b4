"""An encoder by its name: fitted, or pretrained with its weights, its table of orthologs and its leak check."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from embryo import datasets, encoders
from embryo.core.errors import ConfigError, DataError, Problem
from embryo.encoders.facts import leaks
from embryo.encoders.facts.leaks import Protected
from embryo.encoders.options import Options

ORTHOLOGS = "gene-orthologs"  # in the registry of datasets
_DIMS = 20
_ORTHOLOGS_FILE = "mouse_to_human.csv"


def encoder(
    name: str,
    weights: str | Path | None = None,
    options: Options | None = None,
    *,
    dims: int | None = None,
    seed: int = 0,
    protected: Protected | None = None,
    allow_leaks: bool = False,
) -> Any:
    """Return an encoder, not yet fitted.

    Parameters
    ----------
    name
        One of `embryo.encoders.names`, or ``"precomputed"``.
    weights
        Folder that the user has downloaded, needed by a pretrained encoder; file of a precomputed embedding.
    options
        Of a pretrained encoder. Without a table of orthologs in them, that of the registry is used where a mirror or
        the cache holds it.
    dims
        Of a fitted encoder, 20 by default; a pretrained embedding is reduced to so many principal components.
    seed
        Of whatever is drawn.
    protected, allow_leaks
        What the encoder may not have been trained on, and whether it may all the same: the provenance says so.

    Raises
    ------
    ConfigError
        If the name is unknown, weights are missing, or given where there are none, or the encoder has seen what is
        protected.
    StoreError
        If the weights cannot be read.
    """
    if name == "precomputed":
        return _precomputed(weights)
    if name not in encoders.pretrained_names():
        if weights is not None and name in encoders.fitted_names():
            found = f"weights for {name}"
            raise ConfigError(Problem(found, "none: it is fitted on the cells", "leave weights out"), subject="embed")
        return encoders.build(name, dims=_DIMS if dims is None else dims, seed=seed)
    if weights is None:
        raise ConfigError(
            Problem(
                f"{name} without weights",
                "the folder with its files",
                f"download them (embryo encoders card {name} says where) and name the folder (--weights)",
            ),
            subject="embed",
        )
    options = options or Options(seed=seed, dims=dims)
    if options.orthologs is None:
        options = replace(options, orthologs=registered_orthologs())
    opened = encoders.open_dir(name, weights, options)
    if protected is not None:
        opened.leaks = leaks.require_no_leak(name, opened.corpus, protected, allow=allow_leaks)
    return opened


def _precomputed(file: str | Path | None) -> Any:
    from embryo.encoders import precomputed  # noqa: PLC0415  only this name needs it

    if file is None:
        cure = "name the npz or safetensors file that embryo.encoders.precomputed.write wrote (--weights)"
        raise ConfigError(Problem("precomputed without a file", "the file of the embedding", cure), subject="embed")
    return precomputed.read(file)


def registered_orthologs() -> Path | None:
    """Return the table of orthologs of the registry, where a mirror or the cache holds it."""
    try:
        return datasets.locate(ORTHOLOGS) / _ORTHOLOGS_FILE
    except DataError:
        return None
