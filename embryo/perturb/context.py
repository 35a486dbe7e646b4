"""What turns an edit's words into columns and rows of a state, and which cells carry it."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from embryo.core.edit import Edit
from embryo.core.luck import KeyedRandom, Purpose
from embryo.core.region import Region
from embryo.core.state import State


@dataclass(frozen=True)
class Context:
    """What turns an edit's words into columns and rows of a state.

    Parameters
    ----------
    panel
        Names of the columns of g.
    response
        Encoder response dz/dg per panel gene, shape (genes, dims); zeros where the encoder does not read the gene.
    decay_per_h
        Decay rate lambda of every panel product, 1/h, for laws that do not know their own.
    cell_types
        Type of every particle at the start, for edits restricted to a type; None where unknown.
    seed
        Draws the mosaic.
    cells
        Names of the particles at the start. Where they are known the lots of a mosaic hang on them and not on the order
        of the rows; a clone needs them.
    """

    panel: tuple[str, ...]
    response: Float[Tensor, "genes dims"]
    decay_per_h: float
    cell_types: tuple[str, ...] | None = None
    seed: int = 0
    cells: tuple[str, ...] | None = None

    def lots(self, cells: int) -> Float[np.ndarray, " cells"]:
        """Return the lot of each cell, uniform on 0 to 1; a cell carries the edits of all fractions above it."""
        if self.cells is None:
            return np.random.default_rng(self.seed).random(cells)
        digests = (blake2b(name.encode(), digest_size=8).digest() for name in self.cells)
        keys = np.array([int.from_bytes(d, "little") >> 1 for d in digests], dtype=np.int64)
        return KeyedRandom(self.seed).uniform(Purpose.MOSAIC, 0, keys, 1)[:, 0]


def carriers(edits: Sequence[Edit], start: State, context: Context) -> Bool[Tensor, "edits cells"]:
    """Return which living cells carry each edit; all edits share one lot per cell, as in a chimera."""
    lots = context.lots(len(start))
    x = start.x.detach().cpu().double().numpy()
    alive = start.alive.cpu().numpy()
    rows = [_carrying(edit, lots, x, alive, context) for edit in edits]
    return torch.from_numpy(np.array(rows, dtype=bool).reshape(len(edits), len(start))).to(start.g.device)


def _carrying(
    edit: Edit,
    lots: Float[np.ndarray, " cells"],
    x: Float[np.ndarray, "cells space"],
    alive: Bool[np.ndarray, " cells"],
    context: Context,
) -> Bool[np.ndarray, " cells"]:
    mask: Bool[np.ndarray, " cells"] = (lots < edit.fraction) & alive
    if edit.cell_type is not None and context.cell_types is not None:
        mask &= np.asarray(context.cell_types) == edit.cell_type
    if edit.region is not None:
        mask &= Region.of(edit.region).holds(x, alive)
    if edit.clone is not None and context.cells is not None:
        mask &= of_clone(edit.clone, context.cells)
    return np.asarray(mask)


def of_clone(clone: str, cells: Sequence[str]) -> Bool[np.ndarray, " cells"]:
    """Return which cells are of a clone: the cell of that name, else those whose names begin with it."""
    names = np.asarray(cells, dtype=str)
    own: np.ndarray = names == clone
    begins = np.asarray(np.char.startswith(names, clone), dtype=bool)
    return np.asarray(own if own.any() else begins)
