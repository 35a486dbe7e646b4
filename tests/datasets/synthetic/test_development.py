from dataclasses import fields, replace

import numpy as np
import pytest

from embryo.core.edit import Edit, Operation
from embryo.core.errors import ConfigError, EditError
from embryo.datasets.synthetic import PANEL, Embryo, Growth, Maternal, Mechanics, Params, Snapshot, simulate

AT = {gene: i for i, gene in enumerate(PANEL)}


def same(a: Embryo, b: Embryo) -> bool:
    return a.doses == b.doses and all(equal(p, q) for p, q in zip(a.snapshots, b.snapshots, strict=True))


def equal(a: Snapshot, b: Snapshot) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Snapshot))


@pytest.fixture(scope="module")
def wild_type(small: Params) -> Embryo:
    return simulate(small, seed=5, times_h=(0.0, 4.0, 6.0))


def test_same_seed_same_embryo_other_seed_another(small: Params, wild_type: Embryo) -> None:
    assert same(simulate(small, seed=5, times_h=(0.0, 4.0, 6.0)), wild_type)
    other = simulate(small, seed=6, times_h=(0.0,))
    assert not np.array_equal(other.at(0.0).x, wild_type.at(0.0).x)
    assert other.doses != wild_type.doses


@pytest.mark.parametrize(
    "edit",
    [
        Edit("tail", t_on_h=100.0),
        Edit("tail", fraction=0.0),
        Edit("middle", Operation.KNOCKDOWN, dose=1.0),
        Edit("ligand", Operation.OVEREXPRESS, dose=0.0),
        Edit("cad_a", Operation.CLAMP, dose=1.0, t_on_h=-5.0, t_off_h=0.0),
    ],
    ids=["after the end", "in no cell", "knock-down to 1", "overexpression by 0", "before the start"],
)
def test_an_edit_that_never_acts_is_the_wild_type_bit_for_bit(small: Params, wild_type: Embryo, edit: Edit) -> None:
    edited = simulate(small, seed=5, edits=(edit,), times_h=(0.0, 4.0, 6.0))
    if edit.fraction:
        edited = replace(edited, snapshots=tuple(replace(s, mutant=np.zeros_like(s.mutant)) for s in edited.snapshots))
    assert same(edited, wild_type)


def test_nothing_differs_before_a_timed_edit_acts(small: Params, wild_type: Embryo) -> None:
    edited = simulate(small, seed=5, edits=(Edit("motility", t_on_h=4.0),), times_h=(4.0, 6.0))
    np.testing.assert_array_equal(edited.at(4.0).g, wild_type.at(4.0).g)
    np.testing.assert_array_equal(edited.at(4.0).x, wild_type.at(4.0).x)
    assert not np.array_equal(edited.at(6.0).g, wild_type.at(6.0).g)


def test_looking_more_often_changes_nothing(small: Params, wild_type: Embryo) -> None:
    assert equal(simulate(small, seed=5, times_h=(6.0, 1.0, 2.2)).at(6.0), wild_type.at(6.0))


@pytest.mark.parametrize("leaf", ["cad_a", "motility", "growth"])
def test_a_leaf_gene_changes_itself_alone_in_a_static_tissue(static: Params, leaf: str) -> None:
    control = simulate(static, seed=1, times_h=(10.0,)).at(10.0)
    edited = simulate(static, seed=1, edits=(Edit(leaf),), times_h=(10.0,)).at(10.0)
    others = [i for gene, i in AT.items() if gene != leaf]
    np.testing.assert_array_equal(edited.g[:, others], control.g[:, others])
    np.testing.assert_array_equal(edited.x, control.x)
    assert not edited.g[:, AT[leaf]].any()
    assert control.g[:, AT[leaf]].mean() > 0.05


def test_losing_the_ligand_changes_cells_that_never_make_it(small: Params) -> None:
    """Non-autonomy: induced fate is lost in cells whose own ligand is off."""
    control = simulate(small, seed=100, times_h=(12.0,)).at(12.0)
    edited = simulate(small, seed=100, edits=(Edit("ligand"),), times_h=(12.0,)).at(12.0)
    np.testing.assert_array_equal(edited.cell, control.cell)
    induced = (control.g[:, AT["induced"]] > 0.5) & (control.g[:, AT["ligand"]] < 0.1)
    assert induced.mean() > 0.05
    assert edited.g[induced, AT["induced"]].max() < 0.2


def test_the_order_of_edits_does_not_matter(static: Params) -> None:
    edits = (
        Edit("tail", Operation.KNOCKDOWN, dose=0.3),
        Edit("tail", Operation.OVEREXPRESS, dose=0.4),
        Edit("head", fraction=0.5),
        Edit("ligand", Operation.CLAMP, dose=0.7),
    )
    forward = simulate(static, seed=2, edits=edits, times_h=(3.0,))
    assert equal(forward.at(3.0), simulate(static, seed=2, edits=edits[::-1], times_h=(3.0,)).at(3.0))


def test_an_acute_knock_out_decays_and_a_clamp_holds(static: Params) -> None:
    params = replace(static, molecules=1e14)
    edits = (Edit("dorsal", t_on_h=6.0), Edit("tail", Operation.CLAMP, dose=0.8, t_on_h=2.0, t_off_h=7.0))
    embryo = simulate(params, seed=3, edits=edits, times_h=(2.0, 5.0, 6.0, 9.0))
    dorsal = {s.t_h: s.g[:, AT["dorsal"]] for s in embryo.snapshots}
    np.testing.assert_allclose(dorsal[9.0], dorsal[6.0] * np.exp(-3.0), atol=1e-5)
    for t_h in (2.0, 5.0, 6.0):
        assert (embryo.at(t_h).g[:, AT["tail"]] == 0.8).all()
        np.testing.assert_allclose(embryo.at(t_h).dg[:, AT["tail"]], 0, atol=1e-12)
    assert not (embryo.at(9.0).g[:, AT["tail"]] == 0.8).any()


def test_overexpression_raises_a_gene_by_its_dose(static: Params) -> None:
    params = replace(static, molecules=1e14)
    leaf = "cad_c"
    control = simulate(params, seed=3, times_h=(12.0,)).at(12.0).g[:, AT[leaf]]
    edit = Edit(leaf, Operation.OVEREXPRESS, dose=0.6)
    edited = simulate(params, seed=3, edits=(edit,), times_h=(12.0,)).at(12.0).g[:, AT[leaf]]
    np.testing.assert_allclose(edited - control, 0.6 * (1 - np.exp(-12.0)), atol=1e-5)


def test_the_maternal_pool_goes_with_a_germ_line_edit_only(static: Params) -> None:
    pool = simulate(static, seed=4, times_h=(0.0,)).at(0.0).g[:, AT["head"]]
    assert pool.max() > 0

    def start(**how: object) -> np.ndarray:
        edit = Edit("head", **how)  # type: ignore[arg-type]
        return simulate(static, seed=4, edits=(edit,), times_h=(0.0,)).at(0.0).g[:, AT["head"]]

    assert not start().any()
    np.testing.assert_array_equal(start(keep_pool=True), pool)
    np.testing.assert_array_equal(start(t_on_h=3.0), pool)
    np.testing.assert_array_equal(start(operation=Operation.KNOCKDOWN, dose=0.25), 0.25 * pool)


def test_a_mosaic_holds_its_share_of_clones_for_good(small: Params) -> None:
    params = replace(small, n_cells=1500, mechanics=None, growth=Growth(base_per_h=0.2))
    edit = Edit("dorsal", fraction=0.3)
    start, end = simulate(params, seed=6, edits=(edit,), times_h=(0.0, 6.0)).snapshots
    assert abs(start.mutant.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 1500)
    mutants = set(start.clone[start.mutant].tolist())
    assert set(end.clone[end.mutant].tolist()) == mutants & set(end.clone.tolist())
    assert end.g[end.mutant, AT["dorsal"]].max() == 0
    assert end.g[~end.mutant, AT["dorsal"]].mean() > 0.5
    more = simulate(params, seed=6, edits=(Edit("dorsal", fraction=0.6),), times_h=(0.0,)).at(0.0)
    assert mutants < set(more.clone[more.mutant].tolist())


def test_lineages_are_whole(small: Params) -> None:
    """Seen at every round of divisions: mothers were there before and are gone, daughters come in pairs."""
    times = np.arange(0.0, 8.01, 1.0)
    params = replace(small, growth=Growth(base_per_h=0.12))
    embryo = simulate(params, seed=7, times_h=[float(t) for t in times])
    gone: set[int] = set()
    for before, after in zip(embryo.snapshots[:-1], embryo.snapshots[1:], strict=True):
        old, new = set(before.cell.tolist()), set(after.cell.tolist())
        assert len(new) == len(after.cell)
        born = np.array([number not in old for number in after.cell.tolist()])
        mothers, counts = np.unique(after.parent[born], return_counts=True)
        assert (counts == 2).all()
        assert set(mothers.tolist()) == old - new
        assert len(new) == len(old) + len(mothers)
        assert not new & gone
        gone |= set(mothers.tolist())
        where = {number: row for row, number in enumerate(before.cell.tolist())}
        rows = [where[number] for number in after.parent[born].tolist()]
        np.testing.assert_array_equal(after.clone[born], before.clone[rows])
        assert np.linalg.norm(after.x[born] - before.x[rows], axis=1).max() < 40
    assert len(gone) > 400
    assert set(embryo.snapshots[-1].clone.tolist()) == set(range(params.n_cells))


def test_cell_number_follows_the_yule_law(small: Params) -> None:
    """Constant hazard b: mean N exp(b t), variance N exp(b t) (exp(b t) - 1) (Yule 1925)."""
    params = replace(small, n_cells=2000, mechanics=None, growth=Growth(base_per_h=0.1, gene_per_h=0.0))
    n = len(simulate(params, seed=8, times_h=(10.0,)).at(10.0).cell)
    assert abs(n - 2000 * np.e) < 4 * np.sqrt(2000 * np.e * (np.e - 1))


def test_divisions_stop_at_the_largest_number(small: Params) -> None:
    params = replace(small, growth=Growth(base_per_h=1.0, max_cells=1000))
    assert 600 < len(simulate(params, seed=9, times_h=(6.0,)).at(6.0).cell) <= 1000


def test_cells_of_both_embryos_share_their_luck(small: Params, wild_type: Embryo) -> None:
    """Without the growth gene some cells do not divide; the others are the same cells, born to the same mothers."""
    edited = simulate(small, seed=5, edits=(Edit("growth"),), times_h=(6.0,)).at(6.0)
    control = wild_type.at(6.0)
    assert len(edited.cell) < len(control.cell)
    shared, i, j = np.intersect1d(edited.cell, control.cell, return_indices=True)
    assert len(shared) > 400
    others = [k for gene, k in AT.items() if gene != "growth"]
    apart = np.abs(edited.g[i][:, others] - control.g[j][:, others]).mean()
    unrelated = np.abs(edited.g[i][:, others] - np.roll(control.g[j], 1, axis=0)[:, others]).mean()
    assert apart < 0.3 * unrelated


def test_recorded_velocities_are_those_of_the_motion(small: Params) -> None:
    """Without noise, a short step moves cells and genes by velocity times time."""
    dt = 0.01
    mechanics = replace(small.mechanics or Mechanics(), diffusivity_um2_per_h=0.0)
    params = replace(small, dt_h=dt, molecules=1e18, mechanics=mechanics, growth=None)
    crawling = Edit("motility", Operation.CLAMP, dose=1.0)
    a, b = simulate(params, seed=10, edits=(crawling,), times_h=(0.5, 0.5 + dt)).snapshots
    np.testing.assert_allclose((b.x - a.x) / dt, a.dx, atol=1e-9)
    np.testing.assert_allclose((b.g - a.g) / dt, a.dg, atol=0.01)
    assert abs(a.dx).max() > 5


def test_maternal_gradients_by_hand(static: Params) -> None:
    embryo = simulate(static, seed=11, times_h=(0.0, 4.0))
    maternal, (half_length, _, half_height) = Maternal(), static.semi_axes_um
    lengths = static.maternal.lengths_um
    for snapshot in embryo.snapshots:
        x, y = snapshot.x, snapshot.inputs
        fade = np.exp(-snapshot.t_h / maternal.lifetime_h)
        np.testing.assert_allclose(y[:, 0], embryo.doses[0] * np.exp(-(x[:, 0] + half_length) / lengths[0]) * fade)
        np.testing.assert_allclose(y[:, 1], embryo.doses[1] * np.exp((x[:, 0] - half_length) / lengths[1]) * fade)
        np.testing.assert_allclose(y[:, 2], embryo.doses[2] * np.exp(-(x[:, 2] + half_height) / lengths[2]) * fade)


def test_doses_are_lognormal(static: Params) -> None:
    params = replace(static, n_cells=5)
    logs = np.log([simulate(params, seed=s, times_h=(0.0,)).doses for s in range(60)])
    assert abs(logs.mean()) < 4 * 0.2 / np.sqrt(180)
    assert abs(logs.std() - 0.2) < 4 * 0.2 / np.sqrt(360)


def test_gradients_ride_with_the_tissue(small: Params, wild_type: Embryo) -> None:
    """A moving cell keeps the gradient of its place in the egg, up to the common fading."""
    a, b = wild_type.at(0.0), wild_type.at(6.0)
    _, i, j = np.intersect1d(a.cell, b.cell, return_indices=True)
    fade = np.exp(-6.0 / small.maternal.lifetime_h)
    np.testing.assert_allclose(b.inputs[j, :3], a.inputs[i, :3] * fade, rtol=1e-9)
    assert np.linalg.norm(a.x[i] - b.x[j], axis=1).max() > 5


def test_edits_that_cannot_be_are_refused_all_at_once(static: Params) -> None:
    edits = (
        Edit("tial"),
        Edit("head", cell_type="mesoderm"),
        Edit("tail", Operation.CLAMP, dose=1.0),
        Edit("tail", Operation.CLAMP, dose=0.5, t_on_h=3.0),
    )
    with pytest.raises(EditError) as caught:
        simulate(static, seed=0, edits=edits, times_h=(1.0,))
    assert len(caught.value.problems) == 3
    text = str(caught.value)
    assert "'tail'" in text
    assert "mesoderm" in text
    assert "clamped at 1 and at 0.5" in text


def test_numbers_that_cannot_be_are_refused_all_at_once(static: Params) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(replace(static, n_cells=0, molecules=-1.0), seed=0, times_h=(0.3, -1.0))
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="no times"):
        simulate(static, seed=0, times_h=())
