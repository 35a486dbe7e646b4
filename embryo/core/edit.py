"""Edit: one gene, one operation, in which cells, when."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from embryo.core.errors import EditError, Problem


class Operation(StrEnum):
    """What is done to the gene. Every operation acts on production and is held for the whole window."""

    KNOCKOUT = "knockout"
    KNOCKDOWN = "knockdown"
    OVEREXPRESS = "overexpress"
    CLAMP = "clamp"


@dataclass(frozen=True)
class Edit:
    """One gene edit.

    Parameters
    ----------
    gene
        Name of a panel gene.
    operation
        ``knockout``: no production; ``knockdown``: production times `dose`; ``overexpress``: production plus `dose`
        per decay time, so that the gene rises by `dose` at steady state; ``clamp``: held at `dose`.
    dose
        Fraction left (knockdown, 0 to 1) or log1p level (overexpress, clamp). Ignored by a knock-out.
    t_on_h, t_off_h
        Window in hours of developmental time, ``[t_on, t_off)``; open ends by default.
    cell_type
        Only cells of this type when the roll-out starts; all cells by default.
    fraction
        Share of the chosen cells that carry the edit (mosaic), drawn with the run's seed.
    keep_pool
        If False (default), product already present when the roll-out starts is removed with the gene's knock-out,
        as in a germ-line mutant; if True it stays and decays (maternal pool, acute edit).

    Raises
    ------
    EditError
        If the gene has no name, or dose, window or fraction is out of range.
    """

    gene: str
    operation: Operation = Operation.KNOCKOUT
    dose: float = 0.0
    t_on_h: float = float("-inf")
    t_off_h: float = float("inf")
    cell_type: str | None = None
    fraction: float = 1.0
    keep_pool: bool = False

    def __post_init__(self) -> None:
        problems = []
        if not self.gene.strip():
            problems.append(Problem("an edit without a gene", "gene: NAME", "name the gene to edit"))
        if self.operation is Operation.KNOCKDOWN and not 0 <= self.dose <= 1:
            problems.append(Problem(f"knock-down dose {self.dose}", "a fraction from 0 to 1", "give the share left"))
        elif not 0 <= self.dose < float("inf"):
            problems.append(Problem(f"dose {self.dose}", "a finite level of 0 or more", "give a non-negative dose"))
        if not self.t_on_h < self.t_off_h:
            problems.append(
                Problem(f"window {self.t_on_h} to {self.t_off_h} h", "t_on before t_off", "swap or widen the window")
            )
        if not 0 <= self.fraction <= 1:
            problems.append(Problem(f"fraction {self.fraction}", "a share from 0 to 1", "give the mosaic share"))
        if problems:
            raise EditError(*problems, subject=f"edit of {self.gene}" if self.gene.strip() else "edit")

    def active(self, t_h: float) -> bool:
        """Whether the edit acts at time `t_h`."""
        return self.t_on_h <= t_h < self.t_off_h

    @property
    def label(self) -> str:
        """Short name for tables and pictures, such as ``knockout pha-4``."""
        return f"{self.operation.value} {self.gene}"

    @property
    def turn(self) -> int:
        """When it acts among edits held together: fractions of production first, then additions, then clamps."""
        return _TURNS[self.operation]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; open ends of the window become None."""
        record = asdict(self)
        for key in ("t_on_h", "t_off_h"):
            record[key] = None if abs(record[key]) == float("inf") else record[key]
        return record | {"operation": self.operation.value}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Edit":
        """Inverse of `to_json`.

        Raises
        ------
        EditError
            Listing every unknown key, value of a wrong type and value out of range.
        """
        given = {key: value for key, value in record.items() if value is not None}
        problems = _problems(given)
        good = {key: _convert(key, given[key]) for key in _TYPES if key in given and _fits(key, given[key])}
        if "gene" in given:
            good.setdefault("gene", str(given["gene"]))
        try:
            edit = cls(**{"gene": ""} | good)
        except EditError as error:
            raise EditError(*problems, *error.problems, subject=error.subject) from None
        if problems:
            raise EditError(*problems, subject=f"edit of {edit.gene}")
        return edit


_TURNS = {Operation.KNOCKOUT: 0, Operation.KNOCKDOWN: 0, Operation.OVEREXPRESS: 1, Operation.CLAMP: 2}


_NUMBER = (int, float)
_TYPES: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "gene": ("text", str),
    "operation": (f"one of {', '.join(Operation)}", str),
    "dose": ("a number", _NUMBER),
    "t_on_h": ("a number", _NUMBER),
    "t_off_h": ("a number", _NUMBER),
    "cell_type": ("text", str),
    "fraction": ("a number", _NUMBER),
    "keep_pool": ("true or false", bool),
}


def _fits(key: str, value: Any) -> bool:
    if key == "operation":
        return value in list(Operation)
    kind = _TYPES[key][1]
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _convert(key: str, value: Any) -> Any:
    if key == "operation":
        return Operation(value)
    return float(value) if _TYPES[key][1] is _NUMBER else value


def _problems(given: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for key, value in given.items():
        if key not in _TYPES:
            near = get_close_matches(str(key), _TYPES, n=1)
            cure = f"write {near[0]!r} if that is meant" if near else "remove or rename it"
            problems.append(Problem(f"unknown key {key!r}", f"keys among {', '.join(_TYPES)}", cure))
        elif not _fits(key, value):
            wanted = _TYPES[key][0]
            cure = "put it in quotes" if wanted == "text" else f"give {wanted}"
            problems.append(Problem(f"{key} = {value!r}", wanted, cure))
    return problems
