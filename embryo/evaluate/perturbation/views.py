"""A population in the views that distances are taken in: fates, fate map, states, places, levels, numbers.

Each view keeps embryos apart, so that a draw of embryos (weights that sum to 1) moves a score without computing any
distance between cells again.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from embryo.core.errors import Problem, SchemaError
from embryo.evaluate.perturbation.population import EndPopulation
from embryo.evaluate.perturbation.predictor import Trial

AP_BINS, DV_BINS = 8, 2
_AP, _DV = 0, 2  # columns of the body frame
_EXTENT = (0.01, 0.99)  # quantiles that stand for the ends of an embryo
FLOOR = 0.02  # of a gene's own scale: added before logs


@dataclass(frozen=True, eq=False)
class View:
    """One population, embryo by embryo.

    Parameters
    ----------
    shares
        Share of each fate.
    maps
        Share of the cells in each bin along AP x DV and fate; no columns without space.
    levels
        Mean level of each gene, in units of its own scale.
    numbers
        Cells.
    lengths
        Log of the extent (standard deviation, µm) along the three body axes; no columns without space.
    states, places
        Clouds of z, and of (x / scale, fate): rows, their weights (summing to 1) and the embryo of each.
    """

    shares: Float[np.ndarray, "embryos fates"]
    maps: Float[np.ndarray, "embryos bins"]
    levels: Float[np.ndarray, "embryos genes"]
    numbers: Float[np.ndarray, " embryos"]
    lengths: Float[np.ndarray, "embryos axes"]
    states: "Cloud"
    places: "Cloud | None"


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points with weights that sum to 1 within each embryo."""

    points: Float[np.ndarray, "cells dims"]
    weights: Float[np.ndarray, " cells"]
    member: Int[np.ndarray, " cells"]

    @property
    def embryos(self) -> int:
        """How many embryos."""
        return int(self.member.max()) + 1


@dataclass(frozen=True)
class Viewer:
    """Makes views of the populations of one trial.

    Parameters
    ----------
    trial
        Fates, scale of genes, and the wild type whose size is the unit of length.
    max_cells
        Cells per embryo in clouds; more are drawn.
    """

    trial: Trial
    max_cells: int = 250

    @property
    def scale_um(self) -> float:
        """Root mean square distance of the wild type's cells from their embryo's centre."""
        wild = self.trial.wild
        if not wild.x.shape[1]:
            return 1.0
        return float(np.sqrt(wild.balanced @ (_centred(wild) ** 2).sum(axis=1))) or 1.0

    def view(self, population: EndPopulation, seed: int = 0, *, one: bool = False) -> View:
        """Return the views of a population; `seed` draws the cells of its clouds, which hold all embryos as one if so.

        Raises
        ------
        SchemaError
            If a fate or the genes are not those of the trial.
        """
        self._require(population)
        names, member = np.unique(population.embryo.astype(str), return_inverse=True)
        n, fates = len(names), list(self.trial.fates)
        code = np.array([fates.index(f) for f in population.fate.astype(str)])
        totals = np.bincount(member, weights=population.mass, minlength=n)
        weight = population.mass / totals[member]
        shares = _sums(member, code, weight, (n, len(fates)))
        level = np.expm1(np.clip(population.g, 0, None)) / self.trial.unit
        levels = np.stack([weight[member == k] @ level[member == k] for k in range(n)])
        has_space = population.x.shape[1] == 3
        maps = _maps(population, member, code, weight, len(fates)) if has_space else np.zeros((n, 0))
        rows = self._drawn(
            member, population.mass, n, seed, max(2 * self.max_cells // n, 20) if one else self.max_cells
        )
        inside = np.zeros(len(rows), dtype=np.int64) if one else member[rows]
        states = _cloud(population.z[rows], weight[rows], inside)
        lengths = np.zeros((n, 0))
        places = None
        if has_space:
            squares = _centred(population) ** 2 * weight[:, None]
            lengths = np.stack([0.5 * np.log(squares[member == k].sum(axis=0) + 1e-9) for k in range(n)])
            near = np.hstack([_centred(population) / self.scale_um, np.eye(len(fates))[code]])
            places = _cloud(near[rows], weight[rows], inside)
        return View(shares, maps, levels, totals, lengths, states, places)

    def _require(self, population: EndPopulation) -> None:
        unknown = sorted(set(map(str, population.fate)) - set(self.trial.fates))
        problems = [Problem(f"fate {f!r}", f"one of {', '.join(self.trial.fates)}", "use its names") for f in unknown]
        genes = population.g.shape[1]
        if genes != len(self.trial.panel):
            found = f"{genes} genes"
            problems.append(Problem(found, f"the {len(self.trial.panel)} of the panel", "keep the panel's columns"))
        if problems:
            raise SchemaError(*problems, subject=f"{self.trial.board}: a predicted population")

    @staticmethod
    def _drawn(member: np.ndarray, mass: np.ndarray, n: int, seed: int, most: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        out = []
        for k in range(n):
            rows = np.flatnonzero((member == k) & (mass > 0))
            out.append(rows if len(rows) <= most else rng.choice(rows, most, replace=False))
        return np.sort(np.concatenate(out))


def bray_curtis(p: Float[np.ndarray, "*#draws k"], q: Float[np.ndarray, "*#draws k"]) -> Float[np.ndarray, "*#draws"]:
    """Return ``sum |p - q| / sum (p + q)`` along the last axis."""
    return np.asarray(np.abs(p - q).sum(axis=-1) / (p + q).sum(axis=-1))


def mean_distances(a: Cloud, b: Cloud | None = None) -> Float[np.ndarray, "embryos_a embryos_b"]:
    """Return the mean distance of the cells of each embryo to those of each other one; within one, of different cells.

    Without `b` the distances are within `a`. ``2 p A q - p B p - q C q`` with weights p and q of the embryos and these
    matrices is the unbiased energy distance of `embryo.measure.energy_distance` for the two mixtures.
    """
    other = a if b is None else b
    far = cdist(a.points, other.points) * a.weights[:, None] * other.weights
    sums = np.zeros((a.embryos, other.embryos))
    np.add.at(sums, (a.member[:, None], other.member[None]), far)
    if b is None:
        pairs = 1 - np.bincount(a.member, weights=a.weights**2, minlength=a.embryos)
        with np.errstate(divide="ignore", invalid="ignore"):
            np.fill_diagonal(sums, np.where(pairs > 1e-9, np.diag(sums) / pairs, np.nan))
    return sums


def _cloud(points: np.ndarray, weights: np.ndarray, member: np.ndarray) -> Cloud:
    totals = np.bincount(member, weights=weights)
    return Cloud(points, weights / totals[member], member)


def _sums(member: np.ndarray, code: np.ndarray, weight: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    flat = np.bincount(member * shape[1] + code, weights=weight, minlength=shape[0] * shape[1])
    return np.asarray(flat.reshape(shape))


def _centred(population: EndPopulation) -> np.ndarray:
    _, member = np.unique(population.embryo.astype(str), return_inverse=True)
    totals = np.bincount(member, weights=population.mass)
    sums = np.zeros((len(totals), population.x.shape[1]))
    np.add.at(sums, member, population.mass[:, None] * population.x)
    return np.asarray(population.x - (sums / totals[:, None])[member])


def _maps(
    population: EndPopulation, member: np.ndarray, code: np.ndarray, weight: np.ndarray, fates: int
) -> Float[np.ndarray, "embryos bins"]:
    """Return shares by AP bin (of the embryo's own length), side of its DV middle, and fate."""
    centred = _centred(population)
    ap = np.zeros(len(member), dtype=int)
    for k in range(int(member.max()) + 1):
        rows = member == k
        order = np.flatnonzero(rows)[np.argsort(centred[rows, _AP])]
        low, high = centred[order[np.searchsorted(np.cumsum(weight[order]), _EXTENT)], _AP]
        ap[rows] = np.clip(AP_BINS * (centred[rows, _AP] - low) / max(high - low, 1e-9), 0, AP_BINS - 1).astype(int)
    bins = (ap * DV_BINS + (centred[:, _DV] > 0)) * fates + code
    return _sums(member, bins, weight, (int(member.max()) + 1, AP_BINS * DV_BINS * fates))
