import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from embryo import fit, simulate
from embryo.core.state import State
from embryo.fit.geodesic import bends


def at(x: np.ndarray) -> State:
    n = len(x)
    return State(torch.as_tensor(x, dtype=torch.float64), torch.zeros(n, 1), torch.zeros(n, 0), torch.zeros(n))


def arc(n: int, first: float, last: float, seed: int = 0) -> np.ndarray:
    """Cells near the unit circle between two angles."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(first, last, n)
    return np.c_[np.cos(angle), np.sin(angle)] + 0.03 * rng.normal(size=(n, 2))


ONE = State(torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 1), torch.ones(1, 0), torch.zeros(1))


def test_a_bend_is_the_one_that_scipy_finds() -> None:
    """The energy written down again in numpy, minimised by another method."""
    cloud, a, b = arc(200, 0.0, np.pi), np.array([[1.0, 0.1], [0.9, 0.3]]), np.array([[-1.0, 0.1], [-0.6, 0.8]])
    found = bends(at(a), at(b), at(cloud), ONE, 3.0).z.numpy()
    scale = 3.0 * np.median(np.sort(cdist(cloud, cloud), axis=1)[:, 10])

    def density(points: np.ndarray) -> np.ndarray:
        return np.exp(-(cdist(points, cloud) ** 2) / (2 * scale**2)).mean(axis=1)

    u, least = np.linspace(0, 1, 9)[:, None], 0.01 * density(cloud).mean()

    def energy(c: np.ndarray, k: int) -> float:
        curve = a[k] + u * (b[k] - a[k]) + 4 * u * (1 - u) * c
        middle = (curve[1:] + curve[:-1]) / 2
        return float((((curve[1:] - curve[:-1]) ** 2).sum(axis=1) / (density(middle) + least)).sum())

    for k in (0, 1):
        best = minimize(energy, np.zeros(2), args=(k,), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
        assert energy(found[k], k) == pytest.approx(best.fun, rel=1e-4)


def test_paths_follow_the_arc_that_the_cells_lie_on() -> None:
    cloud, a, b = arc(400, 0.0, np.pi), arc(50, 0.0, 0.3, 1), arc(50, np.pi - 0.3, np.pi, 2)
    bend = bends(at(a), at(b), at(cloud), ONE, 3.0)
    straight, bent = (a + b) / 2, (a + b) / 2 + bend.z.numpy()
    assert np.linalg.norm(straight, axis=1).max() < 0.35
    assert np.linalg.norm(bent, axis=1).min() > 0.7
    assert bend.g.abs().max() == bend.log_mass.abs().max() == 0.0


def test_a_field_fitted_to_bent_paths_rolls_along_them() -> None:
    """Half-way between the ends of a quarter of a circle no straight flow has cells on it."""
    quarter = np.pi / 2
    a, b, between = arc(300, 0.0, 0.2, 1), arc(300, quarter - 0.2, quarter, 2), arc(300, 0.2, quarter - 0.2, 3)
    cells = at(np.concatenate([a, b, between])).map(lambda part: part.float())
    one = torch.ones(300)
    data = fit.Pairs(cells, torch.arange(300), torch.arange(300, 600), one, 0 * one, one, 0 * one)
    for geodesic, low, high in ((None, 0.7, 0.85), (3.0, 0.9, 1.1)):
        field = fit.regress(data, fit.Training(steps=500, width=64, geodesic=geodesic))
        half = simulate.forward(field, cells[:300], [0.0, 0.5], step_h=0.05).z[-1]
        assert low <= float(half.norm(dim=1).median()) <= high
