"""Training of Stage 2 on whole training stages: mean squared error of scaled hours, with or without the next cell.

A run may be stopped at any time and goes on where it was: what is drawn at a step depends on the seed and the step
alone, and weights and moments are kept beside each other. What is trained already is not trained again.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo.core import store
from embryo.core.errors import ConfigError, DivergedError, Problem
from embryo.encoders.maxtoki import MaxToki
from embryo.encoders.stage2.grammar import Grammar
from embryo.encoders.stage2.model import RECORD, WEIGHTS, Stage2, load
from embryo.encoders.stage2.network import Clockwork, clockwork, padded
from embryo.encoders.stage2.series import Question, Role, Series, Split
from embryo.encoders.weights import checkpoint

PARTIAL = "partial.safetensors"
_KIND = "stage2-partial"


@dataclass(frozen=True)
class Settings:
    """How Stage 2 is trained.

    Parameters
    ----------
    context
        Most cells before a query.
    tokens_per_cell
        Longest cell, special tokens included; all cells of a sentence must fit the network's positions.
    steps, batch
        Number of updates, and sentences in each.
    rate
        Largest learning rate (AdamW); it rises over the first 5% of the steps and falls to 0 as a cosine.
    frozen
        Train the head and the rows of the new tokens only.
    next_cell
        Weight of the cross entropy of the next cell beside the error of time; 0 leaves it out.
    unit_h
        Hours of a time token.
    scale_h
        Hours that labels are divided by; the span of the training stages by default.
    seed
        Of the head, the new rows and all that is drawn.
    keep_every
        Steps between two states on disk.
    """

    context: int = 3
    tokens_per_cell: int = 512
    steps: int = 2000
    batch: int = 16
    rate: float = 1e-4
    frozen: bool = False
    next_cell: float = 0.0
    unit_h: float = 1.0
    scale_h: float | None = None
    seed: int = 0
    keep_every: int = 100

    def __post_init__(self) -> None:
        problems = [
            Problem(f"{name} {getattr(self, name)}", f"at least {least}", f"set {name}")
            for name, least in (("context", 1), ("tokens_per_cell", 3), ("steps", 1), ("batch", 1), ("keep_every", 1))
            if getattr(self, name) < least
        ]
        problems += [
            Problem(f"{name} {value}", "a positive number", f"set {name}")
            for name in ("rate", "unit_h", "scale_h")
            if (value := getattr(self, name)) is not None and not 0 < value < float("inf")
        ]
        if not 0 <= self.next_cell < float("inf"):
            problems.append(Problem(f"next_cell {self.next_cell}", "a weight of 0 or more", "set next_cell"))
        if problems:
            raise ConfigError(*problems, subject="stage 2")


@dataclass(frozen=True)
class Progress:
    """Where a training is.

    Parameters
    ----------
    step, steps
        Updates done, and of how many.
    loss
        Of the last update.
    """

    step: int
    steps: int
    loss: float


Report: TypeAlias = Callable[[Progress], None]


def train(
    encoder: MaxToki,
    adata: AnnData,
    split: Split,
    settings: Settings | None = None,
    *,
    folder: str | Path | None = None,
    progress: Report | None = None,
    random: bool = False,
) -> Stage2:
    """Train Stage 2 on a time series.

    Parameters
    ----------
    encoder
        Stage 1; not changed.
    adata
        Raw counts, ``obs["time"]`` in hours, ``obs["embryo"]`` where several embryos share a stage.
    split
        Stages that are never trained on.
    settings
        How; see `Settings`.
    folder
        Keeps the state every ``keep_every`` steps, and the trained model at the end. Where it holds the state of the
        same training, that goes on; where it holds the model, that is read.
    progress
        Called after each update.
    random
        Draw the body anew: the floor for what the weights know.

    Returns
    -------
    Stage2
        Ready to tell time, and written to `folder`.

    Raises
    ------
    ConfigError
        If the split leaves too little, or sentences are longer than the network's positions.
    SchemaError
        If the data have no time or no counts.
    DivergedError
        If the loss stops being finite.
    StoreError
        If the folder holds another training.
    """
    settings = settings or Settings()
    series = Series.read(encoder, adata, split, settings.tokens_per_cell)
    return train_series(encoder, series, split, settings, folder=folder, progress=progress, random=random)


def train_series(
    encoder: MaxToki,
    series: Series,
    split: Split,
    settings: Settings,
    *,
    folder: str | Path | None = None,
    progress: Report | None = None,
    random: bool = False,
) -> Stage2:
    """Train on a series that is read already; see `train`."""
    settings = scaled(settings, series)
    grammar = Grammar(len(encoder.vocabulary), int(np.ceil(series.span_h / settings.unit_h)), settings.unit_h)
    _require_room(encoder, settings)
    key = fingerprint(encoder, series, settings, random=random)
    record = {
        "key": key,
        "settings": asdict(settings),
        "grammar": asdict(grammar),
        "split": asdict(split),
        "training": _counted(series),
        "body": "random" if random else encoder.weights.kind,
        "stage1": encoder.provenance(),
    }
    if folder is not None and _is_done(Path(folder), key):
        trained = Stage2(encoder, load(folder, encoder).network, grammar, record)
        trained.write_record(Path(folder))
        return trained
    network = clockwork(encoder.network, grammar.rows, frozen=settings.frozen, seed=settings.seed, random=random)
    network.to(encoder.options.device)
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], weight_decay=0.0)
    partial = None if folder is None else Path(folder) / PARTIAL
    start = _resume(partial, network, optimiser, key)
    for step in range(start, settings.steps):
        loss = _update(network, optimiser, series, grammar, settings, step, encoder)
        if partial is not None and (step + 1) % settings.keep_every == 0:
            _keep(partial, network, optimiser, {"kind": _KIND, "key": key, "step": step + 1})
        if progress is not None:
            progress(Progress(step + 1, settings.steps, loss))
    trained = Stage2(encoder, network.eval().requires_grad_(requires_grad=False), grammar, record)
    if partial is not None:
        trained.save(partial.parent)
        partial.unlink(missing_ok=True)
    return trained


def _update(
    network: Clockwork,
    optimiser: torch.optim.Optimizer,
    series: Series,
    grammar: Grammar,
    settings: Settings,
    step: int,
    encoder: MaxToki,
) -> float:
    rng = np.random.default_rng((settings.seed, step))
    questions = series.draw(rng, settings.batch, settings.context)
    for group in optimiser.param_groups:
        group["lr"] = settings.rate * _share(step, settings.steps)
    with encoder.options.precision():
        loss = _loss_of_time(network, series, grammar, questions, settings)
        if settings.next_cell > 0:
            loss = loss + settings.next_cell * _loss_of_next(network, series, grammar, questions)
    value = float(loss.detach())
    if not np.isfinite(value):
        found, cure = f"a loss of {value} at step {step + 1}", "lower rate, or check the times of the series"
        raise DivergedError(Problem(found, "a finite loss", cure), subject="stage 2")
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return value


def _loss_of_time(
    network: Clockwork, series: Series, grammar: Grammar, questions: list[Question], settings: Settings
) -> Float[Tensor, ""]:
    device = network.head.weight.device
    ids, keep = padded([series.sentence(grammar, q) for q in questions])
    label = torch.tensor([series.label(q) / (settings.scale_h or 1.0) for q in questions], device=device)
    return (network.gap(ids.to(device), keep.to(device)).float() - label).square().mean()


def _loss_of_next(network: Clockwork, series: Series, grammar: Grammar, questions: list[Question]) -> Float[Tensor, ""]:
    """Cross entropy of the cells that come after their contexts; 0 where none does."""
    later = [q for q in questions if series.label(q) >= 0]
    if not later:
        return torch.zeros((), device=network.head.weight.device)
    return -next_cells(network, series, grammar, later).mean()


def next_cells(
    network: Clockwork, series: Series, grammar: Grammar, questions: list[Question]
) -> Float[Tensor, " questions"]:
    """Return the mean log probability per token, nats, of each queried cell as the answer to when it is."""
    asked = [
        grammar.next_cell(
            [series.cells[row] for row in q.context], [float(series.time_h[row]) for row in q.context], series.label(q)
        )
        for q in questions
    ]
    answers = [series.cells[q.query] for q in questions]
    ids, keep = padded([np.concatenate(pair) for pair in zip(asked, answers, strict=True)])
    starts = torch.tensor([len(part) for part in asked])
    answer = keep & (torch.arange(ids.shape[1])[None] >= starts[:, None])
    device = network.head.weight.device
    return network.answers(ids.to(device), keep.to(device), answer.to(device))


def _share(step: int, steps: int) -> float:
    """Return the share of the largest rate at a step."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm))))


def _require_room(encoder: MaxToki, settings: Settings) -> None:
    longest = (settings.context + 1) * (settings.tokens_per_cell + 1) + 2
    room = int(encoder.network.config.max_position_embeddings)  # type: ignore[union-attr,arg-type]
    if longest > room:
        found = f"sentences of up to {longest:,} tokens ({settings.context + 1} cells of {settings.tokens_per_cell})"
        cure = "set a smaller context or fewer tokens_per_cell"
        raise ConfigError(Problem(found, f"at most {room:,}, the network's positions", cure), subject="stage 2")


def _counted(series: Series) -> dict[str, Any]:
    """Return what was trained on and what was not."""
    return {
        "stages_h": sorted({round(float(t), 3) for t in series.time_h[series.of("train")]}),
        "embryos": len(set(series.embryo[series.of("train")])),
        **{f"cells_{role.replace(' ', '_')}": len(series.of(role)) for role in ("train", "val", "test", "left out")},
    }


def scaled(settings: Settings, series: Series) -> Settings:
    """Return the settings with the scale of the labels said."""
    return replace(settings, scale_h=settings.scale_h or series.span_h)


def fingerprint(
    encoder: MaxToki, series: Series, settings: Settings, *, random: bool, roles: Sequence[Role] = ("train",)
) -> str:
    """Return a hash of what decides the weights: Stage 1, settings, and the training cells with their times.

    With the held-out `roles` too, what decides the errors.
    """
    known = (encoder.weights.record(), encoder.options.precise, asdict(scaled(settings, series)), random)
    digest = hashlib.sha256(repr(known).encode())
    for role in roles:
        for row in series.of(role):
            digest.update(f"{role} {series.embryo[row]} {series.time_h[row]!r}".encode() + series.cells[row].tobytes())
    return digest.hexdigest()


def _is_done(folder: Path, key: str) -> bool:
    """Return whether a folder holds the model of this very training."""
    if not ((folder / RECORD).is_file() and (folder / WEIGHTS).is_file()):
        return False
    record = checkpoint.read_json(folder / RECORD)
    return isinstance(record, dict) and record.get("key") == key


def _keep(path: Path, network: Clockwork, optimiser: torch.optim.Optimizer, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    moments = {
        f"optimiser.{number}.{name}": torch.as_tensor(part)
        for number, parts in optimiser.state_dict()["state"].items()
        for name, part in parts.items()
    }
    store.write_tensors(path, dict(network.named_parameters()) | moments, record)


def _resume(partial: Path | None, network: Clockwork, optimiser: torch.optim.Optimizer, key: str) -> int:
    """Put the state of a stopped training back and return its step; 0 where there is none."""
    if partial is None or not partial.exists():
        return 0
    tensors, record = store.read_tensors(partial)
    if record.get("kind") != _KIND or record.get("key") != key:
        found = "the state of a training with other data, settings or weights"
        raise ConfigError(
            Problem(found, "that of this training", "choose another folder, or delete it"), subject=str(partial.name)
        )
    for name, part in network.named_parameters():
        part.data.copy_(tensors[name])
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, entry = name.split(".")
            state.setdefault(int(number), {})[entry] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(record["step"])
