"""scFoundation: a transformer over the genes found in a cell, with two tokens that say how deep it was sequenced.

A folder holds ``models.ckpt``, of which the entry ``cell`` is read (``gene`` and ``rde`` are other networks), and
``OS_scRNA_gene_index.19264.tsv``, the order of its symbols. The code is Apache-2.0; the weights may be used for
non-commercial purposes only.

Facts (biomap-research/scFoundation at d09626a; Hao et al. 2024, Nat Methods 21:1481):

- Cells: ``v = log1p(1e4 counts / total)`` of the genes with a count, in the order of the index, then T and S, in this
  order: S is log10 of the cell's total, T the log10 depth that the embedding is asked for.
- Token: the mean of 100 bin embeddings weighted by ``softmax(W2 y + alpha y)``, ``y = leaky_relu(W1 v, 0.1)``, plus the
  embedding of the gene (or of T, S).
- Post-norm layers with ReLU, a last norm; cell = S, T, maximum over genes and mean over genes, side by side.
- `Options.variant` is upstream's ``tgthighres``: ``t4`` (the default) asks for a depth of 10^4, ``f2`` for 2 times the
  cell's own, ``a1`` for 10^1 times. It changes T alone.

Upstream embeds one cell at a time, since it takes S and T to be the last two of the padded tokens; here they are found
in each cell, so that a batch gives the same. Upstream's ``pre_normalized='T'`` takes S from the sum of normalised
values, a wrong depth that nothing reports; here counts are needed, and S is always theirs. Upstream's total is over the
genes that it reads, here over all genes measured (`Profiles.total`): S and v differ where data have many others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem, SchemaError, StoreError
from embryo.encoders.genes.genetables import read_numbers
from embryo.encoders.inputs.tokens import SPECIAL, Axes, Encoded, Profiles, TokenBatch, Tokens, masked_mean
from embryo.encoders.networks import value_network
from embryo.encoders.networks.architecture import seeded
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained
from embryo.encoders.weights import checkpoint

WEIGHTS, INDEX = "models.ckpt", "OS_scRNA_gene_index.19264.tsv"
RESOLUTION = "t4"
_KIND = "mae_autobin"
_DEPTHS = 2  # tokens T and S
_NAMES = (
    ("^encoder.transformer_encoder.", "^layers."),
    (".self_attn.in_proj_", ".qkv."),
    (".self_attn.out_proj.", ".out."),
    (".linear1.", ".up."),
    (".linear2.", ".down."),
    ("^encoder.norm.", "^last_norm."),
)
_UNUSED = (r"token_emb\.emb_(mask|pad)\..*", r"decoder\..*", r"decoder_embed\..*", r"norm\..*", r"to_final\..*")


@dataclass(frozen=True)
class Shape:
    """Size of a network: genes, columns of a token, layers, heads, bins, and the share alpha of y in their weights."""

    genes: int
    width: int
    layers: int
    heads: int
    bins: int
    alpha: float = 1.0


def sizes() -> dict[str, Shape]:
    """Return the published sizes by name."""
    return {"100M": Shape(genes=19_264, width=768, layers=12, heads=12, bins=100)}


def build(shape: Shape) -> "Network":
    """Return a network of a shape with random weights."""
    return Network(shape)


class SoftBins(nn.Module):
    """Embedding of a number: a mean of bin embeddings, weighted by how much it lies in each bin."""

    def __init__(self, bins: int, width: int, alpha: float) -> None:
        super().__init__()
        self.mlp, self.mlp2 = nn.Linear(1, bins), nn.Linear(bins, bins)
        self.emb = nn.Embedding(bins, width)
        self.alpha = alpha

    def forward(self, values: Float[Tensor, "cells length"]) -> Float[Tensor, "cells length width"]:
        """Return a vector for each value; in single precision, since it tells levels apart that half would not."""
        with torch.autocast(values.device.type, enabled=False):
            y = functional.leaky_relu(self.mlp(values[..., None]), 0.1)
            out: Tensor = torch.softmax(self.mlp2(y) + self.alpha * y, dim=-1) @ self.emb.weight
        return out


class Network(nn.Module):
    """The encoder of scFoundation, without the decoder that its training needed."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        layer = value_network.Shape(
            tokens=0, dims=shape.width, heads=shape.heads, layers=shape.layers, hidden=4 * shape.width
        )
        self.token_emb = SoftBins(shape.bins, shape.width, shape.alpha)
        self.pos_emb = nn.Embedding(shape.genes + _DEPTHS + 1, shape.width)  # the last row stands for padding
        self.layers = nn.ModuleList(value_network.Block(layer) for _ in range(shape.layers))
        self.last_norm = nn.LayerNorm(shape.width)

    def forward(
        self,
        ids: Int[Tensor, "cells length"],
        values: Float[Tensor, "cells length"],
        keep: Bool[Tensor, "cells length"],
        layer: int | None = None,
    ) -> Float[Tensor, "cells length width"]:
        """Return the tokens after `layer` layers; after all, and the last norm, by default."""
        x = self.token_emb(values) + self.pos_emb(ids)
        for block in self.layers[:layer]:
            x = block(x, keep)
        out: Tensor = self.last_norm(x) if layer is None or layer == len(self.layers) else x
        return out


class ScFoundation(Pretrained):
    """See the module.

    Poolings: ``all`` is S, T, maximum and mean over genes side by side, four times the width; ``max`` the maximum over
    all tokens. Both by their upstream names.
    """

    name: ClassVar[str] = "scfoundation"
    axes: ClassVar[Axes] = Axes(
        "identity, as an embedding of its place in the list of symbols",
        "log1p of counts per 10,000 in soft bins",
        "genes with a count in the order of the list, then T (depth asked for) and S (depth of the cell)",
    )
    ids: ClassVar[Literal["ensembl", "symbol"]] = "symbol"
    poolings: ClassVar[tuple[str, ...]] = ("all", "max")
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, INDEX)

    network: Network

    def __init__(self, genes: Sequence[str], network: Network, options: Options) -> None:
        self.pooling = self.pooling_of(options)
        width = network.pos_emb.embedding_dim
        super().__init__(genes, network, options, width=4 * width if self.pooling == "all" else width)
        self.layer = self.layer_of(options, len(network.layers), -1)
        self.resolution = Resolution.parse(options.variant or RESOLUTION)

    @classmethod
    def read(cls, folder: Path, options: Options) -> "ScFoundation":
        """Read checkpoint and list of symbols; see `Pretrained.from_dir`."""
        genes = tuple(read_numbers(checkpoint.find(folder, INDEX), "gene_name", "index"))
        state, shape = _cell_model(checkpoint.find(folder, WEIGHTS))
        checkpoint.require_rows(len(genes), shape.genes, subject=INDEX)
        network = Network(shape)
        checkpoint.load_into(network, state, ignore=_UNUSED, subject=WEIGHTS)
        return cls(genes, network, options)

    @classmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0) -> Path:
        """Write a network of 2 layers and 16 columns over `genes`."""
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"gene_name": list(genes), "index": range(len(genes))}).to_csv(
            folder / INDEX, sep="\t", index=False
        )
        with seeded(seed):
            network = Network(Shape(genes=len(genes), width=16, layers=2, heads=2, bins=5))
        own = value_network.renamed(network.state_dict(), value_network.inverse(_NAMES))
        state = {f"model.{key}": value for key, value in own.items()}
        state["model.token_emb.emb_mask.weight"] = state["model.token_emb.emb_pad.weight"] = torch.zeros(1, 16)
        encoder = {"hidden_dim": 16, "depth": 2, "heads": 2, "dim_head": 8, "module_type": "transformer"}
        model = {"n_class": 1, "bin_num": 5, "bin_alpha": 1.0, "mask_token_id": 102, "pad_token_id": 103}
        config = {
            "model": _KIND,
            "model_config": {_KIND: model | {"encoder": encoder}},
            "dataset_config": {"rnaseq": {"seq_len": len(genes) + _DEPTHS}},
        }
        torch.save({"cell": {"config": config, "state_dict": state}}, folder / WEIGHTS)
        checkpoint.mark_random(folder, seed)
        return folder

    def tokenize(self, profiles: Profiles) -> Tokens:
        """Return the tokens of genes, T and S.

        Raises
        ------
        SchemaError
            If a cell has no gene left, or is so shallow that T or S is not above 0: the model then has no such token.
        """
        own = np.log10(profiles.total)
        asked = self.resolution.of(own)
        rows = [profiles.row(cell) for cell in range(len(profiles))]
        bad = np.array([not len(columns) for columns, _ in rows], dtype=bool) | (own <= 0) | (asked <= 0)
        if bad.any():
            found = f"{int(bad.sum())} cells (rows {phrases.few(np.flatnonzero(bad))}) without a gene or too shallow"
            expected = f"a gene, more than 1 count, and a depth asked for above 1 (variant {self.resolution})"
            raise SchemaError(Problem(found, expected, "filter these cells"))
        n = len(self.targets)
        scale = schema.TARGET_SUM / profiles.total
        return Tokens(
            ids=tuple(np.concatenate([columns, [n, n + 1]]) for columns, _ in rows),
            columns=tuple(np.concatenate([columns, [SPECIAL, SPECIAL]]) for columns, _ in rows),
            values=tuple(
                np.concatenate([np.log1p(counts * s), [t, d]]).astype(np.float32)
                for (_, counts), s, t, d in zip(rows, scale, asked, own, strict=True)
            ),
        )

    def forward(self, batch: TokenBatch) -> Encoded:
        """Return embeddings of cells and of their genes."""
        hidden = self.network(batch.ids, batch.levels, batch.keep, self.layer)
        if self.pooling == "max":
            cell = _masked_max(hidden, batch.keep)
        else:
            cells = torch.arange(len(hidden), device=hidden.device)
            last = batch.keep.sum(dim=1) - 1
            genes = batch.columns != SPECIAL
            parts = [
                hidden[cells, last],
                hidden[cells, last - 1],
                _masked_max(hidden, genes),
                masked_mean(hidden, genes),
            ]
            cell = torch.cat(parts, dim=-1)
        return Encoded(cell, hidden, batch.columns, batch.keep)

    def provenance(self) -> dict[str, Any]:
        """Return what `Pretrained.provenance` says, and the depth that was asked for."""
        return super().provenance() | {"variant": str(self.resolution)}


@dataclass(frozen=True)
class Resolution:
    """Which depth the embedding is asked for.

    Parameters
    ----------
    kind
        ``t``: log10 depth `value`; ``f``: `value` times the cell's own; ``a``: its own log10 depth plus `value`.
    value
        See `kind`.
    """

    kind: str
    value: float

    @classmethod
    def parse(cls, text: str) -> "Resolution":
        """Read ``t4``, ``f2``, ``a1``; `ConfigError` for anything else."""
        match = re.fullmatch(r"([tfa])([-+]?\d+\.?\d*(?:e[-+]?\d+)?)", text.strip())
        if match is None or (match[1] != "a" and float(match[2]) <= 0):
            cure = "t4 asks for a depth of 10^4, f2 for twice the cell's own, a1 for 10^1 times its own"
            raise ConfigError(Problem(f"variant {text!r}", "t, f or a and a number", cure), subject="scfoundation")
        return cls(match[1], float(match[2]))

    def of(self, own: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
        """Return T for cells whose own log10 depth is `own`."""
        if self.kind == "t":
            return np.full_like(own, self.value)
        return own + (float(np.log10(self.value)) if self.kind == "f" else self.value)

    def __str__(self) -> str:
        return f"{self.kind}{self.value:g}"


def _masked_max(
    hidden: Float[Tensor, "cells length width"], mask: Bool[Tensor, "cells length"]
) -> Float[Tensor, "cells width"]:
    return hidden.masked_fill(~mask[..., None], float("-inf")).amax(dim=1)


def _cell_model(path: Path) -> tuple[dict[str, Tensor], Shape]:
    """Return the weights of the network for cells, by our names, and its shape."""
    whole = checkpoint.read_torch(path)
    entry = whole.get("cell") if isinstance(whole, Mapping) else None
    if not isinstance(entry, Mapping) or not {"config", "state_dict"} <= set(entry):
        found = f"entries {phrases.few(whole)}" if isinstance(whole, Mapping) else "a single object"
        expected = "an entry 'cell' with config and state_dict"
        raise StoreError(Problem(found, expected, "give the published models.ckpt"), subject=path.name)
    bare = {str(key).partition("model.")[2] or str(key): value for key, value in entry["state_dict"].items()}
    return value_network.renamed(bare, _NAMES), _shape(entry["config"], path.name)


def _shape(config: Any, subject: str) -> Shape:
    try:
        model = config["model_config"][_KIND]
        encoder = model["encoder"]
        if (config["model"], encoder["module_type"]) != (_KIND, "transformer"):
            raise ValueError(encoder["module_type"])
        return Shape(
            genes=int(config["dataset_config"]["rnaseq"]["seq_len"]) - _DEPTHS,
            width=int(encoder["hidden_dim"]),
            layers=int(encoder["depth"]),
            heads=int(encoder["heads"]),
            bins=int(model["bin_num"]),
            alpha=float(model["bin_alpha"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        found = f"a config without what this reader needs ({type(error).__name__}: {error})"
        expected = f"{_KIND} with a transformer as its encoder"
        raise StoreError(Problem(found, expected, "give the published models.ckpt"), subject=subject) from error
