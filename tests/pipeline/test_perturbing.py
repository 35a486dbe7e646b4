"""`embryo perturb`: edits of a finished run, and of new cells."""

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats

from embryo import cli, fields, measure, pipeline, read
from embryo import config as configs
from embryo.cli import perturb as words
from embryo.core import schema, store
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, EmbryoError
from embryo.core.frame import BODY, Frame
from embryo.core.state import State
from embryo.core.table import interval, row, table
from embryo.core.trajectory import Trajectory
from embryo.fields.circuit import Circuit, Held
from embryo.fields.flow import FlowNetwork
from embryo.fields.mechanics import Mechanics
from embryo.fields.motion import Motion
from embryo.fields.regulated import Growth, Regulated
from embryo.measure.moment import moment, of_two
from embryo.pipeline import perturbing
from embryo.pipeline.perturbing import arms, effects, told, yardsticks
from embryo.pipeline.perturbing.bench import Bench
from embryo.pipeline.perturbing.support import Support

GENES = [f"gene{k}" for k in range(8)]


def cells(times: tuple[float, ...], seed: int = 0) -> ad.AnnData:
    """Three embryos of two types whose genes rise with time."""
    rng = np.random.default_rng(seed)
    n = 3 * 40
    time, kind = np.repeat(times, n), np.tile(np.repeat(["a", "b"], n // 2), len(times))
    rate = np.ones((len(time), len(GENES)))
    rate[kind == "b", :4] += 4 + time[kind == "b", None]
    rate[:, 4:] += time[:, None]
    counts = sparse.csr_matrix(rng.poisson(5 * rate).astype(np.float32))
    x = rng.normal(size=(len(time), 3)) * [30, 20, 10] + np.where(kind == "b", 25.0, -25.0)[:, None] * [1, 0, 0]
    embryo = np.tile(np.repeat(["e0", "e1", "e2"], 40)[rng.permutation(n)], len(times))
    obs = pd.DataFrame({schema.TIME: time, schema.CELL_TYPE: kind, schema.EMBRYO: embryo})
    obs.index = pd.Index([f"c{k}" for k in range(len(time))])
    uns = {schema.META: {"time_unit": "h", "space_unit": "um", "expression": "counts"}}
    var = pd.DataFrame(index=GENES)
    return ad.AnnData(counts, obs=obs, var=var, obsm={schema.SPATIAL: x}, layers={schema.COUNTS: counts}, uns=uns)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("perturbing")
    read.write(cells((0.0, 1.0, 2.0)), folder / "series.h5ad")
    new = cells((0.0, 1.0), seed=9)
    read.write(new[new.obs[schema.EMBRYO] == "e0"].copy(), folder / "start.h5ad")
    donor = cells((0.0,), seed=3)[:5].copy()
    donor.obs_names = [f"d{k}" for k in range(5)]
    read.write(donor, folder / "donor.h5ad")
    how = ("seeds=2", "fit.steps=20", "fit.width=16", "embed.dims=3", "couple.max_cells=100", "measure.neighbours=5")
    pipeline.run(configs.source(folder / "series.h5ad", how), folder / "run", until="fit")
    return folder


@pytest.fixture(scope="module")
def bench(folder: Path) -> Bench:
    return Bench.open(folder / "run", folder / "start.h5ad")


def test_an_edit_leaves_records_tables_ends_and_a_page(bench: Bench, tmp_path: Path) -> None:
    edits = [Edit("gene0", fraction=0.5)]
    found = perturbing.perturb(bench, edits, tmp_path / "out")
    record = store.read_json(tmp_path / "out/edits.json")
    assert [Edit.from_json(e) for e in record["edits"]] == edits
    assert (record["tier"], found.tier, len(record["seeds"])) == ("C", "C", 2)
    assert "never claims the size" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    table = store.read_table(tmp_path / "out/table.csv")
    assert {"control", "edited", "difference", "repeat"} <= set(table["role"])
    assert {"cells", "aspect_ratio", "fraction[a]", "length_um[ap]", "middle_um[b, ap]"} <= set(table["metric"])
    assert set(table["tier"]) == {"C"}
    for seed, control in zip(bench.seeds, bench.controls, strict=True):
        one, two = (ad.read_h5ad(tmp_path / f"out/{arm}-seed-{seed}.h5ad") for arm in ("control", "edited"))
        np.testing.assert_allclose(one.X, control.g[-1].numpy(), rtol=1e-6)
        assert set(two.obs[schema.PERTURBATION]) == {"knockout gene0"}
        assert {"fate", "mass"} <= set(two.obs)
        assert {schema.SPATIAL, schema.EMBED, schema.FATE_PROBABILITIES} <= set(two.obsm)
    asked = store.read_table(tmp_path / "out/encoder.csv")
    assert {"cosine[all cells]", "size_ratio[a]"} <= set(asked["metric"])
    for said in ("The encoder, asked about the edit", "does not know whether that leads from left to right"):
        assert any(said in sentence for sentence in record["sentences"])
    groups = found.autonomy.set_index(["group", "metric"])["value"]
    assert groups["do not carry it", "panel_change"] == 0  # the network reads each cell alone
    assert groups["all cells", "panel_change"] > 0


@pytest.mark.parametrize("n", [1, 2])
def test_few_cells_are_edited_too(folder: Path, tmp_path: Path, n: int) -> None:
    read.write(cells((0.0,), seed=9)[:n].copy(), tmp_path / "few.h5ad")
    perturbing.perturb(Bench.open(folder / "run", tmp_path / "few.h5ad"), [Edit("gene0")], tmp_path / "out")
    table = store.read_table(tmp_path / "out/table.csv")
    assert {"cells", "displacement_um", "form_mismatch"} <= set(table["metric"])
    assert ("d2" in set(table["metric"])) == (n > 1)
    assert "aspect_ratio" not in set(table["metric"])  # one or two cells have none
    assert (tmp_path / "out/report.html").is_file()


def test_the_measured_wild_type_later_in_the_file_gets_the_effect_added(bench: Bench, tmp_path: Path) -> None:
    assert list(bench.measured) == [1.0]
    found = perturbing.perturb(bench, [Edit("gene0")], tmp_path, pictures=False)
    rows = found.table[(found.table["time_h"] == 1.0) & (found.table["metric"] == "fraction[a]")]
    value = rows.set_index(["role", "model"])["value"]
    added = value["edited", effects.ADDED] - value["control", effects.MEASURED]
    assert added == pytest.approx(value["difference", "embryo"], abs=1e-9)


def test_controls_are_rolled_once_and_an_edit_of_no_cell_is_the_control(
    folder: Path, bench: Bench, tmp_path: Path
) -> None:
    kept = sorted((folder / "run/perturbations/controls").rglob("seed-*.zarr"))
    before = [p.stat().st_mtime_ns for p in kept]
    again = Bench.open(folder / "run", folder / "start.h5ad")
    found = perturbing.perturb(again, [Edit("gene1", fraction=0.0)], tmp_path, pictures=False)
    assert [p.stat().st_mtime_ns for p in kept] == before
    assert found.divergence["any_h"].isna().all()
    assert (found.table.loc[found.table["role"] == "difference", "value"].abs() < 1e-9).all()


def test_ablated_cells_are_gone_and_grafts_are_there(folder: Path, bench: Bench, tmp_path: Path) -> None:
    edits = [
        Edit(operation=Operation.ABLATE, region="ap<0.5", t_on_h=0.5),
        Edit(operation=Operation.GRAFT, file=str(folder / "donor.h5ad"), t_on_h=1.0),
    ]
    perturbing.perturb(bench, edits, tmp_path, pictures=False)
    edited = ad.read_h5ad(tmp_path / "edited-seed-0.h5ad")
    assert sum(name.startswith("graft 1: d") for name in edited.obs_names) == 5
    assert 5 < edited.n_obs < bench.new.n_obs + 5
    own = edited[[n for n in edited.obs_names if not n.startswith("graft")]]
    control = ad.read_h5ad(tmp_path / "control-seed-0.h5ad")[own.obs_names]
    np.testing.assert_allclose(own.obsm[schema.SPATIAL], control.obsm[schema.SPATIAL], rtol=1e-3, atol=1e-3)


def test_every_problem_of_every_edit_is_told_at_once(bench: Bench, folder: Path) -> None:
    edits = [
        Edit("gene99", cell_type="liver"),
        Edit("gene1", t_on_h=50.0),
        Edit("gene1", Operation.CUT, target="gene2"),
        Edit("gene1", region="x>9999"),
        Edit(operation=Operation.GRAFT, file="nowhere.h5ad"),
    ]
    with pytest.raises(EditError) as caught:
        bench.check(edits)
    said = str(caught.value)
    for part in ("'gene99'", "'liver'", "50 to inf h", "no edges", "widen the region", "nowhere.h5ad", "6 problems"):
        assert part in said
    with pytest.raises(EditError, match="at least one"):
        bench.check([])
    with pytest.raises(EmbryoError, match="an end after that"):
        Bench.open(folder / "run", folder / "start.h5ad", until_h=0.0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_edit_by_itself_shares_the_control(folder: Path, tmp_path: Path, jobs: int) -> None:
    table = perturbing.each(folder / "run", {g: [Edit(g)] for g in GENES[:2]}, tmp_path, jobs=jobs, nulls=0)
    assert set(table["board"]) == set(GENES[:2])
    assert (tmp_path / "gene1/edits.json").is_file()
    pd.testing.assert_frame_equal(store.read_table(tmp_path / "table.csv")[["board"]], table[["board"]])


def test_yardsticks_say_what_would_be_seen_anyway(bench: Bench, tmp_path: Path) -> None:
    found = perturbing.perturb(bench, [Edit("gene0")], tmp_path, pictures=False, nulls=2)
    floors = found.table[found.table["role"] == "floor"].set_index(["model", "metric", "time_h"])
    end = bench.times_h[-1]
    random = floors.loc[yardsticks.RANDOM, "bray_curtis[fates]", end]
    assert random["n_seeds"] == 2
    assert random["low"] <= random["value"] <= random["high"]
    alone = floors.loc[yardsticks.SHIFT].droplevel("time_h")
    assert (alone.loc[["displacement_um", "chamfer_um", "cells"], "value"] == 0).all()  # it moves no cell
    assert (floors.loc[(yardsticks.DELAY, "cells", 0.0), "value"] == 0).all()
    late = floors.loc[yardsticks.DELAY, "energy_distance[x]", end]["value"]
    last, before = (bench.controls[0].at(k) for k in (-1, -2))
    names = bench.controls[0].cells
    one, two = (moment(s, bench.fate, names) for s in (last, before))
    assert late == pytest.approx(of_two(one, two, bench.run.config.seed)["energy_distance[x]"])
    assert any("same edit of 2 genes of like level" in s for s in found.sentences)


def test_random_genes_are_others_of_like_level(bench: Bench) -> None:
    level = dict(zip(bench.panel, bench.controls[0].g.mean(dim=(0, 1)).tolist(), strict=True))
    edits = [Edit("gene0", Operation.KNOCKDOWN, 0.3), Edit("gene1", fraction=0.5)]
    groups = yardsticks.matched(bench, edits, 3)
    for group in groups:
        assert [(e.operation, e.dose, e.fraction) for e in group] == [(e.operation, e.dose, e.fraction) for e in edits]
        assert not {e.gene for e in group} & {"gene0", "gene1"}
        assert len({e.gene for e in group}) == 2
    others = [g for g in bench.panel if g not in ("gene0", "gene1")]
    assert groups[0][0].gene == min(others, key=lambda g: abs(level[g] - level["gene0"]))


def test_edges_are_where_a_share_of_the_fate_lies() -> None:
    x = torch.linspace(0, 100, 101)[:, None] * torch.tensor([[1.0, 0.0, 0.0]])
    state = State(torch.zeros(101, 1), torch.zeros(101, 0), x, torch.zeros(101))
    fate = np.where(np.arange(101) < 50, "front", "back")
    found = effects.along_axes(state, fate)
    assert found["edge[front, ap, high]"] == pytest.approx(100 * (44 - 2) / 96)
    assert found["edge[back, ap, low]"] == pytest.approx(100 * (55 - 2) / 96)
    assert effects.unit_of("edge[back, ap, low]") == "% of length"
    assert not any(name.startswith("edge") and "dv" in name for name in found)  # no length along that axis


def test_a_mirrored_embryo_has_the_other_hand() -> None:
    """One arm is the mirror image of the other across the plane of the first two axes: sides and hand change sign."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(90, 3)) * [40, 20, 10])
    kind = np.select([x[:, 2] > 4, x[:, 0] > 20, x[:, 1] > 5], ["right", "front", "back"], "rest")
    z = torch.tensor(np.stack([kind == name for name in ("right", "front", "back")], 1).astype(float))
    fate = measure.fates(z.numpy(), kind, neighbours=3)
    states = [State(z, z[:, :1], y, torch.zeros(90).double()) for y in (x, x * torch.tensor([1.0, 1.0, -1.0]))]
    times, about = torch.tensor([0.0, 1.0]), {"panel": ("a",), "frame": Frame(BODY)}
    one, two = (Trajectory.of(times, [state, state], **about) for state in states)
    found = effects.added([(one, two)], {0.0: one.at(0)}, fate, "x", [1.0])
    own = found[(found["time_h"] == 1.0) & (found["model"] == "embryo")].set_index(["metric", "role"])["value"]
    hand = f"laterality[{', '.join(effects.landmarks([(one, two)], fate))}]"
    for metric in ("side[right]", "side[rest]", hand):
        control, edited = (own[metric, role] for role in ("control", "edited"))
        assert abs(control) > 0.1
        assert edited == pytest.approx(-control, abs=1e-9)
        assert effects.unit_of(metric) == "1"
    fallen = effects.readable(found, "metric", posed=False)
    assert {"side", "laterality"} & set(fallen["metric"].str.partition("[")[0]) == {"laterality"}
    three = torch.tensor(np.where(kind == "back", 1, 0)[:, None] * [[0.0, 0.0, -1.0]]) + z  # "back" is now "rest"
    assert effects.landmarks([(Trajectory.of(times, [replace(one.at(0), z=three)] * 2, **about),) * 2], fate) == ()
    assert {"side[right]", hand} <= set(effects.divergence([(one, two)], fate)["name"])


def test_laws_of_a_bootstrap_spread_as_results_do() -> None:
    """Their own standard deviation times t, where fits to the same embryos have it over the root of their number."""
    values = np.array([10.0, 14.0, 15.0])
    about = {"board": "", "split": "", "model": "embryo", "unit": "1"}
    rows = [row(role="control", metric="cells", values=interval(values).within(0.0), **about)]
    rows += [row(role=role, metric="cells", values=values, **about) for role in ("difference", "floor")]
    rows += [row(role="difference", metric="chamfer_um", values=interval(values).within(0.0), **about)]
    found = effects.over_embryos(table(rows))
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1)
    assert found["high"].to_numpy() == pytest.approx([13 + half, 13 + half, rows[2]["high"], 13 + half])
    assert found["low"].to_numpy() == pytest.approx([max(13 - half, 0), 13 - half, rows[2]["low"], max(13 - half, 0)])
    split = effects._grouped({("all", "growth"): [-0.1, 0.9], ("all", "displacement_um"): [0.1, 9.0]})
    wide = effects.over_embryos(split)
    assert wide["low"][0] < split["low"][0] < 0
    assert wide["low"][1] == 0


def test_lengths_end_at_zero_and_places_and_changes_do_not() -> None:
    values = np.array([1.0, 2.0, 90.0]), np.array([3.0, 80.0, 1.0])
    length, middle = (
        {role: found for _, role, found in effects._rows(f"{kind}[ap]", *values, {})}
        for kind in ("length_um", "middle_um")
    )
    assert length["control"].low == length["edited"].low == 0
    assert middle["control"].low < 0
    assert length["difference"].low < 0
    grouped = effects._grouped({("all", "displacement_um"): [0.1, 9.0], ("all", "growth"): [-0.1, 0.9]})
    assert grouped.set_index("metric")["low"]["displacement_um"] == 0
    assert grouped.set_index("metric")["low"]["growth"] < 0


def test_the_tier_is_the_laws() -> None:
    class Known(fields.Still):
        training_edits = ("knockout a",)
        decay_per_h = unit = torch.ones(1)
        produce = fields.Still.__call__

    a, b = Edit("a"), Edit("b")
    asked = [
        [a],
        [b],
        [a, b],
        [Edit("a", fraction=0.5)],
        [Edit("a", t_on_h=1.0)],
        [Edit("a", Operation.KNOCKDOWN, 0.5)],
    ]
    assert [told.tier(Known(), edits).letter for edits in asked] == ["A", "B", "B", "B", "B", "B"]
    Known.training_edits = ("knockout a + knockout b",)
    assert told.tier(Known(), [b, a]).letter == "A"
    assert told.tier(fields.Still(), [a]).letter == "C"


def test_a_law_that_wild_type_refutes_is_flagged() -> None:
    class Known(fields.Still):
        decay_per_h = unit = torch.ones(1)
        produce = fields.Still.__call__
        refuted: tuple[str, ...] | None = ("trunk", "tail")

    (said,) = told.on_wild_type([Known()])
    assert said.startswith("FLAGGED")
    assert "trunk, tail" in said
    other = Known()
    other.refuted = ("tail",)
    assert "tail (2 of 2 seeds), trunk (1 of 2 seeds)" in told.on_wild_type([Known(), other])[0]
    Known.refuted = ()
    assert "tail (1 of 2 seeds)" in told.on_wild_type([Known(), other])[0]
    assert "does not refute" in told.on_wild_type([Known()])[0]
    Known.refuted = None
    assert "Not tested" in told.on_wild_type([Known()])[0]
    Known.residual = object()
    assert "may be hidden in it" in told.on_wild_type([Known()])[1]
    assert told.on_wild_type([fields.Still()]) == []


def test_whether_genes_move_cells_is_said() -> None:
    circuit = Circuit(("a",), ("in",))
    place = FlowNetwork(dims=2, genes=1, space=3, reads=("x",), width=8)
    law = Regulated(circuit, Held(("in",), [9.0]), place, Growth(1), Motion([0.0, 1.0]), 12.0)
    state = State(torch.zeros(4, 2), torch.zeros(4, 1), torch.eye(4, 3), torch.zeros(4))
    bound = law.begun(state, 0.0, torch.ones(4, 1))  # as a perturbation holds it
    (still,) = told.on_motion([bound], asked=False, growth="mass")
    assert "No gene moves a cell" in still
    refuted, again = told.on_motion([bound, bound], asked=True, growth="mass")
    assert "refute forces in 2 of 2 laws" in refuted
    assert again == still
    law.forces = Mechanics(genes=1, space=3)
    moved, small = told.on_motion([bound], asked=True, growth="mass")
    assert "forces that read genes" in moved
    assert "not by division" in small
    assert told.on_motion([bound], asked=True, growth="particles") == [moved]
    assert told.on_motion([fields.Still()], asked=False, growth="mass") == []


def test_intervals_say_what_they_hold(bench: Bench) -> None:
    assert "do not hold how embryos differ" in told.on_intervals(bench)[0]
    fit = bench.run.config.fit.model_copy(update={"bootstrap": True})
    other = replace(bench.run, config=bench.run.config.model_copy(update={"fit": fit}))
    assert "drawn with replacement" in told.on_intervals(replace(bench, run=other))[0]


def test_support_tells_states_that_training_cells_never_had() -> None:
    rng = np.random.default_rng(0)

    def state(shift: float) -> State:
        g = torch.as_tensor(rng.normal(size=(300, 4)) + shift)
        return State(torch.zeros(300, 2), g, torch.as_tensor(rng.normal(size=(300, 3))), torch.zeros(300))

    support = Support.of([state(0.0) for _ in range(4)], seed=0)
    assert support.beyond(state(0.0)).mean() < 0.1
    assert support.beyond(state(6.0)).mean() > 0.95
    assert support.outside(state(9.0)).min() > 0.9
    alone = state(0.0)[torch.tensor([0])]
    assert support.beyond(alone).shape == (1,)
    zygote = state(0.0)[torch.tensor([0])]  # a moment of a single cell among the others
    assert Support.of([state(0.0), zygote], seed=0).beyond(zygote).shape == (1,)


def test_arms_with_other_cells_are_paired_over_all(bench: Bench) -> None:
    control = bench.controls[0]
    fewer = replace(
        control, z=control.z[:, 1:], g=control.g[:, 1:], x=control.x[:, 1:], log_mass=control.log_mass[:, 1:],
        cells=control.cells[1:],
    )  # fmt: skip
    one, two = arms.paired(control, fewer)
    assert one.cells == two.cells == control.cells
    assert bool((two.log_mass[:, 0] == -torch.inf).all())
    assert torch.equal(two.x[:, 1:], one.x[:, 1:])


def test_words_become_edits_and_wrong_ones_are_told_together(tmp_path: Path) -> None:
    common = {"cell_type": "a", "region": None, "clone": None, "fraction": 0.5, "t_on_h": 1.0, "t_off_h": None}
    asked = {"knockout": ["wnt", "x"], "clamp": ["y=2"], "cut": ["p:q"]}
    (tmp_path / "more.json").write_text('[{"gene": "z"}]')
    got = words.parse(asked, ["wnt=g1,g2"], common, tmp_path / "more.json")
    assert [e.label for e in got] == ["knockout g1", "knockout g2", "knockout x", "clamp y", "cut p->q", "knockout z"]
    assert {e.program for e in got[:2]} == {"wnt"}
    assert got[0].fraction == 0.5
    assert got[-1] == Edit("z")
    wrong = {"clamp": ["y"], "knockdown": ["k=3"], "cut": ["pq"]}
    with pytest.raises(EditError, match=r"(?s)5 problems.*no edit names"):
        words.parse(wrong, ["idle=g"], common, tmp_path / "absent.json")


def test_the_command_says_tier_and_where_the_page_lies(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["perturb", str(folder / "run"), "--knockout", "gene0", "--in-type", "b", "-o", str(tmp_path / "o"), "-q"]
    monkeypatch.setattr("sys.argv", ["embryo", *asked])
    with pytest.raises(SystemExit) as done:
        cli.main()
    said = capsys.readouterr().out
    assert done.value.code == 0
    assert "Tier C" in said
    assert "report.html" in said
    assert (tmp_path / "o/divergence.csv").is_file()
