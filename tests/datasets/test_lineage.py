import pytest
from hypothesis import given
from hypothesis import strategies as st

from embryo.datasets import lineage

MOTHERS = {
    "AB": "P0", "P1": "P0", "EMS": "P1", "P2": "P1", "MS": "EMS", "E": "EMS", "C": "P2", "P3": "P2", "D": "P3",
    "P4": "P3", "Z2": "P4", "Z3": "P4", "ABa": "AB", "ABpl": "ABp", "MSa": "MS", "Ea": "E", "Ep": "E", "Cap": "Ca",
    "Da": "D", "ABplaapap": "ABplaapa", "P0": "", "Nuc12": "", "polar1": "",
}  # fmt: skip
FOUNDERS = {
    "ABala": "ABal", "ABal": "ABal", "ABar": "ABar", "ABplp": "ABpl", "ABpraaa": "ABpr", "MS": "MS", "MSapp": "MS",
    "E": "E", "Ealp": "E", "Caap": "C", "Dpp": "D", "P4": "P4", "Z2": "P4", "Z3": "P4", "AB": "AB", "ABa": "ABa",
    "ABp": "ABp", "P0": "P0", "P1": "P1", "EMS": "EMS", "P2": "P2", "P3": "P3", "Nuc7": "unnamed", "": "unnamed",
    "abala": "unnamed", "EMSa": "EMS", "nothing": "unnamed",
}  # fmt: skip


@pytest.mark.parametrize(("cell", "mother"), MOTHERS.items())
def test_mother(cell: str, mother: str) -> None:
    assert lineage.mother(cell) == mother


@pytest.mark.parametrize(("cell", "founder"), FOUNDERS.items())
def test_founder(cell: str, founder: str) -> None:
    assert lineage.founder(cell) == founder


def test_ancestors_lead_to_the_zygote() -> None:
    assert lineage.ancestors("Ealp") == ["Eal", "Ea", "E", "EMS", "P1", "P0"]
    assert lineage.ancestors("Z3") == ["P4", "P3", "P2", "P1", "P0"]
    assert lineage.ancestors("P0") == lineage.ancestors("Nuc3") == []


@given(st.sampled_from(["AB", "MS", "E", "C", "D"]), st.text("aplrdv", max_size=9))
def test_daughters_know_their_mother(root: str, path: str) -> None:
    for letter in "ap":
        assert lineage.mother(root + path + letter) == root + path
    assert lineage.ancestors(root + path)[-1] == "P0"


def test_unnamed_tracks_know_a_mother_that_exists() -> None:
    found = lineage.mothers(["Nuc12a", "Nuc12p", "Nuc13a", "Nuc12", "ABal"], ["Nuc12", "Nuc12a", "Nuc12p", "Nuc13a"])
    assert found.to_dict() == {"Nuc12a": "Nuc12", "Nuc12p": "Nuc12", "Nuc13a": "", "Nuc12": "", "ABal": "ABa"}


def test_polar_bodies() -> None:
    assert lineage.polar("polar1")
    assert lineage.polar("PolarBody")
    assert not lineage.polar("P1")
