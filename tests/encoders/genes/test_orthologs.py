"""Orthologs, against the table of Ensembl and against rows that a person can check by eye."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from embryo.core.errors import SchemaError, StoreError
from embryo.encoders.genes.orthologs import Ortholog, Orthologs, Refusal

HEAD = (
    "Gene stable ID,Gene name,Human gene name,Human gene stable ID,Human homology type,"
    '"Human orthology confidence [0 low, 1 high]",Human Gene-order conservation score'
)
ROWS = """\
ENSMUSG00000062327,T,TBXT,ENSG00000164458,ortholog_one2one,1,100
ENSMUSG00000028717,Tal1,TAL1,ENSG00000162367,ortholog_one2one,1,100
ENSMUSG00000052217,Hbb-bh1,,,,,
ENSMUSG00000069919,Hba-a1,HBA2,ENSG00000188536,ortholog_many2many,1,75
ENSMUSG00000069919,Hba-a1,HBA1,ENSG00000206172,ortholog_many2many,1,75
ENSMUSG00000069036,Sry,SRY,ENSG00000184895,ortholog_one2one,0,0
ENSMUSG00000062991,Nrg1,NRG1,ENSG00000157168,ortholog_one2one,1,100
ENSMUSG00000118541,Nrg1,,ENSG00000291314,ortholog_one2one,1,100
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def make(text: str) -> Path:
        path = tmp_path / "mouse_to_human.csv"
        path.write_text(text)
        return path

    return make


def test_only_what_is_one_to_one_and_certain_counts(write: Callable[[str], Path]) -> None:
    path = write(f"{HEAD}\n{ROWS}")
    table = Orthologs.read(path)
    assert (table.source, table.target) == ("Mus musculus", "Homo sapiens")
    assert table.of("T") == table.of("ENSMUSG00000062327") == Ortholog("ENSG00000164458", "TBXT")
    assert table.of("Tal1") == Ortholog("ENSG00000162367", "TAL1")
    assert table.of("Hbb-bh1") is Refusal.NONE
    assert table.of("Hba-a1") is table.of("ENSMUSG00000069919") is Refusal.SEVERAL
    assert table.of("Sry") is Refusal.UNSURE
    assert table.of("Nrg1") is Refusal.AMBIGUOUS
    assert table.of("ENSMUSG00000062991") == Ortholog("ENSG00000157168", "NRG1")  # the id is not ambiguous
    assert table.of("ENSMUSG00000118541") == Ortholog("ENSG00000291314", "")
    assert table.of("TAL1") is Refusal.UNKNOWN  # a human name is no mouse gene
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_source_species_is_read_from_the_ids(write: Callable[[str], Path]) -> None:
    row = "ENSDARG00000101576,tbxta,TBXT,ENSG00000164458,ortholog_one2many,1,100\n"
    assert Orthologs.read(write(f"{HEAD}\n{row}")).source == "Danio rerio"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no column Gene stable ID, .* among a, b"),
        (f"{HEAD}\n", "no rows"),
        (f"{HEAD}\nT,T,TBXT,ENSG00000164458,ortholog_one2one,1,1\n", "1 gene ids that are not Ensembl's: 'T'"),
        (f"{HEAD}\nENSMUSG00000062327,T,TBXT,TBXT,ortholog_one2one,1,1\n", "human ids that are not Ensembl's: 'TBXT'"),
        (f"{HEAD}\nENSMUSG00000062327,T,TBXT,ENSG00000164458,same,1,1\n", "unknown homology types: 'same'"),
        (f"{HEAD}\nENSMUSG00000062327,T,X,ENSG00000164458,ortholog_one2one,high,1\n", "neither 0 nor 1: 'high'"),
        (f"{HEAD}\n{ROWS}{ROWS}", "one-to-one genes that stand twice: 'ENSMUSG00000062327'"),
        (f"{HEAD}\n{ROWS}ENSDARG00000101576,tbxta,,,,,\n", "several species: ENSDARG, ENSMUSG"),
        (
            f"{HEAD}\n{ROWS}ENSMUSG00000000001,X,TBXT,ENSG00000164458,ortholog_one2one,1,1\n",
            "one to one with several: 'ENSG00000164458'",
        ),
    ],
)
def test_a_table_of_another_kind_is_refused(write: Callable[[str], Path], text: str, says: str) -> None:
    with pytest.raises(SchemaError, match=says) as caught:
        Orthologs.read(write(text))
    assert "embryo data fetch gene-orthologs" in str(caught.value)


def test_what_cannot_be_read_is_said_with_the_cure(write: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No such file.*embryo data fetch gene-orthologs"):
        Orthologs.read(tmp_path / "absent.csv")
    path = write("")
    with pytest.raises(StoreError, match="no table"):
        Orthologs.read(path)
    path.write_bytes(b"\x80\x04\x95\xff\xfe\n")
    with pytest.raises(StoreError, match="no table"):
        Orthologs.read(path)


@pytest.mark.real
def test_the_table_of_ensembl(real_folder: Callable[[str], Path]) -> None:
    path = real_folder("gene-orthologs") / "mouse_to_human.csv"
    table = Orthologs.read(path)
    assert table.of("T") == Ortholog("ENSG00000164458", "TBXT")
    assert table.of("Hbb-y") == Ortholog("ENSG00000213931", "HBE1")
    assert table.of("Hbb-bh1") is Refusal.NONE
    assert table.of("Hba-a1") is Refusal.SEVERAL
    rows = pd.read_csv(path)
    sure = rows[(rows.iloc[:, 4] == "ortholog_one2one") & (rows.iloc[:, 5] == 1)]
    accepted = {gene: match for gene, match in table.found.items() if isinstance(match, Ortholog)}
    assert {gene: match.ensembl for gene, match in accepted.items()} == dict(
        zip(sure["Gene stable ID"], sure["Human gene stable ID"], strict=True)
    )
    assert len(accepted) == 16_085
    assert len(table.found) == rows["Gene stable ID"].nunique()
