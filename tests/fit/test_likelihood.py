import numpy as np
import pytest
import torch

from embryo.datasets import synthetic
from embryo.fields.circuit import Gradients
from embryo.fit import likelihood
from embryo.fit.likelihood import Settings
from embryo.fit.moments import Series, Stage

TRUTH = synthetic.Circuit()


def measured(noise: float, seed: int = 0, cells: int = 4000, silenced: tuple[int, ...] = ()) -> Series:
    """Two stages of states spread over the unit cube, with the synthetic circuit's own velocities."""
    rng = np.random.default_rng(seed)
    y, m = rng.random((cells, 18)), rng.random((cells, 4))
    dy = TRUTH.production(y, m) - y + noise * rng.normal(size=y.shape)
    parts = [torch.tensor(part) for part in (y, m[:, :3], m[:, 3:], rng.random((cells, 3)), dy)]
    halves = [[part[k::2] for part in parts] for k in (0, 1)]
    stages = [
        Stage(float(k), *half[:4], torch.zeros(len(half[0]), dtype=torch.int64), dy=half[4])
        for k, half in enumerate(halves)
    ]
    return Series(tuple(stages), silenced)


def wanted() -> np.ndarray:
    return np.hstack([TRUTH.weights, TRUTH.inputs])


def test_weights_decay_and_rate_of_the_synthetic_circuit_are_found() -> None:
    numbers = likelihood.fit([measured(0.0)], Settings())
    found = numbers.weights.detach().numpy()
    assert np.corrcoef(found.ravel(), wanted().ravel())[0, 1] > 0.95
    np.testing.assert_allclose(numbers.decay.detach().numpy(), 1.0, atol=0.05)


def test_noise_does_not_bend_it() -> None:
    numbers = likelihood.fit([measured(0.1)])
    assert np.corrcoef(numbers.weights.detach().numpy().ravel(), wanted().ravel())[0, 1] > 0.95
    np.testing.assert_allclose(numbers.decay.detach().numpy(), 1.0, atol=0.1)


@pytest.mark.parametrize("how", ["silenced", "not measured"])
def test_what_is_not_measured_or_held_by_an_edit_is_not_heard(how: str) -> None:
    wild, other = measured(0.0, cells=500), measured(0.0, seed=1, cells=500, silenced=(0,) * (how == "silenced"))
    found = []
    for spoiled in (99.0, 7.0) if how == "silenced" else (float("nan"), float("nan")):
        for stage in other.stages:
            stage.dy[:, 0] = spoiled
        found.append(likelihood.fit([wild, other], Settings(rounds=2)))
    assert torch.equal(found[0].weights, found[1].weights)
    assert torch.isfinite(found[0].weights).all()
    alone = likelihood.fit([wild], Settings(rounds=2))  # gene 0 is told by the wild type alone
    torch.testing.assert_close(found[0].weights[0], alone.weights[0], rtol=0.2, atol=0.2)


def test_inputs_as_functions_of_place_are_fitted_along() -> None:
    """A gene that one exponential from an end drives: its length is found."""
    rng = np.random.default_rng(0)
    x = rng.random((3000, 3)) * 100.0
    drive = np.exp(-x[:, 0] / 20.0)
    y = rng.random((3000, 2))
    made = 1 / (1 + np.exp(-(8.0 * drive - 3.0)))
    dy = np.stack([made, 0.5 * np.ones(3000)], 1) - y
    t = [torch.tensor(part) for part in (y, np.zeros((3000, 0)), np.zeros((3000, 0)), x, dy)]
    who = torch.zeros(1500, dtype=torch.int64)
    stages = tuple(Stage(0.0 + k, *(p[k::2] for p in t[:4]), who, dy=t[4][k::2]) for k in (0, 1))
    inputs = Gradients([0.0] * 3, [100.0] * 3, 0.0)
    numbers = likelihood.fit([Series(stages)], inputs=inputs)
    with torch.no_grad():
        z = numbers.production(t[0], torch.zeros(3000, 0), 0.0, t[3])
        left = z[:, 0] - torch.tensor(made)
    assert float(left.square().mean()) < 0.02 * float(np.var(made))
