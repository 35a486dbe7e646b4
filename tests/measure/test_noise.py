import numpy as np
from scipy import sparse

from embryo import measure


def test_halves_sum_to_the_whole_and_are_independent(rng: np.random.Generator) -> None:
    """Thinned Poisson counts are independent Poisson counts of half the mean (a textbook fact)."""
    whole = rng.poisson(20.0, (200, 100))
    one, other = measure.halves(sparse.csr_matrix(whole), seed=3)
    np.testing.assert_array_equal((one + other).toarray(), whole)
    a, b = one.toarray().ravel(), other.toarray().ravel()
    assert abs(a.mean() - 10) < 0.1
    assert abs(a.var() - 10) < 0.3
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_the_same_seed_gives_the_same_halves(rng: np.random.Generator) -> None:
    whole = rng.poisson(3.0, (20, 10))
    np.testing.assert_array_equal(measure.halves(whole)[0].toarray(), measure.halves(whole)[0].toarray())
    assert (measure.halves(whole)[0] != measure.halves(whole, seed=1)[0]).nnz
