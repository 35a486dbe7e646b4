"""Encoder: gene counts -> cell embedding, and back where it can."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from anndata import AnnData
from jaxtyping import Float


@runtime_checkable
class Encoder(Protocol):
    """A map from the genes of a cell to its embedding z.

    An encoder is fitted (or loaded) once, on training cells only, and then frozen.
    """

    name: str

    def fit(self, adata: AnnData) -> "Encoder":
        """Return an encoder fitted on the cells of `adata` (raw counts); baselines learn here, pretrained models check.

        Raises
        ------
        SchemaError
            If the counts that the encoder needs are absent or are not counts.
        """
        ...

    def encode(self, adata: AnnData) -> Float[np.ndarray, "cells dims"]:
        """Embed the cells of `adata`, matching genes by name.

        Raises
        ------
        SchemaError
            If genes that the encoder needs are missing.
        """
        ...

    def decode(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p-normalised expression of the fitted genes for embeddings `z`."""
        ...

    def response(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return dz/dg of the named genes, each in log1p expression; zeros for genes that the encoder does not read.

        An edit of the gene panel is carried into the embedding along these rows.
        """
        ...

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the numbers that define this encoder, for the store."""
        ...
