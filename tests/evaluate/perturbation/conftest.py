"""A small trial in which everything is known: fates sit at points, edits move shares, genes follow fates."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from embryo.core.edit import Edit
from embryo.evaluate.perturbation import EndPopulation, Trial

FATES = ("a", "b", "c")
PANEL = ("g0", "g1", "g2", "g3")
LEVELS = np.array([[1.0, 0.2, 0.1, 0.8], [0.1, 1.0, 0.2, 0.1], [0.2, 0.1, 1.0, 0.6]])
SHARES = {"wild": (0.5, 0.3, 0.2), "g0": (0.1, 0.5, 0.4), "g1": (0.6, 0.05, 0.35), "g2": (0.7, 0.28, 0.02)}


@pytest.fixture
def population() -> Callable[..., EndPopulation]:
    """Return a maker of embryos with given shares of fates."""

    def make(shares: tuple[float, ...], *, embryos: int = 3, cells: int = 120, seed: int = 0) -> EndPopulation:
        rng = np.random.default_rng(seed)
        code = np.concatenate([rng.choice(3, size=cells, p=np.array(shares)) for _ in range(embryos)])
        n = len(code)
        places = np.array([[-40.0, 0, -10], [40.0, 0, -10], [0, 0, 20.0]])
        return EndPopulation(
            np.array(FATES, dtype=object)[code],
            np.ones(n),
            np.eye(3)[code] * 4 + 0.1 * rng.normal(size=(n, 3)),
            np.log1p(LEVELS[code] * rng.lognormal(0, 0.1, size=(n, 4))),
            places[code] + 5 * rng.normal(size=(n, 3)),
            np.repeat([f"{seed}-{k}" for k in range(embryos)], cells).astype(object),
        )

    return make


@pytest.fixture
def trial(population: Callable[..., EndPopulation]) -> Trial:
    """Return three edits beside a wild type with one earlier stage."""
    edits: Mapping[str, Edit] = {f"knockout {g}": Edit(g) for g in ("g0", "g1", "g2")}
    truth = {f"knockout {g}": population(SHARES[g], seed=k + 1) for k, g in enumerate(("g0", "g1", "g2"))}
    return Trial(
        "toy", FATES, PANEL, np.ones(4), population(SHARES["wild"], embryos=4, seed=9), truth, edits, {},
        {2.0: population((0.3, 0.4, 0.3), seed=10)},
    )  # fmt: skip
