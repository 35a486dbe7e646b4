"""MaxToki, Stage 1: a Llama over genes ordered by rank (bioRxiv 10.64898/2026.03.30.715396; Apache-2.0).

A folder ("-HF") holds ``config.json``, ``model.safetensors`` and, in it or beside it, the dictionaries as JSON
(`ranking.Vocabulary.find`). A cell is ``<bos>`` genes ``<eos>``, at most 4,096 tokens, ranked with MaxToki's own
medians. The released weights are of Stage 1: they know no time tokens, so that they embed and score cells but cannot
tell time. `embryo.encoders.stage2` trains that on a series of one's own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import nn

from embryo.encoders.inputs.ranking import Vocabulary
from embryo.encoders.inputs.tokens import SPECIAL, Encoded, TokenBatch, Tokens, by_length
from embryo.encoders.networks import architecture, causal
from embryo.encoders.options import Options
from embryo.encoders.ranked import Ranked, write_dictionaries

BOS, EOS = "<bos>", "<eos>"
_LONGEST = 4096  # tokens of one cell; longer contexts are for several cells


class MaxToki(Ranked):
    """MaxToki, Stage 1; see the module.

    `poolings`: ``last``, the hidden state at ``<eos>``, which has read the whole cell; ``mean`` over genes.
    """

    name = "maxtoki"
    poolings = ("last", "mean")
    files = (*architecture.WEIGHTS, "*dict*.json")
    frame: tuple[str, str] = (BOS, EOS)
    layer: int
    pooling: str

    @classmethod
    def read(cls, folder: Path, options: Options) -> "MaxToki":
        """Read a folder.

        Raises
        ------
        StoreError
            If files are missing, damaged, or a dictionary has another number of tokens than the embedding rows.
        ConfigError
            If the layer or pooling does not exist.
        """
        options.require_no_variant(cls.name)
        config = architecture.read_config(folder, "llama")
        vocabulary = Vocabulary.find(folder, config.vocab_size)
        for entry in cls.frame:
            vocabulary.token(entry, subject=folder.name)
        pooling, layer = cls.pooling_of(options), cls.layer_of(options, config.num_hidden_layers, -1)
        network = causal.read(folder, config)
        limit = min(config.max_position_embeddings, _LONGEST)
        encoder = cls(vocabulary, network, options, width=config.hidden_size, limit=limit)
        encoder.layer, encoder.pooling = layer, pooling
        return encoder

    @classmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0) -> Path:
        """Write a network of 2 layers, 32 wide, as `transformers.LlamaForCausalLM` saves it; see `Pretrained`."""
        rows = write_dictionaries(folder, genes, ("<pad>", "<mask>", BOS, EOS), seed, "_v1")
        size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        with architecture.seeded(seed):
            network = build(size | {"vocab_size": rows, "max_position_embeddings": 256})
        return architecture.save_random(network, folder, seed)

    def forward(self, batch: TokenBatch) -> Encoded:
        """Return genes at the wanted layer, and the cell as its last token or as their mean."""
        states = causal.hidden(self.network, batch.ids, batch.keep, self.layer)
        genes = batch.keep & (batch.columns != SPECIAL)
        return Encoded(causal.pooled(states, batch.keep, genes, self.pooling), states, batch.columns, batch.keep)

    def log_likelihood(self, adata: AnnData) -> Float[np.ndarray, " cells"]:
        """Return how expected the order of each cell's genes is: mean log probability per gene, in nats.

        A cell that the network knows nothing of has about ``-log`` of the number of tokens, -9.9 for the published one.
        """
        out: np.ndarray = np.empty(adata.n_obs)
        for rows, cells in self.profiles(adata):
            out[rows] = self.score_tokens(self.tokenize(cells))
        return out

    def score_tokens(self, tokens: Tokens) -> Float[np.ndarray, " cells"]:
        """Return `log_likelihood` of cells that are tokens already."""
        out: np.ndarray = np.empty(len(tokens))
        for rows in by_length([len(ids) for ids in tokens.ids], self.options.batch_tokens):
            batch = tokens.batch(rows, pad=self.pad).to(self.options.device)
            with torch.inference_mode(), self.options.precision():
                found = causal.log_likelihood(self.network, batch.ids, batch.keep, batch.columns != SPECIAL)
            out[rows] = found.double().cpu().numpy()
        return out


def sizes() -> dict[str, dict[str, int]]:
    """Return the published sizes, each as `build` takes it."""
    return {
        "217M": {
            "hidden_size": 1232,
            "num_hidden_layers": 11,
            "num_attention_heads": 8,
            "intermediate_size": 2464,
            "max_position_embeddings": 4096,
            "vocab_size": 20_275,
        }
    }


def build(config: Any) -> nn.Module:
    """Return the network of a configuration, or of one of `sizes`, with random weights."""
    library = architecture.library()
    if isinstance(config, Mapping):
        tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        config = library.LlamaConfig(tie_word_embeddings=False, **tokens, **config)
    network: nn.Module = library.LlamaForCausalLM(config)
    return network
