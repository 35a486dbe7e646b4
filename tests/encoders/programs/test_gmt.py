import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core.errors import SchemaError, StoreError
from embryo.encoders.programs import gmt

NAMES = st.text("abcXYZ019_-.", min_size=1, max_size=6)


def written(tmp_path, text):
    path = tmp_path / "programs.gmt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@settings(max_examples=30)
@given(
    sets=st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=8), min_size=1, max_size=6),
    end=st.sampled_from(["\n", "\r\n", "\t\t\n", "\n\n"]),
)
def test_what_is_written_is_read(tmp_path, sets, end):
    text = end.join("\t".join([name, f"about {name}", *genes]) for name, genes in sets.items())
    found = gmt.read(written(tmp_path, text))
    assert list(found.genes) == list(sets)
    assert {name: list(genes) for name, genes in found.genes.items()} == {
        name: list(dict.fromkeys(genes)) for name, genes in sets.items()
    }
    assert found.links == {name: f"about {name}" for name in sets}
    assert len(found) == len(sets)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A\tx\tg1\nB\tx\n", "line 2: program 'B' without a gene"),
        ("A g1 g2\n", "line 1: program 'A g1 g2' without a gene"),
        ("A\tx\tg1\n\nA\tx\tg2\n", "line 3: program 'A' for the second time"),
        ("\tx\tg1\n", "line 1: no name"),
        ("A\tx\tg1\t\tg2\n", "line 1: 1 empty or unprintable gene names ('')"),
        ("A\tx\tg1\x00\n", "line 1: 1 empty or unprintable gene names"),
        ("\n\n", "no programs"),
        (b"A\tx\tg\xff\n", "cannot be read"),
        (b"\x80\x04K\x01.", "cannot be read"),
    ],
)
def test_a_broken_file_is_told_with_its_lines(tmp_path, text, says):
    with pytest.raises(StoreError) as error:
        gmt.read(written(tmp_path, text))
    assert says in str(error.value)
    assert "programs.gmt" in str(error.value)


def test_all_broken_lines_are_told_at_once_but_not_without_end(tmp_path):
    with pytest.raises(StoreError) as error:
        gmt.read(written(tmp_path, "A\tx\tg\n" * 50))
    assert "21 problems" in str(error.value)
    assert "29 more lines like these" in str(error.value)
    with pytest.raises(StoreError, match="no such file"):
        gmt.read(tmp_path / "absent.gmt")


def test_membership_is_that_of_the_sets():
    sets = gmt.GeneSets({"one": ("b", "a", "z"), "two": ("c", "b"), "few": ("a", "q"), "many": ("a", "b", "c", "d")})
    found = gmt.mask(sets, ["d", "c", "b", "a"], fewest=2, most=3)
    assert found.programs == ("one", "two")
    assert found.genes == ("a", "b", "c")
    np.testing.assert_array_equal(found.member, [[True, True, False], [False, True, True]])
    assert found.members("two") == ("b", "c")
    assert found.left_out == {"few": 1, "many": 4}
    assert str(found) == "2 programs of 3 genes, 80% of theirs at hand; 2 left out"


@settings(max_examples=30)
@given(data=st.data())
def test_the_order_of_the_genes_at_hand_does_not_matter(data):
    genes = [f"g{i}" for i in range(12)]
    sets = gmt.GeneSets({f"p{k}": tuple(data.draw(st.permutations(genes))[: k + 2]) for k in range(4)})
    at_hand = data.draw(st.permutations(genes))[:10]
    found = gmt.mask(sets, at_hand, fewest=1)
    again = gmt.mask(sets, sorted(at_hand), fewest=1)
    assert (found.programs, found.genes) == (again.programs, again.genes)
    np.testing.assert_array_equal(found.member, again.member)
    for program in found.programs:
        assert set(found.members(program)) == set(sets.genes[program]) & set(at_hand)


def test_names_of_another_kind_are_told():
    sets = gmt.GeneSets({"P": ("Tal1", "Gata1", "Klf1")})
    with pytest.raises(SchemaError) as error:
        gmt.mask(sets, ["TAL1", "GATA1"], fewest=2)
    for part in ("0 of 3 genes of 1 programs among 2 at hand (2 if case did not matter)", "translate the names"):
        assert part in str(error.value)
