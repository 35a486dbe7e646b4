"""What passes between the parts of a pretrained encoder: profiles of counts, tokens, padded batches, embeddings.

A tokenizer is declared on HEIMDALL's three axes (`Axes`): how a gene is identified, how its expression is encoded, how
a cell is composed of the two.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from scipy import sparse
from torch import Tensor

from embryo.core.errors import Problem, StoreError

SPECIAL = -1  # column of a token that is no gene


@dataclass(frozen=True)
class Axes:
    """A tokenizer in the words of HEIMDALL (F_G, F_E, F_C).

    Parameters
    ----------
    gene_identity
        F_G: what stands for a gene.
    expression
        F_E: what stands for its expression.
    composition
        F_C: in which order the genes of a cell stand, and what happens to a cell with too many.
    """

    gene_identity: str
    expression: str
    composition: str


@dataclass(frozen=True)
class Profiles:
    """Counts of cells over the genes that a model reads, in the model's order.

    Parameters
    ----------
    counts
        Shape (cells, targets), float64; whole numbers until a gene is edited.
    total
        Library size of each cell over all genes measured, before any edit: an edit changes its gene and no other.
    keys
        A hash of each cell's own counts. Whatever is drawn for a cell is drawn from ``default_rng((seed, key))``, so
        that neither the order of the cells nor the batch they are in can change an embedding.
    """

    counts: sparse.csr_array
    total: Float[np.ndarray, " cells"]
    keys: UInt64[np.ndarray, " cells"]

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    def row(self, cell: int) -> tuple[Int[np.ndarray, " found"], Float[np.ndarray, " found"]]:
        """Return the columns, ascending, and the counts of the genes found in a cell."""
        start, stop = self.counts.indptr[cell : cell + 2]
        return self.counts.indices[start:stop].astype(np.int64), self.counts.data[start:stop]

    def rng(self, cell: int, seed: int) -> np.random.Generator:
        """Return the generator of whatever is drawn for a cell."""
        return np.random.default_rng((seed, int(self.keys[cell])))


@dataclass(frozen=True)
class Tokens:
    """The tokens of cells, one array per cell.

    Parameters
    ----------
    ids
        Numbers in the model's dictionary.
    columns
        Target gene of each token; `SPECIAL` for a token that is no gene.
    values
        What stands for the expression; None where the order says it.
    extra
        Numbers of each cell that are no tokens; first axis cells.
    """

    ids: tuple[Int[np.ndarray, " _"], ...]
    columns: tuple[Int[np.ndarray, " _"], ...]
    values: tuple[Float[np.ndarray, " _"], ...] | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Sequence[int] | np.ndarray, *, pad: int, pad_value: float = 0.0) -> "TokenBatch":
        """Return some cells as one padded batch; `pad` and `pad_value` fill ids and values up to the longest."""
        ids = [self.ids[r] for r in rows]
        values = None if self.values is None else _padded([self.values[r] for r in rows], pad_value, np.float32)
        lengths = torch.tensor([len(i) for i in ids])
        return TokenBatch(
            ids=_padded(ids, pad, np.int64),
            columns=_padded([self.columns[r] for r in rows], SPECIAL, np.int64),
            keep=torch.arange(int(lengths.max()))[None] < lengths[:, None],
            values=values,
            extra={name: torch.as_tensor(part[np.asarray(rows)]) for name, part in self.extra.items()},
        )


@dataclass(frozen=True)
class TokenBatch:
    """Cells of a batch, padded to one length.

    Parameters
    ----------
    ids, columns, values, extra
        As in `Tokens`.
    keep
        True where a token is real, False where it pads.
    """

    ids: Int[Tensor, "cells length"]
    columns: Int[Tensor, "cells length"]
    keep: Bool[Tensor, "cells length"]
    values: Float[Tensor, "cells length"] | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def levels(self) -> Float[Tensor, "cells length"]:
        """Values of a batch for a model that needs them; `StoreError` where its tokens have none."""
        if self.values is None:
            raise StoreError(Problem("tokens without values", "tokens of this encoder", "tokenize with it"))
        return self.values

    def to(self, device: str) -> "TokenBatch":
        """Return the batch on a device."""
        return TokenBatch(
            self.ids.to(device),
            self.columns.to(device),
            self.keep.to(device),
            None if self.values is None else self.values.to(device),
            {name: part.to(device) for name, part in self.extra.items()},
        )


@dataclass(frozen=True)
class Encoded:
    """What a network makes of a batch.

    Parameters
    ----------
    cell
        Embedding of each cell.
    gene
        Embedding of each token; None where the model has none.
    columns, keep
        As in `TokenBatch`, for the tokens of `gene`.
    """

    cell: Float[Tensor, "cells dims"]
    gene: Float[Tensor, "cells length width"] | None
    columns: Int[Tensor, "cells length"]
    keep: Bool[Tensor, "cells length"]

    def of(
        self, gene: Float[Tensor, "cells length width"], wanted: Int[Tensor, " genes"]
    ) -> tuple[Float[Tensor, "cells genes width"], Bool[Tensor, "cells genes"]]:
        """Return the entries of `gene` at wanted columns, zeros where a cell has none, and where it has; on the CPU.

        Of a gene that is spelled in several tokens the first one counts.
        """
        columns = torch.where(self.keep, self.columns, SPECIAL).cpu()
        match = (columns[:, None] == wanted[None, :, None]) & (wanted >= 0)[None, :, None]
        seen, at = match.any(dim=-1), match.int().argmax(dim=-1)
        values = gene.float().cpu().gather(1, at[..., None].expand(-1, -1, gene.shape[-1]))
        return values * seen[..., None], seen


def by_length(lengths: Sequence[int] | np.ndarray, limit: int) -> Iterator[Int[np.ndarray, " cells"]]:
    """Yield rows in batches of like length, so that little is padded.

    Parameters
    ----------
    lengths
        Tokens of each cell.
    limit
        Tokens per batch, padding included; a cell that is longer makes a batch of its own.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * max(lengths[order[stop]], 1) <= limit:
            stop += 1
        yield order[start:stop]
        start = stop


def masked_mean(
    hidden: Float[Tensor, "cells length width"], mask: Bool[Tensor, "cells length"]
) -> Float[Tensor, "cells width"]:
    """Return the mean over the tokens that `mask` marks; zeros for a cell without one."""
    weight = mask.to(hidden.dtype)[..., None]
    total = (hidden * weight).sum(dim=1)
    return total / weight.sum(dim=1).clamp(min=1.0)


def _padded(parts: Sequence[np.ndarray], fill: float | int, dtype: type) -> Tensor:
    out: np.ndarray = np.full((len(parts), max(map(len, parts), default=0)), fill, dtype=dtype)
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    return torch.from_numpy(out)
