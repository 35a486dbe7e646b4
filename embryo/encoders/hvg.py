"""Highly variable genes, standardised: the baseline that learns nothing but which genes vary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float
from scipy import sparse

from embryo.core.errors import Problem, SchemaError
from embryo.encoders.contract import columns, require_fitted, require_kind, rows
from embryo.encoders.inputs import normalise

_BINS, _BINNED = 20, 500


def rank(adata: AnnData) -> list[str]:
    """Return all genes, the most variable first.

    Dispersion (variance over mean) of the normalised values, standardised among genes of similar mean: the method of
    Satija et al. 2015 (Nat Biotechnol 33:495) as `scanpy.pp.highly_variable_genes` computes it (``flavor="seurat"``),
    with 20 bins; below 500 genes, too few to fill the bins, the plain dispersion. Ties go by name, so that the order
    of the genes does not matter; constant genes come last. Relative levels are ranked on their own scale, negative
    values taken as zero.

    Parameters
    ----------
    adata
        Cells by genes.

    Returns
    -------
    list of str
        Every gene name once.

    Raises
    ------
    SchemaError
        If the expression is unusable; see `normalise.log1p_normalised`.
    """
    values = normalise.log1p_normalised(adata)
    normalise.positions(adata, [])  # refuses double gene names
    if normalise.kind(adata) == normalise.RELATIVE:
        values = np.log1p(values.maximum(0) if isinstance(values, sparse.csr_array) else np.maximum(values, 0))
    score = np.full(values.shape[1], -np.inf)
    varies = np.flatnonzero(_moments(values)[1] > 0)
    if len(varies) > 1:
        score[varies] = _dispersions(values[:, varies])
    names = [str(name) for name in adata.var_names]
    return [name for _, name in sorted(zip(-score, names, strict=True))]


@dataclass(eq=False)
class HVG:
    """The `dims` most variable genes, each ``(log1p - mean) / standard deviation`` over the fitted cells.

    Parameters
    ----------
    dims
        Number of genes.
    seed
        Not used; nothing here is random.
    genes
        The chosen genes, the most variable first; empty before `fit`.
    library
        All genes of the fit: the library size is their sum.
    mean, scale
        Mean and standard deviation of each chosen gene, shape (dims,); the scale of a constant gene is 1.
    expression
        Kind of expression that was fitted; see `normalise.kind`.
    """

    dims: int
    seed: int = 0
    genes: tuple[str, ...] = ()
    library: tuple[str, ...] = ()
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scale: np.ndarray = field(default_factory=lambda: np.zeros(0))
    expression: str = ""
    name: str = field(default="hvg", init=False)

    def fit(self, adata: AnnData) -> "HVG":
        """Return the encoder with genes chosen (see `rank`) and standardised on the cells of `adata`.

        Raises
        ------
        SchemaError
            If the expression is unusable or there are fewer genes than `dims`.
        """
        if self.dims > adata.n_vars:
            raise SchemaError(
                Problem(f"{adata.n_vars} genes for {self.dims} dimensions", "one gene per dimension", "ask for fewer")
            )
        genes = rank(adata)[: self.dims]
        mean, variance = _moments(normalise.log1p_normalised(adata)[:, normalise.positions(adata, genes)])
        return replace(
            self,
            genes=tuple(genes),
            library=tuple(map(str, adata.var_names)),
            mean=mean,
            scale=np.sqrt(np.where(variance > 0, variance, 1.0)),
            expression=normalise.kind(adata),
        )

    def encode(self, adata: AnnData) -> Float[np.ndarray, "cells dims"]:
        """Embed cells; every gene of the library is needed, see `Encoder.encode`."""
        require_fitted(self.name, self.genes)
        require_kind(adata, self.expression)
        values = normalise.log1p_normalised(adata, self.library)[:, columns(self.library, self.genes)]
        dense = values.toarray() if isinstance(values, sparse.csr_array) else values
        return np.asarray((dense - self.mean) / self.scale)

    def decode(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p expression of the chosen genes, exactly."""
        require_fitted(self.name, self.genes)
        return np.asarray(z * self.scale + self.mean)

    def response(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return dz/dg of the named genes; see `Encoder.response`."""
        require_fitted(self.name, self.genes)
        return rows(np.diag(1 / self.scale), self.genes, genes)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return mean and scale."""
        return {"mean": self.mean, "scale": self.scale}

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor: genes and settings, JSON-ready."""
        return {
            "dims": self.dims,
            "seed": self.seed,
            "genes": list(self.genes),
            "library": list(self.library),
            "expression": self.expression,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> "HVG":
        """Rebuild from `tensors` and `record`."""
        encoder = cls(
            dims=record["dims"],
            seed=record["seed"],
            genes=tuple(record["genes"]),
            library=tuple(record["library"]),
            mean=tensors["mean"],
            scale=tensors["scale"],
            expression=record["expression"],
        )
        if not encoder.mean.shape == encoder.scale.shape == (encoder.dims,) == (len(encoder.genes),):
            msg = f"mean of shape {encoder.mean.shape}"
            raise ValueError(msg)
        return encoder


def _moments(values: normalise.Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance of each column; the variance of a constant column is 0 without rounding."""
    from sklearn.utils.sparsefuncs import mean_variance_axis, min_max_axis  # noqa: PLC0415  heavy

    if isinstance(values, sparse.csr_array):
        matrix = sparse.csr_matrix(values)
        mean, variance = mean_variance_axis(matrix, axis=0)
        low, high = min_max_axis(matrix, axis=0)
    else:
        mean, variance = values.mean(axis=0), values.var(axis=0)
        low, high = values.min(axis=0), values.max(axis=0)
    return np.asarray(mean), np.where(high > low, variance, 0.0)


def _dispersions(values: normalise.Matrix) -> np.ndarray:
    from scanpy.preprocessing import highly_variable_genes  # noqa: PLC0415  heavy

    bins = _BINS if values.shape[1] >= _BINNED else 1
    matrix = sparse.csr_matrix(values) if isinstance(values, sparse.csr_array) else values
    with np.errstate(invalid="ignore"):  # a variance of -1e-17: the gene is constant, its NaN ranks last
        table = highly_variable_genes(AnnData(matrix), flavor="seurat", inplace=False, n_bins=bins)
    return np.nan_to_num(np.asarray(table["dispersions_norm"], dtype=np.float64), nan=-np.inf)
