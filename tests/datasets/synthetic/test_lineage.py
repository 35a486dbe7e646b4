import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embryo.datasets.synthetic import lineage


@given(st.integers(0, 9999), st.lists(st.booleans(), max_size=39))
def test_a_number_remembers_its_whole_pedigree(clone: int, turns: list[bool]) -> None:
    cell = lineage.founders(10_000)[[clone]]
    mothers = []
    for second in turns:
        mothers.append(int(cell[0]))
        cell = lineage.daughters(cell)[int(second)]
    assert lineage.names(cell)[0] == f"c{clone:04d}" + "".join("b" if second else "a" for second in turns)
    assert lineage.clone(cell)[0] == clone
    for mother in reversed(mothers):
        cell = lineage.parent(cell)
        assert cell[0] == mother
    assert lineage.parent(cell)[0] == -1
    assert lineage.names(np.array([-1]))[0] == ""


def test_numbers_end_after_39_generations() -> None:
    cell = lineage.founders(1)
    for _ in range(39):
        assert lineage.divisible(cell).all()
        cell = lineage.daughters(cell)[1]
    assert not lineage.divisible(cell).any()
    assert lineage.clone(cell)[0] == 0
