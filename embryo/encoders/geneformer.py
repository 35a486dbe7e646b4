"""Geneformer V1 and V2: BERT over genes ordered by rank (Theodoris et al. 2023, Nature 618:616; Apache-2.0).

A folder holds ``config.json``, ``model.safetensors`` or ``pytorch_model.bin``, and the dictionaries as JSON in it or
beside it (`ranking.Vocabulary.find`). V2 has ``<cls>`` and ``<eos>`` in its dictionary and around every cell; V1 has
neither. The published cell embedding is the mean over genes of the second-to-last entry of the hidden states (``layer``
-2); other wrappers take the last one under the same name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from embryo.core.errors import ConfigError, Problem
from embryo.encoders.inputs.ranking import Vocabulary
from embryo.encoders.inputs.tokens import SPECIAL, Encoded, TokenBatch, masked_mean
from embryo.encoders.networks import architecture
from embryo.encoders.options import Options
from embryo.encoders.ranked import Ranked, write_dictionaries
from embryo.encoders.weights import checkpoint

_UNUSED = (r"cls\..*", r"classifier\..*", r"pooler\..*", r"embeddings\.position_ids")  # heads, and a constant
_CLS, _EOS = "<cls>", "<eos>"
_SPECIAL = {"V1": ("<pad>", "<mask>"), "V2": ("<pad>", "<mask>", _CLS, _EOS)}


class Geneformer(Ranked):
    """Geneformer; see the module. ``Options.variant`` (V1 or V2) is checked against the folder where it is given.

    `poolings`: ``mean`` over genes; ``cls``, the first token (V2).
    """

    name = "geneformer"
    poolings = ("mean", "cls")
    files = (*architecture.WEIGHTS, "*dict*.json")
    version: str = "V1"
    pooling: str = "mean"
    layer: int

    @classmethod
    def read(cls, folder: Path, options: Options) -> "Geneformer":
        """Read a folder; the layers above the wanted one are left out of the network.

        Raises
        ------
        StoreError
            If files are missing, damaged or of different releases.
        ConfigError
            If the folder holds another variant, or the layer or pooling does not exist.
        """
        config = architecture.read_config(folder, "bert")
        vocabulary = Vocabulary.find(folder, config.vocab_size)
        version = "V2" if _CLS in vocabulary.special else "V1"
        pooling = cls.pooling_of(options)
        problems = []
        if options.variant not in (None, version):
            problems.append(Problem(f"the files of {version}", f"{options.variant}", "give its folder, or no variant"))
        if pooling == "cls" and version == "V1":
            problems.append(Problem("pooling 'cls' for V1, which has no <cls>", "mean", "choose mean, or V2"))
        if problems:
            raise ConfigError(*problems, subject=folder.name)
        depth = cls.layer_of(options, config.num_hidden_layers, -2)
        network: Any = architecture.made(folder, lambda: build(config))
        state = {key.removeprefix("bert."): part for key, part in checkpoint.read_weights(folder).items()}
        checkpoint.load_into(network, state, ignore=_UNUSED, subject=folder.name)
        network.encoder.layer = network.encoder.layer[:depth]
        encoder = cls(vocabulary, network, options, width=config.hidden_size, limit=config.max_position_embeddings)
        encoder.version, encoder.pooling, encoder.layer = version, pooling, depth
        if version == "V2":
            encoder.frame = (_CLS, _EOS)
        return encoder

    @classmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0, *, version: str = "V1") -> Path:
        """Write a network of 3 layers, 32 wide, as `transformers.BertForMaskedLM` saves it; see `Pretrained`."""
        rows = write_dictionaries(folder, genes, _SPECIAL[version], seed)
        size = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
        config = configuration(size | {"vocab_size": rows, "max_position_embeddings": 256})
        with architecture.seeded(seed):
            network = architecture.library().BertForMaskedLM(config)
        return architecture.save_random(network, folder, seed)

    def forward(self, batch: TokenBatch) -> Encoded:
        """Return genes at the wanted layer, and the cell as their mean or as the first token."""
        out = self.network(input_ids=batch.ids, attention_mask=batch.keep.long()).last_hidden_state
        genes = batch.keep & (batch.columns != SPECIAL)
        return Encoded(out[:, 0] if self.pooling == "cls" else masked_mean(out, genes), out, batch.columns, batch.keep)

    def provenance(self) -> dict[str, Any]:
        """Return `Pretrained.provenance` with the variant."""
        return super().provenance() | {"variant": self.version}


def sizes() -> dict[str, dict[str, int]]:
    """Return the published sizes, each as `build` takes it."""
    return {
        "V1-10M": _size(6, 256, 4, 512, 2048, 25_426),
        "V1-40M": _size(12, 512, 8, 1024, 2048, 25_426),
        "V2-104M": _size(12, 768, 12, 3072, 4096, 20_275),
        "V2-316M": _size(18, 1152, 18, 4608, 4096, 20_275),
    }


def configuration(size: Mapping[str, int]) -> Any:
    """Return a transformers configuration of this size, all else as published."""
    published = {"hidden_act": "relu", "hidden_dropout_prob": 0.02, "attention_probs_dropout_prob": 0.02}
    return architecture.library().BertConfig(pad_token_id=0, **published, **size)


def build(config: Any) -> nn.Module:
    """Return the network of a configuration, or of one of `sizes`, with random weights and without its heads."""
    config = configuration(config) if isinstance(config, Mapping) else config
    network: nn.Module = architecture.library().BertModel(config, add_pooling_layer=False)
    return network


def _size(layers: int, width: int, heads: int, inner: int, length: int, rows: int) -> dict[str, int]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": length,
        "vocab_size": rows,
    }
