"""Edit: one operation on a gene, an edge or cells, in which cells, when."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from embryo.core.errors import EditError, Problem
from embryo.core.region import Region


class Operation(StrEnum):
    """What is done. Operations on a gene act on its production; all are held for the whole window."""

    KNOCKOUT = "knockout"
    KNOCKDOWN = "knockdown"
    OVEREXPRESS = "overexpress"
    CLAMP = "clamp"
    CUT = "cut"
    BLOCK_LIGAND = "block-ligand"
    BLOCK_RECEPTOR = "block-receptor"
    ABLATE = "ablate"
    GRAFT = "graft"


GENE_OPERATIONS = frozenset({Operation.KNOCKOUT, Operation.KNOCKDOWN, Operation.OVEREXPRESS, Operation.CLAMP})
_MOST = 50.0  # dose: log1p counts end near 10, and beyond 88 single precision cannot hold their exponential
CELL_OPERATIONS = frozenset({Operation.ABLATE, Operation.GRAFT})  # on cells; the others of neither kind are on edges


@dataclass(frozen=True)
class Edit:
    """One edit.

    Parameters
    ----------
    gene
        Name of a panel gene: the edited one, the regulator of a cut edge, or the ligand that is blocked; empty where
        cells are ablated or grafted.
    operation
        ``knockout``: no production; ``knockdown``: production times `dose`; ``overexpress``: production plus `dose`
        per decay time, so that the gene rises by `dose` at steady state; ``clamp``: held at `dose`. ``cut``: `target`
        no longer reads `gene`; ``block-ligand``: the cells do not send `gene`; ``block-receptor``: they do not receive
        it; ``ablate``: the cells are taken out; ``graft``: the cells of `file` are put in.
    dose
        Fraction left (knockdown, 0 to 1) or log1p level (overexpress, clamp). Ignored by all others.
    t_on_h, t_off_h
        Window in hours of developmental time, ``[t_on, t_off)``; open ends by default.
    cell_type
        Only cells of this type when the roll-out starts; all cells by default.
    fraction
        Share of the chosen cells that carry the edit (mosaic), drawn with the run's seed.
    keep_pool
        If False (default), product already present when the roll-out starts is removed with the gene's knock-out,
        as in a germ-line mutant; if True it stays and decays (maternal pool, acute edit).
    region
        Only cells that lie there when the roll-out starts, see `embryo.core.region.Region`; ``ap<0.3``.
    clone
        Only this cell of the start and its descendants: the cell of this name, or those whose names begin with it.
    target
        Gene that the cut edge leads to.
    program
        Name of the gene set that this edit is part of; only a name, each of its genes is an edit of its own.
    file
        Cells to graft, h5ad.

    Raises
    ------
    EditError
        With everything that is missing, out of range, or has no meaning for the operation.
    """

    gene: str = ""
    operation: Operation = Operation.KNOCKOUT
    dose: float = 0.0
    t_on_h: float = float("-inf")
    t_off_h: float = float("inf")
    cell_type: str | None = None
    fraction: float = 1.0
    keep_pool: bool = False
    region: str | None = None
    clone: str | None = None
    target: str | None = None
    program: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        problems = [*self._of_numbers(), *self._of_parts()]
        if problems:
            raise EditError(*problems, subject=f"edit of {self.gene}" if self.gene.strip() else "edit")

    def _of_numbers(self) -> Iterator[Problem]:
        if self.operation is Operation.KNOCKDOWN and not 0 <= self.dose <= 1:
            yield Problem(f"knock-down dose {self.dose}", "a fraction from 0 to 1", "give the share left")
        elif not 0 <= self.dose <= _MOST:
            expected = f"a finite level of 0 or more (log1p, {_MOST:g} at most)"
            yield Problem(f"dose {self.dose}", expected, "give a dose between these")
        if not self.t_on_h < self.t_off_h:
            yield Problem(f"window {self.t_on_h} to {self.t_off_h} h", "t_on before t_off", "swap or widen the window")
        if not 0 <= self.fraction <= 1:
            yield Problem(f"fraction {self.fraction}", "a share from 0 to 1", "give the mosaic share")

    def _of_parts(self) -> Iterator[Problem]:
        op = self.operation
        if op not in CELL_OPERATIONS and not self.gene.strip():
            yield Problem("an edit without a gene", "gene: NAME", "name the gene to edit")
        for part, only in (("target", Operation.CUT), ("file", Operation.GRAFT)):
            given = (getattr(self, part) or "").strip()
            if op is only and not given:
                yield Problem(f"{op.value} without a {part}", f"{part}: NAME", f"name the {part}")
            if op is not only and given:
                found = f"{part} {given!r} with {op.value}"
                yield Problem(found, f"a {part} with {only.value} only", f"leave {part} out")
        if op not in GENE_OPERATIONS and self.keep_pool:
            yield Problem(f"keep_pool with {op.value}", "it with a gene's product only", "leave it out")
        if op in CELL_OPERATIONS:
            yield from self._of_cells()
        if self.region is not None:
            yield from Region.problems(self.region)

    def _of_cells(self) -> Iterator[Problem]:
        what = self.operation.value
        if self.gene.strip():
            yield Problem(f"{what} of gene {self.gene!r}", "cells, no gene", "leave gene out")
        if self.t_off_h != float("inf"):
            yield Problem(
                f"{what} that ends at {self.t_off_h} h", "no end: it cannot be undone", "leave t_off_h (--to) out"
            )
        if self.operation is Operation.GRAFT and (self.cell_type or self.region or self.clone):
            found = "a graft into a type, region or clone"
            yield Problem(found, "cells that stand where their file says", "choose the cells in the file")

    def active(self, t_h: float) -> bool:
        """Whether the edit acts at time `t_h`."""
        return self.t_on_h <= t_h < self.t_off_h

    @property
    def genes(self) -> tuple[str, ...]:
        """Panel genes that it names."""
        return tuple(name for name in (self.gene, self.target) if name)

    @property
    def everywhere(self) -> bool:
        """Whether every cell carries it."""
        return self.fraction >= 1 and self.cell_type is None and self.region is None and self.clone is None

    @property
    def label(self) -> str:
        """Short name for tables and pictures, such as ``knockout pha-4``."""
        match self.operation:
            case Operation.CUT:
                return f"cut {self.gene}->{self.target}"
            case Operation.ABLATE:
                return f"ablate {self.cell_type or self.clone or self.region or 'cells'}"
            case Operation.GRAFT:
                return f"graft {(self.file or '').replace(chr(92), '/').rpartition('/')[2]}"
            case _:
                return f"{self.operation.value} {self.gene}"

    @property
    def words(self) -> str:
        """The label with dose, cells and window, for people."""
        parts = [self.label]
        if self.operation in GENE_OPERATIONS and self.operation is not Operation.KNOCKOUT:
            parts.append(f"to {self.dose:g}" if self.operation is not Operation.OVEREXPRESS else f"by {self.dose:g}")
        if self.operation is not Operation.ABLATE:
            parts += [f"in {w}" for w in (self.cell_type, self.region, self.clone and f"clone {self.clone}") if w]
        elif self.region and self.region not in self.label:
            parts.append(f"in {self.region}")
        if self.fraction < 1:
            parts.append(f"in {self.fraction:.0%} of them")
        if self.t_on_h > float("-inf"):
            parts.append(f"from {self.t_on_h:g} h")
        if self.t_off_h < float("inf"):
            parts.append(f"to {self.t_off_h:g} h")
        return " ".join([*parts, *(["keeping the pool"] if self.keep_pool else [])])

    @property
    def turn(self) -> int:
        """When it acts among edits held together: fractions of production first, then additions, then clamps."""
        return _TURNS.get(self.operation, max(_TURNS.values()) + 1)

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


def label(edits: Sequence[Edit]) -> str:
    """Return the short name of edits held together; the genes of one program are named by it once."""
    named = [f"{e.operation.value} {e.program}" if e.program else e.label for e in edits]
    return " + ".join(dict.fromkeys(named)) or "no edit"


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
    "region": ("text", str),
    "clone": ("text", str),
    "target": ("text", str),
    "program": ("text", str),
    "file": ("text", str),
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
