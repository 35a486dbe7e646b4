"""Which fates the cells have, and in which shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from scipy.spatial.distance import braycurtis

from embryo.core.errors import Problem, SchemaError
from embryo.measure.arrays import cloud

_FOLDS = 5


def composition(
    labels: Shaped[np.ndarray, " cells"], mass: Float[np.ndarray, " cells"], categories: Sequence[str]
) -> pd.Series:
    """Share of the cells that each category holds, weighted by mass.

    Parameters
    ----------
    labels
        Fate of each particle.
    mass
        Cells per particle.
    categories
        All categories, in the order of the result; absent ones get 0.

    Returns
    -------
    pd.Series
        Fractions, indexed by category; they sum to 1.

    Raises
    ------
    SchemaError
        If a label is not among the categories, or no cell has mass.
    """
    _, weights = cloud(np.zeros((len(labels), 0)), mass, "composition")
    codes = pd.Categorical(labels, categories=list(categories)).codes
    if (codes < 0).any():
        unknown = sorted({str(label) for label in labels[codes < 0]})
        raise SchemaError(
            Problem(f"labels {unknown}", f"labels among {list(categories)}", "name every category"),
            subject="composition",
        )
    share = np.bincount(codes, weights=weights, minlength=len(categories)) / weights.sum()
    return pd.Series(share, index=list(categories), name="fraction")


def bray_curtis(p: pd.Series, q: pd.Series) -> float:
    """Bray-Curtis distance of two compositions, ``sum |p - q| / sum (p + q)``: 0 for the same, 1 for no shared fate.

    Parameters
    ----------
    p, q
        Fractions (or numbers) indexed by category; a category that one lacks counts as 0 there.

    Returns
    -------
    float
        The distance; NaN where both are empty.
    """
    p, q = p.align(q, fill_value=0.0)
    a, b = p.to_numpy(dtype=float), q.to_numpy(dtype=float)
    return float(braycurtis(a, b)) if (a + b).sum() > 0 else float("nan")


@dataclass(frozen=True)
class FateClassifier:
    """Reads fates off embeddings by the nearest training cells; made by `fates`.

    Parameters
    ----------
    fates
        Names of the fates, in the order of `proba`'s columns.
    model
        The fitted scikit-learn classifier.
    error
        Share of training cells read wrongly in cross-validation: how far the read-out itself can be trusted.
    chance
        The same share when always guessing the most frequent fate of the training folds: the floor of `error`.
    by_fate
        Per fate: ``cells``, ``recall`` (share of its cells read as it) and ``precision`` (share of the cells read as
        it that are it; NaN where none is), from the same cross-validation.
    validated_on
        What was held out: whole embryos, or only cells of embryos also seen in training (optimistic).
    """

    fates: tuple[str, ...]
    model: Any
    error: float
    chance: float
    by_fate: pd.DataFrame
    validated_on: str

    def predict(self, z: Float[np.ndarray, "cells dims"]) -> Shaped[np.ndarray, " cells"]:
        """Return the most frequent fate among the nearest training cells of each cell."""
        return np.asarray(self.model.predict(z))

    def proba(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells fates"]:
        """Return the share of each fate among the nearest training cells."""
        return np.asarray(self.model.predict_proba(z), dtype=float)

    def __str__(self) -> str:
        return (
            f"fates read from {self.model.n_neighbors} nearest of {self.model.n_samples_fit_} training cells: "
            f"{self.error:.1%} of cells wrong on {self.validated_on} (always the commonest fate: {self.chance:.1%})"
        )


def fates(
    reference_z: Float[np.ndarray, "cells dims"],
    reference_labels: Shaped[np.ndarray, " cells"],
    *,
    neighbours: int = 15,
    groups: Shaped[np.ndarray, " cells"] | None = None,
    max_cells: int = 20_000,
    seed: int = 0,
) -> FateClassifier:
    """Fit the fate read-out on training cells and measure its own error on held-out embryos.

    Parameters
    ----------
    reference_z
        Embeddings of training cells.
    reference_labels
        Their fates; cells with an empty or missing label are left out.
    neighbours
        How many nearest cells vote; never more than there are.
    groups
        Embryo of each cell. With two or more embryos the error is that on embryos the voters do not come from;
        else cells are held out at random, which is optimistic and is said so.
    max_cells
        Larger references are subsampled uniformly to this many cells.
    seed
        Seed of the subsample and of the random folds.

    Raises
    ------
    SchemaError
        If an embedding is not finite, or fewer than two cells have a label.
    """
    cloud(reference_z, None, "fate reference")
    labelled = np.flatnonzero(~pd.isna(reference_labels) & (reference_labels.astype(str) != ""))
    if len(labelled) < 2:
        raise SchemaError(
            Problem(f"{len(labelled)} labelled cells", "two or more", "annotate cell types in the training embryos"),
            subject="fate reference",
        )
    rng = np.random.default_rng(seed)
    if len(labelled) > max_cells:
        labelled = np.sort(rng.choice(labelled, max_cells, replace=False))
    z, labels = np.asarray(reference_z[labelled], dtype=float), reference_labels[labelled].astype(str)
    folds, validated_on = _folds(len(z), None if groups is None else groups[labelled], rng)
    read, guessed = _cross_validate(z, labels, neighbours, folds)
    model = _neighbours(z, labels, neighbours)
    return FateClassifier(
        tuple(map(str, model.classes_)),
        model,
        float((read != labels).mean()),
        float((guessed != labels).mean()),
        _by_fate(labels, read),
        validated_on,
    )


def _neighbours(z: np.ndarray, labels: np.ndarray, k: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415  slow to import, and only this needs it

    return KNeighborsClassifier(min(k, len(z))).fit(z, labels)


def _folds(n: int, groups: np.ndarray | None, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Return the fold of each cell, whole embryos together where there are at least two."""
    embryos, index = np.unique(groups.astype(str), return_inverse=True) if groups is not None else (None, None)
    if embryos is not None and index is not None and len(embryos) > 1:
        return rng.permutation(len(embryos))[index] % _FOLDS, f"held-out embryos ({len(embryos)} embryos)"
    return rng.permutation(n) % _FOLDS, "held-out cells of embryos also seen in training (optimistic)"


def _cross_validate(z: np.ndarray, labels: np.ndarray, k: int, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each cell the fate read, and the commonest fate, from the other folds."""
    read, guessed = labels.copy(), labels.copy()
    for fold in np.unique(folds):
        test = folds == fold
        read[test] = _neighbours(z[~test], labels[~test], k).predict(z[test])
        names, counts = np.unique(labels[~test], return_counts=True)
        guessed[test] = names[counts.argmax()]
    return read, guessed


def _by_fate(labels: np.ndarray, read: np.ndarray) -> pd.DataFrame:
    right = pd.Series(labels[labels == read]).value_counts()
    truth, named = pd.Series(labels).value_counts(), pd.Series(read).value_counts()
    frame = pd.DataFrame(index=pd.Index(np.unique(labels), name="fate"))
    frame["cells"] = truth.reindex(frame.index)
    hits = right.reindex(frame.index, fill_value=0)
    frame["recall"] = hits / frame["cells"]
    frame["precision"] = hits / named.reindex(frame.index)
    return frame
