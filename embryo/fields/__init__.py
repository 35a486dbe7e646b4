"""Laws of motion behind the `Field` protocol, analytic with known answers or learned, and atlases of named cells."""

from pathlib import Path
from typing import Any

from torch import nn

from embryo.core import store
from embryo.core.errors import Problem, StoreError
from embryo.fields.analytic import Expansion, Linear, Rotation, Still
from embryo.fields.atlas import Atlas
from embryo.fields.departure import Rule
from embryo.fields.flow import FlowNetwork, Scales
from embryo.fields.regulated import Regulated
from embryo.fields.spatial import Body, SpatialNetwork

__all__ = [
    "Atlas",
    "Body",
    "Expansion",
    "FlowNetwork",
    "Learned",
    "Linear",
    "Regulated",
    "Rotation",
    "Rule",
    "Scales",
    "SpatialNetwork",
    "Still",
    "load",
    "save",
]

Learned = FlowNetwork | Regulated | SpatialNetwork

_KINDS: dict[str, type[Learned]] = {"flow": FlowNetwork, "regulated": Regulated, "spatial": SpatialNetwork}


def save(field: Learned, path: Path, **meta: Any) -> None:
    """Write a learned field to `path` (safetensors): its kind, shape, numbers and `meta`."""
    (kind,) = (k for k, cls in _KINDS.items() if type(field) is cls)
    store.write_tensors(path, field.state_dict(), {"kind": kind, "shape": field.shape(), **meta})


def load(path: Path) -> tuple[Learned, dict[str, Any]]:
    """Read a field written by `save`, with its meta.

    Raises
    ------
    StoreError
        If the file is missing, damaged, or holds a field of an unknown kind.
    """
    tensors, meta = store.read_tensors(path)
    kind = meta.get("kind")
    if kind not in _KINDS:
        raise StoreError(
            Problem(f"a field of kind {kind!r}", f"one of {sorted(_KINDS)}", "fit it again with this version"),
            subject=str(path.name),
        )
    field = _KINDS[kind].from_shape(meta["shape"])
    _fill(field, tensors, path)
    return field.eval(), meta


def _fill(field: nn.Module, tensors: dict[str, Any], path: Path) -> None:
    own = {name: tuple(t.shape) for name, t in field.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    problems = [
        Problem(f"{name} of shape {found.get(name)}", f"shape {own.get(name)}", "fit the field again")
        for name in sorted(set(own) | set(found))
        if own.get(name) != found.get(name)
    ]
    if problems:
        raise StoreError(*problems, subject=str(path.name))
    field.load_state_dict(tensors)
