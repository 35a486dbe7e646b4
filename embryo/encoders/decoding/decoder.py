"""Any embedding -> genes: a map fitted on training cells, with the error it makes on embryos that it did not see.

A sustained edit needs the genes of a state, and most encoders cannot decode. The held-out error stands beside that of
the train mean (every cell predicted as the mean of the training cells), without which it says nothing.

The ridge works on sums over cells (``z^T z``, ``z^T y``), so that sparse expression is never written out and every
fold costs one pass. Its penalty is the one with the smallest generalised cross-validation score (Golub, Heath & Wahba
1979, Technometrics 21:215),

    n ||y - H y||^2 / (n - tr H)^2,    tr H = 1 + sum_j s_j^2 / (s_j^2 + penalty),

of the training cells at hand, where s_j are the singular values of the centred z; one penalty for all genes, taken from
a grid in units of the mean of s_j^2, so that neither the scale nor a rotation of z matters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from embryo.core.errors import ConfigError, DivergedError, Problem, SchemaError
from embryo.encoders.decoding.heldout import (
    Expression,
    HeldOut,
    column_mean,
    dense,
    measure,
    set_aside,
    split_groups,
    squared_errors,
)
from embryo.encoders.pca import principal

KINDS = ("ridge", "network")
_FOLDS, _ENTRIES = 5, 2**22  # entries of a prediction held at a time
_FEWEST = 4
_PENALTIES = np.logspace(-8, 4, 25)
_WIDTH, _EPOCHS, _PATIENCE, _BATCH, _RATE = 128, 200, 10, 128, 1e-3


@dataclass(frozen=True, eq=False)
class Decoder:
    """A fitted map from embeddings to log1p-normalised genes.

    Parameters
    ----------
    genes
        Names of the columns of the prediction.
    kind
        ``"ridge"`` (linear) or ``"network"`` (one hidden layer).
    seed
        Seed of the folds, and of the network's weights and batches.
    held_out
        Error on embryos that the fit for that number did not see; the decoder itself is fitted on all cells given.
    network
        From z to genes; a single linear layer for the ridge.
    """

    genes: tuple[str, ...]
    kind: str
    seed: int
    held_out: HeldOut
    network: nn.Sequential

    @property
    def dims(self) -> int:
        """Columns of z."""
        return int(self.tensors()["0.weight"].shape[1])

    def predict(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p-normalised expression for embeddings; not clipped, a linear map may fall below 0.

        Raises
        ------
        SchemaError
            If z has other columns than the fitted one, or values that are not finite.
        """
        if z.shape[1] != self.dims:
            problem = Problem(f"z of {z.shape[1]} columns", f"{self.dims}, as fitted", "decode with its own decoder")
            raise SchemaError(problem, subject="decoder")
        return _run(self.network, _checked(z))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the weights by name."""
        return {key: value.numpy() for key, value in self.network.state_dict().items()}

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor, JSON-ready."""
        return {
            "genes": list(self.genes), "kind": self.kind, "seed": self.seed, "held_out": asdict(self.held_out),
        }  # fmt: skip

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> "Decoder":
        """Rebuild from `tensors` and `record`.

        Raises
        ------
        ValueError, KeyError
            If parts are missing or do not fit together.
        """
        weights = {key: torch.as_tensor(np.array(value)) for key, value in tensors.items()}
        genes, kind = tuple(record["genes"]), record["kind"]
        network = _shape(kind, weights["0.weight"].shape[1], len(genes))
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        known = {f.name for f in fields(HeldOut)}
        held_out = HeldOut(**{key: value for key, value in record["held_out"].items() if key in known})
        return cls(genes, kind, record["seed"], held_out, network)


def fit_decoder(
    z: Float[np.ndarray, "cells dims"],
    expression: Any,
    groups: Sequence[Any] | np.ndarray | None = None,
    *,
    genes: Sequence[str],
    kind: str = "ridge",
    seed: int = 0,
    dims: int | None = None,
) -> Decoder:
    """Fit a map from embeddings to genes, and measure it on held-out embryos.

    Parameters
    ----------
    z
        Embedding of the training cells, any scale.
    expression
        log1p-normalised (or relative) levels of the same cells, shape (cells, genes), dense or sparse.
    groups
        The embryo of each cell; None where there is one only.
    genes
        Names of the columns of `expression`.
    kind
        ``"ridge"``, or ``"network"`` with 128 hidden units, stopped when its error on about a tenth of the cells
        (whole embryos, where there are several) rises.
    seed
        Seed of whatever is drawn.
    dims
        Where given, the decoder reads so many principal components of z: those of all cells, and for the held-out
        error those of the cells of each fit alone.

    Returns
    -------
    Decoder
        With its held-out error: up to five folds, each of whole embryos.

    Raises
    ------
    SchemaError
        If shapes do not agree, there are fewer than four cells, or values are not finite.
    ConfigError
        If `kind` is unknown.
    DivergedError
        If the network's loss stops being finite.
    """
    if kind not in KINDS:
        raise ConfigError(Problem(f"decoder {kind!r}", f"one of {', '.join(KINDS)}", "choose one of these"))
    y: Expression = sparse.csr_array(expression) if sparse.issparse(expression) else np.asarray(expression)
    codes = np.zeros(len(z), dtype=np.int64) if groups is None else _codes(groups)
    _require(z, y, codes, genes)
    data = _Cells(_checked(z), y, codes)
    errors = [
        _fold_error(data, train, test, kind, seed, dims) for train, test in split_groups(data.codes, _FOLDS, seed)
    ]
    held_out = measure(errors, test_cells=data.shape[0], by="embryo" if codes.max() else "cell")
    return Decoder(tuple(map(str, genes)), kind, seed, held_out, _fit(_reduced(data, data, dims, seed)[0], kind, seed))


@dataclass(frozen=True, eq=False)
class _Cells:
    """Embedding, expression and embryo of the same cells."""

    z: Float[np.ndarray, "cells dims"]
    y: Expression
    codes: Int[np.ndarray, " cells"]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.z.shape, self.y.shape[1])

    def take(self, rows: Int[np.ndarray, " rows"]) -> "_Cells":
        return _Cells(self.z[rows], self.y[rows], self.codes[rows])


def _reduced(fitted: _Cells, held: _Cells, dims: int | None, seed: int) -> tuple[_Cells, _Cells]:
    """Return both with z reduced to principal components of the first."""
    if dims is None:
        return fitted, held
    mean, components = principal(fitted.z, min(dims, *fitted.z.shape), seed=seed)
    return (replace(fitted, z=(fitted.z - mean) @ components.T), replace(held, z=(held.z - mean) @ components.T))


def _fold_error(
    data: _Cells, train: np.ndarray, test: np.ndarray, kind: str, seed: int, dims: int | None = None
) -> np.ndarray:
    fitted, held = _reduced(data.take(train), data.take(test), dims, seed)
    return squared_errors(_blocks(_fit(fitted, kind, seed), held), held.y, column_mean(fitted.y))


def _blocks(network: nn.Sequential, data: _Cells) -> Iterator[np.ndarray]:
    """Yield predictions block by block; all genes of all cells at once may not fit."""
    step = max(1, _ENTRIES // data.shape[2])
    return (_run(network, data.z[i : i + step]) for i in range(0, len(data.z), step))


def _fit(data: _Cells, kind: str, seed: int) -> nn.Sequential:
    return _fit_ridge(data) if kind == "ridge" else _fit_network(data, seed)


def _shape(kind: str, dims: int, genes: int, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "ridge":
            return nn.Sequential(nn.Linear(dims, genes, dtype=torch.float64)).requires_grad_(requires_grad=False)
        return nn.Sequential(nn.Linear(dims, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, genes))


def _run(network: nn.Sequential, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
    with torch.no_grad():
        dtype = next(network.parameters()).dtype
        return np.asarray(network(torch.as_tensor(z, dtype=dtype)).double().numpy())


def _fit_ridge(data: _Cells) -> nn.Sequential:
    n, dims, genes = data.shape
    centre, mean = data.z.mean(axis=0), column_mean(data.y)
    z = data.z - centre
    s2, v = np.linalg.eigh(z.T @ z)
    zy = np.asarray((data.y.T @ z).T)  # z is centred, so y need not be
    projected = v.T @ zy
    penalty = _penalty(np.maximum(s2, 0), projected, _total(data.y) - n * float(mean @ mean), n)
    weight = v @ (projected / (np.maximum(s2, 0) + penalty)[:, None])
    network = _shape("ridge", dims, genes)
    bias = torch.as_tensor(mean - centre @ weight)
    network.load_state_dict({"0.weight": torch.as_tensor(weight.T), "0.bias": bias})
    return network


def _penalty(s2: np.ndarray, projected: np.ndarray, total: float, n: int) -> float:
    """Return the penalty of the grid with the smallest generalised cross-validation score."""
    grid = _PENALTIES * max(float(s2.mean()), np.finfo(float).tiny)
    held = s2 > s2.max() * np.finfo(float).eps * len(s2)  # directions that z has
    power = (projected[held] ** 2).sum(axis=1) / s2[held]
    shrunk = s2[held] / (s2[held] + grid[:, None])
    residual = np.maximum(total - ((1 - (1 - shrunk) ** 2) * power).sum(axis=1), 0)
    free = n - 1 - shrunk.sum(axis=1)
    score = np.where(free > 0.5, residual / np.maximum(free, 0.5) ** 2, np.inf)
    return float(grid[np.argmin(score)]) if np.isfinite(score).any() else float(grid[-1])


def _fit_network(data: _Cells, seed: int) -> nn.Sequential:
    """Fit with Adam; keep the weights with the smallest error on embryos set aside, and stop when it rises."""
    train, aside = (data.take(rows) for rows in set_aside(data.codes, seed))
    draws = np.random.default_rng(seed)
    network = _shape("network", data.shape[1], data.shape[2], seed)
    _standardise(network, train)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    best, kept, since = _loss(network, aside), _copy(network), 0
    for epoch in range(_EPOCHS):
        order = draws.permutation(len(train.z))
        for i in range(0, len(order), _BATCH):
            _step(network, optimiser, train.take(order[i : i + _BATCH]))
        loss = _loss(network, aside)
        if not np.isfinite(loss):
            found = f"a loss of {loss} in epoch {epoch + 1}"
            raise DivergedError(Problem(found, "a finite loss", "check the scale of z"), subject="decoder")
        best, kept, since = (loss, _copy(network), 0) if loss < best else (best, kept, since + 1)
        if since > _PATIENCE:
            break
    network.load_state_dict(kept)
    return network.requires_grad_(requires_grad=False)


def _standardise(network: nn.Sequential, data: _Cells) -> None:
    """Let the first layer read ``(z - mean) / spread`` and the last start at the mean of the genes."""
    p = dict(network.named_parameters())
    spread = data.z.std(axis=0)
    with torch.no_grad():
        p["0.weight"].div_(_float(np.where(spread > 0, spread, 1.0)))
        p["0.bias"].sub_(p["0.weight"] @ _float(data.z.mean(axis=0)))
        p["2.weight"].mul_(0.1)
        p["2.bias"].copy_(_float(column_mean(data.y)))


def _step(network: nn.Sequential, optimiser: torch.optim.Optimizer, batch: _Cells) -> None:
    loss = (network(_float(batch.z)) - _float(dense(batch.y))).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _loss(network: nn.Sequential, data: _Cells) -> float:
    return float(squared_errors(_blocks(network, data), data.y, np.zeros(data.shape[2]))[0].sum())


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def _checked(z: np.ndarray) -> np.ndarray:
    if not np.isfinite(z).all():
        problem = Problem("an embedding with NaN or infinite entries", "finite numbers", "embed these cells again")
        raise SchemaError(problem, subject="decoder")
    return np.asarray(z, dtype=np.float64)


def _require(z: np.ndarray, y: Expression, codes: np.ndarray, genes: Sequence[str]) -> None:
    problems = []
    if not len(z) == y.shape[0] == len(codes):
        found = f"{len(z)} embeddings, {y.shape[0]} rows of expression and {len(codes)} embryos"
        problems.append(Problem(found, "one of each per cell", "give the same cells in the same order"))
    if len(genes) != y.shape[1]:
        problems.append(Problem(f"{len(genes)} names for {y.shape[1]} genes", "one per column", "give every name"))
    if len(z) < _FEWEST or not y.shape[1] or not z.shape[1]:
        found = f"{len(z)} cells, {z.shape[1]} dimensions and {y.shape[1]} genes"
        problems.append(Problem(found, f"{_FEWEST} cells or more, and one of each", "fit on more cells"))
    if not np.isfinite(y.data if isinstance(y, sparse.csr_array) else y).all():
        problems.append(Problem("expression with NaN or infinite entries", "finite levels", "drop or impute them"))
    if problems:
        raise SchemaError(*problems, subject="decoder")


def _codes(groups: Sequence[Any] | np.ndarray) -> np.ndarray:
    return np.asarray(np.unique(np.asarray(groups).astype(str), return_inverse=True)[1], dtype=np.int64)


def _float(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)


def _total(y: Expression) -> float:
    values = y.data if isinstance(y, sparse.csr_array) else y
    return float((values.astype(np.float64) ** 2).sum())
