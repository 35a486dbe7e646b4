from dataclasses import replace

import numpy as np
import torch

from embryo.fields.residual import Residual
from embryo.fit import circuit
from embryo.fit.circuit import Phase, Settings
from embryo.fit.moments import Series, Stage

TRUE_W = np.array([[3.0, 0.0, 5.0], [6.0, 0.0, 0.0]])  # columns: both genes, then the input
TRUE_H = np.array([-3.0, -3.0])


def series(cells: int = 300, decay: float = 0.8, seed: int = 0) -> Series:
    """An input of place switches gene 0, which switches gene 1; other cells at every stage."""
    rng = np.random.default_rng(seed)
    stages = []
    for t in range(7):
        m = rng.random((cells, 1))
        y = np.zeros((cells, 2))
        for _ in range(t * 20):
            made = decay / (1 + np.exp(-(np.hstack([y, m]) @ TRUE_W.T + TRUE_H)))
            y = y * np.exp(-decay / 20) + made / decay * (1 - np.exp(-decay / 20))
        parts = [torch.tensor(part) for part in (y, m, m[:, :0], m)]
        stages.append(Stage(float(t), *parts, torch.arange(cells) % 3))
    return Series(tuple(stages))


def settings(**changes: object) -> Settings:
    phases = (Phase(iterations=100), Phase(weak=0.0, windows=(1, 0), iterations=150, decay=True))
    return Settings(places=12, cells=150, phases=phases, l1=1e-3, **changes)


def test_decay_and_regulation_are_recovered_without_matching_cells() -> None:
    fitted = circuit.fit([series()], settings(), seed=0)
    np.testing.assert_allclose(fitted.numbers.decay.detach().numpy(), 0.8, rtol=0.1)
    w = fitted.numbers.weights.detach().numpy()
    assert w[1, 0] > 4
    assert abs(w[1, 2]) < 0.3 * w[1, 0]
    made = fitted.circuit(["a", "b"], ["m"], [], torch.ones(2))
    y, m = torch.rand(4, 2), torch.rand(4, 1)
    expected = fitted.numbers.production(y.double(), m.double(), 0.0, m)
    torch.testing.assert_close(made.production(y, m, torch.zeros(4, 0)).double(), expected, atol=1e-4, rtol=1e-4)


def test_one_seed_one_fit() -> None:
    few = Settings(places=5, cells=50, phases=(Phase(iterations=5),))
    one, two = (circuit.fit([series(100)], few, seed=3).numbers.weights for _ in range(2))
    assert torch.equal(one, two)


def test_a_prior_is_soft() -> None:
    """Edges that the prior calls unlikely are still found."""
    prior = torch.ones(2, 3, dtype=torch.float64)
    prior[1, 0] = 5.0
    fitted = circuit.fit([series()], settings(), seed=0, prior=prior)
    assert float(fitted.numbers.weights[1, 0].detach()) > 3


def hidden(seed: int) -> Series:
    """Return the series of embryos whose input nobody has measured; their places are known."""
    whole = series(seed=seed)
    return Series(tuple(replace(stage, inputs=stage.inputs[:, :0]) for stage in whole.stages))


def missed(numbers: circuit.Numbers, of: Series, how: Settings) -> float:
    """Return the misfit of the rolled local means of embryos."""
    ready = circuit.prepare(of, circuit.Kernels.over(of, 12, 0.5, 1), (1, 0), 150, 1)
    with torch.no_grad():
        return sum(float(ready.rolled(numbers, length, (how.step_h, how.floor)).square().mean()) for length in (1, 0))


def test_a_residual_stands_in_for_an_input_that_is_missing() -> None:
    """On embryos that the fit has not seen; as its penalty grows the circuit alone comes back."""
    phases = (Phase(iterations=100), Phase(weak=0.0, windows=(1,), iterations=100, decay=True))
    how, residual = replace(settings(), cells=80, phases=phases), Residual([0.0, 0.0], [1.0, 6.0])
    found = [circuit.fit([hidden(0)], how, seed=0).numbers]
    for penalty in (1e-3, 1e8):
        ridge = torch.full((2 + len(residual.names),), circuit.RIDGE, dtype=torch.float64)
        ridge[2:] += penalty * residual.roughness
        found.append(circuit.fit([hidden(0)], how, seed=0, inputs=residual, ridge=ridge).numbers)
    alone, free, held = (missed(numbers, hidden(9), how) for numbers in found)
    assert free < 0.1 * alone
    np.testing.assert_allclose(held, alone, rtol=0.02)
    assert float(found[2].weights.detach()[:, 2:].abs().max()) < 1e-3


def test_a_gene_is_silent_by_itself_where_wild_type_leaves_it_open() -> None:
    """What is on where an input is high may be activated by it, or repressed by what is its complement."""
    own = series(120)
    both = [replace(s, inputs=torch.cat([s.inputs, 1 - s.inputs], 1)) for s in own.stages]
    few = replace(settings(), phases=(Phase(iterations=60),))
    start = circuit.Numbers(2, 4, few.decay_per_h)
    with torch.no_grad():
        start.bias.copy_(torch.tensor([3.0, 2.0]))
    quiet = circuit.fit([replace(own, stages=tuple(both))], replace(few, ground=1.0), seed=0, start=start).numbers
    assert float(quiet.bias.detach().max()) < 0.1
    weights = quiet.weights.detach()
    assert float(weights[0, 2]) > abs(float(weights[0, 3]))


def test_bodies_without_a_pose_are_fitted_without_whole_roll_outs() -> None:
    assert 0 in Settings().phases[-1].windows
    assert all(0 not in phase.windows for phase in circuit.UNPOSED.phases)
    assert circuit.UNPOSED.ground == 0.0
