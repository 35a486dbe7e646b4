import numpy as np
import torch

from embryo.datasets import synthetic
from embryo.fit import likelihood
from embryo.fit.likelihood import Measured


def measured(noise: float, seed: int = 0, cells: int = 4000) -> Measured:
    """States spread over the unit cube, the synthetic circuit's own velocities."""
    rng = np.random.default_rng(seed)
    circuit = synthetic.Circuit()
    y, m = rng.random((cells, 18)), rng.random((cells, 4))
    dy = circuit.production(y, m) - y + noise * rng.normal(size=y.shape)
    return Measured(*(torch.tensor(part) for part in (y, m, dy, np.ones_like(y))))


def test_weights_decay_and_rate_of_the_synthetic_circuit_are_found() -> None:
    numbers = likelihood.fit(measured(0.0), l1=1e-5)
    truth = synthetic.Circuit()
    found = numbers.weights.detach().numpy()
    wanted = np.hstack([truth.weights, truth.inputs])
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(numbers.decay.detach().numpy(), 1.0, atol=0.05)


def test_noise_does_not_bend_it() -> None:
    numbers = likelihood.fit(measured(0.1))
    truth = synthetic.Circuit()
    wanted = np.hstack([truth.weights, truth.inputs])
    assert np.corrcoef(numbers.weights.detach().numpy().ravel(), wanted.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(numbers.decay.detach().numpy(), 1.0, atol=0.1)


def test_what_an_edit_holds_is_not_heard() -> None:
    cells = measured(0.0, cells=500)
    heard = cells.heard.clone()
    heard[:250, 0] = 0.0
    spoiled = cells.dy.clone()
    spoiled[:250, 0] = 99.0
    one = likelihood.fit(Measured(cells.y, cells.given, spoiled, heard), rounds=2)
    two = likelihood.fit(Measured(cells.y, cells.given, cells.dy, heard), rounds=2)
    assert torch.equal(one.weights, two.weights)
