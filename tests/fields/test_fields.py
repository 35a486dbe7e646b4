from pathlib import Path

import pytest
import torch

from embryo import fields
from embryo.core import store
from embryo.core.errors import StoreError
from embryo.core.field import Field
from embryo.core.state import State
from embryo.fields import Expansion, FlowNetwork, Linear, Rotation, Scales, Still


def state(cells: int = 7) -> State:
    rng = torch.Generator().manual_seed(0)
    z, g, x = (torch.randn(cells, d, generator=rng) for d in (4, 2, 3))
    return State(z, g, x, torch.zeros(cells))


def network(**kwargs: object) -> FlowNetwork:
    torch.manual_seed(0)
    return FlowNetwork(**{"dims": 4, "genes": 2, "space": 3, "width": 8} | kwargs)


@pytest.mark.parametrize("field", [Still(), Rotation(), Expansion(), Linear(torch.eye(4), torch.eye(3)), network()])
def test_every_field_keeps_the_protocol(field: Field) -> None:
    assert isinstance(field, Field)
    v = field(torch.tensor(0.5), state())
    for rate, part in zip(v.parts(), state().parts(), strict=True):
        assert rate.shape == part.shape


def test_a_cell_alone_moves_as_in_the_crowd_and_order_is_irrelevant() -> None:
    field, s = network(), state()
    whole = field(torch.tensor(0.3), s)
    order = torch.tensor([3, 0, 6])
    part = field(torch.tensor(0.3), s[order])
    for a, b in zip(whole[order].parts(), part.parts(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_trunk_reads_only_what_it_may() -> None:
    field, s = network(reads=("g",)), state()
    other = State(s.z + 1, s.g, s.x - 5, s.log_mass)
    torch.testing.assert_close(field(torch.tensor(0.1), s).dx, field(torch.tensor(0.1), other).dx)
    moved = State(s.z, s.g + 1, s.x, s.log_mass)
    assert not torch.allclose(field(torch.tensor(0.1), s).dx, field(torch.tensor(0.1), moved).dx)


def test_units_of_the_data_do_not_matter_once_standardised() -> None:
    """Scaling space by 1000 and the standardisation with it scales the velocity by 1000."""
    s = state()
    one, big = network(), network()
    wide = torch.cat([torch.ones(6), torch.full((3,), 1000.0)])
    one.standardise(Scales(torch.zeros(9), torch.ones(9), torch.ones(10), 0.0, 2.0))
    big.standardise(Scales(torch.zeros(9), wide, torch.cat([wide, torch.ones(1)]), 0.0, 2.0))
    far = State(s.z, s.g, 1000 * s.x, s.log_mass)
    torch.testing.assert_close(
        big(torch.tensor(1.0), far).dx, 1000 * one(torch.tensor(1.0), s).dx, rtol=1e-4, atol=1e-2
    )


def test_saved_and_loaded_field_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    field = network(reads=("z", "x"), depth=2)
    fields.save(field, tmp_path / "f.safetensors", seed=3)
    again, meta = fields.load(tmp_path / "f.safetensors")
    assert meta["seed"] == 3
    assert torch.equal(field(torch.tensor(0.2), state()).dz, again(torch.tensor(0.2), state()).dz)


def test_foreign_and_misshapen_fields_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    store.write_tensors(path, network().state_dict(), {"kind": "horoscope", "shape": {}})
    with pytest.raises(StoreError, match="horoscope"):
        fields.load(path)
    store.write_tensors(path, network().state_dict(), {"kind": "flow", "shape": network(width=9).shape()})
    with pytest.raises(StoreError, match=r"(?s)problems.*trunk\.0\.weight of shape \(8,"):
        fields.load(path)
