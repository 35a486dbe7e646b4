"""Gene map: which gene of a model each gene of the data is, how much of the data the model reads, and what was refused.

Genes are matched by Ensembl id or symbol, whichever the model reads. Names of the data count first, then the columns of
``var`` that hold the other kind, then the model's own dictionary from symbol to id. Data of another species go through
a table of orthologs (`embryo.encoders.genes.orthologs`). Genes that are one gene of the model are summed.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import sparse

from embryo.core.checks import phrases
from embryo.core.errors import EditError, Problem, SchemaError
from embryo.encoders.genes import genenames
from embryo.encoders.genes.genenames import ID_COLUMNS, SYMBOL_COLUMNS, Name
from embryo.encoders.genes.orthologs import ENSEMBL, Orthologs, Refusal

Ids: TypeAlias = Literal["ensembl", "symbol"]

UNMAPPED = -1
NOT_READ = "not a gene of the model"

_MOUSE_LIKE = re.compile(r"[A-Z][a-z][a-z0-9-]*")
_LISTED = 20  # genes that a record spells out


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of the data a model reads.

    Parameters
    ----------
    n_data, n_targets
        Genes of the data and of the model.
    n_mapped_data, n_mapped_targets
        Those of each that have a partner.
    duplicates
        Genes of the model that several genes of the data are summed into.
    unmapped
        Genes of the data that the model does not read.
    steps
        How many genes were found in which way: ``direct``, ``version stripped``, ``symbol to ensembl``, ``ensembl to
        symbol``, ``ortholog``.
    refused
        How many genes were not, and why.
    data_species, species
        Scientific names of the species of the data and of the model.
    share_of_counts
        Share of all counts that lie in mapped genes; None where no counts were looked at.
    """

    n_data: int
    n_targets: int
    n_mapped_data: int
    n_mapped_targets: int
    duplicates: tuple[str, ...]
    unmapped: tuple[str, ...]
    steps: Mapping[str, int]
    refused: Mapping[str, int]
    data_species: str
    species: str
    share_of_counts: float | None = None

    @property
    def share(self) -> float:
        """Share of the genes that could be mapped: of the data's, or of the model's where the data hold more."""
        return min(1.0, self.n_mapped_data / max(1, min(self.n_data, self.n_targets)))

    @property
    def accepted(self) -> float:
        """What is held against the least coverage: the share of the genes, or of the counts where that is larger."""
        return max(self.share, self.share_of_counts or 0.0)

    def record(self) -> dict[str, Any]:
        """Return the report for the provenance, JSON-ready; long lists of genes are cut and counted."""
        plain = {key: value for key, value in vars(self).items() if not isinstance(value, tuple | Mapping)}
        lists = {
            key: {"count": len(names), "first": list(names[:_LISTED])}
            for key, names in (("duplicates", self.duplicates), ("unmapped", self.unmapped))
        }
        return plain | lists | {"share": self.share, "steps": dict(self.steps), "refused": dict(self.refused)}

    def __str__(self) -> str:
        ways = ", ".join(f"{step} {n:,}" for step, n in self.steps.items()) or "none"
        refused = "".join(f"; {n:,} {why}" for why, n in self.refused.items())
        counts = "" if self.share_of_counts is None else f", {self.share_of_counts:.1%} of the counts"
        return (
            f"{self.n_mapped_data:,} of {self.n_data:,} genes read{counts}, {self.n_mapped_targets:,} of "
            f"{self.n_targets:,} of the model ({ways}{refused})"
        )


@dataclass(frozen=True)
class GeneMap:
    """From the genes of the data to those of a model.

    Parameters
    ----------
    genes
        Names of the data's genes, in their order.
    targets
        The model's genes, in its order.
    target_of
        Column among `targets` of each gene; `UNMAPPED` where the model does not read it.
    coverage
        What was found and what was not.
    """

    genes: tuple[str, ...]
    targets: tuple[str, ...]
    target_of: Int[np.ndarray, " genes"]
    coverage: Coverage

    def collect(self, counts: sparse.csr_array) -> sparse.csr_array:
        """Return counts over the model's genes, shape (cells, targets), float64; genes that are one gene are summed.

        Parameters
        ----------
        counts
            Shape (cells, genes).

        Raises
        ------
        SchemaError
            If the matrix has not one column per gene of this map.
        """
        if counts.shape[1] != len(self.genes):
            cure = "map the genes of these data"
            raise SchemaError(Problem(f"{counts.shape[1]} columns", f"{len(self.genes)}, those of the gene map", cure))
        collected = sparse.csr_array(counts.astype(np.float64) @ self._selector)
        collected.eliminate_zeros()
        collected.sort_indices()
        return collected

    def column(self, gene: str) -> int:
        """Return the column among `targets` of a gene, named as in the data or as in the model.

        `UNMAPPED` for a gene of the data that the model does not read. A name of both is the data's.

        Raises
        ------
        EditError
            If neither knows the name; the nearest ones are given.
        """
        for known in (self._gene_column, self._target_column):
            if gene in known:
                return known[gene]
        like = not ENSEMBL.match(gene) and (phrases.nearest(gene, self.genes) or phrases.nearest(gene, self.targets))
        raise EditError(
            Problem(f"no gene {gene!r}{like or ''}", "a gene of the data or of the model", "correct the name")
        )

    @cached_property
    def _selector(self) -> sparse.csr_array:
        """1 where a gene (row) is a target (column)."""
        rows = np.flatnonzero(self.target_of != UNMAPPED)
        entries = (np.ones(len(rows)), (rows, self.target_of[rows]))
        return sparse.csr_array(entries, shape=(len(self.genes), len(self.targets)))

    @cached_property
    def _gene_column(self) -> dict[str, int]:
        return dict(zip(self.genes, self.target_of.tolist(), strict=True))

    @cached_property
    def _target_column(self) -> dict[str, int]:
        return {target: k for k, target in enumerate(self.targets)}


def map_genes(  # noqa: PLR0913  what the model reads, and what is known about the data
    var: pd.DataFrame,
    targets: Sequence[str],
    *,
    ids: Ids,
    species: str = "Homo sapiens",
    data_species: str | None = None,
    symbols: Mapping[str, str] | None = None,
    orthologs: Orthologs | None = None,
    sums: Float[np.ndarray, " genes"] | None = None,
    min_coverage: float = 0.5,
) -> GeneMap:
    """Match the genes of the data to those of a model.

    Parameters
    ----------
    var
        One row per gene, named by Ensembl id (with or without version) or symbol; a column of `ID_COLUMNS` or
        `SYMBOL_COLUMNS` may hold the other kind.
    targets
        The model's genes, in its order.
    ids
        What `targets` are.
    species
        Of the model: scientific name, or one of `ALIASES`.
    data_species
        Of the data; by default what their Ensembl ids say, else that of the model.
    symbols
        Ensembl id of each symbol of the model's species, where the model has such a dictionary.
    orthologs
        Needed where the species differ.
    sums, min_coverage
        See `accepted`.

    Returns
    -------
    GeneMap
        Its coverage says in which way how many genes were found.

    Raises
    ------
    SchemaError
        If names stand twice, ids are of another species than the data, the species differ and no table leads from one
        to the other, or too little is read.
    """
    genes, targets = tuple(map(str, var.index)), tuple(targets)
    _require_unique(genes, "genes of the data")
    _require_unique(targets, "genes of the model")
    names = genenames.of(var)
    species = genenames.scientific(species)
    data_species = genenames.species(names, data_species, species)
    if data_species != species:
        search: _Search = _ByOrtholog(targets, ids, _usable(orthologs, data_species, species))
    else:
        search = _ByName(targets, ids, symbols or {})
    found = [search(ensembl, symbol) for ensembl, symbol in names]
    gene_map = _assemble(genes, targets, found, (data_species, species))
    return accepted(gene_map, var, ids=ids, sums=sums, min_coverage=min_coverage)


def accepted(
    gene_map: GeneMap,
    var: pd.DataFrame,
    *,
    ids: Ids,
    sums: Float[np.ndarray, " genes"] | None = None,
    min_coverage: float = 0.5,
) -> GeneMap:
    """Return the map, with the share of the counts that it reads, if that or the share of the genes is large enough.

    Parameters
    ----------
    gene_map, var, ids
        What `map_genes` gave, and what it was given.
    sums
        Counts of each gene over the cells at hand. A whole genome holds thousands of genes that are hardly expressed
        and that no vocabulary has: the share of the counts may reach `min_coverage` instead of that of the genes.
    min_coverage
        Smallest `Coverage.accepted`.

    Raises
    ------
    SchemaError
        If less is read: with the share, the first unmapped genes, the cure.
    """
    if sums is not None and sums.sum() > 0:
        share = float(sums[gene_map.target_of != UNMAPPED].sum() / sums.sum())
        gene_map = replace(gene_map, coverage=replace(gene_map.coverage, share_of_counts=share))
    if gene_map.coverage.accepted < min_coverage:
        raise _too_few(gene_map.coverage, min_coverage, ids, genenames.of(var))
    return gene_map


_Found: TypeAlias = tuple[str, int]  # the way it was found and its column, or why it was not and UNMAPPED


@dataclass(frozen=True)
class _Search:
    targets: tuple[str, ...]
    ids: Ids

    @cached_property
    def where(self) -> dict[str, int]:
        return {target: k for k, target in enumerate(self.targets)}

    def __call__(self, ensembl: str, symbol: str) -> _Found:
        """Return how a gene was found and where."""
        raise NotImplementedError


@dataclass(frozen=True)
class _ByName(_Search):
    """Genes of the model's own species."""

    symbols: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, ensembl: str, symbol: str) -> _Found:
        for way, name in self._tries(ensembl, symbol):
            if name in self.where:
                return way, self.where[name]
        return NOT_READ, UNMAPPED

    def _tries(self, ensembl: str, symbol: str) -> Iterator[tuple[str, str]]:
        stable = genenames.stable(ensembl)
        if self.ids == "ensembl":
            yield "direct", ensembl
            yield "version stripped", stable
            yield "symbol to ensembl", self.symbols.get(symbol, "")
        else:
            yield "direct", symbol
            yield "ensembl to symbol", self._symbol_of.get(stable, "")

    @cached_property
    def _symbol_of(self) -> dict[str, str]:
        """Symbol of each id, where it has one only."""
        times = Counter(self.symbols.values())
        return {gene: symbol for symbol, gene in self.symbols.items() if times[gene] == 1}


@dataclass(frozen=True)
class _ByOrtholog(_Search):
    """Genes of another species."""

    orthologs: Orthologs

    def __call__(self, ensembl: str, symbol: str) -> _Found:
        match = self.orthologs.of(genenames.stable(ensembl)) if ensembl else Refusal.UNKNOWN
        if match is Refusal.UNKNOWN and symbol:
            match = self.orthologs.of(symbol)
        if isinstance(match, Refusal):
            return str(match), UNMAPPED
        column = self.where.get(match.ensembl if self.ids == "ensembl" else match.symbol, UNMAPPED)
        return ("ortholog" if column != UNMAPPED else NOT_READ), column


def _usable(orthologs: Orthologs | None, data_species: str, species: str) -> Orthologs:
    """Return the table if it leads from the data's species to the model's, else say what is missing."""
    if orthologs is not None and (orthologs.source, orthologs.target) == (data_species, species):
        return orthologs
    found = f"genes of {data_species} for a model that reads {species}"
    if orthologs is not None:
        expected = f"a table of orthologs from {data_species} to {species}"
        cure = f"give that; this one leads from {orthologs.source} to {orthologs.target}"
    elif (data_species, species) == ("Mus musculus", "Homo sapiens"):
        expected = "a table of orthologs"
        cure = "run `embryo data fetch gene-orthologs` and give its mouse_to_human.csv as orthologs"
    else:
        expected = f"{species}, or Mus musculus with its orthologs"
        cure = f"choose a model of {data_species}, or export a table of orthologs from BioMart and give it as orthologs"
    raise SchemaError(Problem(found, expected, cure), subject="gene map")


def _assemble(
    genes: tuple[str, ...], targets: tuple[str, ...], found: Sequence[_Found], species: tuple[str, str]
) -> GeneMap:
    target_of = np.array([column for _, column in found], dtype=np.int64)
    mapped = target_of[target_of != UNMAPPED]
    columns, times = np.unique(mapped, return_counts=True)
    coverage = Coverage(
        n_data=len(genes),
        n_targets=len(targets),
        n_mapped_data=len(mapped),
        n_mapped_targets=len(columns),
        duplicates=tuple(targets[k] for k in columns[times > 1]),
        unmapped=tuple(gene for gene, column in zip(genes, target_of, strict=True) if column == UNMAPPED),
        steps=dict(Counter(way for way, column in found if column != UNMAPPED)),
        refused=dict(Counter(why for why, column in found if column == UNMAPPED)),
        data_species=species[0],
        species=species[1],
    )
    return GeneMap(genes, targets, target_of, coverage)


def _require_unique(names: Sequence[str], what: str) -> None:
    if double := [name for name, times in Counter(names).items() if times > 1]:
        found = f"{len(double)} double {what}: {phrases.few(double)}"
        raise SchemaError(Problem(found, "every name once", "merge or rename them"), subject="gene map")


def _too_few(coverage: Coverage, needed: float, ids: Ids, names: Sequence[Name]) -> SchemaError:
    """Say how little is read, and the likeliest reason."""
    symbols = [symbol for ensembl, symbol in names if symbol and not ensembl]
    likely = "check that species and kind of ids are right"
    if ids == "ensembl" and len(symbols) > len(names) / 2:
        likely = (
            f"put Ensembl ids into var['{ID_COLUMNS[0]}']: the model reads these, the data name most genes otherwise"
        )
    elif ids == "symbol" and not any(symbol for _, symbol in names):
        likely = f"put symbols into var['{SYMBOL_COLUMNS[0]}']: the model reads these, the data hold ids only"
    if coverage.data_species == "Homo sapiens" and sum(map(_mouse_like, symbols)) > len(names) / 2:
        likely = "say that the data are of Mus musculus and give a table of orthologs: the names look like the mouse's"
    refused = "".join(f", {n} {why}" for why, n in coverage.refused.items() if why != NOT_READ)
    found = (
        f"{coverage.n_mapped_data} of {coverage.n_data} genes of the data ({coverage.share:.0%} of what could be"
        f"{'' if coverage.share_of_counts is None else f', {coverage.share_of_counts:.0%} of the counts'}) "
        f"among the {coverage.n_targets} that the model reads{refused}; not read: {phrases.few(coverage.unmapped)}"
    )
    cure = f"{likely}; or lower min_coverage if so few are meant"
    return SchemaError(Problem(found, f"a share of at least {needed:.0%}", cure), subject="gene map")


def _mouse_like(symbol: str) -> bool:
    return _MOUSE_LIKE.fullmatch(symbol) is not None
