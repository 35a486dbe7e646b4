"""Embeddings of foundation models, never alone: beside HVG, PCA, random weights, a guess, and the noise of counting."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int

from embryo import encoders, measure
from embryo.core import schema, table
from embryo.core.errors import EmbryoError, Problem, SchemaError
from embryo.evaluate.exam import Exam, Score, Task, View
from embryo.evaluate.ledger import PCA, RANDOM, Ledger
from embryo.evaluate.result import Result

GUESS = "the commonest label or mean time"
FAIR = "a fair guess among the labels"
SHUFFLED = "cells shuffled (PCA)"
HALVES = "half of the counts for the other half, same cells (PCA)"
MIXED = "batches shuffled within each kind (PCA)"


_Fold: TypeAlias = tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " queries"]]


@dataclass(frozen=True)
class Embedding:
    """What one model makes of the cells.

    Parameters
    ----------
    model
        Name of the model.
    weights
        Where its weights come from; random ones are a control, and are called so wherever they stand.
    z
        One embedding per seed, or one where nothing in it is random.
    """

    model: str
    weights: Literal["pretrained", "random"]
    z: tuple[Float[np.ndarray, "cells dims"], ...]

    @property
    def name(self) -> str:
        """Return what its rows are called."""
        return f"{self.model} architecture, random weights" if self.weights == "random" else f"{self.model}, pretrained"

    @property
    def role(self) -> table.Role:
        """Return the role of its rows."""
        return RANDOM if self.weights == "random" else "ours"


@dataclass(frozen=True)
class _Floor:
    """An encoder fitted on the training cells of every fold."""

    name: str
    encoder: str
    dims: int
    seeds: int


@dataclass
class _Steps:
    """Counts what is done, for whoever watches."""

    name: str
    of: int
    tick: Callable[[str, int, int], None] | None
    count: int = 0

    def done(self) -> None:
        self.count += 1
        if self.tick is not None:
            self.tick(f"{self.name}: judging", self.count, self.of)


def embedding(
    embeddings: Sequence[Embedding],
    adata: AnnData,
    task: Task,
    *,
    fitted: Sequence[str] = (),
    seeds: int = 5,
    tick: Callable[[str, int, int], None] | None = None,
) -> Result:
    """Judge embeddings on groups (embryos) that were held out of every fit, always beside their floors.

    ================================================ ======= ======================================================
    model                                            role    what it is
    ================================================ ======= ======================================================
    NAME, pretrained                                 ours    an embedding under test
    NAME architecture, random weights                random  the same network that has learned nothing, seed by seed
    PCA, HVG (and what `fitted` names)               floor   fitted on the training groups of each fold
    the commonest label or mean time                 floor   what is said without looking at the cell
    a fair guess among the labels                    floor   one over the number of labels, exactly
    cells shuffled (PCA)                             floor   chance, for clusters and order
    half of the counts for the other half            ceiling probes that have seen the same cells, measured again
    batches shuffled within each kind                ceiling batches as mixed as they can be
    A minus B                                        diff.   gain over the best floor, and over PCA; positive is better
    ================================================ ======= ======================================================

    The floors cannot be left out. Probes, scalers, PCA and HVG see training groups only, and every score belongs to one
    held-out group; intervals are over groups and seeds (`embryo.measure.crossed_interval`). The best floor is chosen on
    the same scores, which favours the floor. The ceiling has half the depth only, so that an embedding of all counts
    may lie above it.

    Parameters
    ----------
    embeddings
        What is judged; may be empty, then the floors stand alone.
    adata
        The cells, with counts in ``layers["counts"]`` for the ceiling.
    task
        What to ask.
    fitted
        Further encoders of `embryo.encoders.fitted_names`, such as ``"scvi"``, fitted like PCA, for every seed.
    seeds
        How many seeds: of random weights, k-means, thinning and shuffles.
    tick
        Called with (what, done, of).

    Raises
    ------
    SchemaError
        If columns are missing, or an embedding does not fit the cells or the seeds.
    """
    _require(embeddings, adata, seeds)
    exam = Exam(adata, task)
    floors = _floors(adata, exam, fitted, seeds)
    ledger = Ledger(task.name, exam.split(), exam.groups, seeds, unit=f"{task.group or 'part'}s")
    steps = _Steps(task.name, len(list(exam.folds())) * (1 + len(floors) + len(embeddings)), tick)
    for rows, test in exam.folds():
        _enter(ledger, GUESS, "floor", None, exam.of_guess(rows, test))
        _enter(ledger, FAIR, "floor", None, exam.of_fair_guess(test))
        for floor in floors:
            for seed in range(floor.seeds):
                z = encoders.build(floor.encoder, dims=floor.dims, seed=seed).fit(adata[rows]).encode(adata)
                view = View(rows, z[rows], test, z[test])
                _enter(ledger, floor.name, "floor", seed if floor.seeds > 1 else None, exam.of_view(view, seed))
                if floor.encoder == "pca":
                    _bounds(ledger, exam, view)
            steps.done()
        if schema.COUNTS in adata.layers:
            _ceiling(ledger, exam, adata, (rows, test), floors[0].dims)
        steps.done()
        for one in embeddings:
            for seed, z in enumerate(one.z):
                view = View(rows, z[rows], test, z[test])
                _enter(ledger, one.name, one.role, seed if len(one.z) > 1 else None, exam.of_view(view, seed))
            steps.done()
    return Result(table.table(ledger.rows()), (*exam.asked, *ledger.sentences()))


def require_floors(frame: pd.DataFrame) -> None:
    """Raise unless floors stand beside every row under test of a table: a model alone says nothing.

    Raises
    ------
    EmbryoError
        Naming boards and metrics with a model and no floor.
    """
    alone = [
        f"{board}: {metric}"
        for (board, metric), part in frame.groupby(["board", "metric"], sort=False)
        if {"ours", RANDOM} & set(part["role"]) and "floor" not in set(part["role"])
    ]
    if alone:
        found = f"models without a floor beside them ({'; '.join(alone)})"
        raise EmbryoError(Problem(found, "HVG, PCA, random weights", "evaluate again"), subject="table of embeddings")


def _require(embeddings: Sequence[Embedding], adata: AnnData, seeds: int) -> None:
    problems = []
    for one in embeddings:
        if len(one.z) not in (1, seeds):
            problems.append(Problem(f"{len(one.z)} embeddings of {one.name}", f"1 or {seeds}", "give one per seed"))
        if one.weights == "random" and len(one.z) < 2:
            found = f"one draw of random weights of {one.model}"
            problems.append(Problem(found, "one per seed", "a single draw is an anecdote: draw more"))
        bad = [z.shape for z in one.z if len(z) != adata.n_obs or not np.isfinite(z).all()]
        if bad:
            found = f"{one.name} of shape {bad[0]}, or not finite"
            problems.append(Problem(found, f"finite numbers for {adata.n_obs} cells", "embed these cells again"))
    twice = sorted({one.name for one in embeddings if [o.name for o in embeddings].count(one.name) > 1})
    problems += [Problem(f"two embeddings called {name!r}", "names that differ", "rename one") for name in twice]
    if problems:
        raise SchemaError(*problems, subject="embeddings")


def _floors(adata: AnnData, exam: Exam, fitted: Sequence[str], seeds: int) -> list[_Floor]:
    least = min(len(rows) for rows, _ in exam.folds())
    pca, hvg = min(exam.task.pca, adata.n_vars, least), exam.task.hvg
    every = hvg >= adata.n_vars
    return [
        _Floor(f"{PCA}{pca} components)", "pca", pca, 1),
        _Floor(f"HVG (all {adata.n_vars} genes)" if every else f"HVG ({hvg} genes)", "hvg", min(hvg, adata.n_vars), 1),
        *(_Floor(f"{name} ({min(30, pca)} dimensions)", name, min(30, pca), seeds) for name in fitted),
    ]


def _enter(ledger: Ledger, model: str, role: table.Role, seed: int | None, scores: Iterator[Score]) -> None:
    for metric, group, value in scores:
        ledger.add(metric, model, role, (group, seed), value)


def _bounds(ledger: Ledger, exam: Exam, view: View) -> None:
    """Enter chance (cells shuffled: their embedding says nothing of them) and batches as mixed as they can be."""
    for seed in range(ledger.seeds):
        rng = np.random.default_rng(seed)
        mixed = View(view.rows, rng.permutation(view.z), view.test, rng.permutation(view.test_z))
        chance = [*exam.of_clusters(mixed, seed), *exam.of_order(mixed)]
        _enter(ledger, SHUFFLED, "floor", seed, iter(chance))
        if exam.batch is not None:
            _enter(ledger, MIXED, "ceiling", seed, exam.of_batches(view, exam.shuffled_batch(seed)))


def _ceiling(ledger: Ledger, exam: Exam, adata: AnnData, fold: _Fold, dims: int) -> None:
    """Enter what can be read off one half of the counts of cells whose other half the probe was fitted on."""
    rows, test = fold
    for seed in range(ledger.seeds):
        one, other = (_with(adata, half) for half in measure.halves(adata.layers[schema.COUNTS], seed=seed))
        fit = encoders.build("pca", dims=dims, seed=seed).fit(one[rows])
        z, again = fit.encode(one), fit.encode(other[test])
        view = View(np.arange(adata.n_obs), z, test, again)
        _enter(ledger, HALVES, "ceiling", seed, exam.of_probes(view))
        _enter(ledger, HALVES, "ceiling", seed, exam.of_clusters(view, seed, other_z=z[test]))


def _with(adata: AnnData, counts: object) -> AnnData:
    """Return the same cells with other counts."""
    return AnnData(
        counts,
        obs=adata.obs[[]],
        var=adata.var[[]],
        layers={schema.COUNTS: counts},
        uns={schema.META: dict(schema.meta(adata))},
    )
