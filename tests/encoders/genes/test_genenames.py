"""Names of genes as data give them."""

import numpy as np
import pandas as pd
import pytest

from embryo.core.errors import SchemaError
from embryo.encoders.genes import genenames

TBXT, TAL1 = "ENSG00000164458", "ENSG00000162367"


def test_ids_and_symbols_are_told_apart_gene_by_gene() -> None:
    var = pd.DataFrame(index=["TBXT", f"{TAL1}.16", "ENSG00000182378.15_PAR_Y", "AC012345.1", "ERCC-00002"])
    assert genenames.of(var) == [
        ("", "TBXT"), (f"{TAL1}.16", ""), ("ENSG00000182378.15_PAR_Y", ""), ("", "AC012345.1"), ("", "ERCC-00002"),
    ]  # fmt: skip


@pytest.mark.parametrize("column", genenames.ID_COLUMNS)
def test_a_column_gives_the_ids_where_names_are_symbols(column: str) -> None:
    var = pd.DataFrame({column: pd.Categorical([TBXT, None])}, index=["TBXT", "X"])
    assert genenames.of(var) == [(TBXT, "TBXT"), ("", "X")]


@pytest.mark.parametrize("column", genenames.SYMBOL_COLUMNS)
def test_a_column_gives_the_symbols_where_names_are_ids(column: str) -> None:
    var = pd.DataFrame({column: ["TBXT", np.nan]}, index=[TBXT, TAL1])
    assert genenames.of(var) == [(TBXT, "TBXT"), (TAL1, "")]


def test_a_column_of_other_numbers_is_no_id() -> None:
    var = pd.DataFrame({"gene_ids": [6862, 6886]}, index=["TBXT", "TAL1"])  # NCBI genes
    assert genenames.of(var) == [("", "TBXT"), ("", "TAL1")]


def test_species_of_ids() -> None:
    mouse = [("ENSMUSG00000062327", ""), ("ENSMUSG00000028717", ""), ("", "eGFP")]
    assert genenames.species(mouse, None, "Homo sapiens") == "Mus musculus"
    assert genenames.species(mouse, "Mouse", "Homo sapiens") == "Mus musculus"
    assert genenames.species(mouse, "mus musculus", "Homo sapiens") == "Mus musculus"
    assert genenames.species([("", "T")], None, "Homo sapiens") == "Homo sapiens"
    assert genenames.species([("", "T")], "mouse", "Homo sapiens") == "Mus musculus"
    assert genenames.species([("ENSXYZG00000000001", "")], None, "Homo sapiens") == "the species of ENSXYZG"
    with pytest.raises(SchemaError, match=r"ids ENSMUSG\.\.\., which are of Mus musculus, in data of Homo sapiens"):
        genenames.species(mouse, "human", "Homo sapiens")


@pytest.mark.parametrize(
    ("name", "species"),
    [
        ("human", "Homo sapiens"), ("HOMO SAPIENS", "Homo sapiens"), (" mus  musculus ", "Mus musculus"),
        ("Mus musculus castaneus", "Mus musculus"), ("caenorhabditis elegans", "Caenorhabditis elegans"),
        ("Mus spretus", "Mus spretus"), ("Ciona intestinalis", "Ciona intestinalis"), ("House Mouse", "Mus musculus"),
        ("ciona intestinalis", None), ("Mus muscullus", None), ("Homo sapien", None), ("murine", None), ("", None),
        ("as the file says", None), ("unknown", None), ("10090", None),
    ],
)  # fmt: skip
def test_names_of_species_that_mean_one_for_certain(name: str, species: str | None) -> None:
    assert genenames.certain(name) == species
