"""Leaks: the mouse atlas in scPRINT-2, weights fine-tuned on a knock-out, and what no record says."""

import json
from pathlib import Path

import pytest

from embryo.core.errors import ConfigError
from embryo.encoders.facts import cards
from embryo.encoders.facts.corpora import Corpus, Part
from embryo.encoders.facts.leaks import Protected, corpus_of, leaks, require_no_leak, unchecked
from embryo.encoders.genes.genenames import certain

MOUSE = "Mus musculus"
TAL1 = Protected(MOUSE, stages=("E8.5",), genotypes=("Tal1-/-",))


def mouse(*stages: str, genotypes: tuple[str, ...] | None = ()) -> Corpus:
    return Corpus(parts=(Part(organism=MOUSE, stages=stages, genotypes=genotypes),))


def test_scprint2_has_seen_the_mouse_at_e8_5() -> None:
    corpus = cards.card("scprint2").corpus
    (problem,) = leaks(corpus, TAL1)
    assert "stages E8-P0 of Mus musculus" in problem.found
    assert "Qiu et al. 2024" in problem.found
    with pytest.raises(ConfigError, match=r"encoder scprint2: found stages E8-P0 .* protected stages: E8\.5"):
        require_no_leak("scprint2", corpus, TAL1)
    said = require_no_leak("scprint2", corpus, TAL1, allow=True)
    assert said.startswith("LEAK, allowed: stages E8-P0")
    assert "not on record" in said  # of the rest of its mouse data


def test_a_genotype_alone_is_not_in_an_atlas_of_the_wild_type() -> None:
    corpus, protected = cards.card("scprint2").corpus, Protected(MOUSE, genotypes=("Tal1-/-",))
    assert leaks(corpus, protected) == []
    assert unchecked(corpus, protected) == [
        "the genotypes of Mus musculus (other mouse data of CELLxGENE and scBaseCount) in the training corpus are not "
        "on record: it may hold Tal1-/-"
    ]
    assert leaks(corpus, Protected("mouse", genotypes=("WT",)))


@pytest.mark.parametrize("name", ["geneformer", "scgpt", "scfoundation", "cellfm", "maxtoki", "gremln"])
def test_a_human_corpus_holds_no_mouse(name: str) -> None:
    assert require_no_leak(name, corpus_of(name), TAL1) == "nothing protected is in the training corpus"
    human = Protected("human", stages=("CS10",))
    assert "stages of Homo sapiens" in require_no_leak(name, corpus_of(name), human)  # not on record


def test_a_folder_wins_over_the_card(tmp_path: Path) -> None:
    assert corpus_of("geneformer", tmp_path) == cards.card("geneformer").corpus
    tuned = {"name": "fine-tuned on a chimera", "parts": [
        {"organism": "Homo sapiens"},
        {"organism": MOUSE, "stages": ["E8.25"], "genotypes": ["wild type", "knock-out of Tal1"]},
    ]}  # fmt: skip
    (tmp_path / "corpus.json").write_text(json.dumps(tuned))
    (problem,) = leaks(corpus_of("geneformer", tmp_path), TAL1)
    assert problem.found.startswith("genotypes knock-out of Tal1 of Mus musculus")
    assert leaks(corpus_of("geneformer", tmp_path), Protected(MOUSE, genotypes=("Gata1-/-",))) == []


@pytest.mark.parametrize(
    ("held", "asked", "meet"),
    [
        ("E8.5", "E8.5", True), ("e8.5", "8.5 dpc", True), ("E8.5", "204 h", True), ("E8.5", "TS13", True),
        ("E8.25", "E8.5", False), ("E8-E9.5", "E8.5", True), ("E8-9.5", "E9.5", True), ("E9.5 to E10.5", "E8.5", False),
        ("200-210 h", "E8.5", True), ("8 dpc - 9 dpc", "E8.5", True), ("E8-P0", "E18.5", True), ("E8-P0", "P7", False),
        ("P7", "P0-P14", True), ("E6.5-E8.5", "E8.5-E9.5", True), ("blastula", "Blastula", True),
        ("E8.5", "E7-E8", False),
    ],
)  # fmt: skip
def test_stages_meet(held: str, asked: str, meet: bool) -> None:
    protected = Protected(MOUSE, stages=(asked,))
    assert bool(leaks(mouse(held), protected)) is meet
    assert unchecked(mouse(held), protected) == []


@pytest.mark.parametrize(
    ("held", "asked", "meet"),
    [
        ("Tal1-/-", "Tal1", True), ("Tal1-KO", "tal1 -/-", True), ("Nkx2-5+/-", "Nkx2-5-/-", True),
        ("Nkx2-1 null", "Nkx2-5-/-", False), ("Tal1-/-; Gata1-/-", "Gata1-null", True), ("wild-type", "WT", True),
        ("wild type", "Tal1-/-", False), ("Tal1b", "Tal1", False),
    ],
)  # fmt: skip
def test_genotypes_meet(held: str, asked: str, meet: bool) -> None:
    assert bool(leaks(mouse(genotypes=(held,)), Protected(MOUSE, genotypes=(asked,)))) is meet


def test_what_cannot_be_compared_is_said() -> None:
    assert leaks(mouse("larval"), TAL1) == []
    assert unchecked(mouse("larval"), TAL1) == ["larval of Mus musculus cannot be compared with E8.5"]


def test_an_unknown_corpus_cannot_be_checked() -> None:
    unknown = corpus_of("precomputed")
    assert leaks(unknown, TAL1) == []
    said = require_no_leak("precomputed", unknown, TAL1)
    assert said == "leaks cannot be checked: the training corpus is not known: it may hold E8.5, Tal1-/-"


def test_organisms_that_are_not_on_record() -> None:
    fish = Protected("zebrafish", stages=("24 hpf",))
    assert "it may hold Danio rerio" in require_no_leak("scprint2", corpus_of("scprint2"), fish)
    assert require_no_leak("geneformer", corpus_of("geneformer"), fish) == "nothing protected is in the training corpus"


def test_what_is_fitted_here_has_no_corpus() -> None:
    assert corpus_of("pca") is None
    assert require_no_leak("pca", None, TAL1) == "nothing protected is in the training corpus"


@pytest.mark.parametrize("name", ["mus musculus", "MUS MUSCULUS", "Mus_musculus", "Mouse", "Mus musculus domesticus"])
def test_a_species_is_the_same_in_any_case(name: str) -> None:
    with pytest.raises(ConfigError, match=r"stages E8\.5 of Mus musculus"):
        require_no_leak("mine", mouse("E8.5"), Protected(name, ("E8.5",)))
    held = Corpus(parts=(Part(organism=name, stages=("E8.5",)),))
    assert leaks(held, TAL1)


@pytest.mark.parametrize("name", ["murine", "M. musculus", "Mus muscullus", "unknown", "", "NCBITaxon:10090"])
def test_a_species_that_nobody_knows_is_never_called_no_leak(name: str) -> None:
    said = require_no_leak("mine", mouse("E8.5"), Protected(name, ("E8.5",)))
    assert said == f"leaks cannot be checked: 'Mus musculus' and {name!r} may be one organism"
    said = require_no_leak("mine", Corpus(parts=(Part(organism=name, stages=("E8.5",)),)), TAL1)
    assert said == f"leaks cannot be checked: {name!r} and 'Mus musculus' may be one organism"
    with pytest.raises(ConfigError, match=r"stages E8\.5"):
        require_no_leak("mine", Corpus(parts=(Part(organism=name, stages=("E8.5",)),)), Protected(name, ("E8.5",)))


def test_the_cards_name_organisms_for_certain() -> None:
    parts = [part for name in cards.names() if (c := cards.card(name).corpus) for part in c.parts]
    assert len(parts) > 10
    assert all(certain(part.organism) == part.organism for part in parts)


@pytest.mark.parametrize(
    ("held", "asked", "meet"),
    [
        ("30 h", "24-48", True), ("30 hpf", "24-48", True), ("24-48", "30 h", True), ("30", "30 h", True),
        ("1.5 days", "24 - 48", True), ("50 h", "24-48", False), ("49-60", "24-48", False),
    ],
)  # fmt: skip
def test_numbers_without_a_unit_are_hours(held: str, asked: str, meet: bool) -> None:
    protected = Protected("Danio rerio", stages=(asked,))
    corpus = Corpus(parts=(Part(organism="zebrafish", stages=(held,)),))
    assert bool(leaks(corpus, protected)) is meet
    assert unchecked(corpus, protected) == []


@pytest.mark.parametrize(
    "held", ["E6.5, E7.5, E8.5", "up to E9.5", "> E8", "E8.5 embryos", "E6.5 and later", "P7 weeks"]
)
def test_words_around_a_time_are_not_passed_over(held: str) -> None:
    assert unchecked(mouse(held), Protected(MOUSE, ("E8.5",))) == [
        f"{held} of Mus musculus cannot be compared with E8.5"
    ]


def test_a_genotype_that_is_not_understood_is_told() -> None:
    held, protected = mouse(genotypes=("various mutants",)), Protected(MOUSE, genotypes=("Tal1-/-",))
    assert leaks(held, protected) == []
    assert unchecked(held, protected) == ["various mutants of Mus musculus cannot be compared with Tal1-/-"]


def test_where_nothing_is_protected_nothing_is_claimed() -> None:
    assert require_no_leak("mine", mouse("E8.5"), Protected(MOUSE)) == "nothing was protected"
    said = require_no_leak("precomputed", corpus_of("precomputed"), Protected(""))
    assert said == "leaks cannot be checked: the training corpus is not known"


def test_every_leak_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        require_no_leak("mine", mouse("E8.5", "E9.5", genotypes=("Tal1-/-",)), TAL1)
    assert len(caught.value.problems) == 2
