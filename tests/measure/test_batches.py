import numpy as np
import pytest
from scipy import stats

from embryo import measure

N = 400


@pytest.fixture
def batch() -> np.ndarray:
    return np.tile(["one", "two"], N // 2)


KIND = np.repeat(["a", "b"], N // 2)


def expected(draws: int = 15) -> float:
    share = np.arange(draws + 1) / draws
    return float(stats.binom.pmf(np.arange(draws + 1), draws, 0.5) @ stats.entropy([share, 1 - share], base=2))


def test_batches_that_lie_on_each_other_are_mixed(rng: np.random.Generator, batch: np.ndarray) -> None:
    """The entropy of fifteen fair coins is expected to be 0.95 bits."""
    fair = expected()
    z = rng.normal(size=(N, 3)) + 20 * (KIND == "a")[:, None]
    mixed = measure.neighbour_entropy(z, batch, KIND)
    assert mixed.mean() == pytest.approx(fair, abs=0.03)
    assert measure.batch_asw(z, batch, KIND).mean() > 0.9


def test_batches_that_are_islands_are_not(rng: np.random.Generator, batch: np.ndarray) -> None:
    z = rng.normal(size=(N, 3)) + 100 * (batch == "one")[:, None]
    np.testing.assert_allclose(measure.neighbour_entropy(z, batch, KIND), 0)
    assert measure.batch_asw(z, batch, KIND).mean() < 0.05


def test_a_kind_that_one_batch_has_alone_is_no_batch_effect(rng: np.random.Generator) -> None:
    """All cells of kind b are of batch two: they are left out, and those of kind a are as well mixed as before."""
    batch = np.where(KIND == "b", "two", np.tile(["one", "two"], N // 2))
    z = rng.normal(size=(N, 3)) + 100 * (KIND == "b")[:, None]
    mixed = measure.neighbour_entropy(z, batch, KIND)
    assert np.isnan(mixed[KIND == "b"]).all()
    fair = expected()
    assert mixed[KIND == "a"].mean() == pytest.approx(fair, abs=0.03)
    assert np.isnan(measure.batch_asw(z, batch, KIND)).sum() == N // 2
    np.testing.assert_array_equal(measure.comparable(batch, KIND), KIND == "a")


def test_too_few_cells_of_a_batch_are_left_out(rng: np.random.Generator) -> None:
    batch = np.array(["one"] * 9 + ["two"] * 20 + ["three"] * 20)
    mixed = measure.neighbour_entropy(rng.normal(size=(49, 2)), batch, np.array(["a"] * 49))
    np.testing.assert_array_equal(np.isnan(mixed), batch == "one")
