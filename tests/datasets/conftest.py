"""Made-up lineages and movies with known truth."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from embryo import datasets

# A small lineage with births in hours; every division of the founders, then AB and MS for three rounds.
FOUNDERS_H = {
    "P0": -0.6, "AB": -0.25, "P1": -0.25, "ABa": 0.0, "ABp": 0.0, "EMS": 0.05, "P2": 0.05, "MS": 0.3, "E": 0.3,
    "C": 0.35, "P3": 0.35, "D": 0.75, "P4": 0.75,
}  # fmt: skip


def _lineage() -> dict[str, float]:
    births = dict(FOUNDERS_H)
    cycle = {"ABa": 0.22, "ABp": 0.23, "MS": 0.28, "E": 0.31, "C": 0.33}
    generation = {name: (FOUNDERS_H[name] + length, length) for name, length in cycle.items()}
    for _ in range(3):
        following = {}
        for k, (name, (born, length)) in enumerate(sorted(generation.items())):
            for letter in "lr" if name in ("ABa", "ABp") else "ap":
                births[name + letter] = born
                following[name + letter] = (born + 1.25 * length + 0.003 * k, 1.25 * length)
        generation = following
    return births


@pytest.fixture(scope="session")
def births_h() -> dict[str, float]:
    """Birth time in hours of each cell of the made-up lineage."""
    return _lineage()


@pytest.fixture
def film(births_h: dict[str, float]) -> Callable[..., pd.DataFrame]:
    """Film the made-up lineage: a table in the EPIC layout.

    Frame f shows time ``slope_h * f + offset_h``; a cell is seen from the first frame at or after its birth to the last
    frame before the birth of its daughters.
    """

    def make(slope_h: float = 1 / 60, offset_h: float = 0.0, *, end_h: float = 1.6, seed: int = 0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        frames = np.arange(1, int(np.floor((end_h - offset_h) / slope_h + 1e-9)) + 1)
        times = slope_h * frames + offset_h
        divides = {datasets.lineage.mother(name): born for name, born in births_h.items()}
        rows = []
        for cell, born in births_h.items():
            alive = (times >= born - 1e-9) & (times < divides.get(cell, np.inf) - 1e-9)
            place, drift = rng.uniform(50, 400, 3), rng.normal(0, 1, 3)
            for f in frames[alive]:
                x, y, z = place + drift * f / 10
                rows.append((f"{cell}:{f}", cell, f, 100.0 * len(cell), round(x, 2), round(y, 2), round(z / 20, 2)))
        return pd.DataFrame(rows, columns=["cellTime", "cell", "time", "blot", "x", "y", "z"])

    return make
