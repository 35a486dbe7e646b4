"""Small stages with known answers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from embryo.core.state import State
from embryo.evaluate.time.series import Series


@pytest.fixture
def make_state() -> Callable[..., State]:
    def make(z, x=None, *, total: float = 1.0) -> State:
        z = np.asarray(z, dtype=np.float32)
        x = np.zeros((len(z), 0), dtype=np.float32) if x is None else np.asarray(x, dtype=np.float32)
        log_mass = torch.full((len(z),), float(np.log(total / len(z))))
        return State(torch.from_numpy(z), torch.zeros(len(z), 1), torch.from_numpy(x), log_mass)

    return make


@pytest.fixture
def make_series() -> Callable[..., Series]:
    def make(stages: dict[float, State], *, counts_grow: bool = False, labels=None, groups=None) -> Series:
        blank = [np.full(len(s), "", dtype=object) for s in stages.values()]
        words = [tuple(w) if w is not None else tuple(blank) for w in (labels, groups)]
        return Series(tuple(stages), tuple(stages.values()), words[0], words[1], counts_grow)

    return make


@pytest.fixture
def drift(make_state, make_series) -> Series:
    """Three clouds that move by (3, 0) per hour and spread, 80 cells each."""
    rng = np.random.default_rng(0)
    clouds = [rng.normal([3.0 * k, 0], 1 + 0.3 * k, (80, 2)) for k in range(3)]
    return make_series({float(k): make_state(z) for k, z in enumerate(clouds)})


@pytest.fixture
def helix() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A body that no turn lays on its mirror image: states, positions and types along it."""

    def make(n: int, seed: int, radius: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        s = rng.uniform(-1, 1, n)
        x = np.stack([60 * s, 30 * np.cos(4 * s), 20 * np.sin(4 * s)], axis=1) + rng.normal(0, 3, (n, 3))
        z = np.stack([s, s**2], axis=1) + rng.normal(0, 0.05, (n, 2))
        return z, radius * x, np.array([f"part{k}" for k in np.clip((2 * (s + 1)).astype(int), 0, 3)], dtype=object)

    return make
