"""What the genes of data are called: Ensembl id, symbol, and the species that their ids belong to."""

import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TypeAlias

import pandas as pd

from embryo.core.errors import Problem, SchemaError
from embryo.encoders.genes.orthologs import ENSEMBL, SPECIES

Name: TypeAlias = tuple[str, str]  # Ensembl id and symbol of a gene, empty where not known

ID_COLUMNS = ("ensembl_id", "ensembl_ids", "ensembl", "gene_ids", "gene_id", "feature_id")
SYMBOL_COLUMNS = ("feature_name", "gene_symbols", "gene_symbol", "gene_name", "gene_names", "gene_short_name", "symbol")
ALIASES = {
    "human": "Homo sapiens",
    "mouse": "Mus musculus",
    "house mouse": "Mus musculus",
    "rat": "Rattus norvegicus",
    "zebrafish": "Danio rerio",
    "chicken": "Gallus gallus",
    "fruit fly": "Drosophila melanogaster",
}
KNOWN = (*SPECIES.values(), "Drosophila melanogaster", "Caenorhabditis elegans", "Xenopus laevis")

_BY_NAME = {name.casefold(): name for name in KNOWN} | ALIASES
_BINOMIAL = re.compile(r"[A-Z][a-z]{2,} [a-z]{3,}")
_ALIKE = 0.85  # a name as like to a known one as this is taken for a slip of the pen
_VERSION = re.compile(r"(\.\d+)?(_PAR_Y)?$")


def of(var: pd.DataFrame) -> list[Name]:
    """Return Ensembl id and symbol of each gene: its name, and the other kind from a column of `var`.

    Where genes are only numbered, both are from columns.
    """
    index = pd.Series(var.index.astype(str), index=var.index)
    named_by_id = _is_ensembl(index)
    ids = index.where(named_by_id, _column(var, ID_COLUMNS))
    column = _column(var, SYMBOL_COLUMNS)
    symbols = index.where(~named_by_id & ~(index.map(_is_number) & (column != "")), column)
    ids = ids.where(_is_ensembl(ids), "")
    return list(zip(ids.tolist(), symbols.tolist(), strict=True))


def _column(var: pd.DataFrame, candidates: Sequence[str]) -> pd.Series:
    """Return the first of the columns that is there, as text; empty where it says nothing."""
    name = next((c for c in candidates if c in var), None)
    if name is None:
        return pd.Series("", index=var.index)
    return var[name].astype(object).where(var[name].notna(), "").astype(str)


def _is_number(name: str) -> bool:
    """Whether a name is a row number, as files that join several have it."""
    return name.isdecimal()


def _is_ensembl(names: pd.Series) -> pd.Series:
    return names.map(lambda name: ENSEMBL.fullmatch(stable(name)) is not None).astype(bool)


def species(names: Sequence[Name], said: str | None, model: str) -> str:
    """Return the species of the data: what is said, else what most ids say, else that of the model."""
    prefixes = Counter(match[1] for ensembl, _ in names if (match := ENSEMBL.match(ensembl)))
    prefix = prefixes.most_common(1)[0][0] if prefixes else None
    seen = SPECIES.get(prefix, f"the species of {prefix}") if prefix else None
    if said is None:
        return seen or model
    said = scientific(said)
    if seen is not None and seen != said:
        found = f"ids {prefix}..., which are of {seen}, in data of {said}"
        raise SchemaError(Problem(found, "ids of the species of the data", "correct the species, or the ids"))
    return said


def scientific(name: str) -> str:
    """Return the scientific name of a species, whatever its case, that may be named as in `ALIASES`."""
    plain = " ".join(name.replace("_", " ").split())
    return _BY_NAME.get(plain.casefold(), plain)


def certain(name: str) -> str | None:
    """Return the scientific name of a species, without its subspecies; None where a name may mean any.

    What is not known here must at least look like a scientific name, and not like a known one misspelt.
    """
    species = scientific(" ".join(scientific(name).split()[:2]))
    if species in KNOWN:
        return species
    misspelt = get_close_matches(species.casefold(), _BY_NAME, n=1, cutoff=_ALIKE)
    return species if _BINOMIAL.fullmatch(species) and not misspelt else None


def stable(ensembl: str) -> str:
    """Return an Ensembl id without its version."""
    return _VERSION.sub("", ensembl, count=1)
