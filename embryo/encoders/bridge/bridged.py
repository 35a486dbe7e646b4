"""Encoders whose model runs in an interpreter of its own; see `embryo.encoders.bridge.link`.

The program says which genes it reads; mapping, coverage, orthologs and edits of gene inputs are then as for every
encoder, and what is written for the program are the edited counts.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from scipy import sparse
from torch import nn

from embryo.core import schema
from embryo.core.edit import Edit
from embryo.core.errors import ConfigError, Problem
from embryo.encoders.bridge import stand_in as bridge_stand_in
from embryo.encoders.bridge.link import BRIDGE, PROTOCOL, Description, Link, Settings, read_bridge
from embryo.encoders.genes import genenames
from embryo.encoders.genes.genemap import GeneMap
from embryo.encoders.inputs.tokens import Encoded, Profiles, TokenBatch, Tokens
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained
from embryo.encoders.weights import checkpoint

_ONE_BATCH = sys.maxsize  # tokens: the program is started once for all cells that are at hand


class Bridged(Pretrained):
    """Base of the encoders behind a bridge: ``from_dir(folder, Options(variant="path of bridge.json"))``.

    Parameters
    ----------
    link
        To the program.
    description
        What it said of itself.
    options
        As given to `from_dir`.
    """

    program = ""  # SHA-256 of the file that the variant named

    def __init__(self, link: Link, description: Description, options: Options) -> None:
        whole = replace(options, batch_tokens=_ONE_BATCH)
        super().__init__(description.genes, nn.Identity(), whole, width=description.dims)
        self.link, self.description = link, description

    @classmethod
    def read(cls, folder: Path, options: Options) -> "Bridged":
        """Ask the program of the user's ``bridge.json`` to describe itself.

        Raises
        ------
        ConfigError
            If no ``bridge.json`` is named, or the model has no such layer.
        StoreError
            If it is wrong, or the program does not answer as it should.
        """
        if options.variant is None:
            lies = f", though one lies in {folder.name}" if (folder / BRIDGE).is_file() else ""
            raise ConfigError(
                Problem(
                    f"no {BRIDGE} named{lies}",
                    f"the path of a {BRIDGE} that you trust: it says which program is run",
                    "read docs/bridge.md, look into the file, and give its path as variant",
                ),
                subject=cls.name,
            )
        path = Path(options.variant)
        path = path / BRIDGE if path.is_dir() else path
        settings = Settings(
            weights=str(folder.resolve()),
            pooling=cls.pooling_of(options),
            layer=options.layer,
            device=options.device,
            dtype=options.precise,
            seed=options.seed,
        )
        link = Link(read_bridge(path, cls.name), path.resolve().parent, settings)
        description = link.describe()
        if options.layer is not None and description.layers is None:
            cure = "leave it out"
            raise ConfigError(Problem(f"layer {options.layer}", "a program that offers layers", cure), subject=cls.name)
        if description.layers is not None:
            cls.layer_of(options, description.layers, description.layers)
        encoder = cls(link, description, options)
        encoder.program = checkpoint.sha256(path)
        return encoder

    @classmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0) -> Path:
        """Write a stand-in for the model (`embryo.encoders.bridge.stand_in`) and a ``bridge.json`` that starts it."""
        folder.mkdir(parents=True, exist_ok=True)
        copyfile(bridge_stand_in.__file__, folder / "stand_in.py")
        record = {"protocol": PROTOCOL, "model": cls.name, "command": [sys.executable, "stand_in.py"], "timeout_s": 300}
        (folder / BRIDGE).write_text(json.dumps(record), encoding="utf-8")
        stand_in = {"genes": list(genes), "dims": 8, "seed": seed}
        (folder / bridge_stand_in.WEIGHTS).write_text(json.dumps(stand_in), encoding="utf-8")
        checkpoint.mark_random(folder, seed)
        return folder

    def map_genes(self, adata: AnnData) -> GeneMap:
        """Return which genes the model reads; in the species of the data if it is one of the model's."""
        known = [genenames.scientific(name) for name in self.description.species]
        said = self.options.species or schema.meta(adata).get("organism")
        of_data = genenames.species(genenames.of(adata.var), said, known[0])
        self.species = of_data if of_data in known else known[0]  # type: ignore[misc]  # the class knows one species
        return super().map_genes(adata)

    def tokenize(self, profiles: Profiles) -> Tokens:
        """Return each cell's genes with their counts: the program makes tokens of them."""
        rows = [profiles.row(cell) for cell in range(len(profiles))]
        return Tokens(
            ids=tuple(found for found, _ in rows),
            columns=tuple(found for found, _ in rows),
            values=tuple(counts for _, counts in rows),
            extra={"total": profiles.total},
        )

    def forward(self, batch: TokenBatch) -> Encoded:
        """Send the cells over the bridge."""
        assert batch.values is not None  # noqa: S101  `tokenize` gives them
        keep, columns = batch.keep.cpu().numpy(), batch.columns.cpu().numpy()
        entries = (batch.values.cpu().numpy()[keep].astype(np.float64), (np.nonzero(keep)[0], columns[keep]))
        counts = sparse.csr_array(entries, shape=(len(keep), len(self.targets)))
        total = batch.extra["total"].cpu().numpy()
        cells = Profiles(counts, total, np.zeros(len(keep), dtype=np.uint64))
        embedding = torch.from_numpy(self.link.embed([cells], self.targets, self.width))
        return Encoded(embedding, None, batch.columns, batch.keep)

    def encode(self, adata: AnnData, edits: Sequence[Edit] = ()) -> Float[np.ndarray, "cells dims"]:
        """Embed cells, written to disk in blocks, with one start of the program; see `Encoder.encode`."""
        if self.options.dims is not None:
            return super().encode(adata, edits)
        return self.link.embed(self.edited(adata, edits), self.targets, self.width)

    def provenance(self) -> dict[str, Any]:
        """Return what `Pretrained.provenance` does, which ``bridge.json`` it was, and the versions that it named."""
        about = {"protocol": PROTOCOL, "sha256": self.program, "versions": self.description.versions}
        if "stand-in" in self.description.versions:
            nothing = {"weights": "none: a stand-in, no foundation model", "corpus": "nothing"}
            return super().provenance() | nothing | {"bridge": about}
        return super().provenance() | {"bridge": about}
