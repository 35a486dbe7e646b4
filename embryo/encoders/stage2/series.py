"""The user's cells over time, split by whole stages, and the sentences drawn from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from anndata import AnnData
from jaxtyping import Float, Int

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem
from embryo.encoders.maxtoki import MaxToki
from embryo.encoders.stage2.grammar import Grammar

Role: TypeAlias = Literal["train", "val", "test", "left out"]
_QUESTIONS = 13  # a purpose of random numbers, apart from training's


@dataclass(frozen=True)
class Split:
    """Stages that are never trained on.

    Parameters
    ----------
    val, test
        Times of whole stages, hours, matched within `schema.SAME_TIME_H`. An embryo with cells in one of them gives no
        training cell at any other time.
    """

    val: tuple[float, ...] = ()
    test: tuple[float, ...] = ()


@dataclass(frozen=True)
class Question:
    """A sentence to be: cells of a context in order of time, and a query.

    Parameters
    ----------
    context
        Rows of the context.
    query
        Row of the query.
    """

    context: tuple[int, ...]
    query: int


@dataclass(frozen=True)
class Series:
    """Tokens, time, embryo and role of every cell.

    Parameters
    ----------
    cells
        Tokens of each cell.
    time_h
        Developmental time.
    embryo
        Name of each cell's embryo.
    role
        ``train``, ``val``, ``test``, or ``left out``: at a training stage, but of an embryo that is also at a held-out
        one.
    """

    cells: tuple[Int[np.ndarray, " _"], ...]
    time_h: Float[np.ndarray, " cells"]
    embryo: np.ndarray
    role: np.ndarray

    @classmethod
    def read(cls, encoder: MaxToki, adata: AnnData, split: Split, tokens_per_cell: int) -> "Series":
        """Tokenize the cells of a series and split them.

        Raises
        ------
        ConfigError
            If a held-out stage is not in the data or in both sets, or fewer than two training stages are left.
        SchemaError
            If cells have no time, or their counts cannot be read.
        """
        time_h = times(adata)
        if schema.EMBRYO in adata.obs:
            embryo = adata.obs[schema.EMBRYO].astype(str).to_numpy(dtype=object)
        else:
            embryo = np.array([f"{t:g} h" for t in time_h], dtype=object)  # each stage a replicate of its own
        return cls(tokens(encoder, adata, tokens_per_cell), time_h, embryo, roles(time_h, embryo, split))

    def of(self, role: Role) -> Int[np.ndarray, " cells"]:
        """Return the rows with a role."""
        return np.flatnonzero(self.role == role)

    @property
    def span_h(self) -> float:
        """Hours from the first to the last training stage."""
        return float(np.ptp(self.time_h[self.of("train")]))

    def label(self, question: Question) -> float:
        """Return the hours from the last cell of the context to the query; negative where the query is earlier."""
        return float(self.time_h[question.query] - self.time_h[question.context[-1]])

    def sentence(self, grammar: Grammar, question: Question) -> Int[np.ndarray, " tokens"]:
        """Return the tokens of a question about time."""
        cells = [self.cells[row] for row in question.context]
        times_h = [float(self.time_h[row]) for row in question.context]
        return grammar.time_between(cells, times_h, self.cells[question.query])

    def draw(self, rng: np.random.Generator, n: int, context: int) -> list[Question]:
        """Return questions about training cells: stages drawn evenly, then cells of each.

        Parameters
        ----------
        rng
            Generator.
        n
            Number of questions.
        context
            Longest context; its length is drawn from 1 to this.
        """
        stages = list(self.stages())
        return [self._question(rng, stages, int(rng.integers(1, context + 1)), None) for _ in range(n)]

    def questions(self, role: Role, context: int, seed: int, limit: int = 500) -> list[Question]:
        """Return questions about held-out cells behind contexts of training cells; the same for every model.

        Parameters
        ----------
        role
            Whose cells are asked about.
        context
            Length of the contexts.
        seed
            Of contexts and of the cells that are taken where there are too many.
        limit
            Most cells.
        """
        rng, stages = np.random.default_rng((seed, _QUESTIONS)), list(self.stages())
        rows = rng.permutation(self.of(role))[:limit]
        return [self._question(rng, stages, context, int(row)) for row in np.sort(rows)]

    def stages(self) -> Iterator[Int[np.ndarray, " cells"]]:
        """Yield the rows of each training stage, the earliest first."""
        train = self.of("train")
        stage = np.unique(_stage(self.time_h[train]), return_inverse=True)[1]
        yield from (train[stage == k] for k in range(int(stage.max()) + 1))

    @staticmethod
    def _question(rng: np.random.Generator, stages: list[np.ndarray], length: int, query: int | None) -> Question:
        chosen = np.sort(rng.integers(len(stages), size=length))
        context = tuple(int(rng.choice(stages[k])) for k in chosen)
        return Question(context, int(rng.choice(stages[rng.integers(len(stages))])) if query is None else query)


def times(adata: AnnData) -> Float[np.ndarray, " cells"]:
    """Return the time of every cell in hours; `SchemaError` where one has none."""
    schema.require(adata, schema.SNAPSHOT, subject="series")
    return np.asarray(adata.obs[schema.TIME], dtype=np.float64)


def tokens(encoder: MaxToki, adata: AnnData, limit: int) -> tuple[Int[np.ndarray, " _"], ...]:
    """Return the tokens of every cell, ``<bos>`` its first genes ``<eos>``, at most `limit`."""
    found: list[np.ndarray] = []
    for _, cells in encoder.profiles(adata):
        found += encoder.tokenize(cells).ids
    return tuple(ids if len(ids) <= limit else np.append(ids[: limit - 1], ids[-1]) for ids in found)


def roles(time_h: Float[np.ndarray, " cells"], embryo: np.ndarray, split: Split) -> np.ndarray:
    """Return the role of every cell.

    Raises
    ------
    ConfigError
        With everything that is wrong with the split.
    """
    known, problems = np.unique(_stage(time_h)), []
    sets = {"val": split.val, "test": split.test}
    listed = phrases.few([f"{t:g}" for t in known], 30)
    for name, stages in sets.items():
        absent = [f"{t:g} h" for t in stages if not _is_at(known, t).any()]
        if absent:
            cure = "name stages by their times"
            problems.append(Problem(f"{name} stages that no cell is at: {phrases.few(absent)}", f"of {listed} h", cure))
    twice = [f"{t:g} h" for t in split.val if any(abs(t - other) <= schema.SAME_TIME_H for other in split.test)]
    if twice:
        problems.append(Problem(f"{phrases.few(twice)} in val and in test", "a stage in one of them", "choose one"))
    if problems:
        raise ConfigError(*problems, subject="split")
    role = np.full(len(time_h), "train", dtype=object)
    held = {name: np.any([_is_at(time_h, t) for t in stages], axis=0) for name, stages in sets.items() if stages}
    for rows in held.values():
        role[np.isin(embryo, embryo[rows])] = "left out"
    for name, rows in held.items():
        role[rows] = name
    left = len(np.unique(_stage(time_h[role == "train"])))
    if left < 2:
        cure = "hold out fewer stages; an embryo that is followed through one of them gives no training cells at all"
        raise ConfigError(Problem(f"{left} training stages", "two or more", cure), subject="split")
    return role


def _stage(time_h: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Return times rounded so that cells of one stage have one."""
    return np.asarray(np.round(time_h / schema.SAME_TIME_H) * schema.SAME_TIME_H)


def _is_at(time_h: np.ndarray, stage: float) -> np.ndarray:
    return np.asarray(np.abs(time_h - stage) <= schema.SAME_TIME_H)
