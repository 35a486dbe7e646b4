"""Genes -> gene programs -> cell: attention pooling that a membership mask confines, then a small cell encoder.

After Tripso's idea (gene encoder, one token per gene program, cell encoder over programs), on top of any gene states:

    u_p = q_p + sum_g a_pg V t_g,    a_pg = softmax_g(q_p . K t_g / sqrt(width)),    token_p = LN(u_p + MLP(u_p))

where t_g is the state of gene g in the cell and g runs over the members of program p and "nothing", a slot with score
and value 0, so that a program without a gene in a cell has a token as well. A gene outside a program has weight 0,
exactly. The cell embedding is a linear read of all tokens plus what a transformer over them finds.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Sizes:
    """Size of a program network.

    Parameters
    ----------
    dims
        Of the cell embedding.
    width, heads, layers
        Of the program tokens, of every attention, of the cell encoder.
    states
        Width of the gene states that are given; 0 where a gene's level is given and its state is learned here.
    """

    dims: int = 32
    width: int = 32
    heads: int = 2
    layers: int = 1
    states: int = 0


class ProgramNetwork(nn.Module):
    """From gene levels or gene states to program tokens and a cell embedding, and from both back to levels.

    Parameters
    ----------
    member
        Which gene is a member of which program.
    sizes
        See `Sizes`.
    """

    def __init__(self, member: Bool[Tensor, "programs genes"], sizes: Sizes) -> None:
        super().__init__()
        programs, genes = member.shape
        self.sizes = sizes
        self.member: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("member", member)
        self.register_buffer("centre", torch.zeros(genes))
        self.register_buffer("spread", torch.ones(genes))
        width = sizes.width
        self.identity = nn.Parameter(torch.randn(genes, width))
        self.direction = nn.Parameter(torch.randn(genes, width)) if not sizes.states else None
        self.read = nn.Sequential(nn.LayerNorm(sizes.states), nn.Linear(sizes.states, width)) if sizes.states else None
        self.query = nn.Parameter(torch.randn(programs, width))
        self.key, self.value = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.refine = _mlp(width, 2 * width, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(
            width, sizes.heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, sizes.layers, enable_nested_tensor=False)
        self.summary = nn.Parameter(torch.randn(1, 1, width))
        self.share = nn.Parameter(torch.randn(programs, width, sizes.dims) / (programs * width) ** 0.5)
        self.out = nn.Linear(width, sizes.dims)
        self.back = _mlp(sizes.dims, 4 * width, genes)
        self.weight = nn.Parameter(torch.randn(genes, width) / width)
        self.bias = nn.Parameter(torch.zeros(genes))

    @classmethod
    def seeded(cls, member: Bool[Tensor, "programs genes"], sizes: Sizes, seed: int = 0) -> "ProgramNetwork":
        """Return an untrained network whose weights the seed alone decides."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(member, sizes)

    def standardise(self, centre: Float[Tensor, " genes"], spread: Float[Tensor, " genes"]) -> None:
        """Set mean and standard deviation of the gene levels; a spread of 0 counts as 1."""
        self.centre.copy_(centre)
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))

    def program_tokens(
        self, genes: Float[Tensor, "cells genes *states"], found: Bool[Tensor, "cells genes"] | None = None
    ) -> Float[Tensor, "cells programs width"]:
        """Pool genes into one token per program.

        Parameters
        ----------
        genes
            Levels (log1p), or states of the genes.
        found
            Which genes have a state in which cell; all by default.
        """
        t = self._gene_tokens(genes)
        key, value = (functional.pad(_heads(f(t), self.sizes.heads), (0, 0, 0, 1)) for f in (self.key, self.value))
        query = _heads(self.query.expand(len(t), -1, -1), self.sizes.heads)
        seen = self.member[None] if found is None else self.member[None] & found[:, None]
        pooled = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=functional.pad(seen, (0, 1), value=True)[:, None]
        )
        token = self.query + pooled.transpose(1, 2).flatten(2)
        out: Tensor = self.norm(token + self.refine(token))
        return out

    def cell(self, tokens: Float[Tensor, "cells programs width"]) -> Float[Tensor, "cells dims"]:
        """Return the cell embedding for program tokens."""
        sequence = torch.cat([self.summary.expand(len(tokens), -1, -1), tokens], dim=1)
        z: Tensor = self.out(self.encoder(sequence)[:, 0])
        return z + torch.einsum("npw,pwd->nd", tokens, self.share)

    def forward(
        self, genes: Float[Tensor, "cells genes *states"], found: Bool[Tensor, "cells genes"] | None = None
    ) -> tuple[Float[Tensor, "cells dims"], Float[Tensor, "cells programs width"]]:
        """Return cell embedding and program tokens; see `program_tokens`."""
        tokens = self.program_tokens(genes, found)
        return self.cell(tokens), tokens

    def decode(self, z: Float[Tensor, "cells dims"]) -> Float[Tensor, "cells genes"]:
        """Return the levels of the genes for cell embeddings."""
        out: Tensor = self.centre + self.back(z)
        return out

    def decode_members(self, tokens: Float[Tensor, "cells programs width"]) -> Float[Tensor, "cells pairs"]:
        """Return the levels of every program's members for its token; pairs as in ``member.nonzero()``."""
        program, gene = self.member.nonzero(as_tuple=True)
        weight = self.weight.index_select(0, gene)
        return (self.centre + self.bias)[gene] + (tokens.index_select(1, program) * weight).sum(-1)

    def loss(
        self,
        genes: Float[Tensor, "cells genes *states"],
        levels: Float[Tensor, "cells genes"],
        found: Bool[Tensor, "cells genes"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean squared error of levels from the cell embedding, plus that of members from the program tokens."""
        z, tokens = self(genes, found)
        gene = self.member.nonzero(as_tuple=True)[1]
        return functional.mse_loss(self.decode(z), levels) + functional.mse_loss(
            self.decode_members(tokens), levels[:, gene]
        )

    def _gene_tokens(self, genes: Float[Tensor, "cells genes *states"]) -> Float[Tensor, "cells genes width"]:
        if self.direction is not None:
            return self.identity + ((genes - self.centre) / self.spread)[..., None] * self.direction
        read: Any = self.read
        states: Tensor = read(genes)
        return self.identity + states


def _mlp(inside: int, hidden: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, hidden), nn.GELU(), nn.Linear(hidden, outside))


def _heads(x: Float[Tensor, "cells n width"], heads: int) -> Float[Tensor, "cells heads n each"]:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)
