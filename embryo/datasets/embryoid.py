"""Embryoid bodies over 27 days as principal components with RNA velocity, the benchmark of the trajectory papers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.datasets import contract
from embryo.datasets.registry import Dataset

_WINDOW_H, _MIDDLE_H = 6 * 24.0, 1.5 * 24.0  # a window of 3 days starts every 6 days
_NEEDED = ("X", "ts", "v")
VELOCITY = "velocity"


def convert(files: Sequence[Path], dataset: Dataset) -> AnnData:
    """Convert npz archives with X (cells x components), v (velocity) and ts (index of the window of days).

    Returns
    -------
    AnnData
        X and ``obsm["X_pca"]``: components; ``obsm["velocity"]``; obs: time (h, middle of the window), window, split
        (``test`` or ``val``, from the file name).

    Raises
    ------
    SchemaError
        If an archive lacks an array, or its arrays do not fit together.
    """
    parts = [_part(path) for path in files if path.suffix == ".npz"]
    if not parts:
        raise SchemaError(Problem("no npz file", "archives with X, ts and v", "give all files of the dataset"))
    x, v = (np.concatenate([part[key] for part in parts]).astype(np.float32) for key in ("X", "v"))
    window = np.concatenate([part["ts"] for part in parts]).astype(int)
    split = np.repeat([part["split"] for part in parts], [len(part["ts"]) for part in parts])
    obs = pd.DataFrame(
        {schema.TIME: _MIDDLE_H + _WINDOW_H * window, schema.EMBRYO: "culture", "window": window, "split": split},
        index=pd.Index([f"{s}{k}" for k, s in enumerate(split)], dtype=str),
    ).astype({schema.EMBRYO: "category", "split": "category"})
    var = pd.DataFrame(index=[f"PC{k + 1}" for k in range(x.shape[1])])
    adata = AnnData(x, obs=obs, var=var, obsm={"X_pca": x.copy(), VELOCITY: v})
    notes = {"time_zero": "start of differentiation", "features": "principal components, not genes"}
    return contract.note(adata, organism=dataset.organism, expression="relative", notes=notes)


def _part(path: Path) -> dict[str, np.ndarray]:
    cure = "fetch the dataset again"
    try:
        with np.load(path, allow_pickle=False) as archive:
            part = {key: archive[key] for key in _NEEDED if key in archive}
    except (OSError, ValueError) as error:
        raise SchemaError(Problem(f"no npz archive ({error})", "X, ts and v", cure), subject=path.name) from error
    missing = [key for key in _NEEDED if key not in part]
    if missing:
        raise SchemaError(Problem(f"no {', '.join(missing)}", "X, ts and v", cure), subject=path.name)
    if not (part["X"].shape == part["v"].shape and part["ts"].shape == part["X"].shape[:1]):
        shapes = ", ".join(f"{key} {part[key].shape}" for key in _NEEDED)
        raise SchemaError(Problem(shapes, "one row per cell in all three", cure), subject=path.name)
    return part | {"split": np.array(path.stem.split("_")[0])}
