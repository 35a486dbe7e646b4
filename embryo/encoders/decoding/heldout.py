"""The error on cells that a fit did not see, always beside that of the train mean."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

Expression: TypeAlias = np.ndarray | sparse.csr_array

_WORTH = 0.01  # share of the floor's squared error: a smaller gain is not told from none


@dataclass(frozen=True)
class HeldOut:
    """How well expression is predicted in cells that the fit for this number did not see.

    Parameters
    ----------
    rmse, floor
        Root mean square error over held-out cells and genes, of the prediction and of the mean of the same training
        cells; log1p units.
    r2
        ``1 - squared error / squared error of the train mean``, pooled over genes; 0 is the train mean.
    r2_median
        The same for each gene alone, median over the genes that vary.
    folds
        Number of folds.
    better
        Number of folds in which the prediction is nearer than the train mean.
    by
        What a fold holds out: ``"embryo"``, or ``"cell"`` where only one embryo is known (its cells are not
        independent: the error is too small).
    subject
        What predicts, for the line.
    """

    rmse: float
    floor: float
    r2: float
    r2_median: float
    folds: int
    better: int
    by: str
    subject: str = "decoder"

    @property
    def beats_floor(self) -> bool:
        """Whether it is nearer than the train mean in every fold, and by at least a hundredth of its squared error."""
        return self.better == self.folds and self.r2 >= _WORTH

    def __str__(self) -> str:
        folds = f"{self.folds} fold{'s' if self.folds > 1 else ''} by {self.by}"
        line = f"{self.subject}: held-out RMSE {self.rmse:.3g} against {self.floor:.3g} of the train mean ({folds})"
        return line if self.beats_floor else f"{line}: not better than the train mean"


def measure(
    errors: Sequence[Float[np.ndarray, "two genes"]], *, test_cells: int, by: str, subject: str = "decoder"
) -> HeldOut:
    """Sum up squared errors of folds.

    Parameters
    ----------
    errors
        Per fold, the squared error of each gene summed over the held-out cells: of the prediction and of the train
        mean.
    test_cells
        Held-out cells of all folds.
    by, subject
        See `HeldOut`.
    """
    each = np.stack(errors)
    ours, floor = each.sum(axis=0)
    varies = floor > 0
    rmse, floor_rmse = (float(np.sqrt(e.sum() / (test_cells * each.shape[2]))) for e in (ours, floor))
    return HeldOut(
        rmse=rmse,
        floor=floor_rmse,
        r2=float(1 - ours.sum() / floor.sum()) if varies.any() else 0.0,
        r2_median=float(np.median(1 - ours[varies] / floor[varies])) if varies.any() else 0.0,
        folds=len(each),
        better=int((each[:, 0].sum(axis=1) < each[:, 1].sum(axis=1)).sum()),
        by=by,
        subject=subject,
    )


def squared_errors(
    predicted: Iterable[Float[np.ndarray, "_ genes"]], y: Expression, mean: Float[np.ndarray, " genes"]
) -> Float[np.ndarray, "two genes"]:
    """Return the squared error of each gene, summed over cells: of predictions (blocks of rows) and of `mean`."""
    total, at = np.zeros((2, y.shape[1])), 0
    for block in predicted:
        truth = dense(y[at : at + len(block)])
        total += np.stack([((block - truth) ** 2).sum(axis=0), ((mean - truth) ** 2).sum(axis=0)])
        at += len(block)
    return total


def split_groups(
    codes: Int[np.ndarray, " cells"], folds: int, seed: int
) -> Iterator[tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]]:
    """Yield rows of (train, test): whole groups are held out, or cells where there is one group only."""
    from sklearn.model_selection import GroupKFold, KFold  # noqa: PLC0415  heavy

    groups = len(np.unique(codes))
    if groups > 1:
        yield from GroupKFold(min(folds, groups)).split(codes, groups=codes)
    else:
        yield from KFold(min(folds, len(codes) // 2), shuffle=True, random_state=seed).split(codes)


def set_aside(
    codes: Int[np.ndarray, " cells"], seed: int
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " aside"]]:
    """Return rows of (train, set aside): about a tenth of the cells, whole groups where there are several."""
    tenth = len(codes) / 10
    return min(split_groups(codes, 10, seed), key=lambda parts: abs(len(parts[1]) - tenth))


def dense(y: Expression) -> np.ndarray:
    """Return the matrix written out, float64."""
    return np.asarray(y.toarray() if isinstance(y, sparse.csr_array) else y, dtype=np.float64)


def column_mean(y: Expression) -> np.ndarray:
    """Return the mean of each column."""
    return np.asarray(y.mean(axis=0), dtype=np.float64).ravel()
