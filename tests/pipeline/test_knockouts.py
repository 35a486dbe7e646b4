"""The evaluation of predicted knock-outs as one job, on an embryo small enough to simulate in a second."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from anndata import AnnData
from typer.testing import CliRunner

from embryo import fields, fit
from embryo.cli import app
from embryo.core import schema, store, table
from embryo.core.edit import Edit, Operation
from embryo.core.errors import ConfigError
from embryo.datasets import synthetic
from embryo.evaluate.perturbation import Predictor
from embryo.fit.circuit import Phase
from embryo.pipeline import knockoutboards, knockoutpredictors, knockouts, knockouttruth, pages
from embryo.pipeline.knockoutboards import Known
from embryo.pipeline.knockoutdials import SyntheticBoard

SMALL = {
    "name": "small", "n_cells": 60, "n_embryos": 2, "n_truth": 2, "spacing_h": 3, "end_h": 6, "static": True,
    "max_cells": 60, "edits": ["tail", "ventral"], "n_genes": 30, "models": ["as before"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(knockoutpredictors._BUILDERS)
    knockoutpredictors.register("as before", _as_before)
    yield
    knockoutpredictors._BUILDERS.clear()
    knockoutpredictors._BUILDERS.update(before)


def _as_before(known: Known) -> Predictor:
    """Predict the training wild type at the end."""
    last = known.wild[(known.wild.obs[schema.TIME] == known.end_h).to_numpy()]
    ends = knockoutboards.EndPopulation.of_rows(last)
    return Predictor("as before", "ours", lambda *_: ends, tier="C")


def _write(folder: Path, *boards: dict[str, object], **more: object) -> Path:
    path = folder / "try.yaml"
    path.write_text(yaml.safe_dump({"name": "try", "boards": list(boards), **more}), encoding="utf-8")
    return path


def _loaded(tmp_path: Path, **dials: object) -> knockoutboards.Loaded:
    board = SyntheticBoard(**{**SMALL, "end_h": 2, "spacing_h": 1, **dials})  # before fates are: nothing is judged
    return knockoutboards.load(board, tmp_path, "commit", seed=0, seeds=3, tick=lambda *_: None)


def test_a_table_and_a_page_are_left_and_what_was_found_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, said = knockouts.load(_write(tmp_path, SMALL)), []
    page = knockouts.run(config, tmp_path / "out", said=lambda board, what: said.append(f"{board}: {what}"))
    rows = store.read_table(tmp_path / "out/table.csv")
    assert list(rows.columns[: len(table.COLUMNS)]) == list(table.COLUMNS)
    assert {"ours", "floor", "ceiling", "difference", "control", "edited"} == set(rows["role"])
    assert {"no change", "developmental delay", "true law, other embryos", "as before"} <= set(rows["model"])
    text = page.read_text(encoding="utf-8")
    assert "Dials: stages 3 decay times apart; inputs known" in text
    assert text.index("| small | all edits | as before |") < text.index("edit by edit") < text.index("### All verdicts")
    assert pages.join([tmp_path / "out"]).startswith("# Predicted knock-outs")
    assert (tmp_path / "out/report.html").is_file()
    assert said[0].startswith("small: ")
    monkeypatch.setattr(knockouts, "judge", None)  # calling it would fail
    monkeypatch.setattr(knockouttruth, "simulated", None)
    knockouts.run(config, tmp_path / "out")
    pd.testing.assert_frame_equal(rows, store.read_table(tmp_path / "out/table.csv"))


def test_boards_of_the_same_embryos_share_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _loaded(tmp_path)
    monkeypatch.setattr(knockouttruth, "simulated", None)
    second = _loaded(tmp_path, name="other", inputs="unknown", prior="wrong", hard_prior=True)
    assert second.digest == first.digest
    assert second.known.hard_prior


def test_who_predicts_sees_no_truth(tmp_path: Path) -> None:
    loaded = _loaded(tmp_path, training_knockouts=["head"], velocity="known")
    train = loaded.known.train
    assert not [key for key in (*train.obsm, *train.uns) if key.startswith("truth")]
    assert set(train.obs[schema.PERTURBATION].astype(str)) == {"", "knockout head"}
    assert set(loaded.trial.training) == {"knockout head"}
    assert not set(train.obs[schema.EMBRYO].astype(str)) & set(loaded.trial.wild.embryos)
    assert set(loaded.trial.earlier) == {1.0}
    assert loaded.law.keys() == loaded.trial.truth.keys()


def test_velocities_are_those_of_the_panels_levels(tmp_path: Path) -> None:
    known = _loaded(tmp_path, velocity="known").known
    velocity = np.asarray(known.train.obsm[schema.VELOCITY])
    np.testing.assert_allclose(velocity, known.train.obsm["velocity_panel"], rtol=1e-5)


def test_inputs_are_the_maternal_gradients(tmp_path: Path) -> None:
    known = _loaded(tmp_path, dose_sd=0.0).known
    cells, state = known.start(0, 60)
    assert known.inputs_at is not None
    expected = known.inputs_at(np.asarray(cells.obsm[schema.ALIGNED]), 0.0)
    np.testing.assert_allclose(cells.obsm[schema.INPUTS], expected)
    assert float(state.mass.sum()) == pytest.approx(60)
    unknown = _loaded(tmp_path, dose_sd=0.0, inputs="unknown").known
    assert unknown.inputs_at is None
    assert schema.INPUTS not in unknown.train.obsm


def test_counts_and_hidden_regulators(tmp_path: Path) -> None:
    known = _loaded(tmp_path, counts_per_unit=10, hidden=["middle"]).known
    assert "middle" not in known.panel
    assert len(known.panel) == len(synthetic.PANEL) - 1
    assert known.response.shape[0] == len(known.panel)
    assert (known.unit > 0).all()


def test_a_wrong_prior_lacks_edges_and_has_false_ones() -> None:
    true, wrong = knockouttruth.prior("true", 0), knockouttruth.prior("wrong", 0)
    assert true is not None
    assert wrong is not None
    assert knockouttruth.prior("none", 0) is None
    pairs = [set(zip(p["source"], p["target"], strict=True)) for p in (true, wrong)]
    assert len(pairs[0] - pairs[1]) == round(0.3 * len(pairs[0]))
    assert len(pairs[1] - pairs[0]) == 40


def test_the_network_of_a_run_is_judged_with_its_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knockoutpredictors, "_STEPS", 3)
    loaded = _loaded(tmp_path)
    network = knockoutpredictors.build(["network"], loaded.known)[0]
    found = network(loaded.trial.edits["knockout tail"], 0)
    assert found is not None
    assert found.control is not None
    assert set(found.edited.fate.astype(str)) <= set(loaded.trial.fates)
    assert found.edited.g[:, loaded.known.panel.index("tail")].max() == pytest.approx(0.0, abs=1e-6)
    assert found.control.g[:, loaded.known.panel.index("tail")].max() > 0


def test_boards_may_name_the_circuit_with_its_residual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laws, shrunk, real = [], [], fit.regulated
    quick = fit.Settings(cells=40, places=5, phases=(Phase(iterations=2),))

    def regulated(adata, pairs, training, wiring, response, **more):
        shrunk.append(schema.MEASURED in adata.obsm)
        laws.append(real(adata, pairs, training, replace(wiring, settings=quick), response, **more))
        return laws[-1]

    monkeypatch.setattr(fit, "regulated", regulated)
    monkeypatch.setattr(knockoutpredictors, "_STEPS", 3)
    loaded = _loaded(tmp_path, inputs="known", counts_per_unit=10)
    for predictor in knockoutpredictors.build(["circuit", "circuit+residual"], loaded.known):
        assert predictor.tier == "B"
        found = predictor(loaded.trial.edits["knockout tail"], 0)
        assert found.edited.g[:, loaded.known.panel.index("tail")].max() == pytest.approx(0.0, abs=1e-6)
    assert [law.residual is None for law in laws] == [True, False]
    assert shrunk == [True, True]  # both read levels from counts


def test_a_conditional_flow_learns_from_training_knock_outs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, real = [], fit.conditional
    monkeypatch.setattr(fit, "conditional", lambda data, by, how: told.append(by) or real(data, by, how))
    monkeypatch.setattr(knockoutpredictors, "_STEPS", 3)
    loaded = _loaded(tmp_path, edits=["tail"], training_knockouts=["head", "trunk"])
    flow = knockoutpredictors.build(["conditional"], loaded.known)[0]
    found = flow(loaded.trial.edits["knockout tail"], 0)
    assert flow.tier == "A"
    assert len(told) == 1
    assert [c[0].item() for c in told[0]] == [0.0, 1.0, 1.0]
    assert not np.allclose(found.edited.g, found.control.g)
    assert flow(Edit("tail", Operation.OVEREXPRESS, 1.0), 0) is None
    alone = knockoutpredictors.build(["conditional"], _loaded(tmp_path).known)[0]
    assert alone(loaded.trial.edits["knockout tail"], 0) is None


def test_bad_configs_are_told_whole(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two boards called 'small'"):
        knockouts.load(_write(tmp_path, SMALL, SMALL))
    with pytest.raises(ConfigError, match="model 'oracle' of small"):
        knockouts.load(_write(tmp_path, {**SMALL, "models": ["oracle"]}))
    with pytest.raises(ConfigError, match="counts_per_units"):
        knockouts.load(_write(tmp_path, {**SMALL, "counts_per_units": 3}))
    with pytest.raises(ConfigError, match="seeds"):
        knockouts.load(_write(tmp_path, SMALL), ("seeds=1",))
    with pytest.raises(ConfigError, match="gene 'tial'"):
        _loaded(tmp_path, edits=["tial"])
    with pytest.raises(ConfigError, match="tail is judged and also hidden"):
        _loaded(tmp_path, hidden=["tail"])
    with pytest.raises(ConfigError, match="whole number of steps"):
        _loaded(tmp_path, spacing_h=0.7)


def test_the_chimera_is_judged_with_an_honest_gap(
    tmp_path: Path, real: Callable[..., AnnData], monkeypatch: pytest.MonkeyPatch
) -> None:
    real("mouse-tal1-chimera")
    config = knockouts.load(Path(__file__).parents[2] / "configs/evaluate/perturbation-tal1.yaml")
    knockouts.run(config, tmp_path / "out")
    rows = store.read_table(tmp_path / "out/table.csv")
    assert set(rows["role"]) == {"floor", "ceiling", "control", "edited"}
    recovery = rows[rows["metric"] == "effect recovery in fates"].set_index("model")["value"]
    assert recovery["no change"] == 0
    assert recovery["half of the truth against the other"] > 0.5
    assert "No prediction of ours: one stage alone" in (tmp_path / "out/report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["synthetic", "dials", "tal1"])
def test_the_configs_that_come_along_are_right(name: str) -> None:
    found = knockouts.load(Path(__file__).parents[2] / f"configs/evaluate/perturbation-{name}.yaml")
    assert found.name == f"perturbation-{name}"


def test_the_command_runs_the_job_and_says_where_the_page_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def run(config: knockouts.Knockouts, out: Path, **_: object) -> Path:
        ran.append((config.name, config.seeds, out))
        return out / "report.md"

    monkeypatch.setattr(knockouts, "run", run)
    argv = [
        "evaluate",
        "perturbation",
        str(_write(tmp_path, SMALL)),
        "--set",
        "seeds=4",
        "--out",
        str(tmp_path / "out"),
        "--quiet",
    ]
    done = CliRunner().invoke(app, argv)
    assert ran == [("try", 4, tmp_path / "out")], done.output


def test_laws_that_wild_type_refutes_are_flagged_by_gene_and_seed() -> None:
    class Law(fields.Still):
        def __init__(self, *refuted: str) -> None:
            self.refuted = refuted

    found = {0: Law("trunk", "tail"), 1: Law("trunk"), 2: Law()}
    (said,) = knockoutpredictors.doubts("gene circuit", found)
    assert "FLAGGED" in said
    assert "trunk (2 of 3 seeds), tail (1 of 3 seeds)" in said
    assert knockoutpredictors.doubts("gene circuit", {0: Law()}) == []
    assert knockoutpredictors.doubts("network", {0: fields.Still()}) == []
