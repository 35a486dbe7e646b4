"""Orthologs: which gene of the model's species a gene of the data stands for, where that is certain.

The table is an export of Ensembl BioMart (dataset ``gene-orthologs`` of the registry). A pair counts if Ensembl calls
it one to one and is confident of it; everything else is refused with the reason, because expression split over several
genes, or poured into a gene that is not its own, is worse than none. Upper-casing is not orthology: T of the mouse is
TBXT.
"""

import csv
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd

from embryo.core.checks import phrases
from embryo.core.errors import Problem, SchemaError, StoreError

ENSEMBL = re.compile(r"(ENS[A-Z]{0,6}G)\d{6,}")  # stable id of a gene, without its version
SPECIES = {
    "ENSG": "Homo sapiens",
    "ENSMUSG": "Mus musculus",
    "ENSRNOG": "Rattus norvegicus",
    "ENSDARG": "Danio rerio",
    "ENSGALG": "Gallus gallus",
    "ENSXETG": "Xenopus tropicalis",
    "ENSMMUG": "Macaca mulatta",
}

_ID, _SYMBOL, _TO_ID, _TO_SYMBOL = "Gene stable ID", "Gene name", "Human gene stable ID", "Human gene name"
_TYPE, _CONFIDENCE = "Human homology type", "Human orthology confidence [0 low, 1 high]"
_COLUMNS = (_ID, _SYMBOL, _TO_ID, _TO_SYMBOL, _TYPE, _CONFIDENCE)
_ONE_TO_ONE = "ortholog_one2one"
_TYPES = ("", _ONE_TO_ONE, "ortholog_one2many", "ortholog_many2many")
_CURE = "run `embryo data fetch gene-orthologs` and give its mouse_to_human.csv, or export these columns from BioMart"


class Refusal(StrEnum):
    """Why a gene has no ortholog that can be used."""

    UNKNOWN = "not in the ortholog table"
    AMBIGUOUS = "a symbol of several genes"
    NONE = "no ortholog"
    SEVERAL = "several orthologs"
    UNSURE = "ortholog of low confidence"


@dataclass(frozen=True)
class Ortholog:
    """The gene of the model's species: Ensembl id, and symbol (empty where it has none)."""

    ensembl: str
    symbol: str


@dataclass(frozen=True)
class Orthologs:
    """A table of orthologs, read by `Orthologs.read`.

    Parameters
    ----------
    source, target
        Scientific names of the species of the data and of the model.
    found
        Ortholog, or the reason why there is none, of each Ensembl id of the source species.
    ids
        Ensembl ids of each symbol of the source species; more than one where the symbol is not unique.
    sha256
        Checksum of the file, for the provenance.
    """

    source: str
    target: str
    found: Mapping[str, Ortholog | Refusal]
    ids: Mapping[str, tuple[str, ...]]
    sha256: str

    @classmethod
    def read(cls, path: str | Path) -> "Orthologs":
        """Read a BioMart export: one row per pair of a gene and its human ortholog.

        Parameters
        ----------
        path
            CSV with the columns Gene stable ID, Gene name, Human gene stable ID, Human gene name, Human homology type,
            Human orthology confidence [0 low, 1 high]; empty where a gene has no ortholog.

        Raises
        ------
        StoreError
            If there is no such file, or it is no CSV.
        SchemaError
            Listing everything that is wrong with the table: missing columns, ids that are not Ensembl's, several source
            species, unknown homology types or confidences, one-to-one genes that stand twice.
        """
        path = Path(path)
        table, sha256 = _table(path)
        if problems := _problems(table):
            raise SchemaError(*problems, subject=path.name)
        prefix = _prefix(table[_ID].iloc[0])
        return cls(
            source=SPECIES.get(prefix, f"the species of {prefix}"),
            target="Homo sapiens",
            found={row[0]: _verdict(*row[2:]) for row in table[list(_COLUMNS)].itertuples(index=False, name=None)},
            ids=_ids(table),
            sha256=sha256,
        )

    def of(self, gene: str) -> Ortholog | Refusal:
        """Return the ortholog of a gene, named by Ensembl id (without version) or by symbol, or why it has none."""
        if gene in self.found:
            return self.found[gene]
        ids = self.ids.get(gene, ())
        if len(ids) > 1:
            return Refusal.AMBIGUOUS
        return self.found[ids[0]] if ids else Refusal.UNKNOWN


def _verdict(to_id: str, to_symbol: str, kind: str, confidence: str) -> Ortholog | Refusal:
    """Judge one row; the rows of a gene with several orthologs all say so, so any of them may be the last."""
    if not kind:
        return Refusal.NONE
    if kind != _ONE_TO_ONE:
        return Refusal.SEVERAL
    return Ortholog(to_id, to_symbol) if confidence == "1" else Refusal.UNSURE


def _ids(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    named = table.loc[table[_SYMBOL] != "", [_SYMBOL, _ID]].drop_duplicates()
    ids: dict[str, tuple[str, ...]] = {}
    for symbol, gene in named.itertuples(index=False, name=None):
        ids[symbol] = (*ids.get(symbol, ()), gene)
    return ids


def _prefix(gene: str) -> str:
    match = ENSEMBL.fullmatch(gene)
    return match[1] if match else ""


def _table(path: Path) -> tuple[pd.DataFrame, str]:
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False)
    except OSError as error:
        found = f"no table of orthologs ({error.strerror or error})"
        raise StoreError(Problem(found, "a readable CSV", _CURE), subject=str(path)) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, csv.Error) as error:
        found = f"text that is no table ({str(error).splitlines()[0]})"
        raise StoreError(Problem(found, "a CSV from BioMart", _CURE), subject=path.name) from error
    return table, sha256


def _problems(table: pd.DataFrame) -> list[Problem]:
    if missing := [name for name in _COLUMNS if name not in table.columns]:
        held = phrases.few(table.columns, 10)
        return [Problem(f"no column {', '.join(missing)} among {held}", f"columns {', '.join(_COLUMNS)}", _CURE)]
    if table.empty:
        return [Problem("no rows", "one row per pair of genes", _CURE)]
    paired, one = table[table[_TYPE] != ""], table[table[_TYPE] == _ONE_TO_ONE]
    bad = {
        "gene ids that are not Ensembl's": table.loc[table[_ID].map(_prefix) == "", _ID],
        "human ids that are not Ensembl's": paired.loc[paired[_TO_ID].map(_prefix) != "ENSG", _TO_ID],
        "unknown homology types": table.loc[~table[_TYPE].isin(_TYPES), _TYPE],
        "confidences that are neither 0 nor 1": paired.loc[~paired[_CONFIDENCE].isin(["0", "1"]), _CONFIDENCE],
        "one-to-one genes that stand twice": table.loc[
            table[_ID].isin(one[_ID]) & table.duplicated([_ID], keep=False), _ID
        ],
        "human genes that are one to one with several": one.loc[one[_TO_ID].duplicated(keep=False), _TO_ID],
    }
    problems = [
        Problem(f"{len(rows)} {what}: {phrases.few(map(repr, rows.unique()))}", "a BioMart export", _CURE)
        for what, rows in bad.items()
        if len(rows)
    ]
    if len(prefixes := sorted(set(table[_ID].map(_prefix)) - {""})) > 1:
        problems.append(Problem(f"genes of several species: {phrases.few(prefixes)}", "one source species", _CURE))
    return problems
