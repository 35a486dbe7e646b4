"""Genotypes in the words of mouse nomenclature and of methods sections; the same alleles are written in many ways."""

import pytest

from embryo.encoders.facts.genotypes import meet

OF_TAL1 = [
    "Tal1-/-", "Tal1 -/-", "Tal1(-/-)", "Tal1\N{MINUS SIGN}/\N{MINUS SIGN}", "Tal1+/-", "Tal1-KO", "tal1KO",
    "TAL1 null", "homozygous Tal1 knock-out", "knock-out of Tal1", "WT/Tal1", "+/Tal1", "Tal1tm1/tm1", "Tal1fl/fl",
    "Tal1tm1a(KOMP)Wtsi", "Tal-1 deficient", "Gata1-/-; Tal1-/-", "Tal1/Lmo2 DKO", "Tg(Tal1)", "mice lacking Tal1",
    "Tal1_KO", "Tal1",
]  # fmt: skip


@pytest.mark.parametrize("held", OF_TAL1)
@pytest.mark.parametrize("asked", ["Tal1-/-", "homozygous Tal1 knock-out", "tal1KO", "WT/Tal1", "Tal1tm1/tm1"])
def test_one_gene_in_all_its_spellings(held: str, asked: str) -> None:
    assert meet(held, asked) is True


@pytest.mark.parametrize("held", ["Gata1-/-", "Nkx2-1 null", "Shh-/-", "Kit -/-", "Tal10-/-", "wild type", "WT"])
def test_another_gene_or_the_wild_type_is_no_leak(held: str) -> None:
    assert meet(held, "Tal1-/-") is False


def test_families_of_genes_are_told_apart() -> None:
    assert meet("Nkx2-1 null", "Nkx2-5-/-") is False
    assert meet("Nkx2.5 null", "Nkx2-5-/-") is True
    assert meet("Ifitm1-/-", "Ifitm3-/-") is False
    assert meet("Tmem119-/-", "Tmem2-/-") is False


@pytest.mark.parametrize(
    "held",
    [
        "mutant",
        "various knock-outs",
        "control",
        "not said",
        "",
        "Tal1b",
        "Tal1-Cre",
        "siTal1",
        "Kit",
        "Kit knock-out",
        "heterozygous",
        "-/-",
        "E8.5 mutants",
        "12 knock-outs on C57BL/6J",
    ],
)
def test_what_cannot_be_understood_is_left_open(held: str) -> None:
    assert meet(held, "Tal1-/-") is None


def test_the_wild_type() -> None:
    assert meet("wild-type", "WT") is True
    assert meet("wild type embryos", "wildtype") is True
    assert meet("Tal1+/+", "WT") is None
    assert meet("Tal1-/-", "wild type") is False


def test_a_protected_genotype_begins_with_its_gene() -> None:
    assert meet("Shh-/-", "Shh") is True
    assert meet("T-/-", "T") is True
    assert meet("Gata1-/-", "Shh") is False
    assert meet("Gata1-/-", "a mutant") is None
