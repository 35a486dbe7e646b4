"""Weights out of a folder that the user downloaded: no network, no pickle, every key and shape accounted for."""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from embryo.core import store
from embryo.core.checks import phrases
from embryo.core.errors import Problem, StoreError
from embryo.core.store import files as stored

MARKER = "embryo-weights.json"
WHOLE, INDEX, TORCH = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
_AGAIN = "download the file again"
_CURE = f"{_AGAIN}, or convert it to safetensors in an interpreter of its own"
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Weights:
    """Where the numbers of an encoder come from.

    Parameters
    ----------
    kind
        ``"random"`` where `mark_random` left its mark, else ``"pretrained"``: as supplied by the user.
    files
        SHA-256 of each file by name.
    seed
        Seed of random weights.
    """

    kind: Literal["random", "pretrained"]
    files: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None

    @classmethod
    def of(cls, folder: Path, files: Iterable[Path]) -> "Weights":
        """Return what is known of the weights in a folder."""
        sums = {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(files)}
        marker = folder / MARKER
        if not marker.is_file():
            return cls("pretrained", sums)
        record = read_json(marker)
        if not isinstance(record, dict):
            raise StoreError(Problem(f"a {type(record).__name__}", "a mapping", "delete it"), subject=MARKER)
        return cls("random" if record.get("weights") == "random" else "pretrained", sums, record.get("seed"))

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"weights": self.kind, "sha256": dict(self.files), "weights_seed": self.seed}


def mark_random(folder: Path, seed: int) -> None:
    """Say in a folder that its weights are random, so that no table can call them pretrained."""
    with store.atomic(folder / MARKER) as partial:
        partial.write_text(json.dumps({"weights": "random", "seed": seed}), encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def find(folder: Path, *names: str) -> Path:
    """Return the first of these files that a folder holds.

    Raises
    ------
    StoreError
        If the folder is missing or holds none of them; what it holds is listed.
    """
    stored.find(folder, "a folder with the model's files")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    held = phrases.few(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else "a file"
    raise StoreError(
        Problem(
            f"none of {', '.join(names)} (there: {held or 'nothing'})", "one of them", "download it into the folder"
        ),
        subject=folder.name,
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name.

    Parameters
    ----------
    path
        A safetensors or torch file, or a folder with ``model.safetensors``, the shards that
        ``model.safetensors.index.json`` names, or ``pytorch_model.bin``.

    Raises
    ------
    StoreError
        If it is missing, cut, damaged, or would run code when it is read.
    """
    if path.is_dir():
        path = find(path, WHOLE, INDEX, TORCH)
        if path.name == INDEX:
            return _shards(path)
    stored.find(path, "a checkpoint")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    state = read_torch(path)
    if not isinstance(state, Mapping):
        found = f"a {type(state).__name__}"
        raise StoreError(Problem(found, "tensors by name", "give the model's checkpoint"), subject=path.name)
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}


def read_torch(path: Path) -> Any:
    """Return what a torch file holds, read with ``weights_only=True``: tensors, numbers, text and containers of them.

    Raises
    ------
    StoreError
        If it is missing, cut or damaged, or holds objects that only unpickling, which may run code, would give.
    """
    stored.find(path, "a checkpoint")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive raises whatever its broken part raises
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        unsafe = "weights_only" in str(error).lower() or "unsupported" in str(error).lower()
        if unsafe and (zipfile.is_zipfile(path) or _starts_a_pickle(path)):
            found = f"objects beyond tensors, which only code in the file could make ({first[:160]})"
        else:
            found = _instead(path) or f"a file that torch cannot read ({first[:160]})"
        raise StoreError(Problem(found, "a checkpoint of tensors", _CURE), subject=path.name) from error


def load_into(
    network: nn.Module, state: Mapping[str, Tensor], *, ignore: Sequence[str] = (), subject: str = "checkpoint"
) -> None:
    """Copy a state into a network; nothing may be missing, and nothing left over but what is named.

    Parameters
    ----------
    network
        In which precision its parameters are, the tensors are taken.
    state
        Tensors by parameter name.
    ignore
        Patterns of keys that may be left over: heads that are not used here.
    subject
        The file, for the message.

    Raises
    ------
    StoreError
        Naming every missing and unexpected key, every wrong shape and every weight that is not finite at once.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    left = [k for k in state if k not in own and not any(re.fullmatch(p, k) for p in ignore)]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    floats = [key for key in own if key in state and state[key].is_floating_point()]
    nan = [key for key in floats if not torch.isfinite(state[key]).all()]
    cure = "give the files of this model, all from one release"
    problems = [
        Problem(f"{len(bad)} {what}: {phrases.few(bad)}", expected, cure)
        for bad, what, expected in (
            (missing, "weights missing", "every weight of the network"),
            (left, "weights that the network does not have", "the weights of this network only"),
            (shapes, "weights of another shape", "shapes as the config says"),
            (nan, "weights with NaN or infinite entries", "finite numbers"),
        )
        if bad
    ]
    if problems:
        raise StoreError(*problems, subject=subject)
    network.load_state_dict({key: state[key] for key in own})


def require_rows(n_tokens: int, rows: int, *, subject: str) -> None:
    """Raise `StoreError` unless the dictionary has as many entries as the embedding has rows.

    A dictionary that is off by one still loads and gives every gene its neighbour's embedding.
    """
    if n_tokens != rows:
        raise StoreError(
            Problem(
                f"a dictionary of {n_tokens:,} tokens for an embedding of {rows:,} rows",
                "as many tokens as rows",
                "take dictionary and weights from the same release",
            ),
            subject=subject,
        )


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; `StoreError` where it is missing or is no JSON."""
    stored.find(path, "a JSON file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(Problem(f"text that is not JSON ({error})", "JSON", _AGAIN), subject=path.name) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; `StoreError` where it is missing or is none."""
    stored.find(path, "a YAML file")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StoreError(Problem("text that is not YAML", "YAML", _AGAIN), subject=path.name) from error
    if not isinstance(tree, dict):
        raise StoreError(Problem(f"a {type(tree).__name__}", "a mapping", _AGAIN), subject=path.name)
    return tree


def _instead(path: Path) -> str:
    """Say what was downloaded in place of weights, where that can be told."""
    with path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: the name of the weights, not the weights"
    return "a web page" if start.startswith((b"<!doctype html", b"<html")) else ""


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as parts:
            return {name: parts.get_tensor(name) for name in parts.keys()}  # noqa: SIM118  not a mapping
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        found = _instead(path) or f"a file that safetensors cannot read ({error})"
        problem = Problem(found, "a safetensors file", _CURE)
        raise StoreError(problem, subject=path.name) from error


def _shards(index: Path) -> dict[str, Tensor]:
    record = read_json(index)
    places = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(places, dict) or not places:
        found = f"a weight_map that is {type(places).__name__}" if places else "an index without shards"
        raise StoreError(Problem(found, "the file of each weight", _CURE), subject=index.name)
    odd = [name for name in places.values() if not isinstance(name, str) or not _plain(name)]
    if odd:
        found = f"shards that are no file names: {phrases.few(map(repr, odd))}"
        raise StoreError(Problem(found, "names of files beside the index", _CURE), subject=index.name)
    names = sorted(set(places.values()))
    absent = [name for name in names if not (index.parent / name).is_file()]
    if absent:
        found = f"shards missing: {phrases.few(absent)}"
        raise StoreError(Problem(found, "every shard beside the index", "download them all"), subject=index.name)
    return {key: part for name in names for key, part in _safetensors(index.parent / name).items()}


def _plain(name: str) -> bool:
    """Return whether a name leads nowhere but to a file of the same folder."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _starts_a_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"
