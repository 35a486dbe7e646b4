"""Whole embryos held out in turn."""

from collections.abc import Sequence

import numpy as np


def dealt(embryos: Sequence[str], n: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Deal embryos to `n` folds of nearly equal size, each embryo to one.

    Whatever is computed across embryos (clock, alignment, assembled expression, encoder) is to be made anew for each
    fold, without the embryos that it holds out.

    Parameters
    ----------
    embryos
        Names; their order does not matter.
    n
        Number of folds, at most one per embryo.
    seed
        Of the shuffle.
    """
    names = np.random.default_rng(seed).permutation(sorted(embryos))
    return [tuple(sorted(map(str, part))) for part in np.array_split(names, min(n, len(names)))]
