import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embryo.core import pedigree


@given(st.integers(0, 9999), st.lists(st.booleans(), max_size=39))
def test_a_number_remembers_its_whole_pedigree(clone: int, turns: list[bool]) -> None:
    cell = pedigree.founders(10_000)[[clone]]
    mothers = []
    for second in turns:
        mothers.append(int(cell[0]))
        cell = pedigree.daughters(cell)[int(second)]
    assert pedigree.names(cell)[0] == f"c{clone:04d}" + "".join("b" if second else "a" for second in turns)
    assert pedigree.clone(cell)[0] == clone
    assert pedigree.generation(cell)[0] == len(turns)
    for mother in reversed(mothers):
        cell = pedigree.parent(cell)
        assert cell[0] == mother
    assert pedigree.parent(cell)[0] == -1
    assert pedigree.names(np.array([-1]))[0] == ""


def test_numbers_end_after_39_generations() -> None:
    cell = pedigree.founders(1)
    for _ in range(39):
        assert pedigree.divisible(cell).all()
        cell = pedigree.daughters(cell)[1]
    assert not pedigree.divisible(cell).any()
    assert pedigree.clone(cell)[0] == 0


def test_founders_may_keep_their_own_names() -> None:
    first, second = pedigree.daughters(pedigree.founders(2))
    assert pedigree.names(np.array([first[1], second[0], -1]), ["AB", "P1"]).tolist() == ["P1a", "ABb", ""]
