"""What an edit must do exactly, whatever the law: on a small circuit that knows its production, and on a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from embryo import fields, perturb, simulate
from embryo.core import field as laws
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError
from embryo.core.field import ANY, SIGNAL
from embryo.core.state import State, Velocity

PANEL = ("a", "b", "leaf", "silent", "lig")
DECAY = torch.tensor([0.5, 0.8, 1.0, 0.7, 0.6], dtype=torch.float64)
UNIT = torch.tensor([2.0, 5.0, 1.0, 3.0, 4.0], dtype=torch.float64)
RATE = torch.tensor([0.5, 0.9, 1.2, 0.0, 0.6], dtype=torch.float64)  # silent is never made
W = torch.tensor(
    [[0.0, 2, 0, 0, 0], [3, 0, 0, 0, 0], [2, -2, 0, 0, 0], [0, 0, 0, 0, 0], [2, 0, 0, 0, 0]], dtype=torch.float64
)
S = torch.tensor([0.0, 0, 3, 0, 0], dtype=torch.float64)  # the leaf answers the ligand


@dataclass(frozen=True)
class Circuit:
    """dy/dt = R sigma(W y + S c - 1) - decay y with c the mean level of the ligand over all cells; x follows a."""

    w: torch.Tensor = W
    s: torch.Tensor = S
    quiet: torch.Tensor | None = None
    held: torch.Tensor | None = None
    decay_per_h: torch.Tensor = field(default_factory=DECAY.clone)
    unit: torch.Tensor = field(default_factory=UNIT.clone)

    def __call__(self, t: torch.Tensor, state: State) -> Velocity:
        return self.produce(t, state, lambda p, decay: p)

    def produce(self, t: torch.Tensor, state: State, change: Callable) -> Velocity:
        y = state.g.expm1() / self.unit
        sent = y[:, 4] if self.quiet is None else torch.where(self.quiet, 0.0, y[:, 4])
        c = sent.mean() if self.held is None else self.held
        p = RATE * torch.sigmoid(y @ self.w.T + c * self.s - 1)
        dy = change(p, self.decay_per_h) - self.decay_per_h * y
        dg = self.unit * dy / state.g.exp()
        pull = (state.x.mean(0) - state.x) * y[:, :1]
        return Velocity(torch.zeros_like(state.z), dg, pull, torch.zeros_like(state.log_mass))

    def without(self, edges: Sequence[tuple[str, str]]) -> "Circuit":
        w, s = self.w.clone(), self.s.clone()
        for a, b in edges:
            rows = slice(None) if b == ANY else PANEL.index(b)
            if a.startswith(SIGNAL):
                s[rows] = 0
            else:
                w[rows, PANEL.index(a)] = 0
        return replace(self, w=w, s=s)

    def silenced(self, ligand: str, cells: torch.Tensor) -> "Circuit":
        return replace(self, quiet=cells)


def start(cells: int = 6) -> State:
    rng = torch.Generator().manual_seed(0)
    z, g, x = (torch.rand(cells, d, generator=rng, dtype=torch.float64) for d in (2, 5, 3))
    g[:, 3] = 0
    return State(z, g, x, torch.zeros(cells, dtype=torch.float64))


def context(**kwargs: object) -> perturb.Context:
    given = {"panel": PANEL, "response": torch.zeros(5, 2, dtype=torch.float64), "decay_per_h": 1.0}
    return perturb.Context(**given | kwargs)


def roll(edits: Sequence[Edit] = (), s: State | None = None, law: object = None, **kwargs: object):
    begin = start() if s is None else s
    held, begin = perturb.apply(law or Circuit(), begin, edits, context(**kwargs), t0_h=0.0)
    return simulate.forward(held, begin, [0.0, 1.0, 2.0], step_h=0.05)


def same(a, b, genes: Sequence[str] = PANEL) -> bool:
    columns = [PANEL.index(g) for g in genes]
    return torch.equal(a.g[..., columns], b.g[..., columns])


def test_an_unexpressed_gene_and_an_edit_after_the_end_are_the_control_bit_for_bit() -> None:
    control = roll()
    for edit in (Edit("silent"), Edit("a", t_on_h=2.0), Edit("a", Operation.CUT, t_on_h=3.0, target="b")):
        edited = roll([edit])
        assert same(control, edited)
        assert torch.equal(control.x, edited.x)
        assert torch.equal(control.z, edited.z)


def test_a_leaf_gene_changes_only_itself() -> None:
    control, edited = roll(), roll([Edit("leaf")])
    assert same(control, edited, ["a", "b", "silent", "lig"])
    assert torch.equal(control.x, edited.x)
    assert float(edited.g[:, :, 2].abs().max()) == 0


def test_an_upstream_gene_changes_what_lies_below() -> None:
    control, edited = roll(), roll([Edit("a", keep_pool=True)])
    assert not same(control, edited, ["b"])
    fade = torch.exp(-DECAY[0] * 2)
    torch.testing.assert_close(edited.g[-1, :, 0].expm1(), start().g[:, 0].expm1() * fade, rtol=1e-6, atol=1e-9)


def test_levels_follow_the_circuit_with_its_edited_production() -> None:
    """Against scipy in levels: over-expression adds decay * expm1(dose) / unit, held at expm1(dose) / unit."""
    dose = 1.1
    edit = [Edit("a", Operation.OVEREXPRESS, dose), Edit("b", Operation.CLAMP, 0.9)]
    end = roll(edit, s=start(1)).g[-1, 0].numpy()
    y0 = np.expm1(start(1).g[0].numpy()) / UNIT.numpy()
    y0[1] = np.expm1(0.9) / UNIT[1]

    def rate(_: float, y: np.ndarray) -> np.ndarray:
        p = RATE.numpy() / (1 + np.exp(-(W.numpy() @ y + S.numpy() * y[4] - 1)))
        p[0] += DECAY[0] * np.expm1(dose) / UNIT[0]
        p[1] = DECAY[1] * np.expm1(0.9) / UNIT[1]
        return p - DECAY.numpy() * y

    truth = solve_ivp(rate, (0, 2), y0, rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(np.expm1(end) / UNIT.numpy(), truth, rtol=1e-6)


@pytest.mark.parametrize(
    "second",
    [
        Edit("b", Operation.OVEREXPRESS, 0.5),
        Edit("b", Operation.CUT, target="leaf"),
        Edit("lig", Operation.BLOCK_LIGAND),
    ],
)
def test_the_order_of_a_double_edit_is_irrelevant(second: Edit) -> None:
    first = Edit("a", Operation.KNOCKDOWN, 0.3, fraction=0.5)
    one, two = roll([first, second]), roll([second, first])
    assert same(one, two)
    assert torch.equal(one.x, two.x)


@settings(deadline=None, max_examples=15)
@given(dose=st.floats(0, 1), other=st.floats(0, 1))
def test_dose_is_continuous_and_a_full_dose_is_the_control(dose: float, other: float) -> None:
    ends = [roll([Edit("a", Operation.KNOCKDOWN, d)]).g[-1] for d in (dose, other, 1.0)]
    assert float((ends[0] - ends[1]).abs().max()) <= 3 * abs(dose - other) + 1e-9
    assert torch.equal(ends[2], roll().g[-1])


def test_a_rescue_returns_the_wild_type() -> None:
    """A gene at its steady state, knocked out and clamped where it was."""
    law = Circuit(w=torch.zeros_like(W), s=torch.zeros_like(S))
    level = float(torch.log1p(UNIT[0] * RATE[0] * torch.sigmoid(torch.tensor(-1.0, dtype=torch.float64)) / DECAY[0]))
    s = start()
    s.g[:, 0] = level
    rescued = roll([Edit("a"), Edit("a", Operation.CLAMP, level)], s, law)
    torch.testing.assert_close(rescued.g, roll((), s, law).g, rtol=1e-9, atol=1e-9)


def test_permutation_and_rigid_motion_go_through_the_edit() -> None:
    s, names = start(), tuple("uvwxyz")
    edits = [Edit("a", fraction=0.5, t_on_h=0.5), Edit("b", Operation.KNOCKDOWN, 0.4, clone="w")]
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    whole = roll(edits, s, cells=names)
    turned = roll(edits, s[order], cells=tuple(names[k] for k in order))
    torch.testing.assert_close(turned.g, whole.g[:, order], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(turned.x, whole.x[:, order], rtol=1e-12, atol=1e-12)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    moved = roll(edits, replace(s, x=s.x @ q.T + 7), cells=names)
    torch.testing.assert_close(moved.x, whole.x @ q.T + 7, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved.g, whole.g, rtol=1e-12, atol=1e-12)


def test_a_cut_edge_is_the_law_without_it_in_its_cells_only() -> None:
    edit = Edit("a", Operation.CUT, target="b")
    direct = simulate.forward(Circuit().without([("a", "b")]), start(), [0.0, 1.0, 2.0], step_h=0.05)
    assert same(roll([edit]), direct)
    part = roll([replace(edit, cell_type="m")], cell_types=("n", "n", "m", "m", "m", "m"), law=Circuit(s=0 * S))
    control = roll(law=Circuit(s=0 * S))
    assert torch.equal(part.g[:, :2], control.g[:, :2])
    assert not torch.equal(part.g[:, 2:], control.g[:, 2:])


def test_blocked_ligand_and_receptor_reach_those_who_listen() -> None:
    control = roll()
    everywhere = roll([Edit("lig", Operation.BLOCK_LIGAND)])
    deaf = roll([Edit("lig", Operation.BLOCK_RECEPTOR)])
    torch.testing.assert_close(everywhere.g, deaf.g)
    assert same(control, everywhere, ["a", "b", "lig"])
    assert not same(control, everywhere, ["leaf"])
    some = roll([Edit("lig", Operation.BLOCK_LIGAND, fraction=0.5)], seed=1)
    assert bool((some.g[-1, :, 2] > everywhere.g[-1, :, 2]).all())
    assert bool((some.g[-1, :, 2] < control.g[-1, :, 2]).all())


def test_z_of_a_law_that_embeds_stays_the_embedding_of_the_edited_cell() -> None:
    response = torch.rand(5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    class Embedding(Circuit):
        def produce(self, t: torch.Tensor, state: State, change: Callable) -> Velocity:
            v = super().produce(t, state, change)
            return replace(v, dz=v.dg @ response)

    control, edited = (roll(e, law=Embedding(), response=response) for e in ((), [Edit("a"), Edit("leaf")]))
    torch.testing.assert_close(edited.z - control.z, (edited.g - control.g) @ response, rtol=1e-9, atol=1e-9)


def test_a_law_without_edges_says_so_with_every_other_problem() -> None:
    edits = [Edit("a", Operation.CUT, target="nope"), Edit("lig", Operation.BLOCK_RECEPTOR), Edit("b", clone="q")]
    with pytest.raises(EditError) as caught:
        roll(edits, law=fields.Still(), cells=tuple("uvwxyz"))
    text = str(caught.value)
    for said in ("'nope'", "cut a->nope", "no edges or ligands", "clone of 'q'"):
        assert said in text
    with pytest.raises(EditError, match="embryo perturb"):
        roll([Edit(operation=Operation.ABLATE)])
    assert laws.structured(fields.Still()) is None
