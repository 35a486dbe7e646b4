"""GREmLN: a transformer over the expressed genes of a cell whose queries are diffused on a gene-regulatory network.

A folder holds one Lightning ``*.ckpt``, ``gene_vocab.csv`` and a regulatory network, ``network.csv`` or
``network.tsv``: the weights are published without one, and the model's authors recommend ARACNe run on one's own cells.
`Options.variant` names another file of the folder (a network for each cell type), or is ``no network``: then every
query is only scaled, by the same number, which is what the released code does with a cell that keeps no edge. Without
a network and without that word the folder is refused, since the result would no longer be GREmLN's.

Facts (czi-ai/GREmLN at 6ce9cc2, MIT; CZ Biohub NY and Califano Lab 2025):

- Cells: log1p of counts per million; genes of the vocabulary with a count, in 99 bins of equal occupancy per cell;
  only genes of the network; beyond 2,048 genes the highest bins (ties here by vocabulary, there by column).
- Token: gene embedding beside bin embedding; ``<CLS>`` (bin 102) comes first and takes no part in the graph.
- Each layer: `GraphDiffusedAttention` with the released operator (beta 0.1, 64 terms), which its weights were trained
  with, then post-norm and GELU.
- Upstream's mean over tokens leaves out the last gene (its mask counts genes, not genes and ``<CLS>``), and its
  batches attend to padding. Neither is followed. Upstream computes in bfloat16; a run in float32 differs by 2e-3.
- A directed edge list gives genes that regulate nothing a degree of 0, which upstream raises to 1e-8, so that their
  edges weigh 10,000 times too much: edges are read as undirected, as upstream's ``make_undirected`` does.
- The checkpoint does not say how many heads there are: 8 at the published width of 512, else 16 columns each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from embryo.blocks.graph_diffusion import GraphDiffusedAttention, TokenGraph
from embryo.core.checks import phrases
from embryo.core.errors import Problem, SchemaError, StoreError
from embryo.encoders.genes.genetables import read_links, read_numbers
from embryo.encoders.inputs.tokens import SPECIAL, Axes, Encoded, Profiles, TokenBatch, Tokens, masked_mean
from embryo.encoders.networks.architecture import seeded
from embryo.encoders.networks.value_network import inverse, renamed
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained
from embryo.encoders.weights import checkpoint

VOCABULARY, NETWORKS, WITHOUT = "gene_vocab.csv", ("network.csv", "network.tsv"), "no network"
_SPECIAL = PAD, MASK, CLS = "<PAD>", "<MASK>", "<CLS>"
BINS, RANKS = 100, 103  # bins 0 to 99, then padding, mask and <CLS>
PAD_RANK, CLS_RANK = 100, 102
LENGTH = 2048  # genes of a cell
_PER_MILLION = 1e6
_UNUSED = (r"rank_prediction_head\..*",)
_NAMES = ((".wqkv.Wqkv.", ".attention.qkv."), (".self_attention.out_proj.", ".attention.out."))
_PUBLISHED_WIDTH, _PUBLISHED_HEADS = 512, 8


@dataclass(frozen=True)
class Shape:
    """Size of a network: rows of the gene embedding, columns of a token, layers, heads, columns of the inner layer."""

    genes: int
    width: int
    layers: int
    heads: int
    inner: int


def sizes() -> dict[str, Shape]:
    """Return the published sizes by name."""
    return {"gremln": Shape(genes=19_247, width=512, layers=3, heads=8, inner=512)}


def build(shape: Shape) -> "Network":
    """Return a network of a shape with random weights."""
    return Network(shape)


class Layer(nn.Module):
    """Graph-diffused attention and a feed-forward part, each normalised after its sum."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = GraphDiffusedAttention(shape.width, shape.heads, beta=0.1, order=64, published=True)
        self.ff = nn.Sequential(nn.Linear(shape.width, shape.inner), nn.GELU(), nn.Linear(shape.inner, shape.width))
        self.ln1, self.ln2 = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)

    def forward(
        self, x: Float[Tensor, "cells length width"], graph: TokenGraph, keep: Bool[Tensor, "cells length"]
    ) -> Float[Tensor, "cells length width"]:
        """Return the tokens after this layer."""
        x = self.ln1(x + self.attention(x, graph, keep))
        out: Tensor = self.ln2(x + self.ff(x))
        return out


class Network(nn.Module):
    """The encoder of GREmLN, without its head for masked bins."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gene_embedding = nn.Embedding(shape.genes, shape.width // 2)
        self.rank_embedding = nn.Embedding(RANKS, shape.width // 2)
        self.transformer_encoder = nn.ModuleList(Layer(shape) for _ in range(shape.layers))

    def forward(
        self,
        genes: Int[Tensor, "cells length"],
        ranks: Int[Tensor, "cells length"],
        graph: TokenGraph,
        keep: Bool[Tensor, "cells length"],
        layer: int | None = None,
    ) -> Float[Tensor, "cells length width"]:
        """Return the tokens after `layer` layers; after all by default."""
        x = torch.cat([self.gene_embedding(genes), self.rank_embedding(ranks)], dim=-1)
        for block in self.transformer_encoder[:layer]:
            x = block(x, graph, keep)
        return x


class GREmLN(Pretrained):
    """See the module.

    Poolings: ``mean`` over genes and ``<CLS>``, ``genes`` without it, ``cls`` alone.
    """

    name: ClassVar[str] = "gremln"
    axes: ClassVar[Axes] = Axes(
        "identity",
        "quantile bins 1 to 99 of log1p counts per million, each with an embedding beside the gene's",
        "<cls>, then the genes that a regulatory network joins; the 2,048 highest bins; order means nothing",
    )
    ids: ClassVar[Literal["ensembl", "symbol"]] = "ensembl"
    poolings: ClassVar[tuple[str, ...]] = ("mean", "genes", "cls")
    files: ClassVar[tuple[str, ...]] = ("*.ckpt", "*.csv", "*.tsv")
    pad_value: ClassVar[float] = float(PAD_RANK)

    network: Network

    def __init__(
        self, vocabulary: Mapping[str, int], network: Network, options: Options, links: Int[Tensor, "2 links"] | None
    ) -> None:
        genes = [gene for gene in vocabulary if gene not in _SPECIAL]
        super().__init__(genes, network, options, width=network.gene_embedding.embedding_dim * 2)
        self.rows: np.ndarray = np.array([vocabulary[gene] for gene in genes], dtype=np.int64)
        self.cls_row = vocabulary[CLS]
        self.links = links
        self.wired: np.ndarray = np.ones(len(genes), dtype=bool) if links is None else np.zeros(len(genes), dtype=bool)
        if links is not None:
            self.wired[links.numpy().ravel()] = True
        self.layer = self.layer_of(options, len(network.transformer_encoder), -1)
        self.pooling = self.pooling_of(options)

    @classmethod
    def read(cls, folder: Path, options: Options) -> "GREmLN":
        """Read checkpoint, vocabulary and regulatory network; see `Pretrained.from_dir`."""
        vocabulary = _vocabulary(checkpoint.find(folder, VOCABULARY))
        path = _only_checkpoint(folder)
        state, hyper = _state(path)
        network = Network(_shape(state, hyper, path.name))
        checkpoint.require_rows(len(vocabulary), network.gene_embedding.num_embeddings, subject=VOCABULARY)
        checkpoint.load_into(network, state, ignore=_UNUSED, subject=path.name)
        return cls(vocabulary, network, options, _links(folder, list(vocabulary), options.variant))

    @classmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0) -> Path:
        """Write a network of three layers and 32 columns, and a random regulatory network of some 4 edges a gene."""
        folder.mkdir(parents=True, exist_ok=True)
        n = len(genes)
        entries = [f"{PAD},0", f"{MASK},1", f"{CLS}, {n + 2}", *(f"{gene},{k}" for k, gene in enumerate(genes, 2))]
        (folder / VOCABULARY).write_text("\n".join(["gene_name,idx", *entries]) + "\n", encoding="utf-8")
        ends = np.random.default_rng(seed).integers(n, size=(2, 4 * n))
        ends[0, :n], ends[1, :n] = np.arange(n), np.roll(np.arange(n), 1)  # a ring, so that no gene is left out
        regulators, targets = (np.asarray(genes)[part] for part in ends)
        pd.DataFrame({"regulator.values": regulators, "target.values": targets}).to_csv(
            folder / NETWORKS[0], index=False
        )
        with seeded(seed):
            network = Network(Shape(genes=n + 3, width=32, layers=3, heads=2, inner=32))
        state = renamed(network.state_dict(), inverse(_NAMES))
        torch.save({"state_dict": state, "hyper_parameters": {"num_heads": 2}}, folder / "model.ckpt")
        checkpoint.mark_random(folder, seed)
        return folder

    def tokenize(self, profiles: Profiles) -> Tokens:
        """Return gene tokens, with their bins as values.

        Raises
        ------
        SchemaError
            If cells express no gene of the regulatory network.
        """
        cells = [self._genes(*profiles.row(cell), profiles.total[cell]) for cell in range(len(profiles))]
        if bare := [k for k, (columns, _) in enumerate(cells) if not len(columns)]:
            problem = f"{len(bare)} cells (rows {phrases.few(bare)}) without a gene of the regulatory network"
            raise SchemaError(Problem(problem, "at least one in every cell", "give a network of these cells' genes"))
        return Tokens(
            ids=tuple(np.concatenate([[self.cls_row], self.rows[columns]]) for columns, _ in cells),
            columns=tuple(np.concatenate([[SPECIAL], columns]) for columns, _ in cells),
            values=tuple(np.concatenate([[CLS_RANK], bins]).astype(np.float32) for _, bins in cells),
        )

    def _genes(
        self, columns: Int[np.ndarray, " found"], counts: Float[np.ndarray, " found"], total: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the genes of a cell that become tokens, and their bins: over all genes read, the network's or not."""
        bins = quantile_bins(np.log1p(counts / total * _PER_MILLION))
        chosen = np.flatnonzero(self.wired[columns])
        if len(chosen) > LENGTH:
            chosen = np.sort(chosen[np.argsort(-bins[chosen], kind="stable")[:LENGTH]])
        return columns[chosen], bins[chosen]

    def forward(self, batch: TokenBatch) -> Encoded:
        """Return embeddings of cells and of their genes."""
        links = torch.zeros((2, 0), dtype=torch.int64) if self.links is None else self.links
        graph = TokenGraph.within(batch.columns, links.to(batch.ids.device), len(self.targets), loops=True)
        hidden = self.network(batch.ids, batch.levels.long(), graph, batch.keep, self.layer)
        if self.pooling == "cls":
            cell = hidden[:, 0]
        else:
            cell = masked_mean(hidden, batch.keep if self.pooling == "mean" else batch.columns != SPECIAL)
        return Encoded(cell, hidden, batch.columns, batch.keep)

    def provenance(self) -> dict[str, Any]:
        """Return what `Pretrained.provenance` says, and which operator and regulatory network there were."""
        return super().provenance() | {
            "operator": "released: exp(-beta (M + 1)) + (c_0 / 2) 1 at beta 0.1",
            "network": self.options.variant or "network file of the folder",
            "network_edges": 0 if self.links is None else int(self.links.shape[1]),
        }


def quantile_bins(levels: Float[np.ndarray, " found"]) -> Int[np.ndarray, " found"]:
    """Return the bins, 1 to 99, of the levels (above 0) of one cell; 50 where all are equal.

    Inner edges are the quantiles 1/99 to 98/99; a level equal to an edge lies below it.
    """
    if len(levels) == 0 or levels.min() == levels.max():
        return np.full(len(levels), BINS // 2, dtype=np.int64)
    edges = np.quantile(levels, np.linspace(0, 1, BINS))[1:-1]
    bins: np.ndarray = np.digitize(levels, edges, right=True).astype(np.int64) + 1
    return bins


def _only_checkpoint(folder: Path) -> Path:
    paths = sorted(folder.glob("*.ckpt"))
    if len(paths) != 1:
        found = phrases.few([p.name for p in paths]) if paths else "no *.ckpt"
        raise StoreError(Problem(found, "one checkpoint", "keep the one to use in the folder"), subject=folder.name)
    return paths[0]


def _state(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Return the weights, by our names, and what else the checkpoint says of the network."""
    whole = checkpoint.read_torch(path)
    state = whole.get("state_dict") if isinstance(whole, Mapping) else None
    if not isinstance(state, Mapping):
        found = f"a checkpoint with {phrases.few(whole)}" if isinstance(whole, Mapping) else "a single object"
        raise StoreError(Problem(found, "a state_dict", "give the published Lightning checkpoint"), subject=path.name)
    hyper = whole.get("hyper_parameters")
    return renamed(state, _NAMES), hyper if isinstance(hyper, Mapping) else {}


def _shape(state: Mapping[str, Tensor], hyper: Mapping[str, Any], subject: str) -> Shape:
    """Read the size off the weights."""
    genes, inner = state.get("gene_embedding.weight"), state.get("transformer_encoder.0.ff.0.weight")
    if genes is None or inner is None or genes.ndim != 2 or inner.ndim != 2:
        raise StoreError(
            Problem(f"weights named {phrases.few(state)}", "those of GREmLN", "give its checkpoint"), subject=subject
        )
    width = int(genes.shape[1]) * 2
    layers = {key.split(".")[1] for key in state if key.startswith("transformer_encoder.")}
    heads = int(hyper.get("num_heads", _PUBLISHED_HEADS if width == _PUBLISHED_WIDTH else max(width // 16, 1)))
    return Shape(int(genes.shape[0]), width, len(layers), heads, int(inner.shape[0]))


def _vocabulary(path: Path) -> dict[str, int]:
    """Return the row of each gene; the published file has a stray space before one number."""
    rows = read_numbers(path, "gene_name", "idx")
    absent = [special for special in _SPECIAL if special not in rows]
    if absent:
        found = f"no {', '.join(absent)}"
        raise StoreError(Problem(found, "three special tokens", "restore the published file"), subject=path.name)
    return rows


def _links(folder: Path, entries: Sequence[str], variant: str | None) -> Int[Tensor, "2 links"] | None:
    """Return the edges of the regulatory network between targets; None where no network is wanted."""
    if variant == WITHOUT:
        return None
    names = NETWORKS if variant is None else (variant,)
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        found = f"no regulatory network (looked for {', '.join(names)})"
        cure = f"put an edge list with columns regulator, target there, or set the variant {WITHOUT!r}"
        raise StoreError(Problem(found, "the network that queries are diffused on", cure), subject=folder.name)
    return torch.from_numpy(read_links(path, [gene for gene in entries if gene not in _SPECIAL]))
