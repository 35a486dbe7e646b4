import anndata as ad
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from embryo import perturb, simulate
from embryo.core import schema
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError
from embryo.core.state import State, Velocity
from embryo.fields.flow import FlowNetwork

LAM = 0.8
RESPONSE = torch.tensor([[1.0, 0, 2], [0, 0, 0]], dtype=torch.float64)


class Production:
    """dg/dt = p - lambda g with constant production, and z the embedding of g: closed-form answers."""

    def __init__(self, p: tuple[float, ...]) -> None:
        self.p = torch.tensor(p, dtype=torch.float64)

    def __call__(self, t: torch.Tensor, s: State) -> Velocity:
        dg = self.p - LAM * s.g
        return Velocity(dg @ RESPONSE, dg, torch.zeros_like(s.x), torch.zeros_like(s.log_mass))


def start(cells: int = 5, genes: int = 2) -> State:
    rng = torch.Generator().manual_seed(0)
    z, g, x = (torch.rand(cells, d, generator=rng, dtype=torch.float64) for d in (3, genes, 3))
    return State(z, g, x, torch.zeros(cells, dtype=torch.float64))


def context(**kwargs: object) -> perturb.Context:
    return perturb.Context(**{"panel": ("a", "b"), "response": RESPONSE, "decay_per_h": LAM} | kwargs)


def roll(edits: tuple[Edit, ...], hours: float = 3.0, ctx: perturb.Context | None = None) -> tuple[State, State]:
    field, s = perturb.apply(Production((0.4, 0.9)), start(), edits, ctx or context(), t0_h=0.0)
    return s, simulate.forward(field, s, [0.0, hours], step_h=0.02).at(-1)


@pytest.mark.parametrize(
    ("operation", "dose", "production"),
    [
        (Operation.KNOCKOUT, 0.0, lambda p, d: 0.0),
        (Operation.KNOCKDOWN, 0.3, lambda p, d: d * p),
        (Operation.OVEREXPRESS, 1.5, lambda p, d: p + LAM * d),
        (Operation.CLAMP, 0.7, lambda p, d: LAM * d),
    ],
)
def test_edits_act_on_production_through_the_whole_run(operation: Operation, dose: float, production: object) -> None:
    """g(t) = g0 e^(-lambda t) + p/lambda (1 - e^(-lambda t)), with the pool kept."""
    _, end = roll((Edit("a", operation, dose, keep_pool=True),))
    fade = np.exp(-LAM * 3)
    p = production(0.4, dose)
    torch.testing.assert_close(end.g[:, 0], start().g[:, 0] * fade + p / LAM * (1 - fade), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(end.g[:, 1], start().g[:, 1] * fade + 0.9 / LAM * (1 - fade), rtol=1e-6, atol=1e-8)


def test_germ_line_knockout_starts_at_zero_and_stays() -> None:
    s, end = roll((perturb.knockout("a"),))
    assert float(s.g[:, 0].abs().max()) == 0
    assert float(end.g[:, 0].abs().max()) == 0


def test_clamp_is_held_from_the_start() -> None:
    s, end = roll((Edit("a", Operation.CLAMP, 0.7),))
    torch.testing.assert_close(s.g[:, 0], torch.full((5,), 0.7, dtype=torch.float64))
    torch.testing.assert_close(end.g[:, 0], s.g[:, 0])


def test_embedding_follows_the_edited_gene_through_the_encoder() -> None:
    """With z the embedding (dz/dg constant), z - z_control = (g - g_control) response at every time."""
    _, control = roll(())
    _, edited = roll((perturb.knockout("a"), Edit("b", Operation.OVEREXPRESS, 1.0)))
    torch.testing.assert_close(edited.z - control.z, (edited.g - control.g) @ RESPONSE, rtol=1e-6, atol=1e-8)


def network() -> FlowNetwork:
    torch.manual_seed(0)
    return FlowNetwork(dims=3, genes=2, space=3, width=16).double()


def test_empty_edit_is_the_control_bit_for_bit() -> None:
    field = network()
    control = simulate.forward(field, start(), [0.0, 1.0, 2.0])
    edited_field, edited_start = perturb.apply(field, start(), (), context(), t0_h=0.0)
    edited = simulate.forward(edited_field, edited_start, [0.0, 1.0, 2.0])
    for part in ("z", "g", "x", "log_mass"):
        assert torch.equal(getattr(control, part), getattr(edited, part))


@pytest.mark.parametrize(
    "edit",
    [
        Edit("a", t_on_h=2.0),  # after the end
        Edit("a", t_off_h=0.0),  # over before the start
        Edit("a", fraction=0.0),  # in no cell
    ],
    ids=["after the end", "before the start", "no cell"],
)
def test_an_edit_that_never_acts_is_the_control_bit_for_bit(edit: Edit) -> None:
    field = network()
    control = simulate.forward(field, start(), [0.0, 1.0, 2.0])
    edited = simulate.forward(*perturb.apply(field, start(), (edit,), context(), t0_h=0.0), [0.0, 1.0, 2.0])
    assert torch.equal(control.x, edited.x)
    assert torch.equal(control.g, edited.g)


def test_an_edit_acts_only_inside_its_window() -> None:
    edit = Edit("a", t_on_h=1.0, t_off_h=2.0)
    field, s = perturb.apply(Production((0.4, 0.9)), start(), (edit,), context(), t0_h=0.0)
    run = simulate.forward(field, s, [0.0, 1.0, 2.0, 3.0], step_h=0.02)
    control = simulate.forward(Production((0.4, 0.9)), start(), [0.0, 1.0, 2.0, 3.0], step_h=0.02)
    torch.testing.assert_close(run.g[1], control.g[1])
    torch.testing.assert_close(run.g[2, :, 0], run.g[1, :, 0] * np.exp(-LAM), rtol=1e-6, atol=0.0)
    rise = 0.4 / LAM * (1 - np.exp(-LAM))
    torch.testing.assert_close(run.g[3, :, 0], run.g[2, :, 0] * np.exp(-LAM) + rise, rtol=1e-6, atol=0.0)


def test_a_switch_between_kept_times_and_off_the_step_is_met_exactly() -> None:
    """Kept times 0 and 1, step 0.25, switch at 0.37: exact to the solver's order only if a step ends there."""
    field, s = perturb.apply(Production((0.4, 0.9)), start(), (Edit("a", t_on_h=0.37),), context(), t0_h=0.0)
    end = simulate.forward(field, s, [0.0, 1.0], step_h=0.25).g[-1, :, 0]
    before = start().g[:, 0] * np.exp(-LAM * 0.37) + 0.4 / LAM * (1 - np.exp(-LAM * 0.37))
    torch.testing.assert_close(end, before * np.exp(-LAM * 0.63), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("gene", ["a", "b"], ids=["same gene", "two genes"])
def test_order_of_a_double_edit_is_irrelevant(gene: str) -> None:
    edits = (Edit("a", Operation.OVEREXPRESS, 1.0, fraction=0.7), Edit(gene, Operation.KNOCKDOWN, 0.5, fraction=0.4))
    _, one = roll(edits)
    _, two = roll(edits[::-1])
    assert torch.equal(one.g, two.g)
    torch.testing.assert_close(one.z, two.z)


@settings(max_examples=25)
@given(dose=st.floats(0, 1), other=st.floats(0, 1))
def test_dose_is_continuous(dose: float, other: float) -> None:
    ends = [roll((Edit("a", Operation.KNOCKDOWN, d),), hours=1.0)[1].g[:, 0] for d in (dose, other)]
    assert float((ends[0] - ends[1]).abs().max()) <= 2 * abs(dose - other) + 1e-9


def test_edit_of_one_type_leaves_the_others_alone() -> None:
    ctx = context(cell_types=("n", "n", "m", "m", "m"))
    _, control = roll((), ctx=ctx)
    _, end = roll((Edit("a", cell_type="m"),), ctx=ctx)
    torch.testing.assert_close(end.g[:2], control.g[:2])
    assert float(end.g[2:, 0].abs().max()) == 0


def test_mosaic_is_drawn_with_the_seed() -> None:
    many = State(*(torch.ones(2000, d) for d in (3, 2, 3)), torch.zeros(2000))
    shares = []
    for seed in (0, 0, 1):
        ctx = perturb.Context(("a", "b"), torch.zeros(2, 3), LAM, seed=seed)
        _, s = perturb.apply(Production((0.4, 0.9)), many, (Edit("a", fraction=0.3),), ctx, t0_h=0.0)
        shares.append(s.g[:, 0] == 0)
    assert torch.equal(shares[0], shares[1])
    assert not torch.equal(shares[0], shares[2])
    assert float(shares[0].float().mean()) == pytest.approx(0.3, abs=0.04)


def test_unknown_gene_and_type_are_told_together() -> None:
    with pytest.raises(EditError, match=r"(?s)2 problems.*'nope'.*panel \(2: a, b\).*'liver'"):
        perturb.apply(network(), start(), (Edit("nope"), Edit("a", cell_type="liver")), context(), t0_h=0.0)


@pytest.mark.parametrize("make", [np.array, sparse.csr_matrix, sparse.csc_matrix], ids=["dense", "csr", "csc"])
def test_gene_inputs_are_edited_in_a_copy_and_stale_slots_dropped(make: object) -> None:
    counts = np.array([[1.0, 2, 3], [4, 0, 6]], np.float32)
    adata = ad.AnnData(make(counts), layers={schema.COUNTS: make(counts)})
    adata.var_names = ["a", "b", "c"]
    adata.obsm[schema.EMBED] = np.zeros((2, 2))
    edits = (perturb.knockout("a"), Edit("b", Operation.OVEREXPRESS, 5.0), Edit("c", Operation.KNOCKDOWN, 0.5))
    edited = perturb.genes(adata, edits)
    want = np.array([[0, 7, 1.5], [0, 5, 3]])
    for matrix in (edited.X, edited.layers[schema.COUNTS]):
        np.testing.assert_array_equal(np.asarray(matrix.todense()) if sparse.issparse(matrix) else matrix, want)
    assert schema.EMBED not in edited.obsm
    assert schema.EMBED in adata.obsm
    first = adata.X if isinstance(adata.X, np.ndarray) else adata.X.toarray()
    np.testing.assert_array_equal(first, counts)


def test_gene_inputs_refuse_absent_genes_windows_and_mosaics() -> None:
    adata = ad.AnnData(np.ones((2, 1), np.float32))
    adata.var_names = ["a"]
    with pytest.raises(EditError, match=r"(?s)3 problems.*'zzz'.*window.*mosaic"):
        perturb.genes(adata, (perturb.knockout("zzz"), Edit("a", t_on_h=1.0), Edit("a", fraction=0.5)))
