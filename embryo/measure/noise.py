"""The noise of counting: two measurements of the same cell, out of one."""

from typing import Any

import numpy as np
from scipy import sparse


def halves(counts: Any, *, seed: int = 0) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Split every count into two by fair coins: binomial thinning.

    Given the cell's true levels, counts are Poisson to a good approximation, and then the halves are independent of
    each other: two measurements of one cell, each at half the depth.

    Parameters
    ----------
    counts
        Whole numbers, cells x genes.
    seed
        Seed of the coins.

    Returns
    -------
    tuple of csr_array
        Two matrices that sum to `counts`, float64.
    """
    whole = sparse.csr_array(counts, dtype=np.float64)
    one, other = whole.copy(), whole.copy()
    one.data = np.random.default_rng(seed).binomial(whole.data.astype(np.int64), 0.5).astype(np.float64)
    other.data = whole.data - one.data
    for half in (one, other):
        half.eliminate_zeros()
    return one, other
