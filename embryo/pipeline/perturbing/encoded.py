"""What the encoder itself answers to an edit of its gene inputs, beside what the law makes of the same edit.

An encoder knows which states go with which genes, and nothing of time; a law carries an edit through development. Where
both move cells of a fate the same way, the answer of a foundation model alone would have said as much. Part of it is no
finding: the edited gene's own share of z is in both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Shaped

from embryo import encoders, measure, perturb
from embryo.core import schema
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EmbryoError
from embryo.core.table import Interval, interval, row, table
from embryo.core.trajectory import Trajectory
from embryo.encoders.decoding.kept import Kept
from embryo.pipeline import cells, chosen
from embryo.pipeline.folder import RunFolder

ANSWER, RANDOM = "the encoder's answer", "the encoder's answer to matched random genes"
ALL = "all cells"
_CELLS = 300  # that an answer rests on
_SCALE_FREE = (Operation.KNOCKOUT, Operation.KNOCKDOWN)  # other doses mean one thing in counts, another in the panel
_STILL = 1e-9  # of z: shorter is no direction

Means = Mapping[str, Float[np.ndarray, " dims"]]


@dataclass(frozen=True, eq=False)
class Asked:
    """Measured wild-type cells that an encoder is asked about.

    Parameters
    ----------
    encoder
        Of the run, with its weights.
    adata
        The cells, of one time, fitted on or not.
    z
        Their embedding.
    reads
        The read-out of fates.
    time_h
        When they were measured.
    """

    encoder: Any
    adata: AnnData
    z: Float[np.ndarray, "cells dims"]
    reads: measure.FateClassifier
    time_h: float

    @classmethod
    def of(cls, run: RunFolder, adata: AnnData, t_h: float, fate: measure.FateClassifier) -> "Asked | str":
        """Return up to `_CELLS` cells of the run measured nearest to a time, or why its encoder cannot be asked."""
        encoder, genes = _encoder(run, adata), run.path / "genes.h5ad"
        if isinstance(encoder, str):
            return encoder
        if not genes.is_file():
            return "The encoder was not asked about the edit: the run has lost its genes.h5ad."
        wild = (adata.obs[cells.SPLIT] != cells.EDITED).to_numpy()
        t = adata.obs[schema.TIME].to_numpy(float)
        nearest = float(t[wild][np.abs(t[wild] - t_h).argmin()])
        rows = np.flatnonzero(wild & (np.abs(t - nearest) < schema.SAME_TIME_H))
        draw = np.random.default_rng(run.config.seed)
        chosen_rows = np.sort(draw.choice(rows, min(len(rows), _CELLS), replace=False))
        some = ad.read_h5ad(genes, backed="r")[adata.obs_names[chosen_rows]].to_memory()
        z = np.asarray(encoder.encode(some), dtype=float)
        return cls(encoder, some, z, fate, nearest)

    @property
    def fate(self) -> Shaped[np.ndarray, " cells"]:
        """Fate of every cell."""
        return np.asarray(self.reads.predict(self.z))

    def moved(self, edits: Sequence[Edit]) -> Float[np.ndarray, "cells dims"]:
        """Return dz of every cell: edits are in all cells, or all of a type, whatever their window and share."""
        whole = [replace(e, t_on_h=-np.inf, t_off_h=np.inf, fraction=1.0) for e in edits]
        return np.asarray(self.encoder.encode(perturb.genes(self.adata, whole)) - self.z, dtype=float)


def _encoder(run: RunFolder, adata: AnnData) -> Any:
    e = run.config.embed
    if e.encoder == "precomputed":
        return "The embedding was computed elsewhere: no encoder can be asked about the edit."
    found = encoders.load(run.path / "encoder.safetensors")
    if not isinstance(found, Kept):
        return found
    try:
        organism = schema.meta(adata).get("organism")
        return chosen.encoder(e, dims=e.dims or 1, seed=run.config.seed, organism=organism).resume(found)
    except EmbryoError as error:
        return f"The encoder was not asked about the edit: {error.problems[0].found}."


def comparable(edits: Sequence[Edit]) -> bool:
    """Whether edits mean the same on gene inputs as in a roll-out: genes lost or lowered, in all cells or a type."""
    return all(e.operation in _SCALE_FREE and e.region is None and e.clone is None for e in edits)


def answers(
    asked: Asked | str,
    edits: Sequence[Edit],
    others: Sequence[Sequence[Edit]],
    pairs: Sequence[tuple[Trajectory, Trajectory]],
    board: str,
) -> tuple[pd.DataFrame, list[str]]:
    """Compare the encoder's answer with the law's, over all cells and fate by fate.

    Parameters
    ----------
    asked
        The cells, or why there are none.
    edits
        What was rolled out; `comparable` ones.
    others
        The same edits of matched random genes: the encoder's answer to these is held against the law's own effect too.
    pairs
        Control and edited roll-out of every seed, over the same cells.
    board
        Name of the edits.

    Returns
    -------
    tuple[pd.DataFrame, list[str]]
        Rows like those of `measure.difference` at the end: ``cosine[FATE]`` between mean dz of the encoder and of the
        law (edited minus control), ``size_ratio[FATE]``, the encoder's length over the law's; role ``difference``,
        intervals over seeds, and ``floor`` for the random genes, low and high their least and greatest. Then what is to
        be said. Fates in which either stands still have no row.
    """
    if isinstance(asked, str):
        return table([]), [asked]
    law = [_change(control, edited, asked.reads) for control, edited in pairs]
    own = _means(asked.moved(edits), asked.fate)
    random = [_means(asked.moved(other), asked.fate) for other in others]
    found = table(_rows(own, random, law, board, float(pairs[0][0].times_h[-1])))
    return found, _said(found, asked)


def _change(control: Trajectory, edited: Trajectory, fate: measure.FateClassifier) -> dict[str, np.ndarray]:
    """Return the mean of z edited minus z control, by the fate in the control, over cells that live in both."""
    a, b = control.at(-1), edited.at(-1)
    both = (a.alive & b.alive).cpu().numpy()
    za, zb, mass = (part.cpu().double().numpy()[both] for part in (a.z, b.z, a.mass))
    return _means(zb - za, fate.predict(za), mass) if both.any() else {}


def _means(dz: np.ndarray, fate: np.ndarray, mass: np.ndarray | None = None) -> dict[str, np.ndarray]:
    groups = {ALL: np.ones(len(fate), bool)} | {str(name): fate == name for name in np.unique(fate)}
    return {name: np.average(dz[r], axis=0, weights=None if mass is None else mass[r]) for name, r in groups.items()}


def _rows(
    own: Means, random: Sequence[Means], law: Sequence[Means], board: str, t_h: float
) -> Iterator[dict[str, Any]]:
    for name in own:
        here = [found[name] for found in law if name in found]
        for metric, (of, least, most) in _METRICS.items():
            values = interval([of(own[name], v) for v in here]).within(least, most)
            if not values.n:
                continue
            about = {"board": board, "split": f"t={t_h:g} h", "metric": f"{metric}[{name}]", "unit": "1"}
            yield row(model=ANSWER, role="difference", values=values, **about)
            null = [of(other[name], np.mean(here, axis=0)) for other in random]
            null = [value for value in null if np.isfinite(value)]
            if null:
                ends = Interval(float(np.mean(null)), min(null), max(null), len(null))
                yield row(model=RANDOM, role="floor", values=ends, **about)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    return float(a @ b / lengths[0] / lengths[1]) if min(lengths) > _STILL else float("nan")


def _ratio(a: np.ndarray, b: np.ndarray) -> float:
    length = float(np.linalg.norm(b))
    return float(np.linalg.norm(a)) / length if length > _STILL else float("nan")


_METRICS = {"cosine": (_cosine, -1.0, 1.0), "size_ratio": (_ratio, 0.0, np.inf)}


def _said(found: pd.DataFrame, asked: Asked) -> list[str]:
    """Return how the two stand to each other over all cells; nothing where one of them stands still."""
    rows = found.set_index(["metric", "model"])["value"]
    if (f"cosine[{ALL}]", ANSWER) not in rows.index:
        return []
    cosine, ratio = rows[f"cosine[{ALL}]", ANSWER], rows[f"size_ratio[{ALL}]", ANSWER]
    floor = found[(found["model"] == RANDOM) & (found["metric"] == f"cosine[{ALL}]")]
    null = ", ".join(f"{low:.2f} to {high:.2f}" for low, high in floor[["low", "high"]].to_numpy())
    beside = f" (asked about genes of like level instead: {null})" if null else ""
    return [
        f"The encoder, asked about the edit in {asked.adata.n_obs} measured wild-type cells of {asked.time_h:g} h, "
        f"answers with a cosine of {cosine:.2f} to what the law makes of it at the end{beside}; it is {ratio:.2g} "
        "times as long."
    ]
