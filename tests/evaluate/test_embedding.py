from importlib import import_module

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from embryo import evaluate
from embryo.core import schema
from embryo.core.errors import EmbryoError, SchemaError
from embryo.evaluate.exam import Exam

module = import_module("embryo.evaluate.embedding")  # the package's attribute of that name is the function
SEEDS, N, GENES = 2, 240, 40
TYPES = ("gut", "heart", "nerve")
EMBRYOS = ("e1", "e2", "e3", "e4")


def cells(*, telling: bool = True, stages: bool = True) -> ad.AnnData:
    """Four embryos of three types; each type has genes of its own, and a gene that grows with time."""
    rng = np.random.default_rng(1)
    kind, embryo = np.arange(N) % 3, np.repeat(np.arange(4), N // 4)
    time = 100.0 + 10 * (embryo // 2) if stages else np.full(N, 100.0)
    rate = np.full((N, GENES), 1.0)
    if telling:
        for k in range(3):
            rate[np.ix_(kind == k, range(5 * k, 5 * k + 5))] = 12.0
    rate[:, 20:25] *= ((time - 95) / 5)[:, None]
    counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
    obs = pd.DataFrame(
        {
            schema.CELL_TYPE: np.array(TYPES)[kind],
            schema.EMBRYO: np.array(EMBRYOS)[embryo],
            schema.TIME: time,
            "twin": np.array(["x", "y", "z"])[kind],
        },
        index=[f"c{i}" for i in range(N)],
    )
    var = pd.DataFrame(index=[f"g{i}" for i in range(GENES)])
    uns = {schema.META: {"time_unit": "h", "expression": "counts"}}
    return ad.AnnData(counts, obs=obs, var=var, layers={schema.COUNTS: counts.copy()}, uns=uns)


def truth(adata: ad.AnnData) -> np.ndarray:
    """An embedding that knows type and time, and nothing of the embryo."""
    one_hot = pd.get_dummies(adata.obs[schema.CELL_TYPE]).to_numpy(float)
    rng = np.random.default_rng(2)
    z = np.column_stack([5 * one_hot, adata.obs[schema.TIME] / 3])
    return np.asarray(z + 0.01 * rng.normal(size=z.shape), dtype=np.float32)


def judged(adata: ad.AnnData, *embeddings: evaluate.Embedding, **task: object) -> evaluate.Result:
    asked = evaluate.Task("board", pca=10, **task)  # type: ignore[arg-type]
    return evaluate.embedding(embeddings, adata, asked, seeds=SEEDS)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    adata = cells()
    rng = np.random.default_rng(3)
    noise = tuple(rng.normal(size=(N, 4)).astype(np.float32) for _ in range(SEEDS))
    result = judged(
        adata,
        evaluate.Embedding("oracle", "pretrained", (truth(adata),)),
        evaluate.Embedding("oracle", "random", noise),
    )
    return result.table


def value(table: pd.DataFrame, model: str, metric: str) -> float:
    rows = table[(table["model"] == model) & table["metric"].str.startswith(metric)]
    return float(rows["value"].iloc[0])


@pytest.mark.parametrize(
    "metric",
    ["cell_type, kNN", "cell_type, logistic", "stage, kNN", "cell_type, k-means clusters: NMI", "order of stages"],
)
def test_an_embedding_that_knows_scores_one(table: pd.DataFrame, metric: str) -> None:
    assert value(table, "oracle, pretrained", metric) == pytest.approx(1, abs=0.01)


def test_noise_scores_chance(table: pd.DataFrame) -> None:
    """Four embryos of 60 cells, two seeds: the standard deviation of a share of 1/3 of 480 cells is 0.02."""
    name = "oracle architecture, random weights"
    assert value(table, name, "cell_type, kNN") == pytest.approx(1 / 3, abs=0.08)
    assert value(table, name, "cell_type, logistic") == pytest.approx(1 / 3, abs=0.08)
    assert value(table, name, "cell_type, k-means clusters: ARI") == pytest.approx(0, abs=0.05)
    assert value(table, name, "order of stages") == pytest.approx(0, abs=0.1)
    assert value(table, name, "batch mixing, batch ASW") > 0.9


def test_floors_ceiling_and_random_weights_always_stand_there(table: pd.DataFrame) -> None:
    for metric, rows in table.groupby("metric", sort=False):
        roles = dict(zip(rows["model"], rows["role"], strict=True))
        assert {roles[m] for m in ("PCA (10 components)", "HVG (all 40 genes)")} == {"floor"}, metric
        assert roles["oracle architecture, random weights"] == "random"
    probes = table[table["metric"].str.startswith("cell_type, kNN")].set_index("model")
    assert probes.loc[module.FAIR, "value"] == pytest.approx(1 / 3)
    assert probes.loc[module.GUESS, "value"] == pytest.approx(1 / 3)  # one type of three, in every embryo
    assert probes.loc[module.HALVES, "value"] == pytest.approx(1, abs=0.01)
    assert value(table, module.GUESS, "stage, ridge") == pytest.approx(20 / 3)  # two of three training embryos are off
    assert value(table, module.SHUFFLED, "cell_type, k-means clusters: ARI") == pytest.approx(0, abs=0.05)
    evaluate.require_floors(table)


def test_verdicts_are_said(table: pd.DataFrame) -> None:
    gains = table[table["role"] == "difference"].set_index(["metric", "model"])["verdict"]
    assert gains["cell_type, kNN probe: balanced accuracy"].tolist() == [
        "not better than PCA (10 components)",
        "worse than PCA (10 components)",
    ]


def test_a_model_alone_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(EmbryoError, match="without a floor"):
        evaluate.require_floors(table[table["role"] != "floor"])


def test_nothing_to_tell_is_told_by_nobody() -> None:
    """The same genes in all types: floors, ceiling and all are at chance (1/3) for held-out embryos."""
    adata = cells(telling=False, stages=False)
    result = judged(adata, evaluate.Embedding("m", "pretrained", (np.ones((N, 2), np.float32) + np.eye(N, 2),)))
    assert value(result.table, "PCA (10 components)", "cell_type, kNN") == pytest.approx(1 / 3, abs=0.1)
    assert "one stage: probes and order of stages not measured" in result.sentences
    assert not result.table["metric"].str.contains("stage").any()
    assert "cell_type and twin part the cells alike: a probe of one is a probe of the other" in result.sentences


def test_floors_are_fitted_without_the_embryo_that_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    real = module.encoders.build

    class Spy:
        def __init__(self, encoder: object) -> None:
            self.encoder = encoder

        def fit(self, adata: ad.AnnData) -> object:
            if schema.EMBRYO in adata.obs:
                seen.append(set(adata.obs[schema.EMBRYO]))
            return self.encoder.fit(adata)  # type: ignore[attr-defined]

    monkeypatch.setattr(module.encoders, "build", lambda *a, **k: Spy(real(*a, **k)))
    judged(cells())
    assert seen
    assert all(len(embryos) == 3 for embryos in seen)


def test_cells_at_random_are_said_to_be_optimistic() -> None:
    adata = cells()
    exam = Exam(adata, evaluate.Task("board", group=None, batch=None))
    assert exam.split() == "cells at random, 5 parts (optimistic: not by embryo)"
    folds = list(exam.folds())
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(N))
    assert all(not set(rows) & set(test) for rows, test in folds)


def test_groups_stay_whole_and_many_are_held_out_in_five_folds() -> None:
    adata = cells()
    adata.obs["branch"] = [f"b{k % 20}" for k in range(N)]
    exam = Exam(adata, evaluate.Task("board", group="branch", batch=None))
    folds = list(exam.folds())
    assert len(folds) == 5
    for rows, test in folds:
        assert not set(adata.obs["branch"].iloc[rows]) & set(adata.obs["branch"].iloc[test])
    assert exam.split() == "held-out branch: 20, 5 folds"


def test_a_label_of_one_embryo_is_left_out_and_said_so() -> None:
    adata = cells()
    adata.obs[schema.CELL_TYPE] = np.where(
        (adata.obs[schema.EMBRYO] == "e1") & (np.arange(N) % 3 == 0), "rare", adata.obs[schema.CELL_TYPE]
    )
    exam = Exam(adata, evaluate.Task("board"))
    assert "cell_type: rare (20 cells) left out: in one embryo only" in exam.asked
    assert set(exam.labels[schema.CELL_TYPE]) == {"", *TYPES}


def test_groups_of_one_type_have_no_clusters() -> None:
    adata = cells()
    adata.obs["branch"] = adata.obs[schema.CELL_TYPE] + adata.obs[schema.EMBRYO]
    exam = Exam(adata, evaluate.Task("board", group="branch", batch=None))
    assert exam.clustered == set()
    assert "clusters: fewer than two groups with several types: not measured" in exam.asked
    assert Exam(adata, evaluate.Task("board")).clustered == set(EMBRYOS)


def test_no_edit_is_wild_type() -> None:
    adata = cells()
    adata.obs[schema.PERTURBATION] = np.where(adata.obs[schema.EMBRYO].isin(["e1", "e3"]), "knockout g1", "")
    exam = Exam(adata, evaluate.Task("board", labels=(schema.PERTURBATION,)))
    assert set(exam.labels[schema.PERTURBATION]) == {"knockout g1", "wild type"}


def test_what_does_not_fit_is_refused_all_at_once() -> None:
    adata = cells()
    short = evaluate.Embedding("short", "pretrained", (np.ones((3, 2), np.float32),))
    lone = evaluate.Embedding("lone", "random", (np.ones((N, 2), np.float32),))
    few = evaluate.Embedding("few", "pretrained", (np.ones((N, 2), np.float32),) * 3)
    with pytest.raises(SchemaError) as caught:
        judged(adata, short, lone, few, lone)
    for words in ("short", "one draw of random weights of lone", "3 embeddings of few", "two embeddings called"):
        assert words in str(caught.value)
    with pytest.raises(SchemaError, match="no obs\\['pond'\\]"):
        judged(adata, group="pond")
    adata.obs["all"] = "one"
    with pytest.raises(SchemaError, match="one group"):
        judged(adata, group="all")
