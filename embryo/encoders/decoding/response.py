"""What a gene does to an embedding, by finite differences through a network that is not linear."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from jaxtyping import Float, Int

from embryo.core import schema
from embryo.core.edit import Edit, Operation
from embryo.encoders.inputs.tokens import Profiles

if TYPE_CHECKING:
    from embryo.encoders.pretrained import Pretrained

CELLS = 16  # that a response rests on


def differences(encoder: "Pretrained", adata: AnnData, genes: Sequence[str]) -> list[Float[np.ndarray, " dims"]]:
    """Return dz/dg of each gene by finite differences through the network; see `Pretrained.response`."""
    gene_map = encoder.map_genes(adata)
    ((_, cells),) = encoder.profiles(adata, gene_map)
    columns = [gene_map.column(gene) for gene in genes]
    chosen = [_cells(cells, column, encoder.seed) if column >= 0 else np.zeros(0, np.int64) for column in columns]
    used = np.unique(np.concatenate([*chosen, np.zeros(0, np.int64)]))
    place = {int(cell): k for k, cell in enumerate(used)}
    base = encoder.encode_tokens(encoder.tokenize(_take(cells, used)), exact=True)
    out = []
    for gene, column, rows in zip(genes, columns, chosen, strict=True):
        if column < 0:
            out.append(np.zeros(encoder.dims))
            continue
        few = _take(cells, rows)
        level = np.log1p(few.counts[:, [column]].toarray().ravel() * schema.TARGET_SUM / few.total)
        knocked = Edit(gene) if level.any() else Edit(gene, Operation.OVEREXPRESS, dose=1.0)
        step = -level if level.any() else np.ones_like(level)
        edited = encoder.tokenize(encoder.edit(few, [knocked], gene_map))
        moved = encoder.encode_tokens(edited, exact=True) - base[[place[int(row)] for row in rows]]
        out.append(step @ moved / (step @ step))
    return out


def _cells(cells: Profiles, column: int, seed: int) -> Int[np.ndarray, " rows"]:
    """Return up to `CELLS` cells that express a gene and something else; of all cells where none does."""
    counts = cells.counts
    others = np.diff(counts.indptr) > 1  # a cell of this gene alone would be empty without it
    expressed = np.flatnonzero((counts[:, [column]].toarray().ravel() > 0) & others)
    pool = expressed if len(expressed) else np.arange(len(cells))
    return np.sort(np.random.default_rng((seed, column)).permutation(pool)[:CELLS]).astype(np.int64)


def _take(cells: Profiles, rows: Int[np.ndarray, " rows"]) -> Profiles:
    return Profiles(cells.counts[rows], cells.total[rows], cells.keys[rows])
