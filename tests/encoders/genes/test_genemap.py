"""The gene map: by hand on genes of the early embryo, by law on random ones, and on the Tal1 chimera."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from embryo.core.errors import EditError, SchemaError
from embryo.encoders.genes.genemap import UNMAPPED, GeneMap, map_genes
from embryo.encoders.genes.orthologs import Ortholog, Orthologs, Refusal

TBXT, TAL1, HBZ, SOX2 = "ENSG00000164458", "ENSG00000162367", "ENSG00000130656", "ENSG00000181449"
T, TAL1_M, HBA, HBB, SRY = (
    "ENSMUSG00000062327", "ENSMUSG00000028717", "ENSMUSG00000069919", "ENSMUSG00000052217", "ENSMUSG00000069036",
)  # fmt: skip
SYMBOLS = {"TBXT": TBXT, "TAL1": TAL1, "HBZ": HBZ, "SOX2": SOX2}
MOUSE = Orthologs(
    source="Mus musculus",
    target="Homo sapiens",
    found={
        T: Ortholog(TBXT, "TBXT"),
        TAL1_M: Ortholog(TAL1, "TAL1"),
        HBA: Refusal.SEVERAL,
        HBB: Refusal.NONE,
        SRY: Refusal.UNSURE,
    },
    ids={"T": (T,), "Tal1": (TAL1_M,), "Hba-a1": (HBA,), "Hbb-bh1": (HBB,), "Sry": (SRY,), "Nrg1": (T, TAL1_M)},
    sha256="0" * 64,
)


def var(*names: str, **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=list(names))


def test_ids_with_and_without_version_and_symbols() -> None:
    found = map_genes(var(TAL1, f"{SOX2}.7", "TBXT", "eGFP"), (SOX2, TBXT, TAL1, HBZ), ids="ensembl", symbols=SYMBOLS)
    assert found.target_of.tolist() == [2, 0, 1, UNMAPPED]
    assert found.coverage.steps == {"direct": 1, "version stripped": 1, "symbol to ensembl": 1}
    assert found.coverage.refused == {"not a gene of the model": 1}
    assert found.coverage.unmapped == ("eGFP",)
    assert (found.coverage.n_mapped_data, found.coverage.n_mapped_targets, found.coverage.share) == (3, 3, 0.75)
    assert str(found.coverage) == (
        "3 of 4 genes read, 3 of 4 of the model "
        "(direct 1, version stripped 1, symbol to ensembl 1; 1 not a gene of the model)"
    )


def test_symbols_from_ids() -> None:
    twice = {"TBXT": TBXT, "T": TBXT, "TAL1": TAL1}  # an id with two symbols says nothing
    found = map_genes(var("SOX2", f"{TAL1}.1", TBXT), ("TAL1", "TBXT", "SOX2"), ids="symbol", symbols=twice)
    assert found.target_of.tolist() == [2, 0, UNMAPPED]
    assert found.coverage.steps == {"direct": 1, "ensembl to symbol": 1}


def test_columns_of_var_help() -> None:
    by_id = map_genes(var("a", "b", gene_ids=[TAL1, TBXT]), (TBXT, TAL1), ids="ensembl")
    by_symbol = map_genes(var(TAL1, TBXT, feature_name=["TAL1", "TBXT"]), ("TBXT", "TAL1"), ids="symbol")
    assert by_id.target_of.tolist() == by_symbol.target_of.tolist() == [1, 0]


@pytest.mark.parametrize("names", [(T, TAL1_M, HBA, HBB, f"{SRY}.1"), ("T", "Tal1", "Hba-a1", "Hbb-bh1", "Sry")])
@pytest.mark.parametrize(("ids", "targets"), [("ensembl", (TAL1, TBXT)), ("symbol", ("TAL1", "TBXT"))])
def test_mouse_genes_go_through_their_orthologs(names: tuple[str, ...], ids: str, targets: tuple[str, ...]) -> None:
    found = map_genes(var(*names), targets, ids=ids, data_species="mouse", orthologs=MOUSE)
    assert found.target_of.tolist() == [1, 0, UNMAPPED, UNMAPPED, UNMAPPED]
    assert found.coverage.steps == {"ortholog": 2}
    assert found.coverage.refused == {"several orthologs": 1, "no ortholog": 1, "ortholog of low confidence": 1}
    assert (found.coverage.data_species, found.coverage.species) == ("Mus musculus", "Homo sapiens")


def test_a_symbol_of_several_genes_is_decided_by_its_id() -> None:
    names = var("Nrg1", "T", gene_ids=["", ""])
    unsure = map_genes(names, (TBXT, TAL1), ids="ensembl", data_species="mouse", orthologs=MOUSE)
    assert unsure.coverage.refused == {"a symbol of several genes": 1}
    sure = map_genes(var("Nrg1", "T", gene_ids=[TAL1_M, T]), (TBXT, TAL1), ids="ensembl", orthologs=MOUSE)
    assert sure.target_of.tolist() == [1, 0]


def test_upper_case_is_no_ortholog() -> None:
    with pytest.raises(SchemaError, match="0 of 3 genes") as caught:
        map_genes(var("Tal1", "Sox2", "Hbz"), tuple(SYMBOLS), ids="symbol")
    assert "say that the data are of Mus musculus" in str(caught.value)


def test_genes_that_are_one_are_summed() -> None:
    found = map_genes(var(f"{TAL1}.1", f"{TAL1}.2", TBXT), (TBXT, TAL1), ids="ensembl")
    assert found.coverage.duplicates == (TAL1,)
    collected = found.collect(sparse.csr_array(np.array([[1, 2, 0], [4, 0, 5]])))
    assert collected.toarray().tolist() == [[0, 3], [5, 4]]
    assert collected.nnz == 3
    with pytest.raises(SchemaError, match="found 2 columns; expected 3"):
        found.collect(sparse.csr_array((1, 2)))


def test_a_panel_may_be_small_and_an_atlas_large() -> None:
    vocabulary = tuple(f"ENSG{k:011d}" for k in range(1000))
    panel = map_genes(var(*vocabulary[:30]), vocabulary, ids="ensembl", min_coverage=1.0)
    assert panel.coverage.share == 1
    atlas = map_genes(var(*vocabulary, *map(str, range(2000))), vocabulary, ids="ensembl", min_coverage=1.0)
    assert atlas.coverage.n_mapped_data == atlas.coverage.n_mapped_targets == 1000


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        (("TBXT", "TAL1"), {"ids": "ensembl"}, r"0 of 2 genes .* not read: TBXT, TAL1.*var\['ensembl_id'\]"),
        ((TBXT, TAL1), {"ids": "symbol"}, r"put symbols into var\['feature_name'\]"),
        ((TBXT, "a", "b", "c"), {"ids": "ensembl"}, r"1 of 4 genes of the data \(25% .* at least 50%.*min_coverage"),
        (
            (T, TAL1_M),
            {"ids": "ensembl"},
            r"for a model that reads Homo.*embryo data fetch gene-orthologs",
        ),
        ((T,), {"ids": "ensembl", "species": "rat", "orthologs": MOUSE}, "leads from Mus musculus to Homo sapiens"),
        (("pal-1",), {"ids": "symbol", "data_species": "Caenorhabditis elegans"}, "choose a model of Caenorhabditis"),
        (("ENSDARG00000101576",), {"ids": "ensembl"}, "Danio rerio for a model that reads Homo sapiens"),
        ((T, HBA, HBB), {"ids": "ensembl", "orthologs": MOUSE}, "1 several orthologs, 1 no ortholog; not read"),
        (("TAL1", "TAL1"), {"ids": "symbol"}, "1 double genes of the data: TAL1"),
    ],
)
def test_what_is_wrong_is_said_with_its_cure(names: tuple[str, ...], options: dict, says: str) -> None:
    with pytest.raises(SchemaError, match=says):
        map_genes(var(*names), (TBXT, TAL1, SOX2, HBZ, "TBXU"), **options)


def test_a_genome_is_read_where_its_counts_are() -> None:
    genes, sums = var(TBXT, "a", "b", "c"), np.array([90.0, 5.0, 5.0, 0.0])
    vocabulary = (TBXT, "x", "y", "z")
    read = map_genes(genes, vocabulary, ids="ensembl", sums=sums)
    assert read.coverage.share_of_counts == 0.9
    assert "90.0% of the counts" in str(read.coverage)
    with pytest.raises(SchemaError, match=r"25% of what could be, 9% of the counts\)"):
        map_genes(genes, vocabulary, ids="ensembl", sums=sums[::-1] + np.array([10.0, 0, 0, 0]))


def test_genes_that_are_only_numbered_are_known_by_their_columns() -> None:
    numbered = var("0", "1", feature_id=[TBXT, "ENSG00000000003"], feature_name=["TBXT", "TSPAN6"])
    assert map_genes(numbered, (TBXT, "ENSG00000000003"), ids="ensembl").target_of.tolist() == [0, 1]
    assert map_genes(numbered, ("TSPAN6", "TBXT"), ids="symbol").target_of.tolist() == [1, 0]


def test_targets_stand_once() -> None:
    with pytest.raises(SchemaError, match="1 double genes of the model"):
        map_genes(var(TBXT), (TBXT, TBXT), ids="ensembl")


def test_column_by_either_name() -> None:
    found = map_genes(var("T", "Hbb-bh1"), ("TAL1", "TBXT"), ids="symbol", data_species="mouse", orthologs=MOUSE)
    assert [found.column(g) for g in ("T", "TBXT", "Hbb-bh1", "TAL1")] == [1, 1, UNMAPPED, 0]
    with pytest.raises(EditError, match=r"no gene .TBXR. .did you mean .TBXT."):
        found.column("TBXR")
    with pytest.raises(EditError, match="no gene 'ENSG00000164459'; expected"):  # a number next to it is no neighbour
        map_genes(var(TBXT), (TBXT,), ids="ensembl").column("ENSG00000164459")


def test_the_record_is_plain() -> None:
    found = map_genes(var(TBXT, *map(str, range(50))), (TBXT,), ids="ensembl")
    record = json.loads(json.dumps(found.coverage.record()))
    assert record["unmapped"] == {"count": 50, "first": [str(k) for k in range(20)]}
    assert (record["n_data"], record["share"], record["steps"]) == (51, 1.0, {"direct": 1})


# ---------------------------------------------------------------- laws

TARGETS = tuple(f"ENSG{k:011d}" for k in range(12))
GENES = st.lists(
    st.tuples(st.integers(0, 15), st.integers(0, 3)).map(lambda p: f"ENSG{p[0]:011d}" + (f".{p[1]}" if p[1] else "")),
    min_size=1, max_size=20, unique=True,
)  # fmt: skip


def mapped(genes: list[str]) -> GeneMap:
    return map_genes(var(*genes), TARGETS, ids="ensembl", min_coverage=0.0)


@given(GENES, st.randoms(use_true_random=False))
def test_the_order_of_the_genes_is_nothing(genes: list[str], random) -> None:
    order = list(range(len(genes)))
    random.shuffle(order)
    one, other = mapped(genes), mapped([genes[k] for k in order])
    assert other.target_of.tolist() == one.target_of[order].tolist()
    assert set(other.coverage.unmapped) == set(one.coverage.unmapped)
    assert (other.coverage.duplicates, other.coverage.steps) == (one.coverage.duplicates, one.coverage.steps)
    counts = np.random.default_rng(0).poisson(1, (3, len(genes)))
    first, second = (m.collect(sparse.csr_array(c)) for m, c in ((one, counts), (other, counts[:, order])))
    np.testing.assert_array_equal(first.toarray(), second.toarray())
    np.testing.assert_array_equal(first.indices, second.indices)


@given(GENES, st.integers(0, 2**32 - 1))
def test_collect_is_a_sum_over_genes(genes: list[str], seed: int) -> None:
    found = mapped(genes)
    counts = np.random.default_rng(seed).poisson(0.7, (4, len(genes)))
    expected = pd.DataFrame(counts.T, index=[g.split(".")[0] for g in genes]).groupby(level=0).sum()
    collected = found.collect(sparse.csr_array(counts))
    np.testing.assert_array_equal(collected.toarray(), expected.reindex(list(TARGETS), fill_value=0).T)
    assert collected.has_canonical_format
    assert (collected.data != 0).all()
    kept = found.target_of != UNMAPPED
    assert collected.sum() == counts[:, kept].sum()


@given(GENES)
def test_column_inverts_the_map(genes: list[str]) -> None:
    found = mapped(genes)
    for gene in genes:
        column = found.column(gene)
        assert column == UNMAPPED or TARGETS[column] == gene.split(".")[0]
    for k, target in enumerate(TARGETS):
        assert found.column(target) == k


# ---------------------------------------------------------------- real genes


@pytest.fixture
def geneformer(real_folder: Callable[[str], Path]) -> tuple[str, ...]:
    text = (real_folder("foundation-vocabularies") / "geneformer_v1" / "token_dictionary.json").read_text()
    return tuple(gene for gene in json.loads(text) if not gene.startswith("<"))


@pytest.mark.real
def test_the_tal1_chimera_in_the_vocabulary_of_geneformer(
    real: Callable[..., AnnData], real_folder: Callable[[str], Path], geneformer: tuple[str, ...]
) -> None:
    cells = real("mouse-tal1-chimera")
    path = real_folder("gene-orthologs") / "mouse_to_human.csv"
    found = map_genes(cells.var, geneformer, ids="ensembl", orthologs=Orthologs.read(path))
    rows = pd.read_csv(path)
    rows = rows[rows.iloc[:, 0].isin(cells.var_names) & rows.iloc[:, 3].isin(geneformer)]
    rows = rows[(rows.iloc[:, 4] == "ortholog_one2one") & (rows.iloc[:, 5] == 1)]
    assert found.coverage.n_mapped_data == len(rows) == 266
    assert found.coverage.n_mapped_data + sum(found.coverage.refused.values()) == cells.n_vars == 300
    assert found.coverage.refused["no ortholog"] == 18
    assert geneformer[found.column("ENSMUSG00000055609")] == HBZ  # Hba-x
    assert found.column(HBB) == UNMAPPED
    counts = sparse.csr_array(cells.layers["counts"])
    kept = cells.var_names.isin(rows.iloc[:, 0])
    assert found.collect(counts).sum() == counts.sum(axis=0)[kept].sum()


@pytest.mark.real
def test_all_genes_of_the_mouse(real_folder: Callable[[str], Path], geneformer: tuple[str, ...]) -> None:
    """By symbol, as most mouse data name them: T and all; upper-casing alone would lose it."""
    table = Orthologs.read(real_folder("gene-orthologs") / "mouse_to_human.csv")
    scgpt = json.loads((real_folder("foundation-vocabularies") / "scgpt" / "default_census_vocab.json").read_text())
    mouse = {"data_species": "Mus musculus", "orthologs": table, "min_coverage": 0.2}
    by_id = map_genes(var(*table.ids), geneformer, ids="ensembl", **mouse)
    by_symbol = map_genes(var(*table.ids), tuple(scgpt), ids="symbol", **mouse)
    assert geneformer[by_id.column("T")] == TBXT
    assert tuple(scgpt)[by_symbol.column("T")] == "TBXT"
    for found in (by_id, by_symbol):
        assert 14_000 < found.coverage.n_mapped_data < 16_085
        assert found.coverage.n_mapped_data - found.coverage.n_mapped_targets == 0
