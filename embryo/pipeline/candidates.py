"""Foundation models under test: opened with the user's weights, and the same architecture with random ones."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float
from pydantic import Field

from embryo import encoders
from embryo.config import Section
from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.embed import encoder as opened
from embryo.encoders.facts.leaks import Protected, require_no_leak
from embryo.encoders.genes.genenames import scientific

Kind: TypeAlias = Literal["pretrained", "random"]
DRAWN = "tiny, weights drawn"
SHUFFLED = "size of the folder, entries of each weight shuffled"


class Candidate(Section):
    """One foundation model."""

    encoder: str = Field(description="a name of `embryo encoders list`")
    weights: Path | None = Field(None, description="folder that you downloaded; none: random weights only")
    options: dict[str, Any] = Field(default_factory=dict, description="layer, pooling, orthologs, device, dtype, ...")


@dataclass(frozen=True)
class Made:
    """An embedding and what is known of it."""

    z: Float[np.ndarray, "cells dims"]
    provenance: dict[str, Any]


def kinds(one: Candidate) -> list[Kind]:
    """Return what to judge: weights that bear the mark of random ones are random, whoever names them."""
    from embryo.encoders.weights.checkpoint import Weights  # noqa: PLC0415  imports torch

    if one.weights is None or Weights.of(one.weights, ()).kind == "random":
        return ["random"]
    return ["pretrained", "random"]


def embed(
    one: Candidate, adata: AnnData, weights: Kind, seed: int, protected: Protected, *, allow_leaks: bool = False
) -> Made:
    """Embed the cells.

    Random weights are a control that has learned nothing. Beside pretrained ones they are those, the entries of every
    tensor shuffled: the same size, the same spread, the same code. Without a folder they are a tiny network of the
    architecture, drawn over the genes at hand; these are renamed one to one into ids of the kind that the model reads,
    for a network that knows no genes does not mind, and so it reads any species.

    Parameters
    ----------
    one, adata, weights, seed
        What to embed, and with what.
    protected, allow_leaks
        What pretrained weights may not have been trained on, and whether they may all the same.

    Raises
    ------
    ConfigError
        If pretrained weights have seen what is protected.
    EmbryoError
        If the model cannot read the folder or these cells.
    """
    options = _options(one, seed)
    if one.weights is not None and weights == "pretrained":
        found = opened(one.encoder, one.weights, options, protected=protected, allow_leaks=allow_leaks)
        return _made(found, adata, {})
    if one.weights is not None:
        found = opened(one.encoder, one.weights, options)
        _shuffle(found, seed)
        found.leaks = require_no_leak(one.encoder, None, protected)
        return _made(found, adata, {"control": SHUFFLED, "shuffled_from": one.weights.name})
    with TemporaryDirectory() as scratch:
        cls = encoders.model(one.encoder)
        cells = _renamed(adata, cls.ids, cls.species)
        folder = cls.write_tiny(Path(scratch) / "weights", list(cells.var_names), seed)
        return _made(opened(one.encoder, folder, options, protected=protected), cells, {"control": DRAWN})


def cannot_read(one: Candidate, adata: AnnData) -> str | None:
    """Return why published weights cannot read these genes, or None where they may."""
    species = encoders.model(one.encoder).species
    said = schema.meta(adata).get("organism")
    organism = None if said is None else scientific(str(said))
    if organism in (None, species, "Mus musculus") or one.options.get("orthologs"):
        return None
    return f"published weights read genes of {species}; they cannot read {organism} genes"


def _made(encoder: Any, adata: AnnData, more: dict[str, Any]) -> Made:
    z = np.asarray(encoder.encode(adata), dtype=np.float32)
    return Made(z, {**encoder.provenance(), **more})


def _options(one: Candidate, seed: int) -> Any:
    from embryo.encoders.options import Options  # noqa: PLC0415  imports torch

    given = dict(one.options)
    if given.get("orthologs") is not None:
        given["orthologs"] = Path(given["orthologs"])
    return Options(**{"seed": seed, "dtype": "float32", **given})


def _shuffle(encoder: Any, seed: int) -> None:
    """Shuffle the entries of every tensor; from then on the encoder's provenance calls its weights random."""
    import torch  # noqa: PLC0415  heavy

    if not any(True for _ in encoder.network.parameters()):
        found = f"no weights of {encoder.name} in this process"
        raise SchemaError(Problem(found, "a network to shuffle", "nothing to do: it runs in its own interpreter"))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in encoder.network.parameters():
            order = torch.randperm(tensor.numel(), generator=draw).to(tensor.device)
            tensor.copy_(tensor.flatten()[order].view_as(tensor))
    encoder.weights, encoder.corpus = replace(encoder.weights, kind="random", seed=seed), None


def _renamed(adata: AnnData, ids: str, species: str) -> AnnData:
    """Return the cells with genes named anew, in the form of id that the model reads."""
    form = "ENSG{:011d}" if ids == "ensembl" else "GENE{}"
    var = pd.DataFrame(index=[form.format(k) for k in range(1, adata.n_vars + 1)])
    uns = {schema.META: {**schema.meta(adata), "organism": species}}
    return AnnData(adata.X, obs=adata.obs[[]], var=var, layers=dict(adata.layers), uns=uns)
