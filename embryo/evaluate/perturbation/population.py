"""The end of a roll-out or of an experiment, as the scores of perturbations see it, and what a predictor says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float, Int, Shaped

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State


@dataclass(frozen=True, eq=False)
class EndPopulation:
    """Cells of one or several embryos at one time.

    Parameters
    ----------
    fate
        Fate of each row.
    mass
        Cells per row.
    z, g, x
        Embedding, panel (log1p of normalised counts), position in the body frame (µm; no columns without space).
    embryo
        Name of the embryo of each row: every embryo counts the same, however many rows it has.

    Raises
    ------
    SchemaError
        If the parts have different lengths, or there are no cells.
    """

    fate: Shaped[np.ndarray, " cells"]
    mass: Float[np.ndarray, " cells"]
    z: Float[np.ndarray, "cells dims"]
    g: Float[np.ndarray, "cells genes"]
    x: Float[np.ndarray, "cells space"]
    embryo: Shaped[np.ndarray, " cells"]

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(set(lengths.values())) > 1 or not len(self.fate) or not self.mass.sum() > 0:
            found = ", ".join(f"{name}: {n}" for name, n in lengths.items()) + f"; {self.mass.sum():g} cells"
            raise SchemaError(Problem(found, "as many rows in each, and some cells", "mend the prediction"))

    @classmethod
    def of_rows(cls, adata: AnnData, rows: Int[np.ndarray, " cells"] | None = None) -> "EndPopulation":
        """Return measured cells; fates are the annotation (``obs["cell_type"]``)."""
        chosen = np.arange(adata.n_obs) if rows is None else rows
        x = np.asarray(adata.obsm[schema.ALIGNED], float)[chosen] if schema.ALIGNED in adata.obsm else None
        return cls(
            adata.obs[schema.CELL_TYPE].astype(str).to_numpy()[chosen],
            np.ones(len(chosen)),
            np.asarray(adata.obsm[schema.EMBED], float)[chosen],
            np.asarray(adata.obsm[schema.PANEL], float)[chosen],
            np.zeros((len(chosen), 0)) if x is None else x,
            adata.obs[schema.EMBRYO].astype(str).to_numpy()[chosen],
        )

    @classmethod
    def of_state(cls, state: State, fate: Shaped[np.ndarray, " cells"], embryo: str = "predicted") -> "EndPopulation":
        """Return a simulated embryo; particles that stand for no cell are left out."""
        z, g, x, log_mass = (part.detach().cpu().numpy().astype(float) for part in state.parts())
        alive = np.isfinite(log_mass)
        parts = (np.exp(log_mass), z, g, x, np.full(len(z), embryo, dtype=object))
        return cls(np.asarray(fate)[alive], *(part[alive] for part in parts))

    @property
    def embryos(self) -> tuple[str, ...]:
        """Names of the embryos, sorted."""
        return tuple(np.unique(self.embryo.astype(str)).tolist())

    def __getitem__(self, index: Any) -> "EndPopulation":
        return EndPopulation(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def only(self, embryos: Sequence[str]) -> "EndPopulation":
        """Return some of the embryos."""
        return self[np.isin(self.embryo.astype(str), list(embryos))]

    @property
    def balanced(self) -> Float[np.ndarray, " cells"]:
        """Weights of the rows that sum to 1, every embryo counting the same."""
        _, member = np.unique(self.embryo.astype(str), return_inverse=True)
        totals = np.bincount(member, weights=self.mass)
        return np.asarray(self.mass / totals[member] / len(totals))


def pooled(parts: Sequence[EndPopulation]) -> EndPopulation:
    """Return the embryos of several populations as one; embryos are told apart by their part too."""
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ("fate", "mass", "z", "g", "x")}
    names = [f"{k} {name}" for k, p in enumerate(parts) for name in p.embryo.astype(str)]
    return EndPopulation(**joined, embryo=np.array(names, dtype=object))


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a predictor says of one edit with one seed.

    Parameters
    ----------
    edited
        The edited embryo at the end.
    control
        The same start and seed without the edit, for differences of differences; None where there is none.
    doubt
        How unsure it is, in any unit, higher for less sure; NaN where it does not say (the spread over seeds counts).
    abstains
        Whether it declines to assert this prediction. It is scored all the same, and once more without it.
    seen
        Embryos of the truth that the prediction was made of, for ceilings: it is scored against the others alone.
    """

    edited: EndPopulation
    control: EndPopulation | None = None
    doubt: float = float("nan")
    abstains: bool = False
    seen: tuple[str, ...] = ()
