"""Tahoe-x1 (Tahoe Therapeutics 2025): genes by Ensembl id with a value, and the drug of the cell, human.

A folder holds ``model.safetensors``, ``model_config.yml``, ``collator_config.yml`` and ``vocab.json``. Layers are
pre-norm; the cell is what ``<cls>`` becomes, of length 1. Facts from tahoebio/tahoe-x1 (Apache-2.0), with three
differences that are meant:

* Padding is masked. Upstream attends to it with ``attn_impl: torch`` and masks it with flash attention, as here.
* With ``use_chem_token`` the second token is the drug, from a fingerprint in the weights; without a drug it is row 0,
  ``<pad>``, as for the untreated cells of its training. Upstream's loader leaves the token out by default:
  `Options.variant` ``"no-drug-slot"`` does too, and ``"drug=NAME"`` gives a drug to every cell (`TahoeX1.treat` to
  each its own). Where upstream leaves it out, it still keeps two tokens unbinned, so that the first gene enters as a
  raw count; here every gene is binned.
* The limit is ``max_length`` of the collator; upstream's embedding scripts read all genes of the data.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem, StoreError
from embryo.encoders.inputs.tahoe_settings import COLLATOR, MODEL, Release
from embryo.encoders.inputs.tokens import Axes, Profiles, Tokens
from embryo.encoders.networks.architecture import seeded
from embryo.encoders.networks.value_network import DrugShape, Shape, ValueNetwork, inverse, renamed
from embryo.encoders.options import Options
from embryo.encoders.valued import Grammar, Valued, genes_of, vocabulary
from embryo.encoders.weights import checkpoint

WEIGHTS, VOCAB = "model.safetensors", "vocab.json"
SPECIALS = ("<pad>", "<cls>", "<eoc>")
DRUG, NO_DRUG, NO_SLOT = "<drug>", "<pad>", "no-drug-slot"
NAMES = (
    ("^model.", "^"),
    ("^gene_encoder.", "^gene."),
    ("^expression_encoder.linear1.", "^value.first."),
    ("^expression_encoder.linear2.", "^value.second."),
    ("^expression_encoder.norm.", "^value.norm."),
    ("^transformer_encoder.layers.", "^layers."),
    ("^transformer_encoder.norm.", "^norm."),
    ("^chem_encoder.", "^drug."),
    (".self_attn.Wqkv.", ".qkv."),
    (".self_attn.out_proj.", ".out."),
    (".up_proj.", ".up."),
    (".down_proj.", ".down."),
)
HEADS = (r"flag_encoder\.weight", r"(expression|mvc)_decoder\..*")


@dataclass(frozen=True)
class Drugs:
    """Which drug is which row of the drug encoder; row 0 is no drug.

    Parameters
    ----------
    rows
        Row of each drug; empty where the release's table is not in the folder, and rows are given as numbers.
    n
        Number of rows.
    """

    rows: Mapping[str, int]
    n: int

    def row(self, drug: str | None) -> int:
        """Return the row of a drug, 0 for None.

        Raises
        ------
        ConfigError
            If the model was not trained with it.
        """
        if drug is None or drug == NO_DRUG:
            return 0
        row = self.rows.get(drug, int(drug) if drug.isdecimal() and not self.rows else -1)
        if not 0 <= row < self.n:
            known = f"one of its {self.n - 1} drugs" if self.rows else f"a row from 0 to {self.n - 1}"
            found = f"drug {drug!r}{phrases.nearest(drug, self.rows)}"
            cure = "choose one" if self.rows else "put the release's drug_to_id file into the folder to use names"
            raise ConfigError(Problem(found, known, cure), subject="tahoe-x1")
        return row


class TahoeX1(Valued):
    """The encoder; see the module."""

    name: ClassVar[str] = "tahoe-x1"
    ids: ClassVar[Literal["ensembl", "symbol"]] = "ensembl"
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, MODEL, COLLATOR, VOCAB, "drug_to_id*.json")
    axes: ClassVar[Axes] = Axes(
        "a learned vector for each Ensembl gene",
        "bin among 50 quantiles of the cell's own counts, the lowest of those that tie, through two linear maps",
        "no order: <cls>, the drug where the model has its place, and the genes found; of too many a random sample",
    )

    drugs: Drugs | None = None  # None: the model has no place for a drug, or the variant leaves it out
    drug: str | None = None  # of every cell; None: the model was not trained on drugs

    @classmethod
    def read(cls, folder: Path, options: Options) -> "TahoeX1":
        """Read the four files, and the drug table where the folder holds the one that the collator names."""
        release = Release.read(folder)
        drug = _drug_of(options)
        trained_on_drugs = release.collator["use_chem_token"]
        slot = trained_on_drugs and options.variant != NO_SLOT
        if drug is not None and not slot:
            found = f"drug {drug!r} for a model without a place for it"
            raise ConfigError(Problem(found, "use_chem_token in its collator", "leave it out"), subject=cls.name)
        tokens = _tokens(folder, release)
        state = renamed(checkpoint.read_weights(checkpoint.find(folder, WEIGHTS)), NAMES)
        held = state.get("drug.embedding.weight", torch.empty(1, 1))
        network = build(release.shape((held.shape[0], held.shape[-1]) if slot else None))
        ignore = (*HEADS, r"drug\..*") if trained_on_drugs and not slot else HEADS
        checkpoint.load_into(network, state, ignore=ignore, subject=f"{folder.name}/{WEIGHTS}")
        genes, rows = genes_of(tokens)
        values, top = release.values()
        lead = (tokens["<cls>"], tokens[DRUG]) if slot else (tokens["<cls>"],)
        known = release.collator
        encoder = cls(
            genes, network, options, Grammar(rows, lead, known["pad_value"], known["max_length"], values, top)
        )
        if trained_on_drugs:
            encoder.drug = (drug or NO_DRUG) if slot else NO_SLOT
        if slot:
            encoder.drugs = Drugs(_drug_table(folder, known["drug_to_id_path"]), len(held))
            encoder.drugs.row(drug)
        return encoder

    def tokenize(self, profiles: Profiles) -> Tokens:
        """Return ``<cls>``, the drug's place where there is one, and the genes found in each cell."""
        tokens = super().tokenize(profiles)
        return tokens if self.drugs is None else self.treat(tokens, [self.drug] * len(tokens))

    def treat(self, tokens: Tokens, drugs: Sequence[str | None]) -> Tokens:
        """Return tokens with a drug for each cell; None is no drug.

        Raises
        ------
        ConfigError
            If the model has no place for a drug, or was not trained with one of them.
        """
        if self.drugs is None:
            found = "drugs for a model without a place for them"
            raise ConfigError(Problem(found, "use_chem_token in its collator", "use the 3b model"), subject=self.name)
        rows = np.array([self.drugs.row(drug) for drug in drugs], dtype=np.int64)
        if len(rows) != len(tokens):
            found = f"{len(rows)} drugs for {len(tokens)} cells"
            raise ConfigError(Problem(found, "one for each cell, or None", "give as many"), subject=self.name)
        return replace(tokens, extra={**tokens.extra, "drug": rows})

    def provenance(self) -> dict[str, Any]:
        """Return what an embedding's reader must know, the drug with it."""
        known = super().provenance()
        return known if self.drug is None else known | {"drug": self.drug}

    @classmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0) -> Path:
        """Write 2 layers of 16 dimensions over `genes`, a place for one of 4 drugs, and the heads of training."""
        folder.mkdir(parents=True, exist_ok=True)
        tokens = {token: row for row, token in enumerate([*SPECIALS, *genes, DRUG])}
        drugs = {NO_DRUG: 0} | {f"drug {letter}": row for row, letter in enumerate("ABCD", start=1)}
        table = "drug_to_id_pad.json"
        shape = Shape(len(tokens), 16, 2, 2, 64, "pre", "gelu", "gelu", drug=DrugShape(len(drugs), 8, "gelu"))
        with seeded(seed):
            state = renamed(build(shape).state_dict() | _heads(16), inverse(NAMES))
        save_file(state, folder / WEIGHTS)
        model: dict[str, Any] = {
            "name": "tahoe_x1",
            "vocab_size": len(tokens),
            "n_layers": 2,
            "n_heads": 2,
            "d_model": 16,
        }
        model |= {"expansion_ratio": 4, "norm_scheme": "pre", "transformer_activation": "gelu", "use_glu": False}
        model |= {"cell_emb_style": "cls", "norm_config": {"norm_type": "layernorm", "eps": 1e-5}}
        model |= {"expression_encoder": {"input_emb_style": "continuous", "activation": "gelu", "use_norm": True}}
        model |= {"gene_encoder": {"use_norm": True}, "chemical_encoder": {"activation": "gelu", "padding_idx": 0}}
        collator: dict[str, Any] = {
            "pad_token_id": 0,
            "pad_value": -2,
            "num_bins": 51,
            "max_length": 1024,
            "do_binning": True,
        }
        collator |= {"right_binning": False, "use_chem_token": True, "keep_first_n_tokens": 2}
        collator |= {"drug_to_id_path": {"local": table}}
        for file, content in ((MODEL, model), (COLLATOR, collator)):
            (folder / file).write_text(yaml.safe_dump(content), encoding="utf-8")
        for file, names in ((VOCAB, tokens), (table, drugs)):
            (folder / file).write_text(json.dumps(names), encoding="utf-8")
        checkpoint.mark_random(folder, seed)
        return folder


def sizes() -> dict[str, Shape]:
    """Return the published sizes.

    Layers, widths and activations are those of the training configs. The vocabulary (62,720, so that the smallest has
    its 70 million parameters) and the fingerprints of the drugs are estimates: neither file was at hand.
    """
    drug = DrugShape(rows=380, width=1024, activation="gelu")
    return {
        "70m": Shape(62_720, 512, 8, 12, 2048, "pre", "relu", "relu"),
        "1b": Shape(62_720, 2048, 16, 24, 8192, "pre", "relu", "relu"),
        "3b": Shape(62_720, 2560, 20, 32, 10_240, "pre", "gelu", "gelu", drug=drug),
    }


def build(config: Shape) -> ValueNetwork:
    """Return a network with random weights in memory."""
    return ValueNetwork(config).eval()


def _drug_of(options: Options) -> str | None:
    """Return the drug that `Options.variant` names."""
    variant = options.variant
    if variant is None or variant == NO_SLOT:
        return None
    if not variant.startswith("drug="):
        raise ConfigError(
            Problem(f"variant {variant!r}", f"drug=NAME or {NO_SLOT}", "choose one, or leave it out"),
            subject="tahoe-x1",
        )
    return variant.removeprefix("drug=")


def _tokens(folder: Path, release: Release) -> dict[str, int]:
    """Return the vocabulary, whose length is the number of rows.

    Training appends ``<drug>`` last; a release may be made without it, which leaves one row that no token names.
    """
    rows, pad = release.model["vocab_size"], release.collator["pad_token_id"]
    tokens = vocabulary(checkpoint.find(folder, VOCAB), SPECIALS)
    if DRUG not in tokens and rows == len(tokens) + 1:
        tokens[DRUG] = len(tokens)
    checkpoint.require_rows(len(tokens), rows, subject=folder.name)
    if tokens["<pad>"] != pad:
        found = f"<pad> in row {tokens['<pad>']} of the dictionary, pad_token_id {pad} in {COLLATOR}"
        raise StoreError(Problem(found, "one row", "take both from the same release"), subject=folder.name)
    return tokens


def _drug_table(folder: Path, place: Mapping[str, Any]) -> dict[str, int]:
    """Return drug -> row where the folder holds the file that the collator names, else nothing."""
    named = Path(str(place.get("local", ""))).name
    if not named or not (folder / named).is_file():
        return {}
    table = checkpoint.read_json(folder / named)
    if not isinstance(table, dict) or not all(type(row) is int for row in table.values()) or table.get(NO_DRUG) != 0:
        raise StoreError(
            Problem("no table of rows with <pad> in row 0", "drug -> row", "give the release's"), subject=named
        )
    return table


def _heads(dims: int) -> dict[str, Tensor]:
    """Return what the published file holds beside the encoder: heads that training used."""
    square, line = (dims, dims), (dims,)
    shapes: dict[str, tuple[int, ...]] = {"flag_encoder.weight": (2, dims)}
    shapes |= {"expression_decoder.linear_layers.0.weight": square, "expression_decoder.linear_layers.0.bias": line}
    shapes |= {"expression_decoder.out_proj.weight": (1, dims), "expression_decoder.out_proj.bias": (1,)}
    shapes |= {"mvc_decoder.gene2query.weight": square, "mvc_decoder.gene2query.bias": line}
    shapes |= {"mvc_decoder.W.weight": square}
    return {name: torch.randn(shape) for name, shape in shapes.items()}
