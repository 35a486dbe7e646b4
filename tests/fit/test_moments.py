import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from embryo.core.errors import ConfigError
from embryo.fit import moments
from embryo.fit.moments import Kernels, Series, Stage


def stage(t_h: float, cells: int, seed: int, embryos: int = 2) -> Stage:
    """Two genes that a place alone decides: y = (x, x^2) exp(-t)."""
    draw = torch.Generator().manual_seed(seed)
    place = torch.rand(cells, 1, generator=draw, dtype=torch.float64)
    y = torch.cat([place, place**2], 1) * np.exp(-t_h)
    none = torch.zeros(cells, 0, dtype=torch.float64)
    return Stage(t_h, y, none, none, place, torch.arange(cells) % embryos)


def series(times: tuple[float, ...] = (0.0, 1.0, 2.0), cells: int = 400) -> Series:
    return Series(tuple(stage(t, cells, k) for k, t in enumerate(times)))


def test_stages_out_of_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="in the order of time"):
        series((0.0, 2.0, 1.0))


def test_calibrated_means_of_other_cells_are_the_same() -> None:
    """What the coordinates explain to second order leaves no noise between samples, as plain kernels do."""
    data = series((0.0, 1e-9))
    kernels = Kernels.over(data, 8, 0.5, seed=0)
    local = moments.means(data, kernels)
    raw = [
        torch.exp(-0.5 * ((s.material[:, None] - kernels.centres) / kernels.width) ** 2)[..., 0] for s in data.stages
    ]
    plain = [(k / k.sum(0)).T @ s.y for k, s in zip(raw, data.stages, strict=True)]
    assert (local.level[1] - local.level[0]).abs().max() < 0.1 * (plain[1] - plain[0]).abs().max()
    assert float(local.noise.max()) < 1e-4


def test_noise_is_the_spread_over_samples() -> None:
    """Levels without any place: the variance of a local mean, measured over repeats."""
    levels, noises = [], []
    kernels = Kernels.over(series(), 5, 0.5, seed=0)
    for seed in range(60):
        one = stage(0.0, 300, seed)
        draw = torch.Generator().manual_seed(seed + 1000)
        rough = Stage(
            0.0, torch.randn(300, 1, generator=draw).double(), one.inputs, one.signals, one.material, one.embryo
        )
        local = kernels.local(rough, 4.0)
        levels.append(local.level)
        noises.append(local.noise)
    ratio = torch.stack(noises).mean(0) / torch.stack(levels).var(0)
    assert 0.6 < float(ratio.mean()) < 1.3


def test_quadrature_integrates_the_spline() -> None:
    times = (0.0, 1.0, 2.5, 4.0, 5.0)
    values, before, weights = moments.quadrature(times)
    f = np.array([0.0, 1.0, 0.5, 2.0, 1.0])
    spline = CubicSpline(times, f)
    for i in range(4):
        exact, _ = quad(lambda s, end=times[i + 1]: np.exp(-0.7 * (end - s)) * spline(s), times[i], times[i + 1])
        mine = (weights[i] * torch.exp(-0.7 * before[i]) * (values[i] @ torch.tensor(f))).sum()
        assert float(mine) == pytest.approx(exact, rel=1e-6)


def test_the_truth_leaves_nothing_over() -> None:
    """y = y0 exp(-t) makes nothing and decays at rate 1."""
    data = series(cells=800)
    local = moments.means(data, Kernels.over(data, 6, 0.5, seed=1))
    decay = torch.ones(2, dtype=torch.float64)
    right = moments.residuals(data, local, lambda _, y: torch.zeros_like(y), decay, 0.01)
    wrong = moments.residuals(data, local, lambda _, y: torch.zeros_like(y), 2 * decay, 0.01)
    assert right.abs().max() < 0.5
    assert wrong.abs().max() > 5


def test_silenced_genes_are_not_heard() -> None:
    data = Series(series().stages, silenced=(1,))
    local = moments.means(data, Kernels.over(data, 6, 0.5, seed=1))
    left = moments.residuals(data, local, lambda _, y: y, torch.ones(2, dtype=torch.float64), 0.01)
    assert left[..., 1].abs().max() == 0
    assert left[..., 0].abs().max() > 0


def test_growth_at_one_place_shifts_its_mean() -> None:
    """Two kinds of cells at one place; one doubles: d mean/dt = Cov(b, y)."""
    y = torch.tensor([[0.0], [1.0]], dtype=torch.float64).repeat(200, 1)
    none = torch.zeros(400, 0, dtype=torch.float64)
    place = torch.rand(400, 1, generator=torch.Generator().manual_seed(0)).double()
    one = Stage(0.0, y, none, none, place, torch.zeros(400, dtype=torch.int64), 0.4 * y[:, 0])
    kernels = Kernels.over(Series((one, Stage(1.0, y, none, none, place, one.embryo))), 3, 5.0, seed=0)
    local = kernels.local(one, 4.0)
    torch.testing.assert_close(local.drift, torch.full_like(local.drift, 0.1), atol=0.01, rtol=0)


def test_embryos_named_twice_count_twice() -> None:
    data = series(cells=10)
    assert data.embryos == (0, 1)
    assert len(data.of((1, 1)).stages[0].y) == 10
    assert len(data.of((1,)).stages[0].y) == 5
    assert len(data.thinned(3, 0).stages[1].y) == 3
