"""The network against torch's own encoder layers, and its keys against their way back."""

import pytest
import torch
from torch import nn

from embryo.core.errors import StoreError
from embryo.encoders.networks.value_network import DrugShape, Shape, ValueNetwork, inverse, renamed

NAMES = (("^layers.", "^layers."), (".qkv.", ".self_attn.in_proj_"), (".out.", ".self_attn.out_proj."))
NAMES += ((".up.", ".linear1."), (".down.", ".linear2."))


def tokens(n: int = 3, length: int = 11) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 20, (n, length), generator=make)
    values = torch.randint(0, 50, (n, length), generator=make).float()
    return ids, values, torch.arange(length)[None] < torch.tensor([length, 7, 1])[:n, None]


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_layers_are_those_of_torch(norm: str, activation: str) -> None:
    shape = Shape(20, 16, 4, 3, 24, norm, activation)
    ours = ValueNetwork(shape).eval()
    layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, activation, batch_first=True, norm_first=norm == "pre")
    theirs = nn.TransformerEncoder(
        layer, 3, norm=nn.LayerNorm(16) if norm == "pre" else None, enable_nested_tensor=False
    ).eval()
    theirs.load_state_dict({k: v for k, v in renamed(ours.state_dict(), NAMES).items() if k[:5] in ("layer", "norm.")})
    ids, values, keep = tokens()
    with torch.no_grad():
        start = ours(ids, values, keep, layer=0)
        expected = theirs(start, src_key_padding_mask=~keep)
        torch.testing.assert_close(ours(ids, values, keep)[keep], expected[keep], rtol=0, atol=2e-6)
        first = theirs.layers[0](start, src_key_padding_mask=~keep)
        torch.testing.assert_close(ours(ids, values, keep, layer=1)[keep], first[keep], rtol=0, atol=2e-6)


def test_values_are_clipped_before_they_are_embedded() -> None:
    network = ValueNetwork(Shape(20, 16, 4, 1, 24))
    ids, _, keep = tokens()
    high, top = (torch.full(ids.shape, value) for value in (9e4, 512.0))
    torch.testing.assert_close(network(ids, high, keep), network(ids, top, keep))
    assert not torch.allclose(network(ids, top - 1, keep), network(ids, top, keep))


def test_a_drug_stands_at_position_one() -> None:
    """Its vector by hand: norm of the projection of the activated fingerprint."""
    network = ValueNetwork(Shape(20, 16, 4, 1, 24, "pre", drug=DrugShape(4, 6))).eval()
    ids, values, keep = tokens(2)
    drugs = torch.tensor([2, 0])
    with_drug, without = (network(ids, values, keep, layer=0, drugs=d) for d in (drugs, None))
    parts = network.drug
    hidden = parts.embedding.weight[drugs] @ parts.fc.weight.T + parts.fc.bias
    hidden = torch.where(hidden > 0, hidden, 0.01 * hidden) @ parts.proj.weight.T + parts.proj.bias
    expected = (hidden - hidden.mean(-1, keepdim=True)) / (hidden.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(with_drug[:, 1], expected)
    others = [k for k in range(ids.shape[1]) if k != 1]
    torch.testing.assert_close(with_drug[:, others], without[:, others])


def test_names_come_back() -> None:
    state = ValueNetwork(Shape(20, 16, 4, 2, 24, "pre")).state_dict()
    there = renamed(state, NAMES)
    assert "layers.1.self_attn.in_proj_weight" in there
    assert list(renamed(there, inverse(NAMES))) == list(state)


def test_all_that_is_wrong_with_a_shape_is_said_at_once() -> None:
    with pytest.raises(StoreError) as caught:
        Shape(20, 16, 3, 2, 24, "sandwich", "swish", drug=DrugShape(4, 6, "tanh"))
    found = [problem.found for problem in caught.value.problems]
    assert found == ["16 dimensions for 3 heads", "norm scheme 'sandwich'", "activation 'swish'", "activation 'tanh'"]
