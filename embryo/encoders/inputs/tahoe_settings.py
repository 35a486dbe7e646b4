"""Settings of a Tahoe-x1 release, ``model_config.yml`` and ``collator_config.yml``, and what follows from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from embryo.core.errors import Problem, StoreError
from embryo.encoders.inputs.binning import Binning, Ties
from embryo.encoders.networks.value_network import DrugShape, Shape
from embryo.encoders.valued import settings
from embryo.encoders.weights import checkpoint

MODEL, COLLATOR = "model_config.yml", "collator_config.yml"
_NEEDED = ("vocab_size", "d_model", "n_heads", "n_layers", "expansion_ratio")
_PART: Mapping[str, Any] = {}
_MODEL = {
    "norm_scheme": "pre",
    "transformer_activation": "gelu",
    "use_glu": False,
    "cell_emb_style": "cls",
    "norm_config": _PART,
    "expression_encoder": _PART,
    "gene_encoder": _PART,
    "chemical_encoder": _PART,
}
_PARTS: Mapping[str, Mapping[str, Any]] = {
    "norm_config": {"norm_type": "layernorm", "eps": 1e-5},
    "expression_encoder": {
        "input_emb_style": "continuous",
        "activation": "relu",
        "use_norm": False,
        "max_value": 512.0,
    },
    "gene_encoder": {"use_norm": False, "embeddings": _PART},
    "chemical_encoder": {"activation": "leaky_relu", "num_drugs": 0, "fp_dim": 0},
}
_COLLATOR = {
    "pad_token_id": 0,
    "pad_value": -2.0,
    "num_bins": 51,
    "right_binning": False,
    "do_binning": True,
    "log_transform": False,
    "target_sum": 10_000.0,
    "use_chem_token": False,
    "drug_to_id_path": _PART,
}
_PLAIN = {  # parts of the code that no published model uses
    "use_glu": (False,),
    "cell_emb_style": ("cls",),
    "norm_config.norm_type": ("layernorm", "low_precision_layernorm"),
    "norm_config.eps": (1e-5,),
    "expression_encoder.input_emb_style": ("continuous",),
    "gene_encoder.embeddings": ({},),
}


@dataclass(frozen=True)
class Release:
    """What the two files say.

    Parameters
    ----------
    model
        ``model_config.yml``; settings of its parts as ``part.setting``.
    collator
        ``collator_config.yml``.
    """

    model: Mapping[str, Any]
    collator: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Release":
        """Read and check both files.

        Raises
        ------
        StoreError
            Naming every setting that is missing, of another kind, or of a part that no published model uses.
        """
        model = settings(checkpoint.read_yaml(checkpoint.find(folder, MODEL)), MODEL, needed=_NEEDED, default=_MODEL)
        for part, default in _PARTS.items():
            known = settings(model[part], f"{MODEL}, {part}", default=default)
            model |= {f"{part}.{key}": value for key, value in known.items()}
        raw = checkpoint.read_yaml(checkpoint.find(folder, COLLATOR))
        collator = settings(raw, COLLATOR, needed=("max_length",), default=_COLLATOR)
        odd = [(key, model[key], known) for key, known in _PLAIN.items() if model[key] not in known]
        if collator["do_binning"] and collator["log_transform"]:
            odd.append(("log_transform with do_binning", True, (False,)))
        if bool(model["chemical_encoder"]) != collator["use_chem_token"]:
            odd.append(("use_chem_token", collator["use_chem_token"], (bool(model["chemical_encoder"]),)))
        if odd:
            cure = "give a model of the published kind"
            problems = [Problem(f"{key} = {has!r}", " or ".join(map(repr, known)), cure) for key, has, known in odd]
            raise StoreError(*problems, subject=f"{MODEL} and {COLLATOR}")
        return cls(model, collator)

    def shape(self, drugs: tuple[int, int] | None) -> Shape:
        """Return the network's shape; `drugs` is the size of the fingerprints in the weights, None without a slot."""
        m = self.model
        drug = None
        if drugs is not None:
            rows, width = (
                m[f"chemical_encoder.{key}"] or n for key, n in zip(("num_drugs", "fp_dim"), drugs, strict=True)
            )
            drug = DrugShape(rows, width, m["chemical_encoder.activation"])
        return Shape(
            tokens=m["vocab_size"],
            dims=m["d_model"],
            heads=m["n_heads"],
            layers=m["n_layers"],
            hidden=m["d_model"] * m["expansion_ratio"],
            norm=m["norm_scheme"],
            activation=m["transformer_activation"],
            value_activation=m["expression_encoder.activation"],
            gene_norm=m["gene_encoder.use_norm"],
            value_norm=m["expression_encoder.use_norm"],
            max_value=m["expression_encoder.max_value"],
            drug=drug,
        )

    def values(self) -> tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], float | None]:
        """Return what stands for the counts of a cell, and its highest value where there is one.

        Bins; or log1p of counts scaled to ``target_sum`` over the genes in the vocabulary, as upstream; or the counts.
        """
        c = self.collator
        if c["do_binning"]:
            binning = Binning(c["num_bins"], Ties.UPPER if c["right_binning"] else Ties.LOWER)
            return binning.bins, float(binning.top)

        def level(counts: Float[np.ndarray, " _"], _draws: Float[np.ndarray, " _"]) -> Float[np.ndarray, " _"]:
            return np.asarray(np.log1p(counts / counts.sum() * c["target_sum"])) if c["log_transform"] else counts

        return level, None
