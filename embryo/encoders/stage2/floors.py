"""Held-out error of Stage 2 in hours, beside its floors: the training mean, a ridge on PCA, a random frozen body.

The mean and the ridge know the true time of the context, which the network must read off its cells. Errors are averaged
over the cells of an embryo, then over embryos, for each seed; the verdict is paired by embryo.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float

from embryo.encoders.maxtoki import MaxToki
from embryo.encoders.pca import PCA
from embryo.encoders.stage2.grammar import Grammar
from embryo.encoders.stage2.model import Stage2
from embryo.encoders.stage2.series import Question, Role, Series, Split
from embryo.encoders.stage2.training import Report, Settings, train_series

MODEL, MEAN, RIDGE, RANDOM = "stage 2", "train mean", "ridge on PCA", "random body, frozen"
_DIMS = 50  # components of the ridge
_SURE = 0.95


@dataclass(frozen=True)
class Comparison:
    """Errors on held-out stages.

    Parameters
    ----------
    table
        One row per model, seed, role, stage and embryo: ``model``, ``seed``, ``role``, ``stage_h``, ``embryo``,
        ``cells``, ``error_h`` (mean absolute error of the hours since the context).
    weights
        ``random`` or ``pretrained``: of Stage 1.
    """

    table: pd.DataFrame
    weights: str

    def summary(self) -> pd.DataFrame:
        """Return one row per model and role: ``error_h``, its lowest and highest seed, ``embryos``, ``seeds``."""
        each = self.table.groupby(["role", "model", "seed"], sort=False)["error_h"].mean()
        found = each.groupby(["role", "model"], sort=False).agg(["mean", "min", "max", "count"]).reset_index()
        found.columns = pd.Index(["role", "model", "error_h", "lowest", "highest", "seeds"])
        found["embryos"] = [self.table.loc[self.table["role"] == role, "embryo"].nunique() for role in found["role"]]
        return found

    def verdict(self, role: Role) -> str:
        """Return how Stage 2 stands against its best floor, paired by embryo."""
        from scipy.stats import ttest_1samp  # noqa: PLC0415  heavy

        part = self.table[self.table["role"] == role]
        by_embryo = part.pivot_table(index="embryo", columns="model", values="error_h", aggfunc="mean")
        floor = str(by_embryo.drop(columns=MODEL).mean().idxmin())
        better = by_embryo[floor] - by_embryo[MODEL]
        told = f"{better.mean():+.3g} h against {floor}"
        if len(better) < 2:
            return f"not shown to be better than {floor} ({told}, one embryo, no interval)"
        if np.ptp(better) == 0:
            low = high = float(better.iloc[0])
        else:
            low, high = map(float, ttest_1samp(better, 0.0).confidence_interval(_SURE))
        told = f"{told}, {_SURE:.0%} {low:.3g} to {high:.3g} over {len(better)} embryos"
        return f"better than {floor} ({told})" if low > 0 else f"not better than {floor} ({told})"

    def __str__(self) -> str:
        lines = [f"Error on held-out stages, hours; Stage 1 weights: {self.weights}"]
        for row in self.summary().itertuples():
            lines.append(f"  {row.role:4}  {row.model:20}  {row.error_h:8.3f}  ({row.lowest:.3f} to {row.highest:.3f})")
        lines += [f"  {role}: {self.verdict(role)}" for role in dict.fromkeys(self.table["role"])]
        return "\n".join(lines)


def compare(
    encoder: MaxToki,
    adata: AnnData,
    split: Split,
    settings: Settings | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Report | None = None,
) -> Comparison:
    """Train Stage 2 and its floors for every seed, and compare them on the held-out stages.

    Parameters
    ----------
    encoder, adata, split, settings, progress
        As in `embryo.encoders.stage2.train`.
    seeds
        Of training, of the floors and of the questions.
    """
    settings = settings or Settings()
    series = Series.read(encoder, adata, split, settings.tokens_per_cell)
    expected = ridge(series, adata)
    rows = []
    for seed in seeds:
        each = replace(settings, seed=seed)
        trained = train_series(encoder, series, split, each, progress=progress)
        floor = train_series(encoder, series, split, replace(each, frozen=True), progress=progress, random=True)
        for role in ("val", "test"):
            questions = series.questions(role, settings.context, seed)
            answers = {
                MODEL: answer(trained, series, questions),
                RANDOM: answer(floor, series, questions),
                RIDGE: since(series, questions, expected),
                MEAN: since(series, questions, np.full(len(series.time_h), _mean_time(series))),
            }
            for model, hours in answers.items():
                rows += _errors(model, hours, series, questions, {"seed": seed, "role": role})
    return Comparison(pd.DataFrame(rows), encoder.weights.kind)


def answer(trained: Stage2, series: Series, questions: Sequence[Question]) -> Float[np.ndarray, " questions"]:
    """Return what a trained network says to questions."""
    grammar: Grammar = trained.grammar
    return trained.hours([series.sentence(grammar, question) for question in questions])


def since(
    series: Series, questions: Sequence[Question], expected: Float[np.ndarray, " cells"]
) -> Float[np.ndarray, " questions"]:
    """Return the hours from the true time of each context to the `expected` time of its query."""
    return np.array([expected[q.query] - series.time_h[q.context[-1]] for q in questions], dtype=np.float64)


def ridge(series: Series, adata: AnnData) -> Float[np.ndarray, " cells"]:
    """Return the time of every cell as a ridge on principal components tells it, both fitted on training cells."""
    from sklearn.linear_model import RidgeCV  # noqa: PLC0415  heavy
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    train = series.of("train")
    fitted = PCA(min(_DIMS, len(train) - 1, adata.n_vars)).fit(adata[train].copy())
    z = fitted.encode(adata)
    scale = StandardScaler().fit(z[train])
    line = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(scale.transform(z[train]), series.time_h[train])
    return np.asarray(line.predict(scale.transform(z)), dtype=np.float64)


def _mean_time(series: Series) -> float:
    """Return the mean of the training stages, each counted once, as training draws them."""
    return float(np.mean([series.time_h[rows].mean() for rows in series.stages()]))


def _errors(
    model: str, hours: Float[np.ndarray, " questions"], series: Series, questions: Sequence[Question], about: dict
) -> list[dict]:
    """Return mean absolute errors by stage and embryo."""
    query = [question.query for question in questions]
    frame = pd.DataFrame(
        {
            "stage_h": np.round(series.time_h[query], 3),
            "embryo": series.embryo[query],
            "error_h": np.abs(hours - np.array([series.label(question) for question in questions])),
        }
    )
    found = frame.groupby(["stage_h", "embryo"], sort=True)["error_h"].agg(["mean", "size"]).reset_index()
    return [
        {"model": model, **about, "stage_h": stage, "embryo": embryo, "cells": int(n), "error_h": float(error)}
        for stage, embryo, error, n in found.itertuples(index=False)
    ]
