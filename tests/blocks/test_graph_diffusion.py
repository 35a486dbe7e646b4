"""The diffusion operator against matrix exponentials of scipy and torch, and the laws that it must keep."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csgraph, csr_array
from scipy.sparse.linalg import expm_multiply
from torch import Tensor

from embryo.blocks.graph_diffusion import GraphDiffusedAttention, TokenGraph, coefficients, diffuse

HALF_C0 = 0.907  # of beta 0.1, as the guide measured it on the released code


def random_edges(n: int, extra: int, seed: int) -> np.ndarray:
    """A connected graph: a random tree and some more edges; pairs in either order, each once."""
    rng = np.random.default_rng(seed)
    pairs = {(int(rng.integers(k)), k) for k in range(1, n)}
    pairs |= {tuple(sorted(map(int, rng.choice(n, 2, replace=False)))) for _ in range(extra if n > 1 else 0)}
    edges = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    flip = rng.random(edges.shape[1]) < 0.5
    edges[:, flip] = edges[::-1, flip]
    return edges


def one_cell(edges: np.ndarray, n: int) -> TokenGraph:
    cell = np.zeros_like(edges[:1])
    return TokenGraph.of(torch.from_numpy(np.concatenate([cell, edges])), torch.ones(1, n, dtype=torch.bool))


def dense(edges: np.ndarray, n: int) -> csr_array:
    a = csr_array((np.ones(edges.shape[1]), edges), shape=(n, n))
    return csr_array(a + a.T)


@given(st.integers(2, 40), st.integers(0, 60), st.integers(0, 99), st.sampled_from([0.05, 0.1, 0.5, 1.0, 3.0]))
def test_it_is_the_heat_kernel_of_the_normalised_laplacian(n: int, extra: int, seed: int, beta: float) -> None:
    edges = random_edges(n, extra, seed)
    x = np.random.default_rng(seed).normal(size=(n, 3))
    laplacian = csgraph.laplacian(dense(edges, n), normed=True)
    expected = expm_multiply(-beta * csr_array(laplacian), x)
    ours = diffuse(torch.from_numpy(x)[None], one_cell(edges, n), coefficients(beta))[0].numpy()
    # the weights of the graph are single precision, so is the result
    assert np.abs(ours - expected).max() < 1e-5 * max(1.0, np.abs(x).max())


def test_single_precision_is_as_near_to_torchs_matrix_exponential_as_the_guide_says() -> None:
    edges, n = random_edges(200, 900, 0), 200
    x = torch.randn(1, n, 16, generator=torch.Generator().manual_seed(0))
    laplacian = torch.from_numpy(csgraph.laplacian(dense(edges, n).toarray(), normed=True))
    expected = torch.linalg.matrix_exp(-0.1 * laplacian) @ x[0].double()
    assert (diffuse(x, one_cell(edges, n), coefficients(0.1))[0] - expected).abs().max() < 3e-6


def test_the_published_operator_is_off_by_half_of_c0() -> None:
    edges, n = random_edges(50, 100, 3), 50
    x = torch.randn(1, n, 4, generator=torch.Generator().manual_seed(0))
    graph = one_cell(edges, n)
    off = diffuse(x, graph, coefficients(0.1, published=True)) - diffuse(x, graph, coefficients(0.1))
    assert torch.allclose(off / x, torch.tensor(HALF_C0), atol=2e-4)
    nodes = np.cos(np.pi * (np.arange(100) + 0.5) / 100)  # c_0 / 2 is the mean over Chebyshev's points
    assert torch.allclose(off, np.exp(-0.1 * (nodes + 1)).mean() * x, atol=1e-5)


def test_terms_left_out_change_nothing() -> None:
    short, full = coefficients(0.1), np.array(coefficients(0.1, order=3))
    assert len(short) < 10
    x = np.linspace(-1, 1, 101)
    assert np.abs(np.polynomial.chebyshev.chebval(x, short) - np.exp(-0.1 * (x + 1))).max() < 1e-12
    assert np.array_equal(full, short[:4])
    assert coefficients(0.0) == (1.0,)


def test_without_diffusion_values_come_back() -> None:
    x = torch.randn(1, 6, 2)
    assert torch.equal(diffuse(x, one_cell(random_edges(6, 3, 0), 6), coefficients(0.0)), x)


@pytest.mark.parametrize(("published", "factor"), [(False, np.exp(-0.1)), (True, np.exp(-0.1) + HALF_C0)])
def test_a_graph_without_edges_only_scales(published: bool, factor: float) -> None:
    x = torch.randn(2, 5, 3)
    graph = TokenGraph.of(torch.zeros(3, 0, dtype=torch.int64), torch.ones(2, 5, dtype=torch.bool))
    assert torch.allclose(diffuse(x, graph, coefficients(0.1, published=published)), factor * x, atol=2e-4)


def test_parts_without_a_path_between_them_do_not_mix() -> None:
    edges = np.concatenate([random_edges(6, 4, 0), random_edges(5, 3, 1) + 6], axis=1)
    x = torch.randn(1, 11, 3)
    moved = x.clone()
    moved[:, 6:] += 5.0
    graph, terms = one_cell(edges, 11), coefficients(1.0)
    assert torch.equal(diffuse(x, graph, terms)[:, :6], diffuse(moved, graph, terms)[:, :6])
    assert not torch.allclose(diffuse(x, graph, terms)[:, 6:], diffuse(moved, graph, terms)[:, 6:])


def test_loops_make_a_vertex_keep_its_value() -> None:
    """exp(-beta (M + 1)) of M = -1 is 1: the released code gives edgeless cells such loops."""
    columns = torch.tensor([[2, 0, -1], [1, 2, 0]])
    graph = TokenGraph.within(columns, torch.tensor([[0], [1]]), 3, loops=True)
    x = torch.randn(2, 3, 4)
    out = diffuse(x, graph, coefficients(0.1))
    assert torch.allclose(out[0], x[0], atol=1e-6)
    assert torch.allclose(out[1, 1], float(np.exp(-0.1)) * x[1, 1], atol=1e-6)  # alone, but its cell has an edge


def test_an_edge_must_end_at_nodes() -> None:
    with pytest.raises(ValueError, match="no node"):
        TokenGraph.of(torch.tensor([[0], [0], [1]]), torch.tensor([[True, False]]))


def test_each_cell_keeps_the_edges_between_its_own_tokens() -> None:
    columns = torch.tensor([[-1, 3, 0, 1], [-1, 2, 4, -1]])
    links = torch.tensor([[0, 1, 0, 2], [1, 2, 3, 4]])
    graph = TokenGraph.within(columns, links, 5)
    found = {tuple(ends) for ends in graph.matrix.indices().T.tolist()}
    assert found == {(2, 3), (3, 2), (1, 2), (2, 1), (5, 6), (6, 5)}
    # cell 0: gene 0 has degree 2, genes 1 and 3 degree 1; cell 1: both 1
    weight = {
        tuple(e): w for e, w in zip(graph.matrix.indices().T.tolist(), graph.matrix.values().tolist(), strict=True)
    }
    assert weight[2, 3] == pytest.approx(-(2**-0.5))
    assert weight[5, 6] == pytest.approx(-1.0)


def attended(module: GraphDiffusedAttention, x: Tensor, columns: Tensor, links: Tensor, keep: Tensor) -> Tensor:
    with torch.no_grad():
        return module(x, TokenGraph.within(columns, links, 30), keep)


@pytest.fixture
def scene() -> tuple[GraphDiffusedAttention, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    module = GraphDiffusedAttention(16, 4, beta=0.7)
    columns = torch.stack([torch.randperm(30)[:9] for _ in range(3)])
    columns[:, 0] = -1
    return module, torch.randn(3, 9, 16), columns, torch.from_numpy(random_edges(30, 60, 0))


def test_attention_moves_with_a_permutation_of_the_tokens(scene: tuple) -> None:
    module, x, columns, links = scene
    keep = torch.ones(3, 9, dtype=torch.bool)
    order = torch.randperm(9)
    straight = attended(module, x, columns, links, keep)
    assert torch.allclose(attended(module, x[:, order], columns[:, order], links, keep), straight[:, order], atol=1e-6)


def test_attention_does_not_see_padding_or_other_cells(scene: tuple) -> None:
    module, x, columns, links = scene
    lengths = torch.tensor([9, 6, 4])
    keep = torch.arange(9)[None] < lengths[:, None]
    padded = torch.where(keep[..., None], x, torch.full_like(x, 50.0))
    together = attended(module, padded, torch.where(keep, columns, -1), links, keep)
    for cell, length in enumerate(lengths):
        one = slice(cell, cell + 1)
        alone = attended(module, x[one, :length], columns[one, :length], links, keep[one, :length])
        assert torch.allclose(together[cell, :length], alone[0], atol=1e-6)


def test_the_graph_matters_and_can_be_trained_through(scene: tuple) -> None:
    module, x, columns, links = scene
    keep = torch.ones(3, 9, dtype=torch.bool)
    none = attended(module, x, columns, links[:, :0], keep)
    assert not torch.allclose(attended(module, x, columns, links, keep), none, atol=1e-3)
    x.requires_grad_()
    module(x, TokenGraph.within(columns, links, 30), keep).square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


def test_gradients_are_those_of_finite_differences() -> None:
    graph, terms = one_cell(random_edges(6, 4, 0), 6), coefficients(0.5)
    x = torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: diffuse(v, graph, terms), (x,))


def test_half_precision_diffuses_in_single(scene: tuple) -> None:
    module, x, columns, links = scene
    keep = torch.ones(3, 9, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = attended(module, x, columns, links, keep)
    full = attended(module, x, columns, links, keep)
    assert torch.allclose(half.float(), full, atol=0.05)
    graph = TokenGraph.within(columns, links, 30)
    exact = diffuse(x.bfloat16().float(), graph, module.terms).bfloat16()
    assert torch.equal(diffuse(x.bfloat16(), graph, module.terms), exact)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        GraphDiffusedAttention(10, 4)


def test_it_is_plain_attention_of_diffused_queries() -> None:
    """A dense reference, one head at a time, with the operator from torch's matrix exponential."""
    torch.manual_seed(3)
    module, n = GraphDiffusedAttention(8, 2, beta=0.4).double(), 7
    edges = random_edges(n, 5, 3)
    kernel = torch.linalg.matrix_exp(-0.4 * torch.from_numpy(csgraph.laplacian(dense(edges, n).toarray(), normed=True)))
    x = torch.randn(1, n, 8, dtype=torch.float64)
    q, k, v = (x[0] @ module.qkv.weight.T + module.qkv.bias).split(8, dim=1)
    q = kernel @ q
    parts = [torch.softmax(q[:, h] @ k[:, h].T / 2.0, dim=1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]
    expected = torch.cat(parts, dim=1) @ module.out.weight.T + module.out.bias
    ours = module(x, one_cell(edges, n), torch.ones(1, n, dtype=torch.bool))[0]
    assert torch.allclose(ours, expected, atol=1e-6)
