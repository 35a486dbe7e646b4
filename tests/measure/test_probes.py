import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from embryo.measure import probes

TYPES = np.array(["a", "b", "c"])


def cells(rng: np.random.Generator, n: int = 60, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three islands; embryos cut across them."""
    labels = np.tile(TYPES, n // 3)
    z = np.eye(3)[np.searchsorted(TYPES, labels)] + noise * rng.normal(size=(n, 3))
    return z, labels, np.repeat(["one", "two", "three"], n // 3)


@pytest.mark.parametrize("method", ["kNN", "logistic"])
def test_islands_are_read_without_a_mistake(rng: np.random.Generator, method: probes.Method) -> None:
    z, truth, _ = cells(rng)
    read = probes.read_labels(method, cells(rng), z)
    assert probes.balanced_accuracy(truth, read) == 1


@pytest.mark.parametrize("method", ["kNN", "logistic"])
def test_shuffled_labels_are_read_at_chance(rng: np.random.Generator, method: probes.Method) -> None:
    """The standard deviation of a share of 1/3 over 900 cells is 0.016."""
    z, truth, groups = cells(rng, 900, noise=20)
    read = probes.read_labels(method, (z, rng.permutation(truth), groups), cells(rng, 900, noise=20)[0])
    assert probes.balanced_accuracy(truth, read) == pytest.approx(1 / 3, abs=0.06)


def test_neighbours_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    z, labels, groups = cells(rng, noise=1)
    held = rng.normal(size=(30, 3))
    read = probes.read_labels("kNN", (z, labels, groups), held, neighbours=7)
    np.testing.assert_array_equal(read, KNeighborsClassifier(7).fit(z, labels).predict(held))


def test_the_logistic_probe_is_a_standardised_regression_with_one_of_the_penalties(rng: np.random.Generator) -> None:
    z, labels, groups = cells(rng, noise=0.8)
    z = z * [1, 100, 0.01]
    held = z + rng.normal(size=z.shape) * [1, 100, 0.01]
    scale = StandardScaler().fit(z)
    by_hand = [
        LogisticRegression(C=c, class_weight="balanced", max_iter=300)
        .fit(scale.transform(z), labels)
        .predict(scale.transform(held))
        for c in probes.PENALTIES
    ]
    read = probes.read_labels("logistic", (z, labels, groups), held)
    assert any((read == one).all() for one in by_hand)


def test_one_label_only_is_read_as_that(rng: np.random.Generator) -> None:
    z = rng.normal(size=(4, 2))
    read = probes.read_labels("logistic", (z, np.array(["a"] * 4), np.array(list("wxyz"))), z)
    assert list(read) == ["a"] * 4


def test_accuracy_weighs_labels_and_not_cells(rng: np.random.Generator) -> None:
    truth = np.array(["a"] * 90 + ["b"] * 10)
    assert probes.balanced_accuracy(truth, np.array(["a"] * 100)) == 0.5
    read = rng.choice(["a", "b"], 100)
    assert probes.balanced_accuracy(truth, read) == pytest.approx(balanced_accuracy_score(truth, read))
    assert probes.balanced_accuracy(truth[:3], np.array(["a", "zebra", "a"])) == pytest.approx(2 / 3)
    assert np.isnan(probes.balanced_accuracy(truth[:0], truth[:0]))


def test_times_along_a_line_are_read_off_it(rng: np.random.Generator) -> None:
    """With little to learn and much to see, the ridge is the line that made the data."""
    times = rng.uniform(0, 10, 300)
    z = np.stack([times, rng.normal(size=300)], axis=1)
    groups = rng.choice(list("abcde"), 300)
    read = probes.read_times((z, times, groups), np.array([[2.0, 0.0], [8.0, 0.0]]))
    np.testing.assert_allclose(read, [2, 8], atol=0.01)


def test_the_time_probe_is_a_standardised_ridge_with_one_of_the_penalties(rng: np.random.Generator) -> None:
    z, groups = rng.normal(size=(80, 5)), np.repeat(list("abcd"), 20)
    times = z @ rng.normal(size=5) + rng.normal(size=80)
    scale = StandardScaler().fit(z)
    by_hand = [Ridge(alpha).fit(scale.transform(z), times).predict(scale.transform(z)) for alpha in probes.ALPHAS]
    read = probes.read_times((z, times, groups), z)
    assert any(np.allclose(read, one) for one in by_hand)
    one_group = probes.read_times((z, times, np.array(["a"] * 80)), z)
    assert any(np.allclose(one_group, one) for one in by_hand)
