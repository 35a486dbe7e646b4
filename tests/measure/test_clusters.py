import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from embryo import measure


def islands(rng: np.random.Generator, n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    labels = np.tile(["a", "b", "c"], n // 3)
    return 10 * np.eye(3)[np.searchsorted(["a", "b", "c"], labels)] + rng.normal(size=(n, 3)), labels


def test_islands_are_found_and_agree_with_their_names(rng: np.random.Generator) -> None:
    z, labels = islands(rng)
    assert measure.agreement(measure.clusters(z, 3), labels) == {"NMI": pytest.approx(1), "ARI": pytest.approx(1)}


def test_shuffled_names_agree_by_chance(rng: np.random.Generator) -> None:
    z, labels = islands(rng, 900)
    found = measure.agreement(measure.clusters(z, 3), rng.permutation(labels))
    assert found["ARI"] == pytest.approx(0, abs=0.01)
    assert found["NMI"] == pytest.approx(0, abs=0.02)


def test_one_cluster_for_all_says_nothing() -> None:
    assert measure.agreement(np.zeros(6, int), np.array(list("aabbcc"))) == {"NMI": 0, "ARI": 0}


def test_fewer_points_than_clusters() -> None:
    assert len(np.unique(measure.clusters(np.zeros((5, 2)), 3))) == 1
    assert sorted(measure.clusters(np.eye(2), 3)) == [0, 1]


def test_separation_is_the_scaled_silhouette(rng: np.random.Generator) -> None:
    z, labels = islands(rng)
    assert measure.separation(z, labels) == pytest.approx((silhouette_samples(z, labels).mean() + 1) / 2)
    assert measure.separation(z * 1e-3 + 10 * np.eye(3)[np.searchsorted(["a", "b", "c"], labels)], labels) > 0.99
    assert measure.separation(z, rng.permutation(labels)) == pytest.approx(0.5, abs=0.05)
    assert np.isnan(measure.separation(z, np.array(["a"] * len(z))))
