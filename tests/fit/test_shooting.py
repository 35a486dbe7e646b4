import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.special import expit

from embryo.fit import moments, shooting
from embryo.fit.moments import Kernels, Series, Stage

W = np.array([[4.0, -3.0], [2.0, 1.0]])
DECAY = torch.tensor([0.8, 1.3], dtype=torch.float64)


def law(y: torch.Tensor, given: torch.Tensor, t_h: float) -> torch.Tensor:
    return torch.sigmoid(y @ torch.tensor(W).T + 3 * given[:, :1] - 1.0)


def solved(place: np.ndarray, t_h: float) -> np.ndarray:
    def rate(t: float, y: np.ndarray, m: float) -> np.ndarray:
        return expit(W @ y + 3 * m * (1 - 0.1 * t) - 1.0) - DECAY.numpy() * y

    ends = [solve_ivp(rate, (0, max(t_h, 1e-9)), [0.1, 0.1], args=(m,), rtol=1e-8, atol=1e-9).y[:, -1] for m in place]
    return np.array(ends)


def series(times: tuple[float, ...] = (0.0, 1.0, 3.0)) -> Series:
    rng = np.random.default_rng(0)
    stages = []
    for t in times:
        place = rng.random(250)
        material = torch.tensor(place[:, None])
        given, none = material * (1 - 0.1 * t), torch.zeros(250, 0, dtype=torch.float64)
        who = torch.zeros(250, dtype=torch.int64)
        stages.append(Stage(t, torch.tensor(solved(place, t)), given, none, material, who))
    return Series(tuple(stages))


def test_a_step_is_of_second_order() -> None:
    given = torch.full((1, 1), 0.5, dtype=torch.float64)
    y0 = torch.full((1, 2), 0.1, dtype=torch.float64)

    def end(count: int) -> torch.Tensor:
        y = y0
        for k in range(count):
            y = shooting.step(y, law, DECAY, ((given, k / count), (given, (k + 1) / count)))
        return y

    fine = end(512)
    coarse, half = (end(4) - fine).abs().max(), (end(8) - fine).abs().max()
    assert 3.0 < float(coarse / half) < 5.5


def test_the_truth_leaves_nothing_over_however_far_apart_the_stages() -> None:
    data = series()
    local = moments.means(data, Kernels.over(data, 6, 0.5, seed=0))
    rolled = shooting.window(data, local, 0, 2)
    left = shooting.residuals(data, local, rolled, law, DECAY, (0.1, 0.01))
    assert left.shape == (2, 6, 2)
    assert left.abs().max() < 0.5
    wrong = shooting.residuals(data, local, rolled, law, 1.5 * DECAY, (0.1, 0.01))
    assert wrong.abs().max() > 3


def test_inputs_on_the_way_follow_the_place() -> None:
    data = series()
    local = moments.means(data, Kernels.over(data, 6, 0.5, seed=0))
    rolled = shooting.window(data, local, 0, 2, neighbours=4)
    expected = rolled.material * (1 - 0.1 * 3.0)
    assert (rolled.columns[2] - expected).abs().max() < 0.05
    torch.testing.assert_close(rolled.columns[0], data.stages[0].inputs)
