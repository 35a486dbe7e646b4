"""What can be read off embeddings: labels by nearest neighbours or a linear model, times by an ordered regression."""

import warnings
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

Method = Literal["kNN", "logistic"]
PENALTIES = (0.01, 0.1, 1.0)  # inverse strength C of the logistic probe's penalty
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # strength of the ridge probe's penalty
_INNER, _STEPS = 3, 300


def read_labels(
    method: Method,
    reference: tuple[Float[np.ndarray, "cells dims"], Shaped[np.ndarray, " cells"], Shaped[np.ndarray, " cells"]],
    z: Float[np.ndarray, "queries dims"],
    *,
    neighbours: int = 15,
) -> Shaped[np.ndarray, " queries"]:
    """Return the label of each query cell as a probe fitted on reference cells reads it.

    Parameters
    ----------
    method
        ``"kNN"``: vote of the nearest reference cells (Euclidean, as it stands). ``"logistic"``: multinomial logistic
        regression on features standardised over the reference, classes weighed alike; its penalty (one of
        `PENALTIES`) is chosen by the balanced accuracy on groups left out of the reference.
    reference
        Embeddings, labels and groups (embryos) of the cells that the probe is fitted on. The query cells' own labels
        are never seen.
    z
        Embeddings of the query cells.
    neighbours
        How many neighbours vote; never more than there are.
    """
    from sklearn.dummy import DummyClassifier  # noqa: PLC0415  heavy
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415

    fit_z, labels, groups = reference
    if len(np.unique(labels)) < 2:
        return np.asarray(DummyClassifier().fit(fit_z, labels).predict(z))
    if method == "kNN":
        return np.asarray(KNeighborsClassifier(min(neighbours, len(fit_z))).fit(fit_z, labels).predict(z))
    with warnings.catch_warnings():
        _quiet()
        return np.asarray(_logistic(fit_z, labels, groups).predict(z))


def read_times(
    reference: tuple[Float[np.ndarray, "cells dims"], Float[np.ndarray, " cells"], Shaped[np.ndarray, " cells"]],
    z: Float[np.ndarray, "queries dims"],
) -> Float[np.ndarray, " queries"]:
    """Return the time of each query cell (unit of the reference) by ridge regression on standardised features.

    Times are regressed as numbers, so that order and distance between stages count; the penalty (one of `ALPHAS`) is
    chosen by the squared error on groups left out of the reference.

    Parameters
    ----------
    reference
        Embeddings, times and groups (embryos) of the cells that the probe is fitted on.
    z
        Embeddings of the query cells.
    """
    from sklearn.linear_model import RidgeCV  # noqa: PLC0415  heavy
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    fit_z, times, groups = reference
    splits = _inner(groups)
    model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, cv=splits, scoring="neg_mean_squared_error"))
    return np.asarray(model.fit(fit_z, times).predict(z), dtype=float)


def balanced_accuracy(truth: Shaped[np.ndarray, " cells"], read: Shaped[np.ndarray, " cells"]) -> float:
    """Return the mean over the labels that occur of the share of their cells read right; NaN without cells.

    1 is perfect; always saying one of n labels that all occur scores 1/n, however rare or common they are.
    """
    from sklearn.metrics import recall_score  # noqa: PLC0415  heavy

    if not len(truth):
        return float("nan")
    return float(recall_score(truth, read, labels=np.unique(truth), average="macro", zero_division=0))


def _logistic(z: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  heavy
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    def model(penalty: float) -> Any:
        fit = LogisticRegression(C=penalty, class_weight="balanced", max_iter=_STEPS)
        return make_pipeline(StandardScaler(), fit)

    def score(penalty: float) -> float:
        found = []
        for fit, held in _inner(groups):
            if len(np.unique(labels[fit])) > 1:
                found.append(balanced_accuracy(labels[held], model(penalty).fit(z[fit], labels[fit]).predict(z[held])))
        return float(np.mean(found)) if found else 0.0

    return model(max(PENALTIES, key=score)).fit(z, labels)


def _inner(groups: np.ndarray) -> list[tuple[Int[np.ndarray, " fit"], Int[np.ndarray, " held"]]]:
    """Return splits of the reference: whole groups together where there are at least two, else thirds of the cells."""
    from sklearn.model_selection import GroupKFold, KFold  # noqa: PLC0415  heavy

    n = len(np.unique(groups))
    if n < 2:
        return list(KFold(min(_INNER, len(groups)), shuffle=True, random_state=0).split(groups))
    return list(GroupKFold(min(_INNER, n)).split(groups, groups=groups))


def _quiet() -> None:
    """Let a probe that ends at its last step pass: it is the probe that is stated, steps and all."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

    warnings.filterwarnings("ignore", category=ConvergenceWarning)
