import torch

from embryo import simulate
from embryo.core.state import State
from embryo.fields.conditional import Conditional
from embryo.fields.flow import FlowNetwork


def test_a_condition_changes_where_cells_go_and_is_no_part_of_them() -> None:
    torch.manual_seed(0)
    law = Conditional(
        FlowNetwork(dims=4, genes=3, space=3, width=8).requires_grad_(requires_grad=False), torch.zeros(2)
    )
    s = State(torch.rand(5, 2), torch.rand(5, 3), torch.rand(5, 3), torch.zeros(5))
    one, two = (simulate.forward(f, s, [0.0, 1.0], step_h=0.5).at(-1) for f in (law, law.given(torch.ones(2))))
    assert one.z.shape == s.z.shape
    assert not torch.equal(one.z, two.z)
    same = simulate.forward(law.given(torch.zeros(2)), s, [0.0, 1.0], step_h=0.5).at(-1)
    assert torch.equal(same.z, one.z)
