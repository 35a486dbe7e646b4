"""What every pretrained encoder shares: options, streaming, batching, edits, the way back to genes, provenance.

A model's file says how its folder is read, how a cell becomes tokens and tokens an embedding; all else is here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Bool, Float
from torch import Tensor, nn

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.edit import Edit
from embryo.core.errors import ConfigError, EditError, Problem, SchemaError, StaleError
from embryo.core.store.files import find
from embryo.encoders.decoding.decoder import Decoder, fit_decoder
from embryo.encoders.decoding.kept import Kept
from embryo.encoders.decoding.response import differences
from embryo.encoders.facts import leaks
from embryo.encoders.facts.corpora import Corpus
from embryo.encoders.genes.genemap import GeneMap, accepted, map_genes
from embryo.encoders.genes.orthologs import Orthologs
from embryo.encoders.inputs import counting, normalise
from embryo.encoders.inputs.tokens import Axes, Encoded, Profiles, TokenBatch, Tokens, by_length
from embryo.encoders.options import Options
from embryo.encoders.pca import principal
from embryo.encoders.weights.checkpoint import Weights

_DECODED = 2000  # cells that the decoder is fitted on, and of which some show what a gene does


class Pretrained(ABC):
    """A foundation model behind `embryo.core.encoder.Encoder`.

    Parameters
    ----------
    targets
        Genes that the model reads, in its order.
    network
        With its weights.
    options
        As given to `from_dir`.
    width
        Dimensions of the cell embedding that the network gives.
    symbols
        Symbol -> Ensembl id, where the model brings such a dictionary.
    """

    name: ClassVar[str]
    axes: ClassVar[Axes]
    ids: ClassVar[Literal["ensembl", "symbol"]]
    poolings: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[str, ...]]  # names or patterns, whose checksums go into the provenance
    species: ClassVar[str] = "Homo sapiens"
    pad: ClassVar[int] = 0
    pad_value: ClassVar[float] = 0.0

    def __init__(
        self,
        targets: Sequence[str],
        network: nn.Module,
        options: Options,
        *,
        width: int,
        symbols: Mapping[str, str] | None = None,
    ) -> None:
        self.targets, self.network, self.options = tuple(targets), network, options
        self.width, self.seed, self.symbols = width, options.seed, symbols
        self.weights = Weights("pretrained")
        self.corpus: Corpus | None = None  # None where the weights are random
        self.leaks = "nothing was protected"
        self.decoder: Decoder | None = None
        self.genes: tuple[str, ...] = ()
        self.coverage: dict[str, Any] = {}
        self._reference: AnnData | None = None
        self._responses: dict[str, np.ndarray] = {}
        self._mapped: tuple[str | None, pd.DataFrame, GeneMap] | None = None
        self._orthologs: Orthologs | None = None
        self.reduction: tuple[np.ndarray, np.ndarray] | None = None  # mean and components

    # ------------------------------------------------------------ what a model's file says

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, options: Options) -> "Pretrained":
        """Read a folder of weights; `from_dir` calls it."""

    @classmethod
    @abstractmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0) -> Path:
        """Write a tiny network with random weights over `genes`, in the published layout, marked as random."""

    @abstractmethod
    def tokenize(self, profiles: Profiles) -> Tokens:
        """Return the tokens of every cell."""

    @abstractmethod
    def forward(self, batch: TokenBatch) -> Encoded:
        """Return the embeddings of a batch at the options' layer and pooling; padding must not matter."""

    def edit_tokens(self, tokens: Tokens, edits: Sequence[Edit], gene_map: GeneMap) -> Tokens:
        """Return the tokens after the model's own in-silico perturbation.

        Raises
        ------
        EditError
            If the model has none, or none for the operation.
        """
        raise EditError(
            Problem(f"an edit of {self.name} tokens", "a model with its own perturbation", "use edit, on gene inputs")
        )

    # ------------------------------------------------------------ opening

    @classmethod
    def from_dir(cls, folder: str | Path, options: Options | None = None) -> "Pretrained":
        """Open a folder that the user downloaded; nothing is fetched.

        Parameters
        ----------
        folder
            With the files that the model's card names.
        options
            Layer, pooling, device, precision, species.

        Raises
        ------
        StoreError
            If files are missing, damaged, not of this model, or would run code when they are read.
        ConfigError
            If the model has no such layer or pooling, or this machine no such device.
        """
        path = find(folder, "a folder with the model's files")
        encoder = cls.read(path, (options or Options()).checked())
        encoder.weights = Weights.of(path, {f for pattern in cls.files for f in path.glob(pattern)})
        encoder.corpus = None if encoder.weights.kind == "random" else leaks.corpus_of(cls.name, path)
        encoder.network.requires_grad_(requires_grad=False).eval().to(encoder.options.device)
        return encoder

    @classmethod
    def pooling_of(cls, options: Options) -> str:
        """Return the pooling that the options mean; `ConfigError` for one that the model has not."""
        chosen = options.pooling or cls.poolings[0]
        if chosen not in cls.poolings:
            found = f"pooling {chosen!r}{phrases.nearest(chosen, cls.poolings)}"
            raise ConfigError(Problem(found, f"one of {', '.join(cls.poolings)}", "choose one"), subject=cls.name)
        return chosen

    @classmethod
    def layer_of(cls, options: Options, n_layers: int, default: int) -> int:
        """Return the index, 0 to `n_layers`, of the hidden states that the options mean; `ConfigError` outside."""
        chosen = default if options.layer is None else options.layer
        if not -n_layers - 1 <= chosen <= n_layers:
            found = f"layer {chosen} of a network with {n_layers} layers"
            raise ConfigError(
                Problem(found, f"{-n_layers - 1} to {n_layers}", "choose one; 0 is the input"), subject=cls.name
            )
        return chosen % (n_layers + 1)

    # ------------------------------------------------------------ cells to embeddings

    def map_genes(self, adata: AnnData) -> GeneMap:
        """Return which genes of the data the model reads; `SchemaError` below `Options.min_coverage`."""
        o = self.options
        species = o.species or schema.meta(adata).get("organism")
        if self._mapped is None or self._mapped[0] != species or not self._mapped[1].equals(adata.var):
            self._mapped = species, adata.var.copy(), self._map(adata.var, species)
        sums = next((np.asarray(counts.sum(axis=0)).ravel() for _, counts in counting.blocks(adata)), None)
        return accepted(self._mapped[2], adata.var, ids=self.ids, sums=sums, min_coverage=o.min_coverage)

    def _map(self, var: pd.DataFrame, species: str | None) -> GeneMap:
        if self._orthologs is None and self.options.orthologs is not None:
            self._orthologs = Orthologs.read(self.options.orthologs)
        return map_genes(
            var,
            self.targets,
            ids=self.ids,
            species=self.species,
            data_species=species,
            symbols=self.symbols,
            orthologs=self._orthologs,
            min_coverage=0.0,  # judged with the counts at hand
        )

    def profiles(self, adata: AnnData, gene_map: GeneMap | None = None) -> Iterator[tuple[slice, Profiles]]:
        """Yield (rows, counts over the model's genes) block by block.

        Raises
        ------
        SchemaError
            If values are no counts, too few genes are read, or cells hold none of them.
        """
        gene_map = gene_map or self.map_genes(adata)
        self.coverage = gene_map.coverage.record()
        for rows, counts in counting.blocks(adata):
            cells = counting.profiles(counts, gene_map)
            empty = np.diff(cells.counts.indptr) == 0
            if empty.any():
                found = (
                    f"{phrases.cells(empty, adata.obs_names[rows])} without a count in a gene that {self.name} reads"
                )
                raise SchemaError(Problem(found, "at least one", "filter empty cells"))
            yield rows, cells

    edit = staticmethod(counting.edit)

    @property
    def dims(self) -> int:
        """Dimensions of z: the network's, or those that `Options.dims` reduces it to."""
        return self.width if self.options.dims is None else self.options.dims

    def encode(self, adata: AnnData, edits: Sequence[Edit] = ()) -> Float[np.ndarray, "cells dims"]:
        """Embed cells block by block, after edits of their gene inputs where there are any; see `Encoder.encode`.

        An edit acts in the cells of its type, at its times, and in its share of them, drawn by the names of the cells.
        """
        return np.concatenate([self.encode_tokens(self.tokenize(cells)) for cells in self.edited(adata, edits)])

    def edited(self, adata: AnnData, edits: Sequence[Edit]) -> Iterator[Profiles]:
        """Yield the edited gene inputs of the cells block by block."""
        gene_map = self.map_genes(adata)
        for rows, cells in self.profiles(adata, gene_map):
            who = counting.carriers(adata[rows], edits, seed=self.seed) if edits else None
            yield self.edit(cells, edits, gene_map, who)

    def encode_tokens(self, tokens: Tokens, *, exact: bool = False) -> Float[np.ndarray, "cells dims"]:
        """Embed tokens in batches of like length, the order of cells kept; `exact` in float32 whatever the options."""
        z = self._whole(tokens, exact=exact)
        if self.options.dims is None:
            return z
        if self.reduction is None:
            found = f"the {self.name} encoder before fit, reduced to {self.dims} dimensions"
            raise StaleError(Problem(found, "a fitted encoder", "use the one that encoder.fit(adata) returns"))
        mean, components = self.reduction
        return np.asarray((z - mean) @ components.T, dtype=np.float32)

    def _whole(self, tokens: Tokens, *, exact: bool = False) -> Float[np.ndarray, "cells width"]:
        out: np.ndarray = np.empty((len(tokens), self.width), dtype=np.float32)
        for rows, encoded in self.batches(tokens, exact=exact):
            out[rows] = encoded.cell.float().cpu().numpy()
        return out

    def batches(self, tokens: Tokens, *, exact: bool = False) -> Iterator[tuple[np.ndarray, Encoded]]:
        """Yield (rows, embeddings of cells and genes) batch by batch, on the device."""
        empty = [k for k, ids in enumerate(tokens.ids) if not len(ids)]
        if empty:
            found = f"{len(empty)} cells without a token (rows {phrases.few(empty)})"
            raise SchemaError(Problem(found, "at least one gene in every cell", "filter them, or edit fewer genes"))
        for rows in by_length([len(ids) for ids in tokens.ids], self.options.batch_tokens):
            batch = tokens.batch(rows, pad=self.pad, pad_value=self.pad_value).to(self.options.device)
            with torch.inference_mode(), nullcontext() if exact else self.options.precision():
                yield rows, self.forward(batch)

    def gene_embeddings(
        self, adata: AnnData, genes: Sequence[str], edits: Sequence[Edit] = ()
    ) -> Iterator[tuple[np.ndarray, Float[Tensor, "rows genes width"], Bool[Tensor, "rows genes"]]]:
        """Yield (rows, embeddings of named genes, which of them the model saw in which cell), batch by batch.

        Parameters
        ----------
        adata
            Raw counts.
        genes
            Names in the data or in the model; those that the model does not read are never seen. Of several that are
            one gene of the model each has its embedding.
        edits
            Made on the gene inputs, before any tokenising.

        Raises
        ------
        SchemaError
            If the model has no gene embeddings, or the data are not what it reads.
        """
        wanted = torch.tensor([self.map_genes(adata).column(gene) for gene in genes], dtype=torch.long)
        start = 0
        for cells in self.edited(adata, edits):
            for rows, encoded in self.batches(self.tokenize(cells)):
                if encoded.gene is None:
                    raise SchemaError(Problem(f"{self.name} without gene embeddings", "a model with them", "use cells"))
                yield start + np.asarray(rows), *encoded.of(encoded.gene, wanted)
            start += len(cells)

    # ------------------------------------------------------------ back to genes

    def fit(self, adata: AnnData) -> "Pretrained":
        """Return an encoder on the same network with reduction and decoder fitted on up to 2,000 of the cells.

        Raises
        ------
        SchemaError
            If cells cannot be read, or there are fewer than `Options.dims`.
        """
        fitted = copy(self)
        rng = np.random.default_rng(self.seed)
        chosen = np.sort(rng.permutation(adata.n_obs)[:_DECODED])
        train = adata[chosen].to_memory() if adata.isbacked else adata[chosen].copy()
        groups = train.obs[schema.EMBRYO].astype(str).to_numpy() if schema.EMBRYO in train.obs else None
        z = np.concatenate([self._whole(self.tokenize(cells)) for _, cells in self.profiles(train)])
        fitted.coverage, o = self.coverage, self.options
        fitted.reduction = None if o.dims is None else principal(z, o.dims, seed=self.seed)
        fitted.genes = tuple(map(str, train.var_names))
        expression = normalise.log1p_normalised(train)
        fitted.decoder = fit_decoder(
            z, expression, groups, genes=fitted.genes, kind=o.decoder, seed=self.seed, dims=o.dims
        )
        fitted._reference, fitted._responses = train, {}
        return fitted

    @property
    def unfitted(self) -> bool:
        """Whether `encode` needs `fit` first: where the embedding is reduced."""
        return self.options.dims is not None and self.reduction is None

    def resume(self, kept: Kept) -> "Pretrained":
        """Return an encoder on this network with what a run kept: reduction, decoder and responses.

        Raises
        ------
        StoreError
            If that was of another encoder, of other weights, or of other options.
        """
        kept.require_same(self.provenance())
        resumed = copy(self)
        resumed.decoder, resumed.genes, resumed.reduction = kept.decoder, kept.genes, kept.reduction
        resumed._responses = dict(kept.responses)
        return resumed

    def decode(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p expression of the genes of the fit; see `Encoder.decode` and `Decoder` for its error."""
        return self.keep().decode(z)

    def response(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return dz/dg by finite differences through the network, on cells of the fit; see `Encoder.response`.

        Each gene is knocked out in up to 16 cells that express it (raised by 1 in 16 others where none does), and the
        change of z is regressed on the change of g through the origin.
        """
        self.keep()
        todo = [gene for gene in dict.fromkeys(genes) if gene not in self._responses]
        if todo and self._reference is not None:
            self._responses |= dict(zip(todo, differences(self, self._reference, todo), strict=True))
        return self.keep().response(genes)

    # ------------------------------------------------------------ what is known of it

    def provenance(self) -> dict[str, Any]:
        """Return what an embedding's reader must know: weights and their checksums, layer, pooling, seed, coverage."""
        return {
            "encoder": self.name,
            "dims": self.dims,
            "reduced_from": None if self.options.dims is None else self.width,
            "layer": getattr(self, "layer", "the model's own"),
            "pooling": self.pooling_of(self.options),
            "seed": self.seed,
            "dtype": self.options.precise,
            "coverage": self.coverage,
            "orthologs": None if self._orthologs is None else self._orthologs.sha256,
            "corpus": self._trained_on(),
            "leaks": self.leaks,
            **self.weights.record(),
        }

    def keep(self) -> Kept:
        """Return what a run keeps: decoder, responses, provenance.

        Raises
        ------
        StaleError
            If the decoder was not fitted.
        """
        if self.decoder is None:
            found = f"the {self.name} encoder before fit"
            raise StaleError(Problem(found, "a fitted encoder", "use the one that encoder.fit(adata) returns"))
        about, responses = self.provenance(), dict(self._responses)
        return Kept(self.name, self.dims, self.seed, self.genes, self.decoder, responses, about, self.reduction)

    def _trained_on(self) -> str:
        if self.weights.kind == "random":
            return "nothing: random weights"
        return self.corpus.name if self.corpus is not None and self.corpus.known else "unknown"

    def tensors(self) -> dict[str, np.ndarray]:
        """Return decoder and responses; the weights stay where the user keeps them."""
        return self.keep().tensors()

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor: genes and settings, JSON-ready."""
        return self.keep().record()

    restore = staticmethod(Kept.restore)
