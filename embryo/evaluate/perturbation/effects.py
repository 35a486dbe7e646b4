"""Scores of predicted effects in closed form: correlation, retrieval, signs, coverage, error against abstention."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit
from scipy.stats import false_discovery_control, ttest_ind

CHANCE = 0.5
_LEVEL = 0.9  # of the intervals whose coverage is asked
_LEAST = 0.01  # share of a fate below which nothing is asked of it


def log_fold_change(
    edited: Float[np.ndarray, "*#draws genes"], wild: Float[np.ndarray, "*#draws genes"], floor: float
) -> Float[np.ndarray, "*#draws genes"]:
    """Return ``log2(edited + floor) - log2(wild + floor)`` of levels in units of a gene's own scale."""
    return np.asarray(np.log2(np.maximum(edited, 0) + floor) - np.log2(np.maximum(wild, 0) + floor))


def pearson(a: Float[np.ndarray, "*draws n"], b: Float[np.ndarray, "*draws n"]) -> Float[np.ndarray, "*draws"]:
    """Return Pearson's correlation along the last axis; 0 where either does not vary: it says nothing."""
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    size = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.asarray(np.where(size > 1e-12, (a * b).sum(axis=-1) / np.maximum(size, 1e-12), 0.0))


def retrieval(predicted: Float[np.ndarray, " n"], truths: Float[np.ndarray, "edits n"], own: int) -> float:
    """Return the share of the other edits whose true effect is less like the prediction (cosine) than the own one.

    1 is the best, 0.5 is chance and what a prediction of no effect scores; ties count half; NaN for a single edit.
    """
    if len(truths) < 2:
        return float("nan")
    if np.linalg.norm(predicted) < 1e-9:
        return CHANCE
    cosine = truths @ predicted / (np.maximum(np.linalg.norm(truths, axis=1), 1e-12) * np.linalg.norm(predicted))
    others = np.delete(cosine, own)
    return float(np.mean((cosine[own] > others) + 0.5 * (cosine[own] == others)))


def changed(
    edited: list[Float[np.ndarray, "_ n"]], wild: Float[np.ndarray, "_ n"], *, level: float = 0.05
) -> Int[np.ndarray, "edits n"]:
    """Return 1 where an edit truly raises a quantity, -1 where it lowers it, 0 where that is not shown.

    Welch's t-test over embryos, Benjamini and Hochberg over all edits and quantities; give shares as `angles`.
    """
    p = np.ones((len(edited), wild.shape[1]))
    for k, values in enumerate(edited):
        if len(values) > 1 and len(wild) > 1:
            with np.errstate(divide="ignore", invalid="ignore"):
                for f in np.flatnonzero((np.ptp(values, axis=0) > 0) | (np.ptp(wild, axis=0) > 0)):
                    p[k, f] = ttest_ind(values[:, f], wild[:, f], equal_var=False).pvalue
    q = false_discovery_control(np.nan_to_num(p, nan=1.0).ravel()).reshape(p.shape)
    sign = np.sign(np.stack([values.mean(axis=0) for values in edited]) - wild.mean(axis=0))
    return np.asarray(np.where(q < level, sign, 0), dtype=np.int64)


def angles(shares: Float[np.ndarray, "embryos fates"]) -> Float[np.ndarray, "embryos fates"]:
    """Return arcsine-root shares, whose spread depends little on the share."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(shares, 0, 1))))


def sign_auroc(
    score: Float[np.ndarray, " n"], sign: Int[np.ndarray, " n"], weights: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, " draws"]:
    """Return the probability that what truly rises scores higher than what falls, for each draw of weights.

    Both classes count the same whatever their sizes; NaN where either is empty.
    """
    up, down = sign > 0, sign < 0
    above = (score[up][:, None] > score[down]) + 0.5 * (score[up][:, None] == score[down])
    a, b = weights[:, up], weights[:, down]
    total = a.sum(axis=1) * b.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, np.einsum("du,uv,dv->d", a, above.astype(float), b) / total, np.nan))


def coverage(members: Float[np.ndarray, "seeds fates"], truth: Float[np.ndarray, "embryos fates"]) -> float:
    """Return how many of the true shares lie in the 90 % interval that the members predict for one further embryo.

    The interval is ``mean ± t(n - 1) s sqrt(1 + 1/n)``, the normal law's prediction interval. Fates that neither holds
    at 1 % are not asked. NaN with fewer than three members.
    """
    n = len(members)
    asked = np.maximum(members.mean(axis=0), truth.max(axis=0)) >= _LEAST
    if n < 3 or not asked.any():
        return float("nan")
    half = stdtrit(n - 1, 0.5 + _LEVEL / 2) * members.std(axis=0, ddof=1) * np.sqrt(1 + 1 / n)
    inside: Bool[np.ndarray, "embryos fates"] = np.abs(truth - members.mean(axis=0)) <= half + 1e-12
    return float(inside[:, asked].mean())


def error_at_coverage(error: Float[np.ndarray, " n"], doubt: Float[np.ndarray, " n"], share: float) -> float:
    """Return the mean error of the surest `share` of the predictions; equal doubts share their error."""
    values, member = np.unique(doubt, return_inverse=True)
    level = np.bincount(member, weights=error) / np.bincount(member) if len(values) else error
    ordered = np.sort(doubt)
    kept = max(1, round(share * len(error)))
    return float(np.mean([level[np.searchsorted(values, d)] for d in ordered[:kept]]))


def area_under_risk(error: Float[np.ndarray, " n"], doubt: Float[np.ndarray, " n"]) -> float:
    """Return the mean error over all coverages, over that of answering at random: 1 says that doubt tells nothing."""
    n = len(error)
    if n < 2 or not error.mean() > 0:
        return float("nan")
    return float(np.mean([error_at_coverage(error, doubt, k / n) for k in range(1, n + 1)]) / error.mean())
