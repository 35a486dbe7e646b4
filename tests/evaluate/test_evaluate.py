import anndata as ad
import numpy as np
import pytest
import torch

from embryo import evaluate, measure
from embryo.core import schema
from embryo.core.frame import Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory
from embryo.evaluate import Rollout
from embryo.evaluate.lineage import Lineage
from embryo.evaluate.result import OURS, Scores

STEP = np.array([10.0, 0.0, 0.0])
NAMES = ("A", "B", "C", "D")


def tracked(jitter: float = 0.0) -> ad.AnnData:
    """Three embryos; each cell moves by its own constant step, B divides before t = 1 into Ba and Bp, 4 µm apart."""
    rng = np.random.default_rng(0)
    rows = []
    for embryo in ("held", "one", "two"):
        for i, cell in enumerate(NAMES):
            x0, step = np.array([0.0, 50 * i, 0]), STEP * (i + 1)
            rows.append((embryo, 0.0, cell, "", x0))
            at = x0 + step + (jitter * rng.normal(size=3) if embryo != "held" else 0)
            if cell == "B":
                rows += [(embryo, 1.0, f"B{d}", "B", at + np.array([0, s, 0])) for d, s in (("a", 2), ("p", -2))]
            else:
                rows.append((embryo, 1.0, cell, "", at))
    adata = ad.AnnData(np.zeros((len(rows), 1), np.float32))
    columns = list(zip(*rows, strict=True))
    for slot, values in zip((schema.EMBRYO, schema.TIME, schema.CELL, schema.PARENT), columns, strict=False):
        adata.obs[slot] = list(values)
    adata.obsm[schema.SPATIAL] = adata.obsm[schema.ALIGNED] = np.stack(columns[4])
    return adata


def rollout(adata: ad.AnnData, step: np.ndarray, embryo: str = "held", seed: int = 0) -> Rollout:
    rows = np.flatnonzero((adata.obs[schema.EMBRYO] == embryo) & (adata.obs[schema.TIME] == 0))
    x0 = torch.as_tensor(np.asarray(adata.obsm[schema.ALIGNED])[rows], dtype=torch.float32)
    none = torch.zeros(len(rows), 0)
    ends = [
        State(none, none, x0 + k * torch.as_tensor(step, dtype=torch.float32), torch.zeros(len(rows))) for k in (0, 1)
    ]
    return Rollout(embryo, seed, rows, Trajectory.of(torch.tensor([0.0, 1.0]), ends, panel=(), frame=Frame()))


def value(table: object, model: str) -> float:
    (found,) = table.loc[table["model"] == model, "value"]  # type: ignore[index]
    return float(found)


def test_position_errors_are_the_distances_that_they_say() -> None:
    """The cells move 10, 20, 30 and 40 µm; a divided cell is compared by the mean of its daughters."""
    adata = tracked()
    result = evaluate.positions(adata, [rollout(adata, STEP)], ["one", "two"], [1.0], tolerance_h=0.1)
    assert value(result.table, "no change: the cell stays") == pytest.approx(25)
    assert value(result.table, OURS) == pytest.approx(15)
    assert value(result.table, "mean displacement of all training cells") == pytest.approx(10)
    assert value(result.table, "mean displacement of the named cell in training embryos") == pytest.approx(0)
    assert value(result.table, "the same cell in another embryo") == pytest.approx(0)
    assert set(result.table["split"]) == {"60 min"}
    assert "not better than “mean displacement of the named cell" in result.sentences[0]


def test_the_named_mean_averages_training_embryos_and_the_repeat_does_not() -> None:
    """With jitter sd s per axis in training embryos, one embryo errs by E|N(0, s)| in 3D, the mean of two by less."""
    errors = {"mean displacement of the named cell in training embryos": [], "the same cell in another embryo": []}
    adata = tracked(jitter=1.0)
    result = evaluate.positions(adata, [rollout(adata, STEP)], ["one", "two"], [1.0], tolerance_h=0.1)
    for model in errors:
        errors[model] = value(result.table, model)
    x = np.asarray(adata.obsm[schema.ALIGNED])
    t1 = (adata.obs[schema.TIME] == 1).to_numpy()
    moved = {e: x[t1 & (adata.obs[schema.EMBRYO] == e).to_numpy()] for e in ("held", "one", "two")}
    merged = {e: np.array([v[0], (v[1] + v[2]) / 2, v[3], v[4]]) for e, v in moved.items()}
    single = np.mean([np.linalg.norm(merged[e] - merged["held"], axis=1).mean() for e in ("one", "two")])
    mean = np.linalg.norm((merged["one"] + merged["two"]) / 2 - merged["held"], axis=1).mean()
    assert errors["the same cell in another embryo"] == pytest.approx(single)
    assert errors["mean displacement of the named cell in training embryos"] == pytest.approx(mean)


def test_lineage_finds_descendants_then_ancestors_then_nothing() -> None:
    lineage = Lineage(tracked())
    cells = np.array(["B", "Ba", "Zz"])
    late = lineage.positions("one", cells, 1.05, 0.1, fallback=False)
    np.testing.assert_allclose(late[0], [20, 50, 0])
    np.testing.assert_allclose(late[1], [20, 52, 0])
    assert np.isnan(late[2]).all()
    early = lineage.positions("one", cells, 0.0, 0.1, fallback=True)
    np.testing.assert_allclose(early[1], early[0])
    assert np.isnan(lineage.positions("one", cells, 0.0, 0.1, fallback=False)[1]).all()
    assert lineage.positions("one", cells, 0.5, 0.1, fallback=True) is None
    assert lineage.positions("nobody", cells, 0.0, 0.1, fallback=True) is None


def populated(edited_shift: float = 3.0) -> tuple[ad.AnnData, measure.FateClassifier]:
    """Cells of two fates in z; a quarter, and in edited embryos three quarters, are of the second fate."""
    rng = np.random.default_rng(1)
    parts = []
    for embryo, label in (("wt-0", ""), ("wt-1", ""), ("wt-2", ""), ("ko-0", "knockout a"), ("ko-1", "knockout a")):
        for t in (0.0, 1.0):
            second = np.arange(200) < (150 if label else 50)
            part = ad.AnnData(np.zeros((200, 1), np.float32))
            part.obs[schema.TIME], part.obs[schema.EMBRYO], part.obs[schema.PERTURBATION] = t, embryo, label
            part.obs[schema.CELL_TYPE] = np.where(second, "b", "a")
            part.obsm[schema.EMBED] = np.c_[np.where(second, 10.0, 0.0), np.zeros(200)] + rng.normal(size=(200, 2))
            part.obsm[schema.SPATIAL] = part.obsm[schema.ALIGNED] = rng.normal(size=(200, 3)) * 20 + (
                edited_shift if label else 0
            )
            parts.append(part)
    adata = ad.concat(parts, index_unique="-", keys=[str(i) for i in range(len(parts))])
    train = adata.obs[schema.EMBRYO].isin(["wt-0", "wt-1"]).to_numpy()
    fate = measure.fates(
        adata.obsm[schema.EMBED][train], adata.obs[schema.CELL_TYPE].to_numpy(str)[train], neighbours=5
    )
    return adata, fate


def copy_of(adata: ad.AnnData, source: str, seed: int = 0) -> Rollout:
    """A roll-out that ends as `source` is at t = 1."""
    states = []
    for t in (0.0, 1.0):
        rows = np.flatnonzero((adata.obs[schema.EMBRYO] == source) & (adata.obs[schema.TIME] == t))
        z, x = (
            torch.as_tensor(np.asarray(adata.obsm[k])[rows], dtype=torch.float32)
            for k in (schema.EMBED, schema.ALIGNED)
        )
        states.append(State(z, torch.zeros(len(rows), 0), x, torch.zeros(len(rows))))
    start = np.flatnonzero((adata.obs[schema.EMBRYO] == "wt-2") & (adata.obs[schema.TIME] == 0.0))
    return Rollout("wt-2", seed, start, Trajectory.of(torch.tensor([0.0, 1.0]), states, panel=(), frame=Frame()))


def test_populations_score_ours_floors_and_ceiling() -> None:
    adata, fate = populated()
    result = evaluate.populations(adata, [copy_of(adata, "wt-2")], ["wt-0", "wt-1"], [0.0, 1.0], fate, tolerance_h=0.1)
    table = result.table
    assert set(table["split"]) == {"t = 1 h"}
    assert set(table["role"]) == {"ours", "floor", "ceiling"}
    metrics = {
        "energy distance of positions",
        "energy distance of states",
        "Bray-Curtis distance of fates",
        "error of cell number",
    }
    assert set(table["metric"]) == metrics
    ours = table[table["model"] == OURS].set_index("metric")["value"]
    assert ours["Bray-Curtis distance of fates"] == 0
    assert ours["error of cell number"] == pytest.approx(0, abs=1e-6)
    pooled = table[table["model"] == "training embryos at that time"].set_index("metric")["value"]
    assert pooled["error of cell number"] == pytest.approx(0)


def test_effect_recovery_is_one_for_the_truth_and_zero_for_no_change() -> None:
    adata, fate = populated()
    same = {"tolerance_h": 0.1, "max_cells": 200}
    for source, expected in (("ko-0", 1.0), ("wt-0", 0.0)):
        rolls, control = [copy_of(adata, source)], [copy_of(adata, "wt-2")]
        table = evaluate.edits(adata, rolls, control, ["wt-0", "wt-1"], "knockout a", fate, **same).table
        recovery = table[table["metric"] == "effect recovery in fates"]
        assert value(recovery, OURS) == pytest.approx(expected, abs=0.05)
        assert value(recovery, "measured wild type") == pytest.approx(0, abs=0.05)
        assert value(recovery, "another embryo with the edit") == pytest.approx(1, abs=0.05)
        units = recovery.set_index("model")["n_embryos"]
        assert (units[OURS], units["another embryo with the edit"]) == (1, 2)


def test_no_carriers_no_table() -> None:
    adata, fate = populated()
    rolls = [copy_of(adata, "wt-2")]
    assert not len(evaluate.edits(adata, rolls, rolls, ["wt-0"], "knockout z", fate, tolerance_h=0.1).table)


def test_scores_average_seeds_before_embryos_and_pair_by_embryo() -> None:
    scores = Scores("board", "error", "µm")
    for embryo, offset in (("a", 0.0), ("b", 10.0), ("c", 20.0)):
        for noise in (-1.0, 1.0):
            scores.add(OURS, "ours", "t", embryo, offset + noise)
        scores.add("weak", "floor", "t", embryo, offset + 5)
        scores.add("strong", "floor", "t", embryo, offset + 1 + 0.1 * len(embryo) + 0.01 * offset)
    rows = {row["model"]: row for row in scores.rows()}
    assert rows[OURS]["value"] == 10
    assert (rows[OURS]["n_embryos"], rows[OURS]["n_seeds"]) == (3, 2)
    assert rows[OURS]["seed_sd"] == pytest.approx(np.sqrt(2))
    half = 4.302652729911275 * 10 / np.sqrt(3)  # Student's t, 2 degrees of freedom
    assert rows[OURS]["high"] - rows[OURS]["value"] == pytest.approx(half)
    (sentence,) = scores.sentences()
    assert "better than “strong”" in sentence
    assert not sentence.startswith("error, t: not")


def test_scores_end_where_they_can_go_no_further_and_gains_do_not() -> None:
    scores, open_ = (Scores("board", "error", "µm", least=least) for least in (0.0, -np.inf))
    for one in (scores, open_):
        for embryo, error in (("a", 0.1), ("b", 0.2), ("c", 9.0)):
            one.add(OURS, "ours", "t", embryo, error)
            one.add("mean", "floor", "t", embryo, 1.0)
    assert [row["low"] for row in scores.rows() if row["role"] == "ours"] == [0.0]
    assert all(float(str(row["low"])) < 0 for row in open_.rows() if row["role"] == "ours")
    (gain,) = scores.differences()
    assert (gain["model"], gain["verdict"], gain["better"]) == ("embryo minus mean", "not better than mean", "lower")
    assert float(str(gain["low"])) < 0


def test_two_models_of_ours_are_told_apart() -> None:
    scores = Scores("board", "error", "µm")
    for k, embryo in enumerate("abc"):
        scores.add("good", "ours", "t", embryo, 1.0 + 0.01 * k)
        scores.add("bad", "ours", "t", embryo, 3.0 + 0.02 * k)
        scores.add("mean", "floor", "t", embryo, 2.0)
    assert scores.best_floor("t", {"a": 1.0}) == ("mean", {"a": 2.0})
    assert scores.best_floor("t", {}) == (None, {})
    assert [s.split(" (")[0] for s in scores.sentences()] == [
        "error, t, good: better than “mean”",
        "error, t, bad: worse than “mean”",
    ]
