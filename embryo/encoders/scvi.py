"""scVI: a variational autoencoder of counts, from the optional package scvi-tools.

The setting of Kedzierska et al. 2025 (Genome Biol 26:101): two layers, negative binomial counts; no batch covariate,
since a held-out embryo is a batch that the network has not seen. Cells are embedded as the mean of the posterior, so
nothing is drawn. Stored are the numbers of the network and a record, never scvi-tools' own files, which are pickled.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from importlib import import_module
from io import StringIO
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from embryo.core import schema
from embryo.core.errors import ConfigError, DivergedError, Problem, SchemaError
from embryo.encoders import hvg
from embryo.encoders.contract import require_fitted, rows
from embryo.encoders.decoding.heldout import set_aside
from embryo.encoders.inputs import counting, normalise

_FEATURES, _LAYERS, _HIDDEN = 2000, 2, 128
_EPOCHS, _PATIENCE, _BATCH = 400, 20, 128
_REFERENCE, _ROWS = 256, 2048
_NETWORK = "network."
_PIP = "pip install 'embryo[scvi]' (or pip install scvi-tools)"


@dataclass(eq=False)
class ScVI:
    """The encoder; not fitted until `fit`.

    Parameters
    ----------
    dims
        Of the latent space.
    seed
        Of weights, batches and draws of the training.
    epochs
        At most so many passes; it stops when the bound on about a tenth of the training cells (whole
        embryos, where there are several) stops rising.
    genes
        The fitted genes: the 2,000 most variable, or all where there are fewer; empty before `fit`.
    share
        Share of a training cell's counts that lie in these genes, mean over cells; `decode` needs it.
    weights
        Numbers of the network by name.
    jacobian
        dz/dg of each fitted gene, shape (genes, dims).
    """

    dims: int = 30
    seed: int = 0
    epochs: int = _EPOCHS
    genes: tuple[str, ...] = ()
    share: float = 1.0
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    jacobian: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    name: str = field(default="scvi", init=False)

    def __post_init__(self) -> None:
        self._module: Any = None

    def fit(self, adata: AnnData) -> "ScVI":
        """Return an scVI fitted on the raw counts of `adata`; see `Encoder.fit`.

        Raises
        ------
        ConfigError
            If scvi-tools is not installed.
        SchemaError
            If the values are not raw counts, or a cell has none in the chosen genes.
        DivergedError
            If its training ends in numbers that are not finite.
        """
        tools = _tools()
        whole = _counts(adata, list(map(str, adata.var_names)))  # refuses what is no count
        genes = tuple(hvg.rank(adata)[:_FEATURES])
        counts = whole[:, normalise.positions(adata, genes)]
        module = _train(tools, counts, _parts(adata, self.seed), self)
        weights = {key: value.detach().cpu().numpy() for key, value in module.state_dict().items()}
        if not all(np.isfinite(w).all() for w in weights.values()):
            problem = Problem("weights that are not finite", "a training that converges", "check the counts")
            raise DivergedError(problem, subject="scvi")
        share = counts.sum(axis=1) / np.maximum(whole.sum(axis=1), 1)
        done = replace(self, genes=genes, share=float(share.mean()), weights=weights)
        draws = np.random.default_rng(self.seed).permutation(adata.n_obs)[:_REFERENCE]
        return replace(done, jacobian=done._derivative(counts[draws], whole[draws].sum(axis=1)))

    def encode(self, adata: AnnData) -> Float[np.ndarray, "cells dims"]:
        """Embed cells as the posterior's mean; every fitted gene is needed, see `Encoder.encode`."""
        require_fitted(self.name, self.genes)
        counts = _counts(adata, self.genes)
        with torch.no_grad():
            blocks = [self._mean(_tensor(counts[i : i + _ROWS])) for i in range(0, counts.shape[0], _ROWS)]
        return torch.cat(blocks).double().numpy() if blocks else np.zeros((0, self.dims))

    def decode(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p expression of `genes`: the decoder's proportions, at the library size of `normalise`.

        It is log1p of what is expected, which lies above the expected log1p where counts are few. The network knows
        proportions among the fitted genes only; how much of a cell they are is taken as in the mean training cell.
        """
        require_fitted(self.name, self.genes)
        with torch.no_grad():
            module = self._network()
            library = torch.full((len(z), 1), float(np.log(schema.TARGET_SUM)))
            batch = torch.zeros(len(z), 1, dtype=torch.long)
            out = module.decoder("gene", torch.as_tensor(z, dtype=torch.float32), library, batch)
        return np.asarray(np.log1p(out[0].double().numpy() * self.share * schema.TARGET_SUM))

    def response(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return dz/dg, the network's Jacobian, mean over up to 256 training cells; see `Encoder.response`."""
        require_fitted(self.name, self.genes)
        return rows(self.jacobian, self.genes, genes)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the network and its Jacobian."""
        return {"jacobian": self.jacobian} | {_NETWORK + key: value for key, value in self.weights.items()}

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor: genes and settings, JSON-ready."""
        return {
            "dims": self.dims, "seed": self.seed, "epochs": self.epochs, "genes": list(self.genes), "share": self.share,
        }  # fmt: skip

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> "ScVI":
        """Rebuild from `tensors` and `record`; scvi-tools is needed when it is used."""
        weights = {key.removeprefix(_NETWORK): np.array(v) for key, v in tensors.items() if key.startswith(_NETWORK)}
        encoder = cls(
            record["dims"], record["seed"], record["epochs"], tuple(record["genes"]), record["share"], weights,
            tensors["jacobian"],
        )  # fmt: skip
        if encoder.jacobian.shape != (len(encoder.genes), encoder.dims) or not weights:
            msg = f"a Jacobian of shape {encoder.jacobian.shape} and {len(weights)} weights"
            raise ValueError(msg)
        return encoder

    def _network(self) -> Any:
        if self._module is None:
            module = _module(_tools(), len(self.genes), self.dims)
            module.load_state_dict({key: torch.as_tensor(np.array(value)) for key, value in self.weights.items()})
            self._module = module.requires_grad_(requires_grad=False).eval()
        return self._module

    def _mean(self, counts: Float[Tensor, "cells genes"]) -> Float[Tensor, "cells dims"]:
        encoder = self._network().z_encoder
        mean: Tensor = encoder.mean_encoder(encoder.encoder(torch.log1p(counts)))  # its forward would draw as well
        return mean

    def _derivative(self, counts: sparse.csr_array, total: np.ndarray) -> Float[np.ndarray, "genes dims"]:
        """Mean of dz/dg over cells, where counts = total / 1e4 (exp(g) - 1) with the total held."""
        scale = _tensor(np.maximum(np.asarray(total, dtype=float), 1.0)[:, None] / schema.TARGET_SUM)
        g = torch.log1p(_tensor(counts) / scale).requires_grad_()
        z = self._mean(scale * torch.expm1(g))
        parts = [torch.autograd.grad(z[:, k].sum(), g, retain_graph=True)[0].mean(0) for k in range(z.shape[1])]
        return torch.stack(parts, dim=1).double().numpy()


def _parts(adata: AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if schema.EMBRYO not in adata.obs:
        return set_aside(np.zeros(adata.n_obs, dtype=np.int64), seed)
    return set_aside(np.unique(adata.obs[schema.EMBRYO].astype(str), return_inverse=True)[1].astype(np.int64), seed)


def _train(tools: Any, counts: sparse.csr_array, parts: tuple[np.ndarray, np.ndarray], settings: ScVI) -> Any:
    """Return a trained network; the generators of numpy, torch and random are as before."""
    data = AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    isolated = import_module("lightning.pytorch.utilities.seed").isolate_rng()
    with isolated, _quiet():
        torch.manual_seed(settings.seed)
        np.random.seed(settings.seed)  # noqa: NPY002  the legacy state is what the package draws from
        tools.model.SCVI.setup_anndata(data)
        model = tools.model.SCVI(data, n_layers=_LAYERS, n_latent=settings.dims, n_hidden=_HIDDEN, gene_likelihood="nb")
        model.train(
            max_epochs=settings.epochs, accelerator="cpu", batch_size=_BATCH, early_stopping=True,
            early_stopping_patience=_PATIENCE, enable_progress_bar=False, enable_model_summary=False, logger=False,
            enable_checkpointing=False, datasplitter_kwargs={"external_indexing": [*parts, np.zeros(0, dtype=int)]},
        )  # fmt: skip
    return model.module.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the trainer says of devices, workers and loggers."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _module(tools: Any, genes: int, dims: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        return tools.module.VAE(
            n_input=genes, n_batch=1, n_layers=_LAYERS, n_latent=dims, n_hidden=_HIDDEN, gene_likelihood="nb"
        )


def _counts(adata: AnnData, genes: Sequence[str]) -> sparse.csr_array:
    columns = normalise.positions(adata, genes)
    counts = sparse.csr_array(sparse.vstack([block[:, columns] for _, block in counting.blocks(adata)]))
    empty = np.flatnonzero(counts.sum(axis=1) == 0)
    if len(empty):
        found = f"{len(empty)} cells without a count in the genes of the fit (first: {adata.obs_names[empty[0]]})"
        raise SchemaError(Problem(found, "at least one", "filter empty cells"), subject="scvi")
    return counts


def _tensor(values: Any) -> Tensor:
    dense = values.toarray() if sparse.issparse(values) else values
    return torch.as_tensor(dense, dtype=torch.float32)


def _tools() -> Any:
    """Return the package scvi-tools; `ConfigError` where it is not installed."""
    try:
        return import_module("scvi")
    except ImportError as error:
        problem = Problem(f"no scvi-tools ({error})", "the optional package scvi-tools", f"run {_PIP}")
        raise ConfigError(problem, subject="encoder scvi") from error
