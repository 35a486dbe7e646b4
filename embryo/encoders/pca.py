"""PCA of log1p-normalised expression: the linear baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float
from scipy import sparse

from embryo.core.errors import Problem, SchemaError
from embryo.encoders.contract import require_fitted, require_kind, rows
from embryo.encoders.inputs import normalise

_SMALL = 1000  # up to here the gene covariance is decomposed, beyond it Lanczos iterations


@dataclass(eq=False)
class PCA:
    """Principal components of log1p expression (`sklearn.decomposition.PCA`; exact solvers, sparse input stays sparse).

    Parameters
    ----------
    dims
        Number of components.
    seed
        Seed of the Lanczos start vector (more than 1,000 genes); it changes nothing beyond rounding.
    genes
        Names of the fitted genes; empty before `fit`.
    mean
        Mean log1p expression of the fitted cells, shape (genes,).
    components
        Principal axes, orthonormal rows, shape (dims, genes).
    variance
        Variance of each component over the fitted cells, shape (dims,).
    expression
        Kind of expression that was fitted; see `normalise.kind`.
    """

    dims: int
    seed: int = 0
    genes: tuple[str, ...] = ()
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    components: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    variance: np.ndarray = field(default_factory=lambda: np.zeros(0))
    expression: str = ""
    name: str = field(default="pca", init=False)

    def fit(self, adata: AnnData) -> "PCA":
        """Return a PCA fitted on the cells of `adata`; see `Encoder.fit`.

        Raises
        ------
        SchemaError
            If the expression is unusable or there are fewer cells or genes than `dims`.
        """
        values = normalise.log1p_normalised(adata)
        normalise.positions(adata, [])  # refuses double gene names
        if self.dims > min(values.shape):
            raise SchemaError(
                Problem(
                    f"{values.shape[0]} cells by {values.shape[1]} genes for {self.dims} dimensions",
                    "at least as many cells and genes as dimensions",
                    f"ask for at most {min(values.shape)} dimensions",
                )
            )
        fitted = _decompose(values, self.dims, self.seed)
        return replace(
            self,
            genes=tuple(map(str, adata.var_names)),
            mean=np.asarray(fitted.mean_, dtype=np.float64).ravel(),
            components=np.ascontiguousarray(fitted.components_, dtype=np.float64),
            variance=np.asarray(fitted.explained_variance_, dtype=np.float64),
            expression=normalise.kind(adata),
        )

    def encode(self, adata: AnnData) -> Float[np.ndarray, "cells dims"]:
        """Embed cells, ``z = (log1p expression - mean) components^T``; see `Encoder.encode`."""
        require_fitted(self.name, self.genes)
        require_kind(adata, self.expression)
        values = normalise.log1p_normalised(adata, self.genes)
        return np.asarray(values @ self.components.T - self.mean @ self.components.T)

    def decode(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p expression of `genes`, ``g = z components + mean``."""
        require_fitted(self.name, self.genes)
        return np.asarray(z @ self.components + self.mean)

    def response(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return dz/dg of the named genes; see `Encoder.response`."""
        require_fitted(self.name, self.genes)
        return rows(self.components.T, self.genes, genes)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return mean, components and variance."""
        return {"mean": self.mean, "components": self.components, "variance": self.variance}

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor: genes and settings, JSON-ready."""
        return {"dims": self.dims, "seed": self.seed, "genes": list(self.genes), "expression": self.expression}

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> "PCA":
        """Rebuild from `tensors` and `record`."""
        encoder = cls(
            dims=record["dims"],
            seed=record["seed"],
            genes=tuple(record["genes"]),
            expression=record["expression"],
            **{key: tensors[key] for key in ("mean", "components", "variance")},
        )
        if encoder.components.shape != (encoder.dims, len(encoder.genes)):
            msg = f"components of shape {encoder.components.shape}"
            raise ValueError(msg)
        return encoder


def principal(
    z: Float[np.ndarray, "cells width"], dims: int, *, seed: int
) -> tuple[Float[np.ndarray, " width"], Float[np.ndarray, "dims width"]]:
    """Return mean and principal components of any embedding.

    Raises
    ------
    SchemaError
        If there are fewer cells or columns than `dims`.
    """
    if not 1 <= dims <= min(z.shape):
        raise SchemaError(
            Problem(
                f"{dims} dimensions of an embedding of {z.shape[0]} cells by {z.shape[1]}",
                f"1 to {min(z.shape)}",
                "ask for fewer (dims), or for none to keep it whole",
            )
        )
    fitted = _decompose(z.astype(np.float64), dims, seed)
    return np.asarray(fitted.mean_).ravel(), np.ascontiguousarray(fitted.components_)


def _decompose(values: normalise.Matrix, dims: int, seed: int) -> Any:
    from sklearn.decomposition import PCA as SklearnPCA  # noqa: N811, PLC0415  the class here has the field's name too

    if values.shape[1] <= _SMALL:
        solver = "covariance_eigh"
    elif dims < min(values.shape):
        solver = "arpack"
    else:
        solver, values = "full", values.toarray() if isinstance(values, sparse.csr_array) else values
    return SklearnPCA(n_components=dims, svd_solver=solver, random_state=seed).fit(values)
