import numpy as np
import pytest
import torch
from torch.nn import functional

from embryo.encoders.programs.network import ProgramNetwork, Sizes

MEMBER = torch.tensor([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.bool)


def network(states=0, seed=0):
    return ProgramNetwork.seeded(MEMBER, Sizes(dims=3, width=8, heads=2, states=states), seed).double().eval()


def inputs(states=0, cells=4):
    torch.manual_seed(1)
    return torch.randn(cells, 5, *([states] if states else []), dtype=torch.float64)


@pytest.mark.parametrize("states", [0, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_program_token_has_no_gradient_to_a_gene_outside_it(states, dtype):
    net, genes = network(states).to(dtype), inputs(states).to(dtype)
    jacobian = torch.autograd.functional.jacobian(net.program_tokens, genes)
    size = jacobian.abs().amax(dim=tuple(range(5, jacobian.ndim))) if states else jacobian.abs()
    size = size.amax(dim=2)  # cells, programs, cells, genes
    for cell in range(4):
        inside = size[cell, :, cell]
        assert torch.equal(inside > 0, MEMBER)
        assert (inside[~MEMBER] == 0).all()
        assert (size[cell][:, [k for k in range(4) if k != cell]] == 0).all()


def test_pooling_is_the_softmax_over_members_written_out():
    net, genes = network(), inputs()
    tokens = net.program_tokens(genes)
    state = net.identity + genes[..., None] * net.direction
    query, key, value = net.query, net.key(state), net.value(state)
    for cell in range(4):
        for p, row in enumerate(MEMBER):
            parts = []
            for h in (slice(0, 4), slice(4, 8)):
                score = torch.cat([key[cell, row][:, h] @ query[p, h] / 2, torch.zeros(1, dtype=torch.float64)])
                parts.append(score.softmax(0)[:-1] @ value[cell, row][:, h])
            u = query[p] + torch.cat(parts)
            expected = functional.layer_norm(u + net.refine(u), [8])
            torch.testing.assert_close(tokens[cell, p], expected)


def test_the_order_of_genes_programs_and_cells_does_not_matter():
    net, genes = network(), inputs()
    g, p, c = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 1]), torch.tensor([1, 3, 0, 2])
    other = ProgramNetwork.seeded(MEMBER[p][:, g], net.sizes).double().eval()
    state = net.state_dict()
    for key in ("identity", "direction", "weight", "bias", "centre", "spread"):
        state[key] = state[key][g]
    state |= {"query": state["query"][p], "share": state["share"][p], "member": MEMBER[p][:, g]}
    state |= {f"back.2.{key}": state[f"back.2.{key}"][g] for key in ("weight", "bias")}
    other.load_state_dict(state)
    z, tokens = net(genes)
    z_other, tokens_other = other(genes[c][:, g])
    torch.testing.assert_close(z_other, z[c])
    torch.testing.assert_close(tokens_other, tokens[c][:, p])
    torch.testing.assert_close(other.decode(z_other), net.decode(z)[c][:, g])
    torch.testing.assert_close(net.loss(genes, genes), other.loss(genes[c][:, g], genes[c][:, g]))


def test_a_gene_that_was_not_found_says_nothing():
    net, genes = network(6), inputs(6)
    found = torch.ones(4, 5, dtype=torch.bool)
    found[:, 1] = False
    found[0] = False
    moved = genes.clone()
    moved[:, 1] += 7
    torch.testing.assert_close(net.program_tokens(genes, found), net.program_tokens(moved, found), rtol=0, atol=0)
    z, tokens = net(genes, found)
    assert torch.isfinite(z).all()
    u = net.query
    torch.testing.assert_close(tokens[0], net.norm(u + net.refine(u)))


def test_standardised_levels_and_constant_genes():
    net, levels = network(), inputs().abs()
    levels[:, 2] = 1.5
    net.standardise(levels.mean(0), levels.std(0, unbiased=False))
    assert net.spread[2] == 1
    plain = network()
    torch.testing.assert_close(net(levels)[0], plain((levels - levels.mean(0)) / net.spread)[0])


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = network(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    for a, b in zip(one.parameters(), network(seed=3).parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one.parameters(), network(seed=4).parameters(), strict=True))
