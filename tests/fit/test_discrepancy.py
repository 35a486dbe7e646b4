import numpy as np
import pytest
import torch

from embryo.core.errors import ConfigError
from embryo.fit.circuit import Numbers, Settings
from embryo.fit.discrepancy import discrepancy
from embryo.fit.moments import Series, Stage

DECAY = 0.7


def numbers(weight: float) -> Numbers:
    made = Numbers(1, 2, DECAY)
    with torch.no_grad():
        made.weights[:] = torch.tensor([[0.0, weight]])
        made.bias[:] = -2.0
    return made


def series(embryos: int = 4, noise: float = 0.05) -> Series:
    """dy/dt = lambda (sigma(4 m - 2) - y), with noise in every cell."""
    rng = np.random.default_rng(0)
    stages = []
    for t in range(4):
        m = rng.random((400, 1))
        y = (1 - np.exp(-DECAY * t)) / (1 + np.exp(2 - 4 * m)) + noise * rng.normal(size=m.shape)
        given = torch.tensor(m)
        stages.append(Stage(float(t), torch.tensor(y), given, given[:, :0], given, torch.arange(400) % embryos))
    return Series(tuple(stages))


def test_the_truth_is_not_refuted_and_a_wrong_law_is() -> None:
    settings = Settings(places=15)
    right = discrepancy(numbers(4.0), series(), settings, seed=0)
    wrong = discrepancy(numbers(0.0), series(), settings, seed=0)
    assert right.unfit() == ()
    assert wrong.unfit() == (0,)
    assert float(wrong.levels) > 5 * float(right.levels)


def test_one_embryo_has_no_halves() -> None:
    with pytest.raises(ConfigError, match="1 embryo at 0 h"):
        discrepancy(numbers(4.0), series(1), Settings(places=15), seed=0)
