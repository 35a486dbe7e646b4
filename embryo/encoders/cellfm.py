"""CellFM (Zeng et al. 2025) out of a folder that the user brings; its network is in `networks.cellfm_network`.

Code and weights are CC BY-NC-ND: not for commercial use. The folder holds

- one ``*.ckpt``: a MindSpore checkpoint (see `embryo.encoders.weights.mindspore`) or a torch file of tensors;
- ``genes.txt``, one HGNC symbol per line, or ``expand_gene_info.csv`` with a column ``gene``, ``symbol``,
  ``gene_symbol`` or ``gene_name`` (else its first column): gene number k, from 0, has row k + 1 of the embedding;
- ``cellfm.json``, where something is not as assumed: see `Settings`.

``Options(variant="published")`` lets the genes that a cell does not have take part as they do upstream, where every
cell is padded to 2,048 genes; by default (``"masked"``) they do not.

**Not verified on a published file** (none was at hand): the names of the tensors, which `RENAME` and ``cellfm.json``
translate in one place, and which 2,048 genes are read of a cell with more: here the highest, ties by gene order. The
network's module says what else.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem, StoreError
from embryo.encoders.inputs.tokens import SPECIAL, Axes, Encoded, Profiles, TokenBatch, Tokens, masked_mean
from embryo.encoders.networks.cellfm_network import SPECIAL_TOKENS, Config, Network, build, sizes
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained
from embryo.encoders.weights import checkpoint, mindspore

__all__ = ["CellFM", "Config", "Settings", "build", "sizes"]

GENES, SETTINGS = ("genes.txt", "expand_gene_info.csv"), "cellfm.json"
LONGEST = 2048
FORMS = ("masked", "published")
RENAME = {r"embedding_table$": "weight"}  # MindSpore's names -> those of `Network`; gamma and beta are known already
_COLUMNS = ("gene", "symbol", "gene_symbol", "gene_name")
_LIST = "give the gene list of the release, one symbol per line, without header"


class Settings(BaseModel):
    """What a checkpoint does not say, or what turns out otherwise than assumed; the contents of ``cellfm.json``.

    Parameters
    ----------
    heads
        By default one for every 32 dimensions: 48 for 1,536.
    leak
        Slope of lrelu below 0.
    a
        Weight of the skip connection in the value network, where the checkpoint holds none.
    srms
        Whether SRMS is taken over the whole ``row`` or over each ``head``.
    spare_rows
        Rows of the gene embedding after the last gene.
    rename
        Pattern -> replacement, applied to the names in the checkpoint after `RENAME`.
    ignore
        Patterns of names that the network does not need, such as those of a decoder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    heads: int | None = Field(None, ge=1)
    leak: float = 0.01
    a: float | None = None
    srms: Literal["row", "head"] = "row"
    spare_rows: int = Field(0, ge=0)
    rename: dict[str, str] = {}
    ignore: tuple[str, ...] = ()


class CellFM(Pretrained):
    """CellFM behind the encoder protocol; the folder, the network and what is not verified are said in the module."""

    name: ClassVar[str] = "cellfm"
    axes: ClassVar[Axes] = Axes(
        "identity (gene index + 1)",
        "soft bins of log1p(1e4 counts / total)",
        "cls, ST1, ST2, then genes found in gene order; the 2,048 highest where there are more",
    )
    ids: ClassVar[Literal["ensembl", "symbol"]] = "symbol"
    poolings: ClassVar[tuple[str, ...]] = ("cls", "mean")
    files: ClassVar[tuple[str, ...]] = ("*.ckpt", *GENES, SETTINGS)
    network: Network
    pooling: str
    layer: int

    @classmethod
    def read(cls, folder: Path, options: Options) -> "CellFM":
        """Read checkpoint and gene list; sizes are those of the tensors."""
        if options.variant not in (None, *FORMS):
            found = f"variant {options.variant!r}{phrases.nearest(options.variant, FORMS)}"
            raise ConfigError(Problem(found, f"one of {', '.join(FORMS)}", "choose one"), subject=cls.name)
        settings, genes, path = _settings(folder), _genes(folder), _only(folder)
        state = _state(path, settings)
        config = _config(state, settings, path.name)
        checkpoint.require_rows(len(genes) + 1 + settings.spare_rows, config.genes + 1, subject=path.name)
        network = build(config)
        checkpoint.load_into(network, _shaped(state, network), ignore=settings.ignore, subject=path.name)
        pooling, layer = cls.pooling_of(options), cls.layer_of(options, config.layers, config.layers)
        encoder = cls(genes, network, options, width=config.width)
        encoder.pooling, encoder.layer = pooling, layer
        return encoder

    @classmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0) -> Path:
        """Write four layers of width 16 as a MindSpore checkpoint, with what an optimiser would leave in it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(Config(genes=len(genes), width=16, layers=4, heads=2, feed=24, bins=12))
            for name, part in network.named_parameters():
                if "norm" in name:
                    nn.init.normal_(part, mean=float(name.endswith("weight")), std=0.3)
        state = {_mindspore_name(key): tensor for key, tensor in network.state_dict().items()}
        junk = {f"moment1.{key}": torch.zeros_like(tensor) for key, tensor in state.items()}
        mindspore.write(folder / "CellFM_tiny_weight.ckpt", state | junk | {"global_step": torch.tensor([1])})
        (folder / GENES[0]).write_text("\n".join(genes) + "\n", encoding="utf-8")
        (folder / SETTINGS).write_text(json.dumps({"heads": 2}), encoding="utf-8")
        checkpoint.mark_random(folder, seed)
        return folder

    def tokenize(self, profiles: Profiles) -> Tokens:
        """Return the three special tokens and the genes of each cell."""
        scale = schema.TARGET_SUM / profiles.total
        columns, values = [], []
        for cell in range(len(profiles)):
            found, counts = profiles.row(cell)
            if len(found) > LONGEST:
                highest = np.sort(np.argsort(-counts, kind="stable")[:LONGEST])
                found, counts = found[highest], counts[highest]
            columns.append(np.concatenate([np.full(SPECIAL_TOKENS, SPECIAL), found]))
            values.append(np.concatenate([np.zeros(SPECIAL_TOKENS), np.log1p(counts * scale[cell])]).astype(np.float32))
        return Tokens(tuple(c + 1 for c in columns), tuple(columns), tuple(values))

    def forward(self, batch: TokenBatch) -> Encoded:
        """Return position 0 (``cls``) or the mean over genes (``mean``) at the chosen layer, the last by default."""
        counted = self.options.variant == "published"
        hidden = self.network(
            batch.ids,
            batch.levels,
            batch.keep,
            n_layers=self.layer,
            padding=LONGEST + SPECIAL_TOKENS - batch.keep.sum(dim=1).float() if counted else None,
        )
        genes = batch.keep & (batch.columns != SPECIAL)
        cell = hidden[:, 0] if self.pooling == "cls" else masked_mean(hidden, genes)
        return Encoded(cell, hidden, batch.columns, batch.keep)

    def provenance(self) -> dict[str, Any]:
        """Return `Pretrained.provenance` with the variant: whether genes that a cell does not have took part."""
        return super().provenance() | {"variant": self.options.variant or FORMS[0]}


def _only(folder: Path) -> Path:
    """Return the one checkpoint of a folder."""
    found = sorted(folder.glob("*.ckpt"))
    if len(found) != 1:
        names = phrases.few(path.name for path in found) or "none"
        cure = "keep the size that you mean in a folder of its own"
        raise StoreError(Problem(f"{len(found)} checkpoints ({names})", "one *.ckpt", cure), subject=folder.name)
    return found[0]


def _settings(folder: Path) -> Settings:
    path = folder / SETTINGS
    if not path.is_file():
        return Settings()
    try:
        settings = Settings.model_validate(checkpoint.read_json(path))
        for pattern, replacement in (settings.rename | dict.fromkeys(settings.ignore, "")).items():
            re.compile(f"{pattern}|").sub(replacement, "")  # matches, so that the replacement is read too
    except ValidationError as error:
        keys = ", ".join(Settings.model_fields)
        parts = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        raise StoreError(
            *(Problem(f"{key}: {said}" if key else said, f"keys among {keys}", "correct it") for key, said in parts),
            subject=SETTINGS,
        ) from error
    except re.error as error:
        found = f"{error.pattern!r}, which is no pattern ({error.msg})"
        raise StoreError(Problem(found, "regular expressions", "correct it"), subject=SETTINGS) from error
    return settings


def _genes(folder: Path) -> tuple[str, ...]:
    """Return the symbols of the gene list in the order of the embedding."""
    path = checkpoint.find(folder, *GENES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = (
                [row for row in csv.reader(file) if row] if path.suffix == ".csv" else [[line.strip()] for line in file]
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise StoreError(Problem(f"no readable text ({error})", "gene symbols", _LIST), subject=path.name) from error
    column = 0
    if path.suffix == ".csv" and rows:
        header = [cell.strip().lower() for cell in rows.pop(0)]
        column = next((header.index(name) for name in _COLUMNS if name in header), 0)
    genes = [row[column].strip() if column < len(row) else "" for row in rows]
    twice = sorted({gene for gene, n in Counter(genes).items() if n > 1 and gene})
    problems = [
        Problem(f"{len(bad)} {what}", "one symbol per row of the embedding", _LIST)
        for bad, what in (
            ([k for k, gene in enumerate(genes, 1) if not gene], "rows without a symbol"),
            (twice, f"symbols more than once: {phrases.few(twice)}"),
        )
        if bad
    ]
    if problems or not genes:
        raise StoreError(*(problems or [Problem("no genes", "gene symbols", _LIST)]), subject=path.name)
    return tuple(genes)


def _state(path: Path, settings: Settings) -> dict[str, Tensor]:
    """Return the tensors by the names of `Network`."""
    with path.open("rb") as file:
        start = file.read(2)
    of_torch = start == b"PK" or start[:1] == b"\x80"  # an archive, or a bare pickle, which is refused
    tensors = checkpoint.read_weights(path) if of_torch else mindspore.torch_names(mindspore.read(path))
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, replacement in (RENAME | settings.rename).items():
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            cure = f"correct rename in {SETTINGS}"
            raise StoreError(Problem(f"two tensors that become {new!r}", "one", cure), subject=path.name)
        renamed[new] = tensor
    if settings.a is not None:
        renamed.setdefault("value_enc.a", torch.tensor([settings.a]))
    return renamed


def _config(state: Mapping[str, Tensor], settings: Settings, subject: str) -> Config:
    """Return the sizes that the tensors have."""
    need = ("gene_emb.weight", "value_enc.w1.weight", "encoder.0.ffn.u_proj.weight")
    absent = [name for name in need if name not in state or state[name].ndim < 2]
    if absent:
        found = f"no matrix {phrases.few(absent)} among {phrases.few(state) or 'no tensors'}"
        cure = f"say under rename in {SETTINGS} which name of the file is which of the network"
        raise StoreError(Problem(found, "the names of embryo.encoders.cellfm.Network", cure), subject=subject)
    (rows, width), bins, feed = state[need[0]].shape[-2:], len(state[need[1]]), len(state[need[2]])
    heads = settings.heads or max(width // 32, 1)
    if width % heads:
        cure = f"set heads in {SETTINGS}"
        raise StoreError(Problem(f"{heads} heads for width {width}", "a divisor", cure), subject=subject)
    layers = len({match[1] for name in state if (match := re.match(r"encoder\.(\d+)\.", name))})
    return Config(rows - 1, width, layers, heads, feed, bins, settings.leak, settings.srms)


def _shaped(state: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """Return the tensors with axes of length 1 added or dropped where that gives the network's shape."""
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    plain = {name: [n for n in shape if n > 1] for name, shape in own.items()}
    return {
        name: tensor.reshape(own[name]) if plain.get(name) == [n for n in tensor.shape if n > 1] else tensor
        for name, tensor in state.items()
    }


def _mindspore_name(name: str) -> str:
    back = {"weight": "gamma", "bias": "beta"}
    head, _, last = name.rpartition(".")
    return f"{head}.{back[last]}" if "norm" in head else name
