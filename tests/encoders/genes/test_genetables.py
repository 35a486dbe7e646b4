"""Tables of genes: numbers out of order, stray spaces, networks in both notations, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from embryo.core.errors import StoreError
from embryo.encoders.genes.genetables import read_links, read_numbers


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str, name: str = "table.csv") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_numbers_say_the_order_and_spaces_are_no_part_of_a_name(written) -> None:
    path = written("gene_name,idx\n<PAD>,0\n<CLS>, 3\nENSG2 ,2\nENSG1,1\n")
    numbers = read_numbers(path, "gene_name", "idx")
    assert numbers == {"<PAD>": 0, "ENSG1": 1, "ENSG2": 2, "<CLS>": 3}
    assert list(numbers) == ["<PAD>", "ENSG1", "ENSG2", "<CLS>"]


def test_a_gene_called_na_is_a_gene(written) -> None:
    assert read_numbers(written("gene_name\tindex\nNA\t0\nnan\t1\n", "t.tsv"), "gene_name", "index") == {
        "NA": 0,
        "nan": 1,
    }


def test_all_that_is_wrong_with_numbers_is_said_at_once(written) -> None:
    with pytest.raises(StoreError) as caught:
        read_numbers(written("gene_name,idx\nA,0\nA,1\nB,x\n"), "gene_name", "idx")
    assert "genes that stand there twice: A" in str(caught.value)
    assert "numbers that are not 0, 1, 2" in str(caught.value)
    with pytest.raises(StoreError, match="columns gene, idx; expected columns gene_name and idx"):
        read_numbers(written("gene,idx\nA,0\n"), "gene_name", "idx")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00 nothing", b'a,b\n"open'])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(StoreError):
        read_numbers(tmp_path / "t.csv", "gene_name", "idx")
    with pytest.raises(StoreError):
        read_links(tmp_path / "absent.csv", ["A"])


@pytest.mark.parametrize(
    "header", ["regulator,target,w", "regulator.values,target.values,mi.values", "source,target,w"]
)
def test_edges_are_undirected_and_stand_once(written, header: str) -> None:
    rows = ["A,B,0.5", "B,A,0.1", "A,B,0.2", "C,C,0.9", "X,A,0.3", " D,A,0.4"]
    links = read_links(written("\n".join([header, *rows]) + "\n"), ["A", "B", "C", "D"])
    np.testing.assert_array_equal(links, [[0, 0], [1, 3]])


def test_a_network_of_other_genes_is_refused(written) -> None:
    path = written("regulator,target\nTAL1,GATA1\n")
    with pytest.raises(StoreError, match=r"1 edges of TAL1.*edges between genes such as ENSG1"):
        read_links(path, ["ENSG1", "ENSG2"])
    with pytest.raises(StoreError, match="columns regulator and target"):
        read_links(written("a\tb\n1\t2\n", "n.tsv"), ["1", "2"])
