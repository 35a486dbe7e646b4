"""Gene programs from GMT files: name, description, genes, separated by tabs; one program a line.

The format of the Gene Set Enrichment Analysis tools; gene names are taken as they stand, since only the reader of the
file knows whether ids, symbols or a translation are meant.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from embryo.core.checks import phrases
from embryo.core.errors import Problem, SchemaError, StoreError
from embryo.core.store.files import find

_EXPECTED = "a GMT file: name, description, genes, separated by tabs"
_TOLD = 20  # lines that an error names


@dataclass(frozen=True)
class GeneSets:
    """Named sets of genes, in the order of the file.

    Parameters
    ----------
    genes
        Genes of each program, each once, by the program's name.
    links
        Description of each program; "" where there is none.
    """

    genes: Mapping[str, tuple[str, ...]]
    links: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.genes)


@dataclass(frozen=True, eq=False)
class Membership:
    """Which of the genes at hand belong to which program.

    Parameters
    ----------
    programs
        Names, in the order of the file; those with too few or too many of their genes at hand are left out.
    genes
        Genes of at least one of these programs, by name: the order of the data does not matter.
    member
        Shape (programs, genes).
    sizes
        Genes of each program before the data were asked, shape as `programs`.
    left_out
        Programs without enough, or with too many, genes at hand, and how many these were.
    """

    programs: tuple[str, ...]
    genes: tuple[str, ...]
    member: Bool[np.ndarray, "programs genes"]
    sizes: tuple[int, ...]
    left_out: Mapping[str, int]

    def members(self, program: str) -> tuple[str, ...]:
        """Return the genes of a program that are at hand."""
        row = self.member[self.programs.index(program)]
        return tuple(gene for gene, held in zip(self.genes, row, strict=True) if held)

    def __str__(self) -> str:
        found, total = int(self.member.sum()), sum(self.sizes)
        out = f"; {len(self.left_out)} left out" if self.left_out else ""
        return f"{len(self.programs)} programs of {len(self.genes)} genes, {found / total:.0%} of theirs at hand{out}"


def read(path: str | Path) -> GeneSets:
    """Read a GMT file.

    Empty lines, and empty fields at the end of a line, are passed over; a gene that a line names twice counts once.

    Raises
    ------
    StoreError
        If the file is missing or not UTF-8 text, or listing every line with fewer than three fields, without a name,
        with a name already used, or with an empty or unprintable gene name before its last gene.
    """
    file = find(path, _EXPECTED)
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(f"a file that cannot be read ({error})", _EXPECTED, "save it as UTF-8 text")
        raise StoreError(problem, subject=str(path)) from error
    genes: dict[str, tuple[str, ...]] = {}
    links: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, link, members = _parts(line)
        wrong = [*_wrong(name, members, genes)]
        problems += [Problem(f"line {number}: {found}", _EXPECTED, cure) for found, cure in wrong]
        if not wrong:
            genes[name], links[name] = tuple(dict.fromkeys(members)), link
    if not genes and not problems:
        problems.append(Problem("no programs", _EXPECTED, "give a file with at least one line"))
    if problems:
        more = len(problems) - _TOLD
        rest = [Problem(f"{more} more lines like these", _EXPECTED, "mend these first")] if more > 0 else []
        raise StoreError(*problems[:_TOLD], *rest, subject=str(path))
    return GeneSets(genes, links)


def mask(sets: GeneSets, genes: Sequence[str], *, fewest: int = 5, most: int = 500) -> Membership:
    """Return which of the genes at hand belong to which program.

    Parameters
    ----------
    sets
        What `read` gave.
    genes
        Names of the genes at hand, spelled as in the file.
    fewest, most
        Programs with fewer or more of their genes at hand are left out.

    Raises
    ------
    SchemaError
        If no program is left; it says how many genes would be found if case did not matter.
    """
    at_hand = set(map(str, genes))
    found = {name: [g for g in members if g in at_hand] for name, members in sets.genes.items()}
    kept = {name: members for name, members in found.items() if fewest <= len(members) <= most}
    if not kept:
        raise SchemaError(_no_overlap(sets, at_hand, fewest, most), subject="gene programs")
    used = sorted(set().union(*kept.values()))
    column = {gene: j for j, gene in enumerate(used)}
    member = np.zeros((len(kept), len(used)), dtype=bool)
    for i, members in enumerate(kept.values()):
        member[i, [column[gene] for gene in members]] = True
    return Membership(
        programs=tuple(kept),
        genes=tuple(used),
        member=member,
        sizes=tuple(len(sets.genes[name]) for name in kept),
        left_out={name: len(members) for name, members in found.items() if name not in kept},
    )


def _parts(line: str) -> tuple[str, str, list[str]]:
    fields = [part.strip() for part in line.rstrip().split("\t")]
    return fields[0], fields[1] if len(fields) > 1 else "", fields[2:]


def _wrong(name: str, members: Sequence[str], known: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a line, and its cure."""
    if not name:
        yield "no name before the first tab", "name the program"
    elif name in known:
        yield f"program {name!r} for the second time", "rename or merge the two"
    if not members:
        yield f"program {name!r} without a gene", "separate the fields by tabs, or remove the line"
    odd = [gene for gene in members if not gene or not gene.isprintable()]
    if odd:
        yield f"{len(odd)} empty or unprintable gene names ({odd[0]!r})", "remove them"


def _no_overlap(sets: GeneSets, at_hand: set[str], fewest: int, most: int) -> Problem:
    every = set().union(*sets.genes.values())
    exact = len(every & at_hand)
    loose = len({g.lower() for g in every} & {g.lower() for g in at_hand})
    found = (
        f"{exact} of {len(every)} genes of {len(sets)} programs among {len(at_hand)} at hand ({loose} if case did not "
        f"matter), such as {phrases.few(sorted(at_hand)[:3])} at hand and {phrases.few(sorted(every)[:3])} in programs"
    )
    cure = "translate the names first (ids and symbols, species), or widen the limits"
    return Problem(found, f"a program with {fewest} to {most} genes at hand", cure)
