"""What is asked of an embedding: labels, stages, clusters, batches and order, always of groups that were held out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int

from embryo import measure
from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.evaluate.ledger import Metric

WILD_TYPE = "wild type"  # what an empty perturbation means
_FOLDS, _LEAVE_ONE, _STAGES, _CLUSTERED = 5, 8, 12, 2
_METHODS: tuple[measure.Method, ...] = ("kNN", "logistic")
_MAE = Metric("stage, ridge probe: mean absolute error", "h", "lower", least=0.0)
_ORDER = Metric("order of stages (1 in order, 0 random)")
_ENTROPY = Metric("batch mixing, entropy of neighbours (1 mixed)", least=0.0)
_ASW = Metric("batch mixing, batch ASW (1 mixed)", least=0.0)
Score = tuple[Metric, str, float]


@dataclass(frozen=True)
class Task:
    """What to ask, and how cells are kept apart.

    Parameters
    ----------
    name
        Of the board.
    labels
        Columns of obs with classes to be read; clusters are held against the first.
    stage
        Column with the time (h); None where there is none.
    group
        Column whose groups are held out whole: the embryo, a sample, a branch of the lineage. None splits the cells at
        random into five parts, which is optimistic and is said so.
    batch
        Column with batches that should lie on each other; None where there is one.
    condition
        Column with true differences between batches (genotype): batches are compared within a condition and a label.
    neighbours
        Of every nearest-neighbour statistic; fixed beforehand.
    pca, hvg
        Dimensions of the floors; fewer where there are fewer cells or genes.
    """

    name: str
    labels: tuple[str, ...] = (schema.CELL_TYPE,)
    stage: str | None = schema.TIME
    group: str | None = schema.EMBRYO
    batch: str | None = schema.EMBRYO
    condition: str | None = None
    neighbours: int = 15
    pca: int = 50
    hvg: int = 2000


@dataclass(frozen=True)
class View:
    """One embedding of the cells of one fold.

    Parameters
    ----------
    rows, z
        Cells that probes are fitted on.
    test, test_z
        Cells that are held out.
    """

    rows: Int[np.ndarray, " cells"]
    z: Float[np.ndarray, "cells dims"]
    test: Int[np.ndarray, " queries"]
    test_z: Float[np.ndarray, "queries dims"]


class Exam:
    """The questions of a task about one AnnData.

    Parameters
    ----------
    adata
        With the columns that the task names.
    task
        What to ask.

    Raises
    ------
    SchemaError
        Naming every column that is absent, and a group column with one group.
    """

    def __init__(self, adata: AnnData, task: Task) -> None:
        _require(adata, task)
        self.task, obs = task, adata.obs
        self.asked: list[str] = []
        if task.group is None:
            part = np.random.default_rng(0).permutation(len(obs)) % _FOLDS
            self.group = np.array([f"part {k + 1}" for k in part])
        else:
            self.group = obs[task.group].astype(str).to_numpy()
        self.groups = tuple(sorted(set(self.group)))
        self.labels = {name: self._shared(obs[name], name) for name in task.labels}
        self.labels = {name: label for name, label in self.labels.items() if (label != "").any()}
        self.times = self._times(obs)
        self.kind = _joined(obs, [*task.labels[:1], *([task.condition] if task.condition else [])])
        self.batch = None if task.batch is None else obs[task.batch].astype(str).to_numpy()
        if self.batch is None or not measure.comparable(self.batch, self.kind).any():
            self.batch = None
            self._say("batches: no kind of cell with ten cells in two batches: batch mixing not measured")
        self.clustered = self._clustered()
        self._say(*_twins(obs, task.labels))

    def split(self) -> str:
        """Return in words what is held out."""
        if self.task.group is None:
            return f"cells at random, {_FOLDS} parts (optimistic: not by embryo)"
        how = "each in turn" if len(self.groups) <= _LEAVE_ONE else f"{_FOLDS} folds"
        return f"held-out {self.task.group}: {len(self.groups)}, {how}"

    def folds(self) -> Iterator[tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]]:
        """Yield training and test rows: groups stay whole, and each is held out once."""
        n = len(self.groups)
        number = np.searchsorted(self.groups, self.group)
        order = np.random.default_rng(0).permutation(n)
        fold = (order if n <= _LEAVE_ONE else order % _FOLDS)[number]
        for k in np.unique(fold):
            yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)

    def of_guess(self, rows: Int[np.ndarray, " cells"], test: Int[np.ndarray, " queries"]) -> Iterator[Score]:
        """Yield the scores of always saying the commonest label, or the mean time, of the training cells."""
        for metric, label in self._classes():
            names, counts = np.unique(label[rows][label[rows] != ""], return_counts=True)
            yield from self._right(metric, label, test, np.full(len(test), names[counts.argmax()]))
        if self.times is not None:
            yield from self._late(test, np.full(len(test), self.times[rows].mean()))

    def of_fair_guess(self, test: Int[np.ndarray, " queries"]) -> Iterator[Score]:
        """Yield what a guess among the labels scores on average, whichever of them a group has."""
        for metric, label in self._classes():
            for group, cells in self._by_group(test):
                if (label[test[cells]] != "").any():
                    yield metric, group, 1 / len(set(label) - {""})

    def of_view(self, view: View, seed: int) -> Iterator[Score]:
        """Yield the scores of an embedding."""
        yield from self.of_probes(view)
        yield from self.of_clusters(view, seed)
        if self.batch is not None:
            yield from self.of_batches(view, self.batch)

    def of_probes(self, view: View) -> Iterator[Score]:
        """Yield what probes read off held-out cells, and the order of their stages."""
        for metric, label in self._classes():
            method = next(m for m in _METHODS if m in metric.name)
            known = label[view.rows] != ""
            fit = (view.z[known], label[view.rows][known], self.group[view.rows][known])
            read = measure.read_labels(method, fit, view.test_z, neighbours=self.task.neighbours)
            yield from self._right(metric, label, view.test, read)
        if self.times is not None:
            times = self.times[view.rows]
            yield from self._late(view.test, measure.read_times((view.z, times, self.group[view.rows]), view.test_z))
        yield from self.of_order(view)

    def of_order(self, view: View) -> Iterator[Score]:
        """Yield whether the neighbours of held-out cells are of their stage."""
        if self.times is None:
            return
        for name, cells in self._by_group(view.test):
            t, known, k = self.times[view.test[cells]], self.times[view.rows], self.task.neighbours
            yield _ORDER, name, measure.sequential_order(view.test_z[cells], t, view.z, known, neighbours=k)

    def of_clusters(self, view: View, seed: int, other_z: np.ndarray | None = None) -> Iterator[Score]:
        """Yield how clusters of each held-out group agree with its labels; with `other_z`, with clusters of that."""
        name = self.task.labels[0] if self.task.labels else ""
        for group, cells in self._by_group(view.test):
            if group not in self.clustered:
                continue
            truth = self.labels[name][view.test[cells]]
            named, n = truth != "", len(set(truth) - {""})
            z, against = view.test_z[cells][named], truth[named]
            if other_z is not None:
                against = measure.clusters(other_z[cells][named], n, seed=seed).astype(str)
            for what, value in measure.agreement(measure.clusters(z, n, seed=seed), against).items():
                yield Metric(f"{name}, k-means clusters: {what}"), group, value
            if other_z is None:
                yield Metric(f"{name}, silhouette (s + 1) / 2", least=0.0), group, measure.separation(z, against)

    def of_batches(self, view: View, batch: np.ndarray) -> Iterator[Score]:
        """Yield how the held-out cells are mixed with those of other batches of their kind."""
        rows, z = np.concatenate([view.rows, view.test]), np.concatenate([view.z, view.test_z])
        k = self.task.neighbours
        found = {
            _ENTROPY: measure.neighbour_entropy(z, batch[rows], self.kind[rows], neighbours=k),
            _ASW: measure.batch_asw(z, batch[rows], self.kind[rows]),
        }
        for name, cells in self._by_group(view.test):
            for metric, values in found.items():
                own = values[len(view.rows) :][cells]
                if np.isfinite(own).any():
                    yield metric, name, float(np.nanmean(own))

    def shuffled_batch(self, seed: int) -> np.ndarray:
        """Return the batches shuffled among the cells of each kind: as mixed as they can be."""
        rng, out = np.random.default_rng(seed), np.array(self.batch)
        for kind in np.unique(self.kind):
            rows = np.flatnonzero(self.kind == kind)
            out[rows] = out[rng.permutation(rows)]
        return out

    def _classes(self) -> Iterator[tuple[Metric, np.ndarray]]:
        for name, label in self.labels.items():
            for method in _METHODS:
                yield Metric(f"{name}, {method} probe: balanced accuracy", least=0.0), label

    def _right(self, metric: Metric, label: np.ndarray, test: np.ndarray, read: np.ndarray) -> Iterator[Score]:
        for group, cells in self._by_group(test):
            truth = label[test[cells]]
            if (truth != "").any():
                yield metric, group, measure.balanced_accuracy(truth[truth != ""], read[cells][truth != ""])

    def _late(self, test: np.ndarray, read: np.ndarray) -> Iterator[Score]:
        if self.times is None:
            return
        for group, cells in self._by_group(test):
            yield _MAE, group, float(np.abs(read[cells] - self.times[test[cells]]).mean())

    def _by_group(self, test: np.ndarray) -> Iterator[tuple[str, Int[np.ndarray, " cells"]]]:
        """Yield (group, where its cells stand in `test`)."""
        for name in np.unique(self.group[test]):
            yield str(name), np.flatnonzero(self.group[test] == name)

    def _shared(self, column: pd.Series, name: str) -> np.ndarray:
        """Return labels as text, those that fewer than two groups have as "": held out, nothing could know them."""
        label = column.astype(object).where(column.notna(), "").astype(str).to_numpy()
        if name == schema.PERTURBATION:
            label = np.where(label == "", WILD_TYPE, label)
        seen = {value: set(self.group[label == value]) for value in np.unique(label) if value}
        alone = sorted(value for value, groups in seen.items() if len(groups) < 2)
        if alone and len(seen) > len(alone) + 1:
            cells = int(np.isin(label, alone).sum())
            self._say(f"{name}: {', '.join(alone)} ({cells} cells) left out: in one {self.task.group or 'part'} only")
        if len(seen) < len(alone) + 2:
            self._say(f"{name}: fewer than two values that two groups share: not measured")
            return np.full(len(label), "")
        return np.where(np.isin(label, alone), "", label)

    def _clustered(self) -> set[str]:
        """Return the groups that hold several types, enough cells of each on average; none where one is alone."""
        found = set()
        label = next((self.labels[name] for name in self.task.labels[:1] if name in self.labels), None)
        if label is not None:
            for group in self.groups:
                own = label[(self.group == group) & (label != "")]
                types = len(np.unique(own))
                if types > 1 and len(own) >= _CLUSTERED * types:
                    found.add(group)
        if len(found) > 1:
            return found
        self._say("clusters: fewer than two groups with several types: not measured")
        return set()

    def _times(self, obs: pd.DataFrame) -> np.ndarray | None:
        times = None if self.task.stage is None else obs[self.task.stage].to_numpy(float)
        if times is None:
            self._say("stage: no times in these data: not measured")
            return None
        stages = np.unique(np.round(times / schema.SAME_TIME_H))
        if len(stages) < 2:
            self._say("one stage: probes and order of stages not measured")
            return None
        if len(stages) <= _STAGES:
            stage = pd.Series([f"{t:g} h" for t in times])
            label = self._shared(stage, "stage")
            self.labels |= {"stage": label} if (label != "").any() else {}
        return times

    def _say(self, *sentences: str) -> None:
        self.asked.extend(sentences)


def _require(adata: AnnData, task: Task) -> None:
    wanted = [*task.labels, *(c for c in (task.stage, task.group, task.batch, task.condition) if c is not None)]
    problems = [
        Problem(f"no obs[{name!r}] among {', '.join(adata.obs.columns)}", "the column", "name another, or none")
        for name in dict.fromkeys(wanted)
        if name not in adata.obs
    ]
    if task.group in adata.obs and adata.obs[task.group].nunique() < 2:
        found = f"one group in obs[{task.group!r}]"
        problems.append(Problem(found, "two or more", "name a column with several, or none: cells at random"))
    if problems:
        raise SchemaError(*problems, subject=task.name)


def _joined(obs: pd.DataFrame, columns: list[str]) -> np.ndarray:
    return obs[columns].astype(str).agg(" | ".join, axis=1).to_numpy() if columns else np.full(len(obs), "")


def _twins(obs: pd.DataFrame, labels: tuple[str, ...]) -> Iterator[str]:
    """Say which other columns part the cells exactly as a label does: a probe of one is a probe of the other."""
    for name in labels:
        codes = pd.factorize(obs[name])[0]
        for other in obs.columns.difference([name]):
            theirs = pd.factorize(obs[other])[0]
            if codes.max() > 0 and len(set(zip(codes, theirs, strict=True))) == codes.max() + 1 == theirs.max() + 1:
                yield f"{name} and {other} part the cells alike: a probe of one is a probe of the other"
