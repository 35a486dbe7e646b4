"""Keys: under which names a file holds what embryo needs, and in which units."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem

_NUMBERS = ("pixel_um", "z_um")
_LISTS = ("space", "genes")
AXES = "xyz"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Names and units of a file. What is left out is recognised by the conventions of `embryo.read.conventions`.

    Parameters
    ----------
    time, embryo, cell, parent, cell_type, slice, perturbation
        Columns of ``obs`` (of the table, for csv).
    space
        Slot of ``obsm``, or columns of ``obs`` in the order x, y, z, such as ``("x", "y", "z")``.
    counts
        Layer that holds raw counts, or ``"X"`` or ``"raw"``.
    gene_symbols
        Column of ``var`` to name genes by; the names that were there are kept in ``var["gene_id"]``.
    genes
        csv only: the columns that are genes; by default every number whose name is not another convention's.
    table
        SpatialData only: name of the table, where there are several.
    time_unit
        ``h``, ``min``, ``s``, ``day``, ``week``, ``hpf``, ``dpf``, ``E`` (embryonic days); a number before it
        multiplies, such as ``1.5 min`` for frames.
    space_unit
        ``um``, ``mm``, ``nm``, ``m``, or ``px`` together with `pixel_um`; a number before it multiplies.
    pixel_um, z_um
        Size of a pixel and distance of planes, µm, for ``px``; 3D needs `z_um` even where it equals `pixel_um`.
    flip_axis
        ``x``, ``y`` or ``z``: axis whose sign is changed, for a file in left-handed coordinates (image rows that count
        downwards, planes that count towards the objective). Embryos are not their mirror images.

    Raises
    ------
    ConfigError
        If a size is not above 0 or the axis is none.
    """

    time: str | None = None
    space: str | tuple[str, ...] | None = None
    embryo: str | None = None
    cell: str | None = None
    parent: str | None = None
    cell_type: str | None = None
    slice: str | None = None
    perturbation: str | None = None
    counts: str | None = None
    gene_symbols: str | None = None
    genes: tuple[str, ...] | None = None
    table: str | None = None
    time_unit: str | None = None
    space_unit: str | None = None
    pixel_um: float | None = None
    z_um: float | None = None
    flip_axis: str | None = None

    def __post_init__(self) -> None:
        problems = [
            Problem(f"{name} = {value}", "a size above 0 µm", "give the number that the microscope was set to")
            for name in _NUMBERS
            if (value := getattr(self, name)) is not None and not (np.isfinite(value) and value > 0)
        ]
        if self.flip_axis is not None and self.flip_axis not in tuple(AXES):
            problems.append(Problem(f"flip_axis {self.flip_axis!r}", "x, y or z", "name one axis, or none"))
        if problems:
            raise ConfigError(*problems, subject="read.keys")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Keys":
        """Return keys from names and text, as a config or the command line holds them.

        Parameters
        ----------
        record
            Field names and values; numbers may be text, columns may be joined by commas, None counts as left out.

        Raises
        ------
        ConfigError
            Naming every unknown key with the nearest known one, and every value that cannot be used.
        """
        known = [field.name for field in fields(cls)]
        problems = [
            Problem(
                f"unknown key {name!r}{phrases.nearest(str(name), known)}",
                f"one of: {', '.join(known)}",
                "remove or rename it",
            )
            for name in record
            if name not in known
        ]
        values: dict[str, Any] = {}
        for name, value in record.items():
            if name not in known or value is None:
                continue
            try:
                values[name] = _value(name, value)
            except ValueError:
                kind = "a number, µm" if name in _NUMBERS else "a name"
                problems.append(Problem(f"{name} = {value!r}", kind, f"give read.keys.{name} as {kind}"))
        if problems:
            raise ConfigError(*problems, subject="read.keys")
        return cls(**values)

    def replace(self, **changes: Any) -> "Keys":
        """Return a copy with other values."""
        return replace(self, **changes)


def _value(name: str, value: Any) -> Any:
    if name in _NUMBERS:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    if name in _LISTS and not isinstance(value, str):
        return tuple(map(str, value))
    if isinstance(value, list | dict | tuple) or not str(value).strip():
        raise ValueError
    text = str(value).strip()
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    return parts if name in _LISTS and (len(parts) > 1 or name == "genes") else text


DEFAULT = Keys()
