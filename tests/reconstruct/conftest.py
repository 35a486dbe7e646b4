"""Bodies with known poses: an ellipsoid whose expression tells where a cell lies, and tracked embryos with names."""

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

AXES_UM = np.array([100.0, 60.0, 50.0])
GENES = 40


def _pose(rng: np.random.Generator, dims: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return a random rotation and a random shift."""
    if dims == 3:
        turn = Rotation.from_quat(rng.normal(size=4)).as_matrix()
    else:
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn, rng.normal(size=dims) * 200


def _body(n: int, seed: int, *, axes_um: np.ndarray = AXES_UM, genes_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return cells drawn uniformly in an ellipsoid, and noisy log1p counts that depend on all three axes."""
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(n, 3))
    unit *= rng.random((n, 1)) ** (1 / 3) / np.linalg.norm(unit, axis=1, keepdims=True)
    basis = np.column_stack([unit, unit**2, unit[:, [0]] * unit[:, [1]], np.sin(3 * unit)])
    weights = np.random.default_rng(genes_seed).normal(size=(basis.shape[1], GENES)) * 0.35
    return unit * axes_um, np.log1p(rng.poisson(np.exp(basis @ weights - 0.5))).astype(np.float64)


def _tracked(
    embryos: int = 3, cells: int = 40, times: int = 6, *, seed: int = 0, noise_um: float = 0.0, lag_h: float = 0.0
) -> ad.AnnData:
    """Return embryos with the same named cells on the same paths, each in a pose of its own."""
    rng = np.random.default_rng(seed)
    start = rng.gamma(2.0, 1.0, (cells, 3)) * [30, 15, 10]
    drift = rng.normal(size=(cells, 3)) * 3
    parts, x, truth, poses = [], [], [], {}
    for k in range(embryos):
        t = np.repeat(np.arange(times) * 0.5, cells) + lag_h * k
        body = np.concatenate([start + step * drift for step in range(times)])
        body = body + rng.normal(size=body.shape) * noise_um
        turn, shift = _pose(rng)
        poses[f"e{k}"] = turn, shift
        parts.append(
            pd.DataFrame({"time": t, "embryo": f"e{k}", "cell": np.tile([f"n{c}" for c in range(cells)], times)})
        )
        x.append(body @ turn.T + shift)
        truth.append(body)
    obs = pd.concat(parts, ignore_index=True)
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(obs=obs, uns={"embryo": {"time_unit": "h", "space_unit": "um", "frame": "raw"}})
    adata.obsm["spatial"] = np.concatenate(x)
    adata.obsm["truth"] = np.concatenate(truth)
    return adata


def _posed(*bodies: tuple[np.ndarray, np.ndarray], seed: int = 0, times_h: Any = None) -> ad.AnnData:
    """Return bodies without shared names, each in a pose of its own."""
    rng = np.random.default_rng(seed)
    x, embryo = [], []
    for k, (body, _) in enumerate(bodies):
        turn, shift = _pose(rng)
        x.append(body @ turn.T + shift)
        embryo += [f"e{k}"] * len(body)
    hours = times_h if times_h is not None else [1.0] * len(bodies)
    obs = pd.DataFrame({"embryo": embryo, "time": np.repeat(hours, [len(b) for b, _ in bodies])})
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(np.concatenate([e for _, e in bodies]), obs=obs)
    adata.uns["embryo"] = {"time_unit": "h", "space_unit": "um", "frame": "raw", "expression": "log1p"}
    adata.obsm["spatial"] = np.concatenate(x)
    adata.obsm["truth"] = np.concatenate([b for b, _ in bodies])
    return adata


def _degrees(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle between two rotations."""
    return float(np.degrees(Rotation.from_matrix(a @ b.T).magnitude()))


@pytest.fixture(scope="session")
def pose() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return _pose


@pytest.fixture(scope="session")
def body() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return _body


@pytest.fixture(scope="session")
def tracked() -> Callable[..., ad.AnnData]:
    return _tracked


@pytest.fixture(scope="session")
def posed() -> Callable[..., ad.AnnData]:
    return _posed


@pytest.fixture(scope="session")
def degrees() -> Callable[[np.ndarray, np.ndarray], float]:
    return _degrees
