"""Training of a program head, and what is read out of a trained one."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from embryo.core.errors import DivergedError, Problem
from embryo.encoders.decoding.heldout import set_aside
from embryo.encoders.programs.network import ProgramNetwork, Sizes

_ROWS = 256


@dataclass(frozen=True)
class Training:
    """Sizes, limits and length of the training.

    Parameters
    ----------
    fewest, most
        Programs with fewer or more of their genes at hand are left out.
    width, heads, layers
        See `embryo.encoders.programs.network.Sizes`.
    epochs, patience
        At most so many passes, and so many without a smaller error on the embryos set aside.
    batch, learning_rate
        AdamW.
    cells
        At most so many training cells, drawn with the seed.
    device
        Where it is trained; the trained head is used on the CPU.
    """

    fewest: int = 5
    most: int = 500
    width: int = 32
    heads: int = 2
    layers: int = 1
    epochs: int = 60
    patience: int = 8
    batch: int = 64
    learning_rate: float = 2e-3
    cells: int = 20_000
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Cells:
    """Training cells of a head.

    Parameters
    ----------
    genes
        What the head reads: levels, shape (cells, genes), or states, shape (cells, genes, width).
    levels
        What it gives back: log1p levels.
    found
        Which genes have a state in which cell; None for levels.
    codes
        Number of each cell's embryo.
    """

    genes: Float[Tensor, "cells genes *states"]
    levels: Float[Tensor, "cells genes"]
    found: Bool[Tensor, "cells genes"] | None
    codes: Int[np.ndarray, " cells"]

    @property
    def states(self) -> int:
        """Width of the states; 0 for levels."""
        return int(self.genes.shape[2]) if self.genes.ndim == 3 else 0

    def take(self, rows: Int[np.ndarray, " rows"], device: str | torch.device = "cpu") -> "Cells":
        """Return some of the cells, on a device."""
        found = None if self.found is None else self.found[rows].to(device)
        return Cells(self.genes[rows].to(device), self.levels[rows].to(device), found, self.codes[rows])


def train(
    cells: Cells, member: Bool[Tensor, "programs genes"], sizes: Sizes, training: Training, seed: int
) -> tuple[ProgramNetwork, int]:
    """Return a trained network, and after how many epochs its error on the embryos set aside was smallest.

    Raises
    ------
    DivergedError
        If the loss stops being finite.
    """
    network = ProgramNetwork.seeded(member, sizes, seed)
    network.standardise(cells.levels.mean(0), cells.levels.std(0, unbiased=False))
    network.to(training.device)
    fit, aside = (cells.take(rows) for rows in set_aside(cells.codes, seed))
    draws = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=training.learning_rate)
    best, kept, at = _loss(network, aside), _copy(network), 0
    for epoch in range(1, training.epochs + 1):
        order = draws.permutation(len(fit.levels))
        for start in range(0, len(order), training.batch):
            batch = fit.take(order[start : start + training.batch], training.device)
            loss = network.loss(batch.genes, batch.levels, batch.found)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
        now = _loss(network, aside)
        if not np.isfinite(now):
            found = f"a loss of {now} in epoch {epoch}"
            raise DivergedError(Problem(found, "a finite loss", "lower the learning rate"), subject="programs")
        if now < best:
            best, kept, at = now, _copy(network), epoch
        if epoch - at >= training.patience:
            break
    network.load_state_dict(kept)
    return network.requires_grad_(requires_grad=False).eval().cpu(), at


def read_out(network: ProgramNetwork, cells: Cells) -> dict[str, np.ndarray]:
    """Return where program tokens lie and along what they vary, over the training cells.

    Returns
    -------
    dict
        ``score_mean`` (programs, width), and ``score_axis`` (programs, width): the first principal axis over the
        square root of its variance, turned so that the score rises with the mean level of the program's members.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(cells.levels), _ROWS):
            some = cells.take(np.arange(start, min(start + _ROWS, len(cells.levels))))
            parts.append(network.program_tokens(some.genes, some.found))
    tokens = torch.cat(parts).double().transpose(0, 1)  # programs, cells, width
    mean = tokens.mean(1)
    centred = tokens - mean[:, None]
    variance, axes = torch.linalg.eigh(centred.transpose(1, 2) @ centred / tokens.shape[1])
    axis = axes[..., -1] / variance[:, -1:].clamp(min=1e-12).sqrt()
    share = network.member.double() / network.member.sum(1, keepdim=True)
    level = share @ (cells.levels - cells.levels.mean(0)).double().T
    rises = ((centred * axis[:, None]).sum(-1) * level).sum(1) >= 0
    axis = torch.where(rises[:, None], axis, -axis)
    return {"score_mean": mean.float().numpy(), "score_axis": axis.float().numpy()}


def jacobian(network: ProgramNetwork, levels: Float[Tensor, "cells genes"]) -> Float[np.ndarray, "genes dims"]:
    """Return the mean over cells of dz/dg."""
    inputs = levels.clone().requires_grad_()
    z, _ = network(inputs)
    rows = [torch.autograd.grad(z[:, k].sum(), inputs, retain_graph=True)[0].mean(0) for k in range(z.shape[1])]
    return np.asarray(torch.stack(rows, dim=1).double().numpy())


def _loss(network: ProgramNetwork, cells: Cells) -> float:
    total, device = 0.0, network.member.device
    with torch.no_grad():
        for start in range(0, len(cells.levels), _ROWS):
            some = cells.take(np.arange(start, min(start + _ROWS, len(cells.levels))), device)
            total += float(network.loss(some.genes, some.levels, some.found)) * len(some.levels)
    return total / len(cells.levels)


def _copy(network: ProgramNetwork) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}
