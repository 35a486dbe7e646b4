"""Edit: one gene, one operation, in which cells, when."""

from dataclasses import asdict, dataclass, fields
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
        If dose, window or fraction is out of range.
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
        if self.operation is Operation.KNOCKDOWN and not 0 <= self.dose <= 1:
            problems.append(Problem(f"knock-down dose {self.dose}", "a fraction from 0 to 1", "give the share left"))
        if not self.dose >= 0:
            problems.append(Problem(f"dose {self.dose}", "a level of 0 or more", "give a non-negative dose"))
        if not self.t_on_h < self.t_off_h:
            problems.append(
                Problem(f"window {self.t_on_h} to {self.t_off_h} h", "t_on before t_off", "swap or widen the window")
            )
        if not 0 <= self.fraction <= 1:
            problems.append(Problem(f"fraction {self.fraction}", "a share from 0 to 1", "give the mosaic share"))
        if problems:
            raise EditError(*problems, subject=f"edit of {self.gene}")

    def active(self, t_h: float) -> bool:
        """Whether the edit acts at time `t_h`."""
        return self.t_on_h <= t_h < self.t_off_h

    @property
    def label(self) -> str:
        """Short name for tables and pictures, such as ``knockout pha-4``."""
        return f"{self.operation.value} {self.gene}"

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; open ends of the window become None."""
        record = asdict(self)
        for key in ("t_on_h", "t_off_h"):
            record[key] = None if abs(record[key]) == float("inf") else record[key]
        return record | {"operation": self.operation.value}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Edit":
        """Inverse of `to_json`.

        Raises
        ------
        EditError
            If the record holds unknown keys or values out of range.
        """
        known = {f.name for f in fields(cls)}
        problems = [
            Problem(f"unknown key {key!r}", f"keys among {sorted(known)}", "remove or rename it")
            for key in sorted(set(record) - known)
        ]
        operations = [o.value for o in Operation]
        operation = record.get("operation", Operation.KNOCKOUT.value)
        if operation not in operations:
            problems.append(Problem(f"operation {operation!r}", f"one of {operations}", "choose one of these"))
        if "gene" not in record:
            problems.append(Problem("an edit without a gene", "gene: NAME", "name the gene to edit"))
        if problems:
            raise EditError(*problems, subject="edit")
        record = {k: v for k, v in record.items() if v is not None}
        return cls(**record | {"operation": Operation(operation)})
