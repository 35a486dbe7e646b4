"""The network of CellFM (Zeng et al. 2025): value projection and gated linear attention.

Written from a description of the model, not from its code, whose licence does not allow that. For log1p(1e4 counts /
total) of the genes found, d wide::

    value   e(v) = softmax(W3 h + a h) T,  h = lrelu(W1 v)                            256 soft bins, no biases
    token   e(v) + G[index + 1];  sequence cls, ST1, ST2, genes
    layer   y = LN(alpha x + SRMS(Q (K^T V)) * U Wo),  Q, K = relu(x Wq, x Wk) / sqrt(d),  V = x Wv,  U = silu(x Wu)
            x = LN(alpha y + (y Wu * y Wv) Wo),  alpha = (2 layers)^(1/4)             DeepNorm (Wang et al. 2022)
    SRMS(o) = o / root mean square of o                                               (Qin et al. 2023)
    cell    position 0

K^T V is summed over the tokens first, so that time and memory grow with their number and not with its square. A factor
on V (upstream: one over the root of the number of genes) cancels in SRMS and is left out.

**Padding.** Upstream zeroes padded rows at the input and leaves them out of K in the second half of the layers only.
In between, the bias of a layer norm makes them non-zero, so that in the first half from the second layer on the genes
that a cell does not have take part. Here they do not unless asked: padded rows are left out of K in every layer, and a
cell's embedding is that of the cell alone. To reproduce upstream, `Network.forward` counts a number of padded rows:
they are all alike, so one row with that number as its weight stands for them. In both forms the batch does not matter.

**Not verified on a published file** (none was at hand): that the ST tokens are learned constants; that projections have
no biases; the slope of lrelu; SRMS over the whole row and not over each head. That the feed-forward part is as wide as
the model is the one choice that gives 800M and 80M parameters for 40 and 2 layers of width 1,536.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

SPECIAL_TOKENS = 3  # cls, ST1, ST2


@dataclass(frozen=True)
class Config:
    """Sizes of the network; `feed` and `bins` are the widths of the feed-forward part and of the soft bins."""

    genes: int
    width: int
    layers: int
    heads: int
    feed: int
    bins: int = 256
    leak: float = 0.01
    srms: Literal["row", "head"] = "row"


def sizes() -> dict[str, Config]:
    """Return the published sizes; the number of genes is rounded."""
    return {
        "80M": Config(genes=24_000, width=1536, layers=2, heads=48, feed=1536),
        "800M": Config(genes=24_000, width=1536, layers=40, heads=48, feed=1536),
    }


def build(config: Config) -> "Network":
    """Return the network with random weights."""
    return Network(config)


class ValueEncoder(nn.Module):
    """Expression level -> softly chosen rows of a table."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.w1 = nn.Linear(1, config.bins, bias=False)
        self.w3 = nn.Linear(config.bins, config.bins, bias=False)
        self.a = nn.Parameter(torch.ones(1))
        self.table = nn.Parameter(torch.randn(config.bins, config.width))
        self.leak = config.leak

    def forward(self, values: Float[Tensor, "cells length"]) -> Float[Tensor, "cells length width"]:
        """Return the embedding of each level."""
        h = functional.leaky_relu(self.w1(values[..., None]), self.leak)
        out: Tensor = torch.softmax(self.w3(h) + self.a * h, dim=-1) @ self.table
        return out


class Attention(nn.Module):
    """SRMS(Q (K^T V)) * U Wo, heads side by side."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d = config.width
        self.q_proj, self.k_proj, self.v_proj, self.u_proj, self.o_proj = (
            nn.Linear(d, d, bias=False) for _ in range(5)
        )
        self.heads, self.whole = config.heads, config.srms == "row"

    def forward(
        self, x: Float[Tensor, "cells length width"], weight: Float[Tensor, "cells length"]
    ) -> Float[Tensor, "cells length width"]:
        """Return what each token reads; a token is read `weight` times, padding 0 times."""
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)) for part in (self.q_proj, self.k_proj, self.v_proj))
        k = functional.relu(k) * weight[..., None, None]
        read = torch.einsum("nlhi,nlhj->nhij", k, v) / x.shape[-1]  # sqrt(d) of Q and of K
        o = torch.einsum("nlhi,nhij->nlhj", functional.relu(q), read)
        o = srms(o.flatten(-2)) if self.whole else srms(o).flatten(-2)
        out: Tensor = self.o_proj(o * functional.silu(self.u_proj(x)))
        return out


class FeedForward(nn.Module):
    """(x Wu * x Wv) Wo."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.u_proj, self.v_proj = (nn.Linear(config.width, config.feed, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(config.feed, config.width, bias=False)

    def forward(self, x: Float[Tensor, "cells length width"]) -> Float[Tensor, "cells length width"]:
        """Return the gated product."""
        out: Tensor = self.o_proj(self.u_proj(x) * self.v_proj(x))
        return out


class Layer(nn.Module):
    """Attention and feed-forward, each in a DeepNorm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attn, self.ffn = Attention(config), FeedForward(config)
        self.post_norm1, self.post_norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.alpha = (2 * config.layers) ** 0.25

    def forward(
        self, x: Float[Tensor, "cells length width"], weight: Float[Tensor, "cells length"]
    ) -> Float[Tensor, "cells length width"]:
        """Return the next hidden states."""
        y = self.post_norm1(self.alpha * x + self.attn(x, weight))
        out: Tensor = self.post_norm2(self.alpha * y + self.ffn(y))
        return out


class Network(nn.Module):
    """CellFM; see the module."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.value_enc = ValueEncoder(config)
        self.gene_emb = nn.Embedding(config.genes + 1, config.width)
        self.special = nn.Parameter(torch.randn(SPECIAL_TOKENS, config.width))
        self.encoder = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(
        self,
        ids: Int[Tensor, "cells length"],
        values: Float[Tensor, "cells length"],
        keep: Bool[Tensor, "cells length"],
        *,
        n_layers: int | None = None,
        padding: Float[Tensor, " cells"] | None = None,
    ) -> Float[Tensor, "cells length width"]:
        """Return the hidden states after `n_layers` layers, all by default.

        Parameters
        ----------
        ids
            The three special tokens (whose ids are not read), then gene index + 1.
        values
            log1p(1e4 counts / total).
        keep
            True where a token is real.
        padding
            How many rows of padding take part in the first half of the layers; none by default.
        """
        x = self.value_enc(values) + self.gene_emb(ids)
        x = torch.cat([self.special.expand(len(ids), -1, -1), x[:, SPECIAL_TOKENS:]], dim=1) * keep[..., None]
        first = second = keep.to(x.dtype)
        if padding is not None:
            x = functional.pad(x, (0, 0, 0, 1))
            first, second = torch.cat([first, padding[:, None]], dim=1), functional.pad(second, (0, 1))
        for k, layer in enumerate(self.encoder[:n_layers]):
            x = layer(x, first if 2 * k < len(self.encoder) else second)
        out: Tensor = x[:, : ids.shape[1]]
        return out


def srms(x: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
    """Return x over its root mean square, zeros for zeros; a factor on x makes no difference."""
    square = x.to(torch.promote_types(x.dtype, torch.float32)).square().mean(dim=-1, keepdim=True)
    return x * torch.rsqrt(square.clamp(min=1e-30)).to(x.dtype)
