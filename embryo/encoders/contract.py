"""What every encoder checks before it works."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from anndata import AnnData
from jaxtyping import Float

from embryo.core.encoder import Encoder
from embryo.core.errors import Problem, SchemaError, StaleError
from embryo.encoders.inputs import normalise


class Storable(Encoder, Protocol):
    """An encoder that `embryo.encoders.save` can write; `restore(tensors, record)` rebuilds it."""

    dims: int
    seed: int
    genes: tuple[str, ...]

    def fit(self, adata: AnnData) -> "Storable":
        """Return a fitted encoder; see `Encoder.fit`."""
        ...

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor: genes and settings, JSON-ready."""
        ...


def require_fitted(name: str, genes: Sequence[str]) -> None:
    """Raise `StaleError` for an encoder that has seen no cells."""
    if not genes:
        raise StaleError(
            Problem(f"the {name} encoder before fit", "a fitted encoder", "use the one that encoder.fit(adata) returns")
        )


def require_kind(adata: AnnData, fitted: str) -> None:
    """Raise `SchemaError` where relative levels meet an encoder of log1p expression, or the other way round."""
    found = normalise.kind(adata)
    if (found == normalise.RELATIVE) != (fitted == normalise.RELATIVE):
        raise SchemaError(
            Problem(
                f"expression {found!r} for an encoder fitted on {fitted!r}",
                "the same kind of values",
                "fit an encoder on these data",
            )
        )


def columns(fitted: Sequence[str], genes: Sequence[str]) -> np.ndarray:
    """Return where each of `genes` stands among the `fitted` genes.

    Raises
    ------
    SchemaError
        Naming every gene that was not fitted.
    """
    where = {gene: i for i, gene in enumerate(fitted)}
    missing = [gene for gene in genes if gene not in where]
    if missing:
        raise SchemaError(
            Problem(
                f"{len(missing)} genes that the encoder does not read: {normalise.suggest(missing, fitted)}",
                "genes of the fit",
                "choose other genes, or fit the encoder on data that hold them",
            )
        )
    return np.array([where[gene] for gene in genes], dtype=np.int64)


def rows(
    jacobian: Float[np.ndarray, "fitted dims"], fitted: Sequence[str], genes: Sequence[str]
) -> Float[np.ndarray, "genes dims"]:
    """Return the rows of a Jacobian dz/dg for `genes`; zeros for genes that the encoder does not read."""
    where = {gene: i for i, gene in enumerate(fitted)}
    out = np.zeros((len(genes), jacobian.shape[1]))
    for k, gene in enumerate(genes):
        if gene in where:
            out[k] = jacobian[where[gene]]
    return out
