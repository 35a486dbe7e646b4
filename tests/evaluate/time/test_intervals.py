import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import stdtrit

from embryo import measure
from embryo.evaluate.time.intervals import Bootstrap, Sample, blocks, jackknife


def mean_of(x: np.ndarray) -> Sample:
    return Sample(np.array([x.mean()]), x - x.mean())


def test_the_interval_of_a_mean_is_the_classical_one() -> None:
    x = np.random.default_rng(0).normal(size=400)
    found = Bootstrap.over(np.full(400, "one"), draws=4000).interval(mean_of(x))
    half = 1.96 * x.std(ddof=1) / 20
    assert found.value == pytest.approx(x.mean())
    assert found.low == pytest.approx(x.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(x.mean() + half, abs=0.1 * half)


@pytest.mark.parametrize("embryos", [3, 8])
def test_few_embryos_are_covered(embryos) -> None:
    """Cells of an embryo share its luck: 95 % intervals hold the truth in 95 % of series, be there three embryos."""
    groups = np.repeat(np.arange(embryos), 20).astype(str)
    rng = np.random.default_rng(1)
    bootstrap = Bootstrap.over(groups, draws=400)
    assert (bootstrap.unit, bootstrap.units) == ("embryos", embryos)
    hits = 0
    for _ in range(300):
        x = np.repeat(rng.normal(size=embryos), 20) + rng.normal(0, 0.5, 20 * embryos)
        found = bootstrap.interval(mean_of(x))
        hits += found.low <= 0 <= found.high
    assert 0.92 < hits / 300 < 0.985


def test_the_gain_of_one_prediction_over_another_is_covered() -> None:
    """Energy distances of two fixed predictions, for many draws of the truth."""
    rng = np.random.default_rng(2)
    near, far = rng.normal(0.3, 1, (150, 2)), rng.normal(0.8, 1, (150, 2))
    bootstrap = Bootstrap.over(np.full(100, ""), draws=400)
    gains, hits = [], []
    for _ in range(150):
        truth = rng.normal(0, 1, (100, 2))
        within, one = cdist(truth, truth), np.ones(100)
        scores = [
            measure.discrepancy(cdist(p, truth), cdist(p, p), within, np.ones(150), one) for p in (far, near)
        ]  # fmt: skip
        wobble = bootstrap.wobble(within)
        samples = [Sample(np.array([s.value]), s.influence, False, wobble) for s in scores]
        gain = samples[0].minus(samples[1])
        assert gain.wobble is None
        gains.append(bootstrap.interval(gain))
        hits.append(bootstrap.interval(samples[0]))
    for found in (gains, hits):
        expected = np.mean([f.value for f in found])
        assert 0.89 < np.mean([f.low <= expected <= f.high for f in found]) < 0.99


def test_the_interval_of_a_score_is_that_of_a_bootstrap_that_computes_it_anew() -> None:
    """An energy distance near 0, where most of its spread is quadratic in the weights of the truth.

    Brute force: Dirichlet weights on the cells of the truth, and the distance computed with each; bias left out.
    """
    rng = np.random.default_rng(3)
    n = 30
    truth, made = rng.normal(0, 1, (n, 2)), rng.normal(0.1, 1, (200, 2))
    across, within = cdist(made, truth), cdist(truth, truth)
    score = measure.discrepancy(across, cdist(made, made), within, np.ones(200), np.ones(n))
    bootstrap = Bootstrap.over(np.full(n, ""), draws=20_000)
    found, linear = (
        bootstrap.interval(Sample(np.array([score.value]), score.influence, False, wobble))
        for wobble in (bootstrap.wobble(within), None)
    )
    weights = rng.dirichlet(np.ones(n), 20_000)
    drawn = 2 * weights @ across.mean(axis=0) - np.einsum("dc,ce,de->d", weights, within, weights)
    wide = np.sqrt((n + 1) / (n - 1)) * stdtrit(n - 1, 0.975) / 1.96  # as for a mean of n cells
    low, high = wide * np.quantile(drawn - drawn.mean(), [0.025, 0.975])
    assert found.high - found.low == pytest.approx(high - low, rel=0.08)
    assert found.high - found.value == pytest.approx(high, rel=0.12)
    assert linear.high - linear.low < 0.85 * (high - low)


def test_seeds_add_their_spread() -> None:
    values = np.array([1.0, 1.4, 0.9, 1.2, 1.5])
    bootstrap = Bootstrap.over(np.full(50, ""), draws=8000)
    found = bootstrap.interval(Sample(values, np.zeros(50), random=True))
    half = 2.776 * values.std(ddof=1) / np.sqrt(5)  # Student's t of 4 degrees of freedom
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert found.n == 5
    alone = bootstrap.interval(Sample(values[:1], np.ones(50), random=True))
    assert np.isnan(alone.low)
    assert np.isfinite(bootstrap.interval(Sample(values[:1], np.ones(50))).low)


def test_differences_are_paired_by_seed() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 2.5])
    zero = np.zeros(4)
    assert Sample(a, zero, True).minus(Sample(b, zero, True)).values.tolist() == [0.5] * 3
    assert Sample(a, zero, True).minus(Sample(np.array([1.0]), zero)).values.tolist() == [0.0, 1.0, 2.0]
    assert Sample(a, None).minus(Sample(b, zero)).influence is None


def test_draws_keep_their_weight_and_repeat() -> None:
    groups = np.repeat(["a", "b", "c"], [10, 20, 30])
    one, again = (Bootstrap.over(groups, draws=50, seed=3).deviations for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert one.shape == (50, 60)
    np.testing.assert_allclose(one.sum(axis=1), 0, atol=1e-12)
    assert (np.ptp(one[:, 10:30], axis=1) < 1e-12).all()


def test_without_a_derivative_blocks_give_the_same_variance() -> None:
    x = np.random.default_rng(0).normal(size=600)
    groups = np.full(600, "")
    block, embryos = blocks(groups, parts=60)
    assert not embryos
    left_out = np.array([x[block != b].mean() for b in range(60)])
    influence = jackknife(float(x.mean()), left_out, block, embryos=embryos)
    found = Bootstrap.over(groups).interval(Sample(np.array([x.mean()]), influence))
    assert found.high - found.low == pytest.approx(3.92 * x.std() / np.sqrt(600), rel=0.3)
    several = np.repeat(["a", "b", "c", "d"], 150)
    block, embryos = blocks(several)
    assert embryos
    left_out = np.array([x[block != b].mean() for b in range(4)])
    influence = jackknife(float(x.mean()), left_out, block, embryos=embryos)
    exact = Sample(np.array([x.mean()]), x - x.mean())
    both = [Bootstrap.over(several).interval(s) for s in (Sample(exact.values, influence), exact)]
    assert both[0].high == pytest.approx(both[1].high, rel=1e-6)
