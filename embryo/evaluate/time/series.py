"""Stages of a series, as predictors and scores see them: states with masses, types, embryos."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State

_SAME = 1e-6  # times nearer than this share of themselves (or this many hours) are one time


@dataclass(frozen=True, eq=False)
class Series:
    """What was observed, stage by stage.

    Parameters
    ----------
    times_h
        Hours, strictly increasing.
    states
        One per time; the masses of one sum to the cells per embryo where counts grow, else to 1.
    labels
        Cell type of every row; ``""`` where unknown.
    groups
        Embryo of every row: the unit of replication.
    counts_grow
        Whether numbers of cells are comparable between times.

    Raises
    ------
    SchemaError
        Where times do not rise, or parts differ in length.
    """

    times_h: tuple[float, ...]
    states: tuple[State, ...]
    labels: tuple[np.ndarray, ...]
    groups: tuple[np.ndarray, ...]
    counts_grow: bool

    def __post_init__(self) -> None:
        problems = []
        if any(b <= a for a, b in zip(self.times_h, self.times_h[1:], strict=False)):
            found = f"times {', '.join(f'{t:g}' for t in self.times_h)} h"
            problems.append(Problem(found, "rising times", "order the stages, one per time"))
        sizes = {"states": len(self.states), "labels": len(self.labels), "groups": len(self.groups)}
        problems += [
            Problem(f"{n} {name} for {len(self.times_h)} times", "one per time", "give one per stage")
            for name, n in sizes.items()
            if n != len(self.times_h)
        ]
        if not problems:
            problems = [
                Problem(f"{len(s)} cells, {len(a)} types and {len(b)} embryos at {t:g} h", "one each per cell", "align")
                for t, s, a, b in zip(self.times_h, self.states, self.labels, self.groups, strict=True)
                if not len(s) == len(a) == len(b)
            ]
        if problems:
            raise SchemaError(*problems, subject="series")

    def __len__(self) -> int:
        return len(self.times_h)

    @classmethod
    def of(cls, adata: AnnData, *, counts_grow: bool, numbers: Mapping[float, float] | None = None) -> "Series":
        """Read the stages of an AnnData.

        Parameters
        ----------
        adata
            With ``obsm["X_embed"]`` and ``obs["time"]``; ``obsm["X_panel"]``, ``obsm["spatial_aligned"]`` (µm),
            ``obs["embryo"]`` and ``obs["cell_type"]`` where there are any.
        counts_grow
            Whether cells per embryo are comparable between times; else every stage weighs 1.
        numbers
            Cells per embryo at every time, where the rows are a sample of them; counted from the rows where None.

        Raises
        ------
        SchemaError
            Where there is no embedding.
        """
        if schema.EMBED not in adata.obsm:
            raise SchemaError(Problem("no embedding", f"obsm[{schema.EMBED!r}]", "run embryo.embed.cells first"))
        t = adata.obs[schema.TIME].to_numpy(float)
        times = tuple(float(u) for u in np.unique(t))
        parts = [_table(adata, slot) for slot in (schema.EMBED, schema.PANEL, schema.ALIGNED)]
        labels, groups = _words(adata, schema.CELL_TYPE), _words(adata, schema.EMBRYO)
        rows = [np.flatnonzero(t == u) for u in times]
        states = []
        for u, chosen in zip(times, rows, strict=True):
            counted = len(chosen) / len(np.unique(groups[chosen]))
            total = 1.0 if not counts_grow else counted if numbers is None else float(numbers[u])
            log_mass = torch.full((len(chosen),), float(np.log(total / len(chosen))))
            z, g, x = (torch.from_numpy(part[chosen]) for part in parts)
            states.append(State(z, g, x, log_mass))
        chosen_of = tuple(labels[r] for r in rows), tuple(groups[r] for r in rows)
        return cls(times, tuple(states), *chosen_of, counts_grow)

    @property
    def numbers(self) -> Float[np.ndarray, " times"]:
        """Return the total mass of every stage: cells per embryo where counts grow, else 1."""
        return np.array([float(s.mass.double().sum()) for s in self.states])

    @property
    def space(self) -> int:
        """Return the number of dimensions of space; 0 without."""
        return int(self.states[0].x.shape[1])

    def without(self, k: int) -> "Series":
        """Return the series without its k-th time."""
        kept = [j for j in range(len(self)) if j != range(len(self))[k]]
        return Series(
            tuple(self.times_h[j] for j in kept),
            tuple(self.states[j] for j in kept),
            tuple(self.labels[j] for j in kept),
            tuple(self.groups[j] for j in kept),
            self.counts_grow,
        )

    def part(self, rows: np.ndarray) -> "Series":
        """Return a series of one stage with `rows` of it alone."""
        (t,), (state,), (labels,), (groups,) = self.times_h, self.states, self.labels, self.groups
        kept = state[torch.from_numpy(np.asarray(rows))]
        return Series((t,), (kept,), (labels[rows],), (groups[rows],), self.counts_grow)

    def index(self, t_h: float) -> int | None:
        """Return which stage was observed at `t_h`; None if none was."""
        near = np.isclose(self.times_h, t_h, rtol=_SAME, atol=_SAME)
        return int(np.flatnonzero(near)[0]) if near.any() else None

    def at(self, t_h: float) -> State:
        """Return the state observed at `t_h`.

        Raises
        ------
        SchemaError
            If there is none.
        """
        k = self.index(t_h)
        if k is None:
            known = ", ".join(f"{t:g}" for t in self.times_h)
            raise SchemaError(Problem(f"no stage at {t_h:g} h", f"one of {known} h", "ask for one of these"))
        return self.states[k]

    def flanks(self, t_h: float) -> tuple[int | None, int | None]:
        """Return which stage is the last before `t_h`, and which the first after; None where there is none."""
        here = self.index(t_h)
        before = [k for k, t in enumerate(self.times_h) if t < t_h and k != here]
        after = [k for k, t in enumerate(self.times_h) if t > t_h and k != here]
        return (before[-1] if before else None, after[0] if after else None)


def _table(adata: AnnData, slot: str) -> Float[np.ndarray, "cells columns"]:
    if slot not in adata.obsm:
        return np.zeros((adata.n_obs, 0), dtype=np.float32)
    return np.ascontiguousarray(np.asarray(adata.obsm[slot]), dtype=np.float32)


def _words(adata: AnnData, column: str) -> np.ndarray:
    if column not in adata.obs:
        return np.full(adata.n_obs, "", dtype=object)
    words = adata.obs[column].astype(object)
    return np.asarray(words.where(words.notna(), "").astype(str).to_numpy(dtype=object))
