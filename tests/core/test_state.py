"""State and Velocity: four tensors over the same cells, in one order, with shapes that the tests enforce."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from embryo.core.state import State, Velocity

Parts = State | Velocity
kinds = st.sampled_from([State, Velocity])
sizes = st.tuples(*(st.integers(0, 6) for _ in range(4)))


def make(kind: type[Parts], cells: int, dims: int, genes: int, space: int) -> Parts:
    gen = torch.Generator().manual_seed(cells + 7 * dims + 49 * genes)
    columns = (torch.randn(cells, n, generator=gen) for n in (dims, genes, space))
    return kind(*columns, torch.randn(cells, generator=gen))


@settings(deadline=None)
@given(kind=kinds, size=sizes)
def test_parts_come_in_the_order_of_the_fields(kind: type[Parts], size: tuple[int, int, int, int]) -> None:
    record = make(kind, *size)
    names = ("z", "g", "x", "log_mass") if kind is State else ("dz", "dg", "dx", "growth")
    assert all(part is getattr(record, name) for part, name in zip(record.parts(), names, strict=True))
    assert len(record) == size[0]


@settings(deadline=None)
@given(kind=kinds, size=sizes, data=st.data())
def test_index_mask_and_slice_choose_the_same_rows_of_every_part(kind, size, data) -> None:
    record = make(kind, *size)
    cells = size[0]
    rows = data.draw(st.lists(st.integers(0, cells - 1), max_size=8)) if cells else []
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=cells, max_size=cells)), dtype=torch.bool)
    cut = slice(data.draw(st.integers(0, 6)), data.draw(st.integers(0, 6)))
    for index in (torch.tensor(rows, dtype=torch.int64), mask, cut):
        chosen = record[index]
        assert type(chosen) is kind
        for part, whole in zip(chosen.parts(), record.parts(), strict=True):
            picked = [row for k, row in enumerate(whole) if mask[k]] if index is mask else None
            expected = whole[index] if picked is None else (torch.stack(picked) if picked else whole[:0])
            assert torch.equal(part, expected)


@settings(deadline=None)
@given(kind=kinds, size=sizes)
def test_map_applies_to_each_part_and_leaves_the_record(kind: type[Parts], size: tuple[int, int, int, int]) -> None:
    record = make(kind, *size)
    before = [part.clone() for part in record.parts()]
    doubled = record.map(lambda part: 2 * part)
    assert type(doubled) is kind
    for new, old, kept in zip(doubled.parts(), record.parts(), before, strict=True):
        assert torch.equal(new, old + old)
        assert torch.equal(old, kept)
    assert record.to("cpu").parts()[0].device.type == "cpu"


def test_mass_is_the_exponential() -> None:
    state = State(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 3), torch.tensor([0.0, 2.0]).log())
    assert torch.allclose(state.mass, torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("kind", [State, Velocity])
@pytest.mark.parametrize(
    "parts",
    [
        (torch.zeros(3, 2), torch.zeros(4, 2), torch.zeros(3, 3), torch.zeros(3)),  # other cells in g
        (torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(3, 3), torch.zeros(3, 1)),  # a column for a vector
        (torch.zeros(3), torch.zeros(3, 2), torch.zeros(3, 3), torch.zeros(3)),  # a vector for a matrix
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 2), torch.zeros(3, 3), torch.zeros(3)),  # integers
        (torch.zeros(3, 2), None, torch.zeros(3, 3), torch.zeros(3)),
    ],
)
def test_shape_violations_raise(kind: type[Parts], parts: tuple) -> None:
    with pytest.raises(TypeCheckError):
        kind(*parts)


def test_an_index_that_is_no_row_choice_raises() -> None:
    with pytest.raises(TypeCheckError):
        make(State, 3, 1, 1, 1)[torch.tensor([0.5])]


def test_records_are_frozen_and_compare_by_identity() -> None:
    a, b = make(State, 3, 2, 2, 3), make(State, 3, 2, 2, 3)
    with pytest.raises(FrozenInstanceError):
        a.z = b.z
    assert a == a  # noqa: PLR0124  and does not raise the way an elementwise comparison would
    assert a != b
    assert len({a, b}) == 2
