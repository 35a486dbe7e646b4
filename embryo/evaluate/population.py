"""The embryo as a whole at later times: form, states, fates and numbers of a held-out embryo."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from jaxtyping import Float, Int, Shaped

from embryo import measure
from embryo.core import schema, table
from embryo.core.state import State
from embryo.evaluate.result import OURS, Result, Rollout, Scores

BOARD = "held-out embryo"
_NUMBER = "error of cell number"


@dataclass(frozen=True)
class Population:
    """Cells at one time, as scores see them.

    Parameters
    ----------
    z, x
        Embeddings and body-frame positions (µm; zero columns without space).
    mass
        Cells per row.
    fate
        Fate of each row.
    embryos
        How many embryos the cells come from: numbers are compared per embryo.
    """

    z: Float[np.ndarray, "cells dims"]
    x: Float[np.ndarray, "cells space"]
    mass: Float[np.ndarray, " cells"]
    fate: Shaped[np.ndarray, " cells"]
    embryos: int = 1

    @classmethod
    def of_rows(cls, adata: AnnData, rows: Int[np.ndarray, " cells"], fate: measure.FateClassifier) -> "Population":
        """Return observed cells; fates are read off z as those of predictions are: the read-out's bias cancels."""
        z = np.asarray(adata.obsm[schema.EMBED], dtype=float)[rows]
        x = (
            np.asarray(adata.obsm[schema.ALIGNED], float)[rows]
            if schema.SPATIAL in adata.obsm
            else np.zeros((len(rows), 0))
        )
        embryos = adata.obs[schema.EMBRYO].astype(str).to_numpy()[rows]
        return cls(z, x, np.ones(len(rows)), fate.predict(z), len(np.unique(embryos)))

    @classmethod
    def of_state(cls, state: State, fate: measure.FateClassifier) -> "Population":
        """Return a simulated embryo as a population."""
        z, _, x, log_mass = (part.numpy().astype(float) for part in state.parts())
        return cls(z, x, np.exp(log_mass), fate.predict(z))

    def __getitem__(self, index: np.ndarray) -> "Population":
        return Population(self.z[index], self.x[index], self.mass[index], self.fate[index], self.embryos)

    @property
    def number(self) -> float:
        """Cells per embryo."""
        return float(self.mass.sum() / self.embryos)


class Boards:
    """Scores that compare two populations, one `Scores` per metric."""

    def __init__(self, board: str, categories: Sequence[str], *, space: bool, max_cells: int) -> None:
        self.categories, self.max_cells = list(categories), max_cells
        names = [  # unbiased energy distances may be negative
            ("energy distance of states", "z", -np.inf),
            ("Bray-Curtis distance of fates", "1", 0.0),
            (_NUMBER, "|log|", 0.0),
        ]
        if space:
            names.insert(0, ("energy distance of positions", "µm", -np.inf))
        self.scores = {name: Scores(board, name, unit, least=least) for name, unit, least in names}

    def distances(self, a: Population, b: Population) -> dict[str, float]:
        """Return every metric between two populations."""
        shares = [measure.composition(p.fate, p.mass, self.categories) for p in (a, b)]
        energies = {"energy distance of positions": ("x",), "energy distance of states": ("z",)}
        out = {
            name: measure.energy_distance(getattr(a, part), getattr(b, part), a.mass, b.mass, max_cells=self.max_cells)
            for name, (part,) in energies.items()
            if name in self.scores
        }
        out["Bray-Curtis distance of fates"] = measure.bray_curtis(*shares)
        out[_NUMBER] = abs(float(np.log(a.number / b.number)))
        return out

    def add(self, model: str, role: table.Role, split: str, embryo: str, pair: tuple[Population, Population]) -> None:
        """Score the first population of `pair` as a prediction of the second."""
        for name, value in self.distances(*pair).items():
            self.scores[name].add(model, role, split, embryo, value)

    def ceiling(self, split: str, embryo: str, truth: Population, seed: int = 0) -> None:
        """Score one half of the truth against the other: what no prediction can be expected to beat."""
        order = np.random.default_rng(seed).permutation(len(truth.z))
        one, two = order[: len(order) // 2], order[len(order) // 2 : 2 * (len(order) // 2)]
        found = self.distances(truth[one], truth[two])
        for name in set(found) - {_NUMBER}:  # two halves have the same number by construction
            self.scores[name].add("half against half of the truth", "ceiling", split, embryo, found[name])

    def result(self) -> Result:
        """Return the table and sentences of all metrics."""
        rows = [row for s in self.scores.values() for row in s.rows()]
        return Result(table.table(rows), tuple(x for s in self.scores.values() for x in s.sentences()))


def populations(
    adata: AnnData,
    rollouts: Sequence[Rollout],
    training: Sequence[str],
    times_h: Sequence[float],
    fate: measure.FateClassifier,
    *,
    tolerance_h: float,
    max_cells: int = 2000,
) -> Result:
    """Score roll-outs of held-out embryos as populations.

    =============================== ======= ==============================================
    model                           role    prediction
    =============================== ======= ==============================================
    embryo                          ours    the roll-out
    no change                       floor   the held-out embryo at the start
    training embryos at that time   floor   their cells, pooled ("train mean")
    half against half of the truth  ceiling one half of the true cells for the other
    =============================== ======= ==============================================

    Parameters
    ----------
    adata
        All embryos, embedded and aligned.
    rollouts
        One per held-out embryo and seed.
    training
        Names of the embryos that were fitted on.
    times_h
        Times to judge, hours; those that an embryo was not observed at are left out.
    fate
        The read-out, fitted on training cells.
    tolerance_h
        How far the nearest observed time may lie from the asked one.
    max_cells
        Cells per population in energy distances.

    Returns
    -------
    Result
        Four metrics; intervals over held-out embryos.
    """
    boards = Boards(BOARD, fate.fates, space=schema.SPATIAL in adata.obsm, max_cells=max_cells)
    for name in dict.fromkeys(r.embryo for r in rollouts):
        own = [r for r in rollouts if r.embryo == name]
        start = Population.of_state(own[0].trajectory.at(0), fate)
        for t in times_h:
            rows = at_time(adata, [name], t, tolerance_h)
            if not len(rows) or t <= float(own[0].trajectory.times_h[0]):
                continue
            split, truth = f"t = {t:g} h", Population.of_rows(adata, rows, fate)
            for r in own:
                boards.add(OURS, "ours", split, name, (Population.of_state(r.trajectory.nearest(t), fate), truth))
            boards.add("no change", "floor", split, name, (start, truth))
            pool = at_time(adata, training, t, tolerance_h)
            if len(pool):
                boards.add(
                    "training embryos at that time",
                    "floor",
                    split,
                    name,
                    (Population.of_rows(adata, pool, fate), truth),
                )
            boards.ceiling(split, name, truth)
    return boards.result()


def at_time(adata: AnnData, embryos: Sequence[str], t_h: float, tolerance_h: float) -> Int[np.ndarray, " cells"]:
    """Return the rows of `embryos`, each at its observed time nearest to `t_h` if that is near enough."""
    name = adata.obs[schema.EMBRYO].astype(str).to_numpy()
    t = adata.obs[schema.TIME].to_numpy(float)
    out = []
    for embryo in embryos:
        rows = np.flatnonzero(name == embryo)
        near = t[rows][np.abs(t[rows] - t_h).argmin()] if len(rows) else np.inf
        if abs(near - t_h) <= tolerance_h:
            out.append(rows[t[rows] == near])
    return np.concatenate(out) if out else np.zeros(0, dtype=np.int64)
