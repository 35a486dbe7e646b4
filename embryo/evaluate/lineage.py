"""Named cells across embryos and times."""

from collections import defaultdict

import numpy as np
from anndata import AnnData
from jaxtyping import Float

from embryo.core import schema


class Lineage:
    """Looks up where a named cell, its descendants or its ancestor are.

    Parameters
    ----------
    adata
        With obs embryo, time, cell and (where cells divide) parent, and aligned positions.
    """

    def __init__(self, adata: AnnData) -> None:
        obs = adata.obs
        self._x = np.asarray(adata.obsm[schema.ALIGNED], dtype=float)
        self._t = obs[schema.TIME].to_numpy(float)
        self._cell = obs[schema.CELL].astype(str).to_numpy()
        self._rows = {
            str(e): np.asarray(i) for e, i in obs.groupby(obs[schema.EMBRYO].astype(str), observed=True).indices.items()
        }
        self._parent: dict[str, str] = {}
        if schema.PARENT in obs:
            parent = obs[schema.PARENT].astype(str).to_numpy()
            self._parent = {c: p for c, p in zip(self._cell, parent, strict=True) if p}

    def ancestors(self, cell: str) -> list[str]:
        """Return the cell itself, its mother, grandmother and so on."""
        chain = [cell]
        while (mother := self._parent.get(chain[-1])) and mother not in chain:
            chain.append(mother)
        return chain

    def positions(
        self, embryo: str, cells: np.ndarray, t_h: float, tolerance_h: float, *, fallback: bool
    ) -> Float[np.ndarray, "cells space"] | None:
        """Return where `cells` of an embryo are at the observed time nearest to `t_h`.

        A cell that has divided is the mean of its living descendants. With `fallback`, a cell not yet born is its
        nearest living ancestor. NaN where there is neither; None where no observed time is near enough.
        """
        rows = self._rows.get(embryo, np.zeros(0, int))
        if not len(rows):
            return None
        near = self._t[rows][np.abs(self._t[rows] - t_h).argmin()]
        if abs(near - t_h) > tolerance_h:
            return None
        alive = rows[self._t[rows] == near]
        members: dict[str, list[int]] = defaultdict(list)
        for row in alive:
            for name in self.ancestors(self._cell[row]):
                members[name].append(int(row))
        here = {self._cell[row]: int(row) for row in alive}
        out = np.full((len(cells), self._x.shape[1]), np.nan)
        for i, cell in enumerate(cells):
            if cell in members:
                out[i] = self._x[members[cell]].mean(axis=0)
            elif fallback:
                older = next((here[a] for a in self.ancestors(cell) if a in here), None)
                out[i] = self._x[older] if older is not None else np.nan
        return out
