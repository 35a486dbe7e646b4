"""What a gene does to an embedding, by finite differences through a network that is not linear."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from jaxtyping import Float

from embryo.core import schema
from embryo.core.edit import Edit, Operation

if TYPE_CHECKING:
    from embryo.encoders.pretrained import Pretrained


def differences(encoder: "Pretrained", adata: AnnData, genes: Sequence[str]) -> list[Float[np.ndarray, " dims"]]:
    """Return dz/dg of each gene by finite differences through the network; see `Pretrained.response`."""
    gene_map = encoder.map_genes(adata)
    ((_, cells),) = encoder.profiles(adata, gene_map)
    base = encoder.encode_tokens(encoder.tokenize(cells), exact=True)
    out = []
    for gene in genes:
        column = gene_map.column(gene)
        if column < 0:
            out.append(np.zeros(encoder.dims))
            continue
        level = np.log1p(cells.counts[:, [column]].toarray().ravel() * schema.TARGET_SUM / cells.total)
        knocked = Edit(gene) if level.any() else Edit(gene, Operation.OVEREXPRESS, dose=1.0)
        step = -level if level.any() else np.ones_like(level)
        edited = encoder.tokenize(encoder.edit(cells, [knocked], gene_map))
        out.append(step @ (encoder.encode_tokens(edited, exact=True) - base) / (step @ step))
    return out
