"""scGPT (Cui et al., Nat Methods 2024;21:1470): genes by symbol with the bin of their value, human.

A folder holds ``best_model.pt``, ``args.json`` and ``vocab.json``. Each count is replaced by its bin among the genes
found in the cell (see `inputs.binning`); ``x = LN(E[gene]) + LN(MLP(bin))``; post-norm layers; the cell is what
``<cls>`` becomes, of length 1. Facts from the code at commit cebd6fa (MIT); the heads that training used are left out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from embryo.core.errors import Problem, StoreError
from embryo.encoders.inputs.binning import Binning
from embryo.encoders.inputs.tokens import Axes
from embryo.encoders.networks.architecture import seeded
from embryo.encoders.networks.value_network import Shape, ValueNetwork, inverse, renamed
from embryo.encoders.options import Options
from embryo.encoders.valued import Grammar, Valued, genes_of, settings, vocabulary
from embryo.encoders.weights import checkpoint

WEIGHTS, ARGS, VOCAB = "best_model.pt", "args.json", "vocab.json"
SPECIALS = ("<pad>", "<cls>", "<eoc>")  # upstream appends those that the vocabulary lacks
NAMES = (
    ("^encoder.", "^gene."),
    ("^value_encoder.", "^value."),
    ("^value.linear1.", "^value.first."),
    ("^value.linear2.", "^value.second."),
    ("^transformer_encoder.layers.", "^layers."),
    (".self_attn.Wqkv.", ".qkv."),
    (".self_attn.out_proj.", ".out."),
    (".linear1.", ".up."),
    (".linear2.", ".down."),
)
WITHOUT_FLASH = (".self_attn.in_proj_", ".self_attn.Wqkv.")  # the names where flash attention was not installed
HEADS = (r"flag_encoder\.weight", r"(cls_|mvc_)?decoder\..*", r"grad_reverse_discriminator\..*")
_NEEDED = ("embsize", "nheads", "d_hid", "nlayers")
_DEFAULT = {"n_bins": 51, "pad_value": -2.0, "max_seq_len": 1200}
_PLAIN = {"input_style": "binned", "input_emb_style": "continuous", "pre_norm": False, "no_cls": False}


class ScGPT(Valued):
    """The encoder; see the module."""

    name: ClassVar[str] = "scgpt"
    ids: ClassVar[Literal["ensembl", "symbol"]] = "symbol"
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, ARGS, VOCAB)
    axes: ClassVar[Axes] = Axes(
        "a learned vector for each symbol",
        "bin among 50 quantiles of the cell's own counts, ties drawn, through two linear maps",
        "no order: <cls> and the genes found; of more than 1,199 a random sample",
    )

    @classmethod
    def read(cls, folder: Path, options: Options) -> "ScGPT":
        """Read ``best_model.pt``, ``args.json`` and ``vocab.json``."""
        options.require_no_variant(cls.name)
        args = checkpoint.read_json(checkpoint.find(folder, ARGS))
        known = settings(args, ARGS, needed=_NEEDED, default=_DEFAULT)
        _require_plain(args)
        tokens = vocabulary(checkpoint.find(folder, VOCAB), SPECIALS)
        state = renamed(checkpoint.read_weights(checkpoint.find(folder, WEIGHTS)), (WITHOUT_FLASH, *NAMES))
        if "gene.embedding.weight" in state:
            checkpoint.require_rows(len(tokens), len(state["gene.embedding.weight"]), subject=folder.name)
        shape = Shape(len(tokens), known["embsize"], known["nheads"], known["nlayers"], known["d_hid"])
        network = build(shape)
        checkpoint.load_into(network, state, ignore=HEADS, subject=f"{folder.name}/{WEIGHTS}")
        genes, rows = genes_of(tokens)
        binning = Binning(known["n_bins"])
        grammar = Grammar(
            genes=rows,
            lead=(tokens["<cls>"],),
            blank=known["pad_value"],
            limit=known["max_seq_len"],
            values=binning.bins,
            top=float(binning.top),
        )
        return cls(genes, network, options, grammar)

    @classmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0) -> Path:
        """Write 2 layers of 16 dimensions over `genes`, with flash names and the heads of training."""
        folder.mkdir(parents=True, exist_ok=True)
        tokens = {token: row for row, token in enumerate([*genes, *SPECIALS])}
        args: dict[str, Any] = {
            "embsize": 16,
            "nheads": 2,
            "d_hid": 16,
            "nlayers": 2,
            "n_layers_cls": 3,
            "dropout": 0.2,
        }
        args |= {"pad_token": "<pad>", "pad_value": -2, "mask_value": -1, "n_bins": 51, "max_seq_len": 1200}
        args |= {key: value for key, value in _PLAIN.items() if key != "pre_norm"}
        with seeded(seed):
            network = build(Shape(len(tokens), 16, 2, 2, 16))
            state = renamed(network.state_dict(), inverse(NAMES)) | _heads(16)
        torch.save(state, folder / WEIGHTS)
        (folder / ARGS).write_text(json.dumps(args), encoding="utf-8")
        (folder / VOCAB).write_text(json.dumps(tokens), encoding="utf-8")
        checkpoint.mark_random(folder, seed)
        return folder


def sizes() -> dict[str, Shape]:
    """Return the published sizes; the organ models are of the same size as ``human``."""
    return {"human": Shape(tokens=60_697, dims=512, heads=8, layers=12, hidden=512)}


def build(config: Shape) -> ValueNetwork:
    """Return a network with random weights in memory."""
    return ValueNetwork(config).eval()


def _require_plain(args: dict[str, Any]) -> None:
    odd = [(key, args[key], value) for key, value in _PLAIN.items() if args.get(key, value) != value]
    if odd:
        raise StoreError(
            *(Problem(f"{k} = {found!r}", f"{k} = {v!r}", "give a model of the published kind") for k, found, v in odd),
            subject=ARGS,
        )


def _heads(dims: int) -> dict[str, Tensor]:
    """Return what the published file holds beside the encoder: heads that training used."""
    square, line, one = (dims, dims), (dims,), (1, dims)
    shapes: dict[str, tuple[int, ...]] = {"flag_encoder.weight": (2, dims)}
    shapes |= {f"decoder.fc.{k}.weight": square for k in (0, 2)} | {f"decoder.fc.{k}.bias": line for k in (0, 2)}
    shapes |= {"decoder.fc.4.weight": one, "decoder.fc.4.bias": (1,)}
    shapes |= {f"cls_decoder._decoder.{k}.weight": square for k in (0, 3)}
    shapes |= {f"cls_decoder._decoder.{k}.weight": line for k in (2, 5)}
    shapes |= {f"cls_decoder._decoder.{k}.bias": line for k in (0, 2, 3, 5)}
    shapes |= {"cls_decoder.out_layer.weight": one, "cls_decoder.out_layer.bias": (1,)}
    shapes |= {"mvc_decoder.gene2query.weight": square, "mvc_decoder.gene2query.bias": line}
    shapes |= {"mvc_decoder.W.weight": square}
    return {name: torch.randn(shape) for name, shape in shapes.items()}
