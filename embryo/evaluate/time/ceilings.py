"""What no prediction can be expected to beat: one part of the truth against the other, by cells or by embryos."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from embryo.core.table import Interval, interval
from embryo.evaluate.ledger import Metric
from embryo.evaluate.time.clouds import Cloud
from embryo.evaluate.time.scores import NUMBER, TRANSPORTS, Yardstick
from embryo.evaluate.time.series import Series

_FEWEST, _MOST, _WORK = 4, 20, 8000  # splits: as many as come to so many cells together
LEAST = 10  # cells of a half


def splits(cells: int) -> int:
    """Return how many random splits a stage of so many cells is worth: fewer where each is dear and says much."""
    return max(_FEWEST, min(_MOST, _WORK // cells))


def halves(
    training: Series, truth: Series, *, cells: int, transport: int, seed: int = 0
) -> Iterator[tuple[Metric, str, Interval]]:
    """Yield (metric, name, value) of random halves of the true cells against each other, at equal n.

    The floor of a Wasserstein distance falls with the number of cells. Where halves are smaller than what predictions
    are scored on, a second row carries it on to that number by the power law through n/2 and n/4: it is an estimate.

    Parameters
    ----------
    training, truth
        As in `Yardstick`.
    cells, transport
        Limits of the yardstick.
    seed
        Of the splits.

    Yields
    ------
    tuple
        Means over splits with their t-interval.
    """
    rng = np.random.default_rng(seed)
    n = len(truth.states[0])
    if n < 2 * LEAST:
        return
    orders = [rng.permutation(n) for _ in range(splits(n))]
    half = n // 2
    full = [_against(training, truth, o[:half], o[half : 2 * half], (cells, transport)) for o in orders]
    size = min(half, transport)
    wanted = min(n, transport)
    small = max(size // 2, 2)
    for metric in full[0]:
        values = np.array([one[metric] for one in full if metric in one])
        sized = metric in TRANSPORTS
        used = size if sized else min(half, cells)
        yield metric, f"half against half of the truth ({used} against {used} cells)", interval(values)
    if wanted > size:
        few = [(o[:small], o[half : half + small]) for o in orders]
        quarter = [_against(training, truth, *parts, (small, small), only=TRANSPORTS) for parts in few]
        for metric in TRANSPORTS:
            large, less = (np.array([one[metric] for one in many]) for many in (full, quarter))
            power = np.log(wanted / size) / np.log(size / small)
            name = f"half against half of the truth, carried on to {wanted} against {wanted} cells"
            yield metric, name, interval(large * (large.mean() / less.mean()) ** power)


def embryos(
    training: Series, truth: Series, *, cells: int, transport: int, seed: int = 0
) -> Iterator[tuple[Metric, str, Interval]]:
    """Yield (metric, name, value) of random halves of the embryos against each other, at equal numbers of cells.

    Nothing where the truth has one embryo.
    """
    names, member = np.unique(truth.groups[0].astype(str), return_inverse=True)
    if len(names) < 2:
        return
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(splits(len(member))):
        first = np.isin(member, rng.permutation(len(names))[: len(names) // 2])
        one, other = (rng.permutation(np.flatnonzero(side)) for side in (first, ~first))
        n = min(len(one), len(other))
        if n >= LEAST:
            found.append(_against(training, truth, one[:n], other[:n], (cells, transport)))
    for metric in found[0] if found else ():
        values = [scores[metric] for scores in found if metric in scores]
        yield metric, f"half of {len(names)} embryos against the other half", interval(np.array(values))


def _against(
    training: Series,
    truth: Series,
    one: Int[np.ndarray, " cells"],
    other: Int[np.ndarray, " cells"],
    limits: tuple[int, int],
    *,
    only: tuple[Metric, ...] = (),
) -> dict[Metric, float]:
    """Score one part of the truth as a prediction of the other."""
    part = truth.part(np.sort(other))
    yard = Yardstick(training, part, max_cells=limits[0], max_transport=limits[1])
    cloud = Cloud.of(truth.states[0], "truth").level()[np.sort(one)]
    scores = yard.transports(cloud) if only else yard.score(cloud)
    return {metric: score.value for metric, score in scores.items() if metric != NUMBER}
