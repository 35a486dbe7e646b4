"""What a run keeps of a pretrained encoder: its way back to genes and its responses, without its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float

from embryo.core.checks import phrases
from embryo.core.errors import Problem, StaleError, StoreError
from embryo.encoders.decoding.decoder import Decoder

_DECODER = "decoder."
_REDUCTION = ("reduction.mean", "reduction.components")


@dataclass(eq=False)
class Kept:
    """A pretrained encoder after the cells are embedded.

    Parameters
    ----------
    name
        Of the encoder.
    dims, seed, genes
        As in `embryo.encoders.contract.Storable`.
    decoder
        From embeddings to `genes`.
    responses
        dz/dg of the genes that it was asked for, shape (dims,) each.
    about
        What `Pretrained.provenance` said.
    reduction
        Mean and principal components of the reduction, shapes (width,) and (dims, width); None where z is whole.
    """

    name: str
    dims: int
    seed: int
    genes: tuple[str, ...]
    decoder: Decoder
    responses: Mapping[str, np.ndarray]
    about: Mapping[str, Any]
    reduction: tuple[np.ndarray, np.ndarray] | None = None

    def fit(self, adata: AnnData) -> "Kept":
        """Raise `StaleError`: the weights are not here."""
        raise self._without_weights()

    def encode(self, adata: AnnData) -> Float[np.ndarray, "cells dims"]:
        """Raise `StaleError`: the weights are not here."""
        raise self._without_weights()

    def decode(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p expression of `genes`; its held-out error is in ``decoder.held_out``."""
        return self.decoder.predict(z)

    def response(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return dz/dg of genes that it was computed for.

        Raises
        ------
        StaleError
            If it was not computed for a gene.
        """
        missing = [gene for gene in genes if gene not in self.responses]
        if missing:
            found = f"no response of {self.name} to {phrases.few(missing)}"
            raise StaleError(Problem(found, "genes it was computed for", "embed again with these genes in the panel"))
        return np.stack([self.responses[gene] for gene in genes]) if genes else np.zeros((0, self.dims))

    def require_same(self, found: Mapping[str, Any]) -> None:
        """Raise `StoreError` unless a provenance is of the same encoder, weights and options."""
        same = ("encoder", "weights", "sha256", "layer", "pooling", "dims")
        other = [key for key in same if found.get(key) != self.about.get(key)]
        if other:
            words = f"another {' and another '.join(other)}"
            problem = Problem(words, "those of the run", "give its weights and its options")
            raise StoreError(problem, subject=f"encoder {self.name}")

    def provenance(self) -> dict[str, Any]:
        """Return what `Pretrained.provenance` said."""
        return dict(self.about)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return responses and decoder; the weights stay where the user keeps them."""
        responses = np.stack(list(self.responses.values())) if self.responses else np.zeros((0, self.dims))
        reduction = {} if self.reduction is None else dict(zip(_REDUCTION, self.reduction, strict=True))
        decoder = {_DECODER + key: part for key, part in self.decoder.tensors().items()}
        return {"responses": responses, **reduction, **decoder}

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor, JSON-ready."""
        return {
            "name": self.name,
            "dims": self.dims,
            "seed": self.seed,
            "genes": list(self.genes),
            "responses": list(self.responses),
            "decoder": self.decoder.record(),
            "about": dict(self.about),
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> "Kept":
        """Rebuild from `tensors` and `record`."""
        parts = {key.removeprefix(_DECODER): part for key, part in tensors.items() if key.startswith(_DECODER)}
        return cls(
            name=record["name"],
            dims=record["dims"],
            seed=record["seed"],
            genes=tuple(record["genes"]),
            decoder=Decoder.restore(parts, record["decoder"]),
            responses=dict(zip(record["responses"], tensors["responses"], strict=True)),
            about=record["about"],
            reduction=(tensors[_REDUCTION[0]], tensors[_REDUCTION[1]]) if _REDUCTION[0] in tensors else None,
        )

    def _without_weights(self) -> StaleError:
        cure = "open it with its folder of weights (embryo.encoders.reopen)"
        return StaleError(Problem(f"{self.name} without its weights", "an encoder with weights", cure))
