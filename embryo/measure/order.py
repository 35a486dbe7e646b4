"""Whether neighbours in an embedding are neighbours in time."""

import numpy as np
from jaxtyping import Float


def sequential_order(
    z: Float[np.ndarray, "queries dims"],
    times: Float[np.ndarray, " queries"],
    reference_z: Float[np.ndarray, "cells dims"],
    reference_times: Float[np.ndarray, " cells"],
    *,
    neighbours: int = 15,
) -> float:
    """Return how much nearer in time a cell's nearest reference cells are than reference cells drawn at random.

    ``1 - mean |t(cell) - t(neighbour)| / mean |t(cell) - t(any reference cell)|``: 1 where neighbours are of the same
    time, 0 where they are as if drawn at random, below 0 where worse. The idea of the task "sequential organization"
    of cz-benchmarks (15 neighbours, normalised to random); the formula is ours, and is not cut off at 0.

    Parameters
    ----------
    z, times
        Embeddings and times of the cells judged.
    reference_z, reference_times
        Cells among which neighbours are sought: of other embryos, so that what one embryo shares does not help.
    neighbours
        How many neighbours; never more than there are.

    Returns
    -------
    float
        NaN where all reference cells and all judged cells are of one time.
    """
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  heavy

    at_random = float(np.abs(times[:, None] - reference_times).mean())
    if at_random == 0:
        return float("nan")
    near = NearestNeighbors(n_neighbors=min(neighbours, len(reference_z))).fit(reference_z)
    found = reference_times[near.kneighbors(z, return_distance=False)]
    return 1 - float(np.abs(times[:, None] - found).mean()) / at_random
