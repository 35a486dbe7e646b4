"""What an experiment sees of synthetic embryos, and how badly: the dials between the truth and the data.

Expected counts of gene j in cell i of embryo e,

    mu_ij = counts_per_unit size_i batch_ej (base_j + sum_k L_jk g_ik) noise_ij

with log size_i ~ N(0, size_sd) and log batch_ej ~ N(0, batch_sd). Counts are negative binomial with variance
mu + dispersion mu^2, and each is lost altogether with probability `dropout`. The observed genes are the circuit's own,
by name; readouts, each a non-negative mixture of one to three circuit genes; housekeeping genes at a constant level;
and genes whose level wanders from cell to cell without meaning.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int
from scipy import sparse
from scipy.spatial.transform import Rotation

from embryo.core import pedigree, schema
from embryo.core.errors import ConfigError, Problem
from embryo.core.frame import BODY, RAW, Rigid
from embryo.datasets.synthetic.circuit import FATES, PANEL, fate_codes
from embryo.datasets.synthetic.development import Embryo, Snapshot

VELOCITY_SPATIAL = "velocity_spatial"  # obsm: µm/h, in the frame of obsm["spatial"]
VELOCITY_PANEL = "velocity_panel"  # obsm: per hour, columns as uns["embryo"]["circuit_genes"]
TRUTH_G = "truth_g"  # obsm: expression of all of PANEL; for evaluation only
TRUTH_X = "truth_x"  # obsm: body-frame position, µm; for evaluation only
TRUTH_MUTANT = "truth_mutant"  # obsm: 1 where the cell carries an edit; for evaluation only
TRUTH_POSE = "truth_pose"  # uns: embryo -> rotation and translation from body frame to raw; for evaluation only

_LEAK = 0.02
_SHARES = {"readout": 0.7, "housekeeping": 0.2, "noise": 0.1}


@dataclass(frozen=True)
class Measurement:
    """The dials of the experiment.

    Parameters
    ----------
    n_genes
        Genes of the design: the 18 of the circuit first, then readout, housekeeping and noise genes.
    counts_per_unit
        Expected counts of a circuit gene at its saturated level.
    size_sd, batch_sd
        Spread of the log of a cell's size factor, and of a gene's factor between embryos.
    dispersion, dropout
        Of the counts.
    loading_seed
        Draws the readout genes; the same for all embryos that are to be compared.
    hidden
        Circuit genes that the experiment does not see. Readouts of theirs stay, as a missed regulator's targets do.
    random_pose
        Whether each embryo lies in the microscope in its own way; else positions are in the body frame.
    velocity
        ``"snapshots"``: none; ``"known"``: the true deterministic velocities; ``"noisy"``: with Gaussian noise of
        `velocity_noise` times the largest production rate (genes) and the root mean square speed (positions).
    velocity_noise
        See `velocity`.
    destructive
        Whether an embryo is seen once only: the k-th embryo at the k-th of its times (in turn), as in most atlases.
    tracks
        Whether cells are followed: names and mothers given. Else every row is a cell of its own, in random order.

    Raises
    ------
    ConfigError
        Listing every dial out of range.
    """

    n_genes: int = 300
    counts_per_unit: float = 20.0
    size_sd: float = 0.2
    batch_sd: float = 0.1
    dispersion: float = 0.1
    dropout: float = 0.05
    loading_seed: int = 0
    hidden: tuple[str, ...] = ()
    random_pose: bool = True
    velocity: Literal["snapshots", "known", "noisy"] = "snapshots"
    velocity_noise: float = 0.1
    destructive: bool = False
    tracks: bool = False

    def __post_init__(self) -> None:
        rules = {
            "n_genes": (self.n_genes >= len(PANEL), f"at least the {len(PANEL)} circuit genes"),
            "counts_per_unit": (self.counts_per_unit > 0, "a number above 0"),
            "size_sd": (self.size_sd >= 0, "0 or more"),
            "batch_sd": (self.batch_sd >= 0, "0 or more"),
            "dispersion": (self.dispersion > 0, "a number above 0"),
            "dropout": (0 <= self.dropout < 1, "a share from 0 to below 1"),
            "velocity_noise": (self.velocity_noise >= 0, "0 or more"),
            "velocity": (self.velocity in ("snapshots", "known", "noisy"), "snapshots, known or noisy"),
        }
        problems = [
            Problem(f"{name} = {getattr(self, name)!r}", expected, f"give {name} as {expected}")
            for name, (holds, expected) in rules.items()
            if not holds
        ]
        problems += [
            Problem(f"hidden gene {gene!r}", f"one of {', '.join(PANEL)}", "name circuit genes only")
            for gene in self.hidden
            if gene not in PANEL
        ]
        if problems:
            raise ConfigError(*problems, subject="measurement of the synthetic embryo")

    @property
    def seen(self) -> list[int]:
        """Columns of `PANEL` that are not hidden."""
        return [i for i, gene in enumerate(PANEL) if gene not in self.hidden]


@dataclass(frozen=True, eq=False)
class Genes:
    """The genes of the design.

    Parameters
    ----------
    names
        Circuit genes first, in the order of `PANEL`.
    loadings
        L: effect of each circuit gene; the identity on the circuit's own.
    base
        Level without any circuit gene.
    wander_sd
        Spread of the log level between cells, without meaning.
    """

    names: tuple[str, ...]
    loadings: Float[np.ndarray, "genes circuit"]
    base: Float[np.ndarray, " genes"]
    wander_sd: Float[np.ndarray, " genes"]

    def chosen(self, rows: list[int]) -> "Genes":
        """Return some of the genes."""
        names = tuple(self.names[i] for i in rows)
        return Genes(names, self.loadings[rows], self.base[rows], self.wander_sd[rows])


def design(measurement: Measurement) -> Genes:
    """Return the observed genes: drawn once per `loading_seed`, then without the hidden ones."""
    rng = np.random.default_rng(measurement.loading_seed)
    extra, circuit = measurement.n_genes - len(PANEL), len(PANEL)
    sizes = {kind: round(share * extra) for kind, share in _SHARES.items()}
    sizes["readout"] = extra - sizes["housekeeping"] - sizes["noise"]
    names = [*PANEL, *(f"{kind}_{i:03d}" for kind, size in sizes.items() for i in range(size))]
    loadings = np.zeros((measurement.n_genes, circuit))
    loadings[:circuit] = np.eye(circuit)
    for row in range(circuit, circuit + sizes["readout"]):
        sources = rng.choice(circuit, size=rng.integers(1, 4), replace=False)
        loadings[row, sources] = rng.exponential(0.7, size=len(sources))
    base, wander = np.full(measurement.n_genes, _LEAK), np.zeros(measurement.n_genes)
    steady = slice(circuit + sizes["readout"], circuit + sizes["readout"] + sizes["housekeeping"])
    wandering = slice(circuit + sizes["readout"] + sizes["housekeeping"], None)
    base[steady] = rng.lognormal(0.0, 0.7, size=sizes["housekeeping"])
    base[wandering] = rng.lognormal(-1.0, 0.7, size=sizes["noise"])
    wander[wandering] = 1.0
    kept = [i for i, name in enumerate(names) if name not in measurement.hidden]
    return Genes(tuple(names), loadings, base, wander).chosen(kept)


def expected_counts(
    genes: Genes,
    g: Float[np.ndarray, "cells circuit"],
    measurement: Measurement,
    batch: Float[np.ndarray, " genes"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "cells genes"]:
    """Return mu of the module's equation for one snapshot; draws the cells' sizes and the meaningless levels."""
    size = np.exp(measurement.size_sd * rng.normal(size=len(g)))
    level = genes.base + g @ genes.loadings.T
    wandering = np.flatnonzero(genes.wander_sd)
    level[:, wandering] *= np.exp(genes.wander_sd[wandering] * rng.normal(size=(len(g), len(wandering))))
    expected: np.ndarray = measurement.counts_per_unit * size[:, None] * batch * level
    return expected


def draw_counts(
    expected: Float[np.ndarray, "cells genes"], *, dispersion: float, dropout: float, rng: np.random.Generator
) -> sparse.csr_matrix:
    """Draw negative binomial counts (a Poisson law with gamma mean), each lost with probability `dropout`."""
    counts = rng.poisson(expected * rng.gamma(1 / dispersion, dispersion, size=expected.shape)).astype(np.float32)
    counts[rng.random(expected.shape) < dropout] = 0.0
    return sparse.csr_matrix(counts)


def observe(embryos: Mapping[str, Embryo], measurement: Measurement | None = None, *, seed: int) -> AnnData:
    """Measure embryos as an experiment would; the truth is kept apart under names that start with ``truth_``.

    Parameters
    ----------
    embryos
        By name. What is seen of an embryo depends on its name and the seed, not on the other embryos.
    measurement
        The dials.
    seed
        Of the experiment.

    Returns
    -------
    AnnData
        One row per cell, time and embryo, by the contract of `embryo.core.schema`. ``obs["cell_type"]`` is the true
        fate (the annotation). ``uns["embryo"]["circuit_genes"]`` names the circuit genes that are seen.
        Velocities, where the dial gives them, are in ``obsm["velocity_spatial"]`` and ``obsm["velocity_panel"]``.

    Raises
    ------
    ConfigError
        If there are no embryos.
    """
    measurement = measurement or Measurement()
    if not embryos:
        raise ConfigError(Problem("no embryos", "at least one", "simulate one first"), subject="observe")
    genes = design(measurement)
    views = [_View.of(name, measurement, genes, seed) for name in embryos]
    parts, poses = [], {}
    for order, (view, embryo) in enumerate(zip(views, embryos.values(), strict=True)):
        poses[view.name] = {"rotation": view.pose.rotation, "translation": view.pose.translation}
        label = " + ".join(edit.label for edit in embryo.edits)
        once = [embryo.snapshots[order % len(embryo.snapshots)]]
        parts += [view.table(snapshot, label) for snapshot in (once if measurement.destructive else embryo.snapshots)]
    return _joined(parts, measurement, genes, {TRUTH_POSE: poses, "edits": _edits(embryos)})


def _edits(embryos: Mapping[str, Embryo]) -> dict[str, str]:
    return {name: json.dumps([edit.to_json() for edit in embryo.edits]) for name, embryo in embryos.items()}


@dataclass(frozen=True, eq=False)
class _Table:
    """What is seen of one embryo at one time."""

    counts: sparse.csr_matrix
    obs: pd.DataFrame
    obsm: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _View:
    """One embryo under the microscope: its pose, its batch and its luck."""

    name: str
    measurement: Measurement
    genes: Genes
    rng: np.random.Generator
    pose: Rigid
    batch: Float[np.ndarray, " genes"]

    @classmethod
    def of(cls, name: str, measurement: Measurement, genes: Genes, seed: int) -> "_View":
        rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
        batch = np.exp(measurement.batch_sd * rng.normal(size=len(genes.names)))
        pose = Rigid(Rotation.from_quat(rng.normal(size=4)).as_matrix(), rng.uniform(-200, 200, size=3))
        return cls(name, measurement, genes, rng, pose if measurement.random_pose else Rigid.identity(), batch)

    def table(self, snapshot: Snapshot, label: str) -> _Table:
        rows = np.arange(len(snapshot.cell))
        if not self.measurement.tracks:
            rows = self.rng.permutation(rows)
        expected = expected_counts(self.genes, snapshot.g[rows], self.measurement, self.batch, self.rng)
        counts = draw_counts(
            expected, dispersion=self.measurement.dispersion, dropout=self.measurement.dropout, rng=self.rng
        )
        obsm = {
            schema.SPATIAL: self.pose(snapshot.x[rows]),
            TRUTH_G: snapshot.g[rows],
            TRUTH_X: snapshot.x[rows],
            TRUTH_MUTANT: snapshot.mutant[rows, None].astype(np.float64),
        }
        return _Table(counts, self._obs(snapshot, rows, label), obsm | self._velocities(snapshot, rows))

    def _obs(self, snapshot: Snapshot, rows: Int[np.ndarray, " cells"], label: str) -> pd.DataFrame:
        when = f"{snapshot.t_h:.6g}h"
        if self.measurement.tracks:
            cell, parent = pedigree.names(snapshot.cell[rows]), pedigree.names(snapshot.parent[rows])
        else:
            cell = np.array([f"{when}-{i:05d}" for i in range(len(rows))], dtype=object)
            parent = np.full(len(rows), "", dtype=object)
        columns: dict[str, Any] = {
            schema.TIME: np.full(len(rows), snapshot.t_h),
            schema.EMBRYO: self.name,
            schema.CELL: cell,
            schema.PARENT: parent,
            schema.CELL_TYPE: np.array(FATES, dtype=object)[fate_codes(snapshot.g[rows])],
            schema.PERTURBATION: label,
        }
        return pd.DataFrame(columns, index=[f"{self.name}_{when}_{name}" for name in cell])

    def _velocities(self, snapshot: Snapshot, rows: Int[np.ndarray, " cells"]) -> dict[str, np.ndarray]:
        if self.measurement.velocity == "snapshots":
            return {}
        dx, dg = snapshot.dx[rows], snapshot.dg[rows][:, self.measurement.seen]
        if self.measurement.velocity == "noisy":
            speed = np.sqrt((dx**2).sum(1).mean() / 3)
            dx = dx + self.measurement.velocity_noise * speed * self.rng.normal(size=dx.shape)
            dg = dg + self.measurement.velocity_noise * self.rng.normal(size=dg.shape)
        return {VELOCITY_SPATIAL: dx @ self.pose.rotation.T, VELOCITY_PANEL: dg}


def _joined(parts: list[_Table], measurement: Measurement, genes: Genes, notes: dict[str, Any]) -> AnnData:
    obs = pd.concat([part.obs for part in parts])
    for key in (schema.EMBRYO, schema.PERTURBATION):
        obs[key] = pd.Categorical(obs[key])
    present = [fate for fate in FATES if (obs[schema.CELL_TYPE] == fate).any()]
    obs[schema.CELL_TYPE] = pd.Categorical(obs[schema.CELL_TYPE], categories=present)
    counts = sparse.vstack([part.counts for part in parts], format="csr")
    obsm = {key: np.concatenate([part.obsm[key] for part in parts]) for key in parts[0].obsm}
    adata = AnnData(X=counts, obs=obs, var=pd.DataFrame(index=list(genes.names)), obsm=obsm)
    adata.layers[schema.COUNTS] = counts.copy()
    adata.uns[TRUTH_POSE] = notes[TRUTH_POSE]
    adata.uns[schema.META] = {
        "time_unit": "h",
        "space_unit": "um",
        "frame": RAW if measurement.random_pose else BODY,
        "dataset": "synthetic",
        "organism": "synthetic embryo",
        "expression": "counts",
        "assembled": False,
        "circuit_genes": [PANEL[i] for i in measurement.seen],
        "velocity": measurement.velocity,
        "edits": notes["edits"],
    }
    return adata
