"""Graph-diffused attention: queries spread over a graph of the tokens before they meet the keys (GREmLN).

The operator is the heat kernel exp(-beta L) of the normalised Laplacian L = 1 - D^-1/2 A D^-1/2. With the shifted
M = L - 1 = -D^-1/2 A D^-1/2, whose spectrum lies within [-1, 1], it reads exp(-beta (M + 1)) and is applied by its
Chebyshev series, so that only products of a sparse matrix with the queries are needed::

    exp(-beta (x + 1)) = c_0 / 2 + sum_k c_k T_k(x),    c_k = 2 exp(-beta) (-1)^k I_k(beta)

The released GREmLN does not halve c_0, so that its operator is exp(-beta (M + 1)) + (c_0 / 2) 1, with c_0 / 2 = 0.907
at beta 0.1: that term is kept for its weights (``published=True``), and left out of networks of our own.

Source of the operator: czi-ai/GREmLN at 6ce9cc2 (MIT), read for its facts; the coefficients are those of
Abramowitz & Stegun 9.6.34.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.special import ive
from torch import Tensor, nn

from embryo.blocks.attention import attend

_NEGLIGIBLE = 1e-12  # further terms change nothing even in double precision: |T_k| is at most 1


@dataclass(frozen=True)
class TokenGraph:
    """One undirected graph over the tokens of each cell of a padded batch.

    Parameters
    ----------
    matrix
        M = -D^-1/2 A D^-1/2 of all cells, sparse, block-diagonal over them; token t of cell c is row c * length + t.
    nodes
        Which tokens lie on the graph; queries of the others (padding, special tokens) are not diffused.
    """

    matrix: Tensor
    nodes: Bool[Tensor, "cells length"]

    @classmethod
    def of(cls, edges: Int[Tensor, "3 edges"], nodes: Bool[Tensor, "cells length"]) -> "TokenGraph":
        """Build the graphs from edges.

        Parameters
        ----------
        edges
            Rows: cell, token, token. Each pair once, in either order; one given twice counts twice. A loop counts as
            one edge.
        nodes
            Which tokens lie on the graph.

        Raises
        ------
        ValueError
            If an edge ends at a token that is no node.
        """
        cells, length = nodes.shape
        start, stop = edges[0] * length + edges[1], edges[0] * length + edges[2]
        if not bool(nodes.reshape(-1)[torch.cat([start, stop])].all()):
            msg = "an edge ends at a token that is no node of the graph"
            raise ValueError(msg)
        loop = start == stop
        row, column = torch.cat([start, stop[~loop]]), torch.cat([stop, start[~loop]])
        degree = torch.bincount(row, minlength=cells * length).to(torch.get_default_dtype())
        weight = -((degree[row] * degree[column]) ** -0.5)
        size = (cells * length, cells * length)
        matrix = torch.sparse_coo_tensor(torch.stack([row, column]), weight, size, check_invariants=True)
        return cls(matrix.coalesce(), nodes)

    @classmethod
    def within(
        cls, columns: Int[Tensor, "cells length"], links: Int[Tensor, "2 links"], size: int, *, loops: bool = False
    ) -> "TokenGraph":
        """Cut out of one large graph, for each cell, the part between the tokens that the cell has.

        Parameters
        ----------
        columns
            Vertex of the large graph that each token stands for; negative: none. A cell has no vertex twice.
        links
            Edges of the large graph, each pair once.
        size
            Number of vertices of the large graph.
        loops
            Give each vertex of a cell that keeps no edge at all a loop, as the released GREmLN does.
        """
        nodes = columns >= 0
        edges = []
        for cell, (row, there) in enumerate(zip(columns, nodes, strict=True)):
            token = torch.full((size,), -1, dtype=torch.int64, device=row.device)
            token[row[there]] = there.nonzero()[:, 0]
            ends = token[links]
            ends = ends[:, (ends >= 0).all(dim=0)]
            if loops and not ends.shape[1]:
                ends = there.nonzero()[:, 0].expand(2, -1)
            edges.append(torch.cat([torch.full_like(ends[:1], cell), ends]))
        return cls.of(torch.cat(edges, dim=1), nodes)


def coefficients(beta: float, *, order: int = 64, published: bool = False) -> tuple[float, ...]:
    """Return the factors of T_0, T_1, ... in the Chebyshev series of exp(-beta (x + 1)) on [-1, 1].

    Terms that cannot be seen in double precision are left out: at beta 0.1 seven terms are the whole series.

    Parameters
    ----------
    beta
        Diffusion time, 0 or more.
    order
        Highest k.
    published
        Leave c_0 whole instead of halving it, as the released GREmLN does.
    """
    series = [(1.0 if k == 0 else 2.0) * (-1.0) ** k * float(ive(k, beta)) for k in range(order + 1)]
    last = max(k for k, c in enumerate(series) if k == 0 or abs(c) > _NEGLIGIBLE)
    series[0] *= 2.0 if published else 1.0
    return tuple(series[: last + 1])


def diffuse(
    values: Float[Tensor, "cells length width"], graph: TokenGraph, terms: tuple[float, ...]
) -> Float[Tensor, "cells length width"]:
    """Apply sum_k terms_k T_k(M) to the values of the tokens, in single precision or better.

    Parameters
    ----------
    values
        One row per token.
    graph
        Graphs over the same tokens; rows of tokens that are no nodes come back as they are.
    terms
        See `coefficients`.
    """
    exact = torch.promote_types(values.dtype, torch.float32)
    with torch.autocast(values.device.type, enabled=False):
        matrix, older = graph.matrix.to(exact), values.to(exact).flatten(0, 1)
        newer = matrix @ older
        spread = terms[0] * older
        for term in terms[1:]:
            spread = spread + term * newer
            older, newer = newer, 2.0 * (matrix @ newer) - older
    return torch.where(graph.nodes[..., None], spread.to(values.dtype).view_as(values), values)


class GraphDiffusedAttention(nn.Module):
    """Self-attention whose queries are diffused on a graph of the tokens; keys and values are not.

    Parameters
    ----------
    width, heads
        Columns of a token, and heads that share them.
    beta
        Diffusion time; 0 is plain attention.
    order
        Highest order of the Chebyshev series.
    published
        Use the released GREmLN's operator; only for its weights.
    """

    def __init__(self, width: int, heads: int, *, beta: float = 0.1, order: int = 64, published: bool = False) -> None:
        super().__init__()
        if width % heads:
            msg = f"{heads} heads do not divide a width of {width}"
            raise ValueError(msg)
        self.heads = heads
        self.terms = coefficients(beta, order=order, published=published)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "cells length width"], graph: TokenGraph, keep: Bool[Tensor, "cells length"]
    ) -> Float[Tensor, "cells length width"]:
        """Return the attended tokens; `keep` marks the real ones."""
        queries, keys, values = self.qkv(x).chunk(3, dim=-1)
        mixed: Tensor = self.out(attend(diffuse(queries, graph, self.terms), keys, values, keep, self.heads))
        return mixed
