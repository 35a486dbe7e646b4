"""A circuit law out of cells and couplings: the synthetic embryo is the oracle."""

import importlib

import numpy as np
import pytest
import torch

from embryo import couple, fields, fit, perturb, simulate
from embryo.core import field as laws
from embryo.core import schema
from embryo.core.edit import Edit
from embryo.core.errors import SchemaError
from embryo.datasets import synthetic
from embryo.datasets.synthetic import PANEL
from embryo.fields.circuit import Held, Ligands
from embryo.fields.regulated import Growth, medium
from embryo.fit import circuit as circuits
from embryo.fit.circuit import Phase
from embryo.fit.discrepancy import discrepancy
from embryo.fit.tissue import Tissue

QUICK = fit.Training(steps=40, width=16, batch=64)


@pytest.fixture(scope="module")
def cells():
    return made()


def made(*edits):
    params = synthetic.Params(n_cells=250, mechanics=None, growth=None)
    seen = synthetic.Measurement(random_pose=False, n_genes=18, tracks=True)
    how = {"times_h": (0.0, 1.0, 2.0, 3.0, 4.0), "params": params, "measurement": seen}
    return embedded(synthetic.generate(n_embryos=2, seed=3, edits=edits, **how))


def embedded(adata):
    level = np.asarray(adata.obsm["truth_g"], dtype=np.float32)
    adata.obsm[schema.PANEL] = np.log1p(level)
    adata.obsm[schema.EMBED] = np.log1p(level)[:, :5]
    adata.obsm[schema.ALIGNED] = np.asarray(adata.obsm[schema.SPATIAL])
    adata.uns[schema.META] = {**adata.uns[schema.META], "panel": list(synthetic.PANEL)}
    return adata


@pytest.fixture(scope="module")
def pairs(cells):
    return fit.pairs(cells, couple.series(cells, method="tracks"))


@pytest.fixture(scope="module")
def law(cells, pairs):
    phases = (Phase(iterations=60), Phase(weak=0.0, windows=(1,), iterations=20, decay=True))
    settings = fit.Settings(cells=100, places=15, phases=phases)
    wiring = fit.Wiring(("ligand",), settings=settings)
    return fit.regulated(cells, pairs, QUICK, wiring, torch.eye(18)[:, :5])


def test_stages_hold_levels_in_units_and_places_carried_back(cells) -> None:
    tissue = Tissue.of(cells, torch.ones(18))
    series = tissue.series(torch.ones(18), Ligands())
    assert series.times_h == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert float(series.stages[-1].y.max()) == pytest.approx(float(np.asarray(cells.obsm["truth_g"]).max()), rel=1e-4)
    first = series.stages[0].material
    for stage in series.stages[1:]:  # the tissue rests: places stay what they were
        torch.testing.assert_close(stage.material.std(0), first.std(0), rtol=0.02, atol=0.0)


def test_a_cell_that_stands_for_several_secretes_as_much_as_they_do(cells) -> None:
    ligands = Ligands((PANEL.index("ligand"),), (medium(12.0),))
    more = cells.copy()
    more.obs[schema.MASS] = 3.0
    one, three = (
        Tissue.of(c, torch.ones(18)).series(torch.ones(18), ligands).stages[-1].signals for c in (cells, more)
    )
    torch.testing.assert_close(three, 3 * one, rtol=1e-5, atol=1e-9)


def test_measured_inputs_are_taken_as_they_are_and_their_logarithm_rides(cells) -> None:
    known = cells.copy()
    t = known.obs[schema.TIME].to_numpy(float)[:, None]
    birth = np.exp(np.asarray(known.obsm[schema.ALIGNED], dtype=float) / 50.0)
    known.obsm[schema.INPUTS] = birth * np.exp(-t / 9.0)
    held = Held(("a", "b", "c"), [9.0] * 3)
    stage = Tissue.of(known, torch.ones(18), held).series(torch.ones(18), Ligands()).stages[-1]
    assert stage.inputs.shape[1] == 3
    torch.testing.assert_close(stage.material, (stage.inputs * np.exp(4.0 / 9.0)).log(), rtol=1e-5, atol=1e-6)


def test_rolled_cells_are_nearer_to_what_follows_than_cells_that_stay(cells, law) -> None:
    t = cells.obs[schema.TIME].to_numpy(float)
    start = fit.states(cells[t == 1.0])
    end = simulate.forward(law.begun(start, 1.0), start, [1.0, 4.0], step_h=0.25).g[-1].expm1()
    truth = np.asarray(cells.obsm["truth_g"])[t == 4.0].mean(0)
    gone = np.abs(truth - start.g.expm1().numpy().mean(0)).mean()
    assert np.abs(truth - end.numpy().mean(0)).mean() < 0.5 * gone
    assert (law.decay_per_h > 0.2).all()
    assert (law.decay_per_h < 4.0).all()


def test_a_residual_is_part_of_the_law_that_asks_for_it(cells, pairs, tmp_path) -> None:
    """Its columns are the first of the inputs, found or held."""
    known = cells.copy()
    known.obsm[schema.INPUTS] = np.exp(np.asarray(known.obsm[schema.ALIGNED], dtype=float) / 50.0)
    settings = fit.Settings(cells=60, places=10, phases=(Phase(iterations=3),))
    for held in (None, Held(("m1", "m2", "m3"), [9.0] * 3)):
        wiring = fit.Wiring(("ligand",), held=held, residual=0.01, settings=settings)
        law = fit.regulated(known, pairs, QUICK, wiring, torch.eye(18)[:, :5])
        assert law.circuit.inputs == (*law.residual.names, *law.gradients.names)
        assert float(law.circuit.weights[:, 18].abs().max()) > 0
        start = fit.states(known[known.obs[schema.TIME] == 0.0])
        inputs = torch.as_tensor(known.obsm[schema.INPUTS][: len(start)]).to(start.x) if held else None
        fields.save(law, tmp_path / "law.safetensors")
        one, two = (f.begun(start, 0.0, inputs) for f in (law, fields.load(tmp_path / "law.safetensors")[0]))
        assert torch.equal(one(torch.tensor(1.0), start).dg, two(torch.tensor(1.0), start).dg)


def test_a_law_may_be_fitted_to_embryos_drawn_again_and_is_tested_on_all(cells, pairs, monkeypatch) -> None:
    """A seed that draws the same embryo twice gives the law of twice that embryo, not that of both."""
    seed = next(s for s in range(20) if len(set(fit.drawn(cells, s).obs[schema.EMBRYO].str[:4])) == 1)
    twice = fit.drawn(cells, seed)
    found, tested = [], []
    real = circuits.fit
    monkeypatch.setattr(circuits, "fit", lambda series, *a, **k: found.append(series[0]) or real(series, *a, **k))
    halves = importlib.import_module("embryo.fit.regulated")
    monkeypatch.setattr(halves, "discrepancy", lambda n, s, *a, **k: tested.append(s) or discrepancy(n, s, *a, **k))
    settings = fit.Settings(cells=60, places=10, phases=(Phase(iterations=2),))
    training = fit.Training(steps=40, width=16, batch=64, seed=seed)
    laws = [
        fit.regulated(of, pairs, training, fit.Wiring(drawn=again, settings=settings), torch.eye(18)[:, :5])
        for of, again in ((cells, True), (twice, False), (cells, False))
    ]
    assert torch.equal(found[0].stages[-1].material, found[1].stages[-1].material)
    assert not torch.equal(laws[0].motion.end, laws[2].motion.end)
    torch.testing.assert_close(tested[0].stages[-1].y, tested[2].stages[-1].y)


def test_only_the_circuit_reads_genes(law) -> None:
    assert law.place.reads == ("x",)
    assert isinstance(law.birth, Growth)


def test_what_is_missing_is_said_at_once(cells, pairs) -> None:
    flat = cells[cells.obs[schema.TIME] == 0.0].copy()
    flat.obsm[schema.ALIGNED] = flat.obsm[schema.ALIGNED][:, :2]
    with pytest.raises(SchemaError) as error:
        fit.regulated(flat, pairs, QUICK, fit.Wiring(("wnt",)), torch.eye(18)[:, :5])
    assert [p.found for p in error.value.problems] == ["ligand 'wnt'", "2 columns of positions", "1 stage"]


def test_wild_type_refutes_a_law_that_misses_it_and_says_nothing_of_one_embryo(cells, pairs, law) -> None:
    assert law.refuted is not None
    hardly = fit.Wiring(("ligand",), settings=fit.Settings(cells=100, places=15, phases=(Phase(iterations=1),)))
    bad = fit.regulated(cells, pairs, QUICK, hardly, torch.eye(18)[:, :5])
    assert len(bad.refuted) > len(law.refuted)
    alone = cells[(cells.obs[schema.EMBRYO].astype(str) == "wt-0").to_numpy()].copy()
    one = fit.pairs(alone, couple.series(alone, method="tracks"))
    assert fit.regulated(alone, one, QUICK, hardly, torch.eye(18)[:, :5]).refuted is None


def test_measured_knock_outs_are_learned_from_and_make_nothing_of_their_gene(
    cells, pairs, tmp_path, monkeypatch
) -> None:
    seen = []
    real = circuits.fit
    monkeypatch.setattr(circuits, "fit", lambda series, *a, **k: seen.extend(series) or real(series, *a, **k))
    hardly = fit.Wiring(("ligand",), settings=fit.Settings(cells=100, places=15, phases=(Phase(iterations=2),)))
    trained = {"knockout trunk": made(Edit("trunk"))}
    law = fit.regulated(cells, pairs, QUICK, hardly, torch.eye(18)[:, :5], trained=trained)
    trunk = PANEL.index("trunk")
    assert [series.silenced for series in seen] == [(), (trunk,)]
    assert float(seen[1].stages[-1].y[:, trunk].max()) < 0.1 * float(seen[0].stages[-1].y[:, trunk].max())
    fields.save(law, tmp_path / "law.safetensors")
    again = fields.load(tmp_path / "law.safetensors")[0]
    assert laws.training_edits(again) == laws.training_edits(again.without([])) == ("knockout trunk",)
    with pytest.raises(SchemaError, match="'overexpress trunk'"):
        fit.regulated(cells, pairs, QUICK, hardly, torch.eye(18)[:, :5], trained={"overexpress trunk": cells})


def test_a_knock_out_that_was_measured_tells_what_wild_type_does_not(cells, pairs) -> None:
    """With the series of a knock-out the circuit foretells it better, for its genes are held to it."""
    phases = (Phase(iterations=60), Phase(weak=0.0, windows=(1,), iterations=20, decay=True))
    wiring = fit.Wiring(("ligand",), settings=fit.Settings(cells=100, places=15, phases=phases))
    lost = made(Edit("middle"))
    t = cells.obs[schema.TIME].to_numpy(float)
    start = fit.states(cells[t == 0.0])
    truth = fit.states(lost[lost.obs[schema.TIME].to_numpy(float) == 4.0])
    missed = []
    for trained in ({}, {"knockout middle": lost}):
        law = fit.regulated(cells, pairs, QUICK, wiring, torch.eye(18)[:, :5], trained=trained)
        context = perturb.Context(PANEL, torch.zeros(18, 5), 1.0)
        held, begin = perturb.apply(laws.begun(law, start, 0.0), start, [Edit("middle")], context, t0_h=0.0)
        end = simulate.forward(held, begin, (0.0, 4.0), step_h=0.25).at(-1)
        missed.append(float((end.g - truth.g).square().mean()))
    assert missed[1] < missed[0]


@pytest.fixture(scope="module")
def bodies():
    """Dense small embryos that crawl and divide, every cell seen."""
    params = synthetic.Params(n_cells=200, semi_axes_um=(60.0, 27.5, 27.5))
    seen = synthetic.Measurement(random_pose=False, n_genes=18)
    times = tuple(map(float, range(4, 10)))
    adata = synthetic.generate(n_embryos=3, seed=5, params=params, measurement=seen, times_h=times)
    return embedded(adata)


def test_forces_are_fitted_to_whole_bodies_and_let_genes_move_cells(bodies) -> None:
    phases = (Phase(iterations=10),)
    wiring = fit.Wiring(
        ("ligand",), settings=fit.Settings(cells=60, places=8, phases=phases), cycling=("growth",),
        forces=fit.Forces(("cad_a", "cad_b", "cad_c"), ("motility",)),
    )  # fmt: skip
    pairs = fit.pairs(bodies, couple.series(bodies))
    law = fit.regulated(bodies, pairs, QUICK, wiring, torch.eye(18)[:, :5])
    assert law.forces is not None
    assert float(law.forces.repulsion) > 0
    moving = set(np.flatnonzero(law.forces.adhesion.numpy().any(0) | (law.forces.motility.numpy() > 0)).tolist())
    assert moving
    assert moving <= {PANEL.index(g) for g in ("cad_a", "cad_b", "cad_c", "motility")}
    assert set(np.flatnonzero(law.birth.birth.numpy()).tolist()) <= {PANEL.index("growth")}
    start = fit.states(
        bodies[(bodies.obs[schema.TIME] == 4.0).to_numpy() & (bodies.obs["embryo"] == "wt-0").to_numpy()]
    )
    context = perturb.Context(PANEL, torch.zeros(18, 5), 1.0)
    ends = []
    for edits in ([], [Edit("motility")]):
        held, begin = perturb.apply(laws.begun(law, start, 4.0), start, edits, context, t0_h=4.0)
        ends.append(simulate.forward(held, begin, (4.0, 6.0), step_h=0.5).at(-1).x)
    assert float((ends[0] - ends[1]).norm(dim=1).median()) > 0.1


def test_forces_ask_for_whole_bodies_in_one_pose_and_known_genes(bodies) -> None:
    sampled = bodies.copy()
    sampled.obs[schema.MASS] = 2.0
    wiring = fit.Wiring(posed=False, cycling=("grwth",), forces=fit.Forces(("cadherin",), ("legs",)))
    pairs = fit.pairs(bodies, couple.series(bodies))
    with pytest.raises(SchemaError) as error:
        fit.regulated(sampled, pairs, QUICK, wiring, torch.eye(18)[:, :5])
    told = str(error.value)
    for part in ("cycling gene 'grwth'", "sticky gene 'cadherin'", "motile gene 'legs'", "stand for several", "a pose"):
        assert part in told


def test_one_passage_is_too_few_for_forces_and_said_before_the_circuit_is_fitted(bodies, monkeypatch) -> None:
    t, name = bodies.obs[schema.TIME].to_numpy(), bodies.obs[schema.EMBRYO].astype(str).to_numpy()
    fixed = bodies[((t == 4) & (name == name[0])) | ((t == 6) & (name != name[0]))].copy()
    pairs = fit.pairs(bodies, couple.series(bodies))
    monkeypatch.setattr(importlib.import_module("embryo.fit.regulated").circuits, "fit", None)
    with pytest.raises(SchemaError, match=r"1 passage .* set fit\.forces to false"):
        fit.regulated(fixed, pairs, QUICK, fit.Wiring(forces=fit.Forces()), torch.eye(18)[:, :5])


def moving(cells, noise: float = 0.0):
    """The cells with their velocities in levels of the panel, whose unit is that of the truth here."""
    known = cells.copy()
    y, inputs = np.asarray(known.obsm["truth_g"], dtype=float), np.random.default_rng(0).random((known.n_obs, 3))
    dy = synthetic.Circuit().production(y, np.hstack([inputs, np.zeros((known.n_obs, 1))])) - y
    known.obsm[schema.VELOCITY] = dy + noise * np.random.default_rng(1).normal(size=dy.shape)
    known.obsm[schema.INPUTS] = inputs
    return known


def test_measured_velocities_are_where_the_circuit_starts(cells, pairs) -> None:
    """Chance inputs that no snapshot can tell, but velocities do: decay and weights are found."""
    hardly = fit.Settings(cells=100, places=15, phases=(Phase(iterations=1),))
    wiring = fit.Wiring(held=Held(("a", "p", "v"), [9.0] * 3), settings=hardly)
    law = fit.regulated(moving(cells, 0.05), pairs, QUICK, wiring, torch.eye(18)[:, :5])
    found = law.circuit.weights.double().numpy()[:, 18:21]
    wanted = synthetic.Circuit().inputs[:, :3]
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.8
    assert np.median(np.abs(law.decay_per_h.numpy() - 1.0)) < 0.2


def test_velocities_of_other_genes_are_refused(cells, pairs) -> None:
    known = moving(cells)
    known.obsm[schema.VELOCITY][:, PANEL.index("tail")] = np.nan
    with pytest.raises(SchemaError, match="no velocity of tail"):
        fit.regulated(known, pairs, QUICK, fit.Wiring(), torch.eye(18)[:, :5])
    known.obsm[schema.VELOCITY] = known.obsm[schema.VELOCITY][:, :4]
    with pytest.raises(SchemaError, match="4 columns in obsm"):
        fit.regulated(known, pairs, QUICK, fit.Wiring(), torch.eye(18)[:, :5])


def test_a_hard_prior_forbids_and_a_soft_one_only_prefers(cells, pairs) -> None:
    quick = fit.Settings(cells=100, places=15, phases=(Phase(iterations=20),))
    edges = (("head", "middle"), ("middle", "middle"), ("nobody", "middle"))
    kept = [PANEL.index("head"), PANEL.index("middle")]
    for hard in (True, False):
        wiring = fit.Wiring(("ligand",), settings=quick, prior=edges, hard=hard)
        circuit = fit.regulated(cells, pairs, QUICK, wiring, torch.eye(18)[:, :5]).circuit
        genes = circuit.weights[:, :18].clone()
        signals = circuit.weights[:, -1]
        found = circuit.weights[:, 18:-1]  # inputs that the fit finds are never forbidden
        assert float(found.abs().max()) > 0.01
        assert float(genes[1, kept].abs().max()) > 0.01
        genes[1, kept] = 0.0
        assert (float(genes.abs().max()) == float(signals.abs().max()) == 0.0) is hard
    with pytest.raises(SchemaError, match="none of them between genes of the panel"):
        fit.regulated(cells, pairs, QUICK, fit.Wiring(prior=(("a", "b"),)), torch.eye(18)[:, :5])
