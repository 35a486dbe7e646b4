"""Held-out error of Stage 2 in hours, beside its floors: the training mean, a ridge on PCA, random bodies.

One random body is trained as the model is, so that only what Stage 1 learned is between them; the other is frozen. The
mean and the ridge know the true time of the context, which the network must read off its cells. Errors are averaged
over the cells of an embryo, then over embryos, for each seed; the verdict is paired by embryo.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float

from embryo.core import store
from embryo.encoders.maxtoki import MaxToki
from embryo.encoders.pca import PCA
from embryo.encoders.stage2.grammar import Grammar
from embryo.encoders.stage2.model import Stage2
from embryo.encoders.stage2.series import Question, Role, Series, Split
from embryo.encoders.stage2.training import Report, Settings, fingerprint, train_series

MODEL, MEAN, RIDGE = "stage 2", "train mean", "ridge on PCA"
ALIKE, FROZEN = "random body, trained alike", "random body, frozen"
JUDGED = "judged"
_HELD: tuple[Role, ...] = ("val", "test")
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
            lines.append(f"  {row.role:4}  {row.model:26}  {row.error_h:8.3f}  ({row.lowest:.3f} to {row.highest:.3f})")
        lines += [f"  {role}: {self.verdict(role)}" for role in dict.fromkeys(self.table["role"])]
        return "\n".join(lines)


def compare(
    encoder: MaxToki,
    adata: AnnData,
    split: Split,
    settings: Settings | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    folder: str | Path | None = None,
    progress: Report | None = None,
) -> Comparison:
    """Train Stage 2 and its floors for every seed, and compare them on the held-out stages.

    Parameters
    ----------
    encoder, adata, split, settings, progress
        As in `embryo.encoders.stage2.train`.
    seeds
        Of training, of the floors and of the questions.
    folder
        Keeps the first seed's Stage 2, as `embryo.encoders.stage2.train` does, and every network's errors once it is
        trained. A comparison that was stopped goes on; what is there already, by `train` or otherwise, is taken if
        data, settings and weights are the same.
    """
    settings = settings or Settings()
    series = Series.read(encoder, adata, split, settings.tokens_per_cell)
    guesses = {RIDGE: ridge(series, adata), MEAN: np.full(len(series.time_h), _mean_time(series))}
    bench = _Bench(encoder, series, split, None if folder is None else Path(folder), progress)
    rows = []
    for seed in seeds:
        for name, (how, random) in _networks(replace(settings, seed=seed)).items():
            rows += bench.trained(name, how, random=random, kept=name == MODEL and seed == seeds[0])
        rows += bench.guessed(guesses, settings.context, seed)
    return Comparison(pd.DataFrame(rows), encoder.weights.kind)


def _networks(settings: Settings) -> dict[str, tuple[Settings, bool]]:
    """Return how each network is trained, and whether its body is random; no two are the same."""
    frozen = replace(settings, frozen=True)
    alike = {} if settings.frozen else {ALIKE: (settings, True)}
    return {MODEL: (settings, False), **alike, FROZEN: (frozen, True)}


@dataclass(frozen=True)
class _Bench:
    """Where networks and guesses are judged on the same questions."""

    encoder: MaxToki
    series: Series
    split: Split
    folder: Path | None
    progress: Report | None

    def trained(self, name: str, settings: Settings, *, random: bool, kept: bool) -> list[dict[str, Any]]:
        """Return the errors of a network, out of the folder where it was judged before; `kept`, the network stays."""
        key = fingerprint(self.encoder, self.series, settings, random=random, roles=("train", *_HELD))
        about = f"{name.replace(',', '').replace(' ', '-')}-{settings.seed}"
        page = None if self.folder is None else self.folder / JUDGED / f"{about}.json"
        before = _before(page, key)
        if before is not None and not kept:
            return before
        place = self.folder if kept or self.folder is None else self.folder / JUDGED / about
        network = train_series(
            self.encoder, self.series, self.split, settings, folder=place, progress=self.progress, random=random
        )
        if before is not None:
            return before
        rows = []
        for role, questions in self._asked(settings.context, settings.seed).items():
            hours = answer(network, self.series, questions)
            rows += _errors(name, hours, self.series, questions, {"seed": settings.seed, "role": role})
        if page is not None:
            store.write_json({"key": key, "rows": rows}, page)
        if place is not None and not kept:
            shutil.rmtree(place)
        return rows

    def guessed(
        self, guesses: Mapping[str, Float[np.ndarray, " cells"]], context: int, seed: int
    ) -> list[dict[str, Any]]:
        """Return the errors of guesses of every cell's time."""
        rows = []
        for role, questions in self._asked(context, seed).items():
            for name, expected in guesses.items():
                hours = since(self.series, questions, expected)
                rows += _errors(name, hours, self.series, questions, {"seed": seed, "role": role})
        return rows

    def _asked(self, context: int, seed: int) -> dict[Role, list[Question]]:
        return {role: self.series.questions(role, context, seed) for role in _HELD}


def _before(page: Path | None, key: str) -> list[dict[str, Any]] | None:
    """Return the errors that were kept under this key; None where there are none."""
    if page is None or not page.is_file():
        return None
    record = store.read_json(page)
    return list(record["rows"]) if isinstance(record, dict) and record.get("key") == key else None


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
