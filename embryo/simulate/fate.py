"""What becomes of each particle of the start, and which genes told it beforehand; written under CellRank's keys."""

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float
from scipy import sparse
from scipy.stats import false_discovery_control, norm

from embryo.core import schema
from embryo.core.errors import EmbryoError, Problem
from embryo.core.trajectory import Trajectory
from embryo.simulate.ensembles import founder, per_founder

ReadOut = Callable[[Float[np.ndarray, "cells dims"]], Float[np.ndarray, "cells fates"]]

_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Fates:
    """Where each particle of the start ends; made by `fates`.

    Parameters
    ----------
    names
        Of the fates, one per column.
    cells
        Names of the particles of the start.
    probabilities
        Probability that a descendant drawn at random has the fate; rows sum to 1, NaN where no descendant lives in any
        roll-out.
    error
        Standard error over the roll-outs; NaN with one.
    descendants
        Mean number of descendants.
    """

    names: tuple[str, ...]
    cells: tuple[str, ...]
    probabilities: Float[np.ndarray, "cells fates"]
    error: Float[np.ndarray, "cells fates"]
    descendants: Float[np.ndarray, " cells"]

    def write(self, adata: AnnData, colours: Sequence[str] | None = None) -> None:
        """Write into the cells of the start: ``obsm["lineages_fwd"]`` and what CellRank needs to read it as a Lineage.

        Parameters
        ----------
        adata
            One row per particle of the start, in its order. Also gets ``obs["term_states_fwd"]`` (the most probable
            fate; its categories name the columns), ``obs["term_states_fwd_probs"]`` (how probable) and
            ``uns["term_states_fwd_colors"]``.
        colours
            One per fate, ``#rrggbb``; evenly spaced hues by default.

        Raises
        ------
        EmbryoError
            If rows or colours are not as many as particles and fates.
        """
        shades = list(colours) if colours is not None else _hues(len(self.names))
        problems = []
        if adata.n_obs != len(self.cells):
            found = f"{adata.n_obs} cells for the fates of {len(self.cells)}"
            problems.append(Problem(found, "the cells of the start", "take the rows that were rolled out"))
        if len(shades) != len(self.names):
            found = f"{len(shades)} colours for {len(self.names)} fates"
            problems.append(Problem(found, "one colour per fate", "name as many, or none"))
        if problems:
            raise EmbryoError(*problems, subject="fates")
        known = ~np.isnan(self.probabilities).any(axis=1)
        likeliest = np.where(known, np.where(known[:, None], self.probabilities, 0).argmax(axis=1), -1)
        adata.obsm[schema.FATE_PROBABILITIES] = self.probabilities
        adata.obs[schema.TERMINAL_STATES] = pd.Categorical.from_codes(likeliest, categories=pd.Index(self.names))
        adata.obs[schema.TERMINAL_PROBABILITIES] = self.probabilities.max(axis=1)
        adata.uns[schema.TERMINAL_COLOURS] = np.array(shades, dtype=object)


def fates(rollouts: Sequence[Trajectory], read: ReadOut, names: Sequence[str], *, k: int = -1) -> Fates:
    """Read the fate of each particle of the start off where its descendants end.

    A mass roll-out has one descendant per particle, and its probabilities are the read-out's own doubt. Roll-outs with
    divisions, of several seeds or fields add what luck and the fits leave open.

    Parameters
    ----------
    rollouts
        One or more, of one start.
    read
        Fate probabilities off z, such as the ``proba`` of `embryo.measure.fates`.
    names
        Of the fates, as the columns of `read`.
    k
        Which stored time is the end.

    Raises
    ------
    EmbryoError
        If there is no roll-out, they have different starts, or `read` has other columns than names.
    """
    found = [_end(rollout, read, k) for rollout in rollouts]
    shapes = {(len(mass), *means.shape) for means, mass in found}
    if len(shapes) != 1 or next(iter(shapes))[2] != len(names):
        what = f"{len(found)} roll-outs with (particles, particles, fates) of {sorted(shapes)}"
        expected = f"one or more of one start, read as {len(names)} fates"
        raise EmbryoError(Problem(what, expected, "roll out from one state, and name every fate"), subject="fates")
    shares, mass = np.stack([means for means, _ in found]), np.stack([total for _, total in found])
    weight = np.where(np.isnan(shares).any(axis=2), 0, mass)[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        probabilities = (weight * np.nan_to_num(shares)).sum(axis=0) / weight.sum(axis=0)
        apart = weight * np.where(weight > 0, shares - probabilities, 0)  # of a ratio of sums: Cochran 1977, eq. 6.13
        n = len(found)
        error = np.sqrt((apart**2).sum(axis=0) * (n / (n - 1) if n > 1 else np.nan)) / weight.sum(axis=0)
    first = rollouts[0]
    there = [name for name, alive in zip(first.cells, first.at(0).alive.tolist(), strict=True) if alive]
    return Fates(tuple(names), tuple(there), probabilities, error, mass.mean(axis=0))


def _end(rollout: Trajectory, read: ReadOut, k: int) -> tuple[np.ndarray, np.ndarray]:
    state = rollout.at(k)
    mass = state.mass.detach().cpu().double().numpy()
    shares = np.asarray(read(state.z.detach().cpu().double().numpy()), dtype=float)
    return per_founder(shares, mass, founder(rollout))


def drivers(expression: Any, probabilities: Fates, genes: Sequence[str]) -> pd.DataFrame:
    """Correlate genes at the start with fate probabilities, as CellRank's lineage drivers are.

    Parameters
    ----------
    expression
        One row per particle of the start, one column per gene; dense or sparse.
    probabilities
        Where they end; particles without living descendants are left out.
    genes
        Names of the columns.

    Returns
    -------
    pd.DataFrame
        Indexed by gene, for each fate ``FATE_corr`` (Pearson), ``FATE_pval`` (two-sided, Fisher's transformation),
        ``FATE_qval`` (Benjamini and Hochberg over genes), ``FATE_ci_low`` and ``FATE_ci_high`` (95 %); NaN for genes
        or fates that do not vary. Goes into ``varm["terminal_lineage_drivers"]``. CellRank 2.0.7 scales its correlation
        by n / (n - 1); this one is Pearson's. Correlation is no cause: for that, edit the gene.

    Raises
    ------
    EmbryoError
        If rows or columns are not as many as particles and genes, or fewer than four particles are left.
    """
    known = ~np.isnan(probabilities.probabilities).any(axis=1)
    if expression.shape != (len(known), len(genes)) or known.sum() < 4:
        found = f"expression of shape {tuple(expression.shape)} and {int(known.sum())} particles with fates"
        expected = f"shape {(len(known), len(genes))}, and four particles or more"
        raise EmbryoError(Problem(found, expected, "take the rows that were rolled out"), subject="drivers")
    corr, n = _correlation(expression[known], probabilities.probabilities[known]), int(known.sum())
    with np.errstate(divide="ignore"):
        centre, error = np.arctanh(corr), 1 / np.sqrt(n - 3)
    half = norm.ppf(0.5 + _LEVEL / 2) * error
    columns: dict[str, np.ndarray] = {f"{name}_corr": corr[:, j] for j, name in enumerate(probabilities.names)}
    for j, name in enumerate(probabilities.names):
        p = 2 * norm.cdf(-np.abs(centre[:, j]) / error)
        q, varies = np.full(len(p), np.nan), ~np.isnan(p)
        q[varies] = false_discovery_control(p[varies]) if varies.any() else []
        low, high = np.tanh(centre[:, j] - half), np.tanh(centre[:, j] + half)
        columns |= {f"{name}_pval": p, f"{name}_qval": q, f"{name}_ci_low": low, f"{name}_ci_high": high}
    return pd.DataFrame(columns, index=pd.Index(list(genes)))


def _correlation(x: Any, y: np.ndarray) -> np.ndarray:
    """Pearson correlation of the columns of two tables; the first may be sparse and stays so."""
    if not sparse.issparse(x):
        x = np.asarray(x, dtype=float) - np.asarray(x, dtype=float).mean(axis=0)
    mean = np.asarray(x.mean(axis=0)).ravel()
    square = np.asarray((x.multiply(x) if sparse.issparse(x) else x * x).mean(axis=0)).ravel()
    apart = y - y.mean(axis=0)
    spread_x = np.sqrt((square - mean**2).clip(min=0))
    spread_y = np.sqrt((apart**2).mean(axis=0))
    varies = np.outer(spread_x > 1e-12 * np.sqrt(square), spread_y > 1e-12)
    with np.errstate(invalid="ignore", divide="ignore"):
        corr = np.asarray(x.T @ apart) / len(y) / np.outer(spread_x, spread_y)
    return np.where(varies, corr.clip(-1, 1), np.nan)


def _hues(n: int) -> list[str]:
    shades = (colorsys.hsv_to_rgb(k / max(1, n), 0.65, 0.85) for k in range(n))
    return ["#" + "".join(f"{round(255 * part):02x}" for part in shade) for shade in shades]
