"""A folded network is the network."""

import pytest
import torch

from embryo.core.state import State
from embryo.fields.flow import FlowNetwork, Scales


@pytest.mark.parametrize("reads", [("z", "g", "x"), ("g",), ("z", "x")])
@pytest.mark.parametrize("head_depth", [0, 2])
@pytest.mark.parametrize("time", [True, False])
def test_folded_as_the_network(reads: tuple[str, ...], head_depth: int, time: bool) -> None:
    torch.manual_seed(0)
    network = FlowNetwork(dims=3, genes=2, space=3, reads=reads, time=time, width=16, head_depth=head_depth)
    spread = torch.rand(8)
    spread[4] = 0
    network.standardise(Scales(torch.randn(8), spread, torch.rand(9), 1.0, 4.0))
    s = State(torch.randn(10, 3), torch.randn(10, 2), torch.randn(10, 3), torch.zeros(10))
    for t in (torch.tensor(1.0), torch.tensor(2.7)):
        with torch.no_grad():
            for a, b in zip(network(t, s).parts(), network.fast()(t, s).parts(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_trunk_that_was_changed_is_not_folded() -> None:
    network = FlowNetwork(dims=2, genes=0, space=0, width=8)
    network.trunk = torch.nn.Sequential(
        *(torch.nn.SELU() if isinstance(p, torch.nn.SiLU) else p for p in network.trunk)
    )
    assert network.fast() is network
