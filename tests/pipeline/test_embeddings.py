from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from embryo import encoders
from embryo.core import schema, store
from embryo.core.errors import ConfigError, EmbryoError, Problem, StoreError
from embryo.encoders.pretrained import Pretrained
from embryo.pipeline import candidates, embedding_page, embeddings

N, GENES = 80, 30


@pytest.fixture
def config(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A file of cells of two types in four mouse embryos, and a config that judges one network on it."""
    rate = np.ones((N, GENES))
    rate[::2, :5] = 10
    counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
    obs = pd.DataFrame(
        {
            schema.CELL_TYPE: np.tile(["gut", "skin"], N // 2),
            schema.EMBRYO: np.repeat(["e1", "e2", "e3", "e4"], N // 4),
            schema.TIME: 100.0,
        },
        index=[f"c{i}" for i in range(N)],
    )
    uns = {schema.META: {"time_unit": "h", "expression": "counts", "organism": "Mus musculus"}}
    var = pd.DataFrame(index=[f"Gene{i}" for i in range(GENES)])
    adata = ad.AnnData(counts, obs=obs, var=var, layers={schema.COUNTS: counts}, uns=uns)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    path = tmp_path / "config.yaml"
    board = {"name": "toy", "read": {"path": str(tmp_path / "cells.h5ad")}}
    path.write_text(yaml.safe_dump({"name": "try", "models": [{"encoder": "scgpt"}], "boards": [board]}))
    return path


@pytest.fixture(autouse=True)
def _one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the commit still, whatever happens to the checkout while a test runs."""
    made = embeddings.provenance.provenance(0, {}, {})
    monkeypatch.setattr(embeddings.provenance, "provenance", lambda *_: made)


def rows(out: Path) -> pd.DataFrame:
    return store.read_table(out / "table.csv")


def test_floors_stand_without_any_model(config: Path, tmp_path: Path) -> None:
    found = embeddings.load(config).model_copy(update={"models": []})
    page = embeddings.run(found, tmp_path / "out")
    table = rows(tmp_path / "out")
    assert set(table["role"]) == {"floor", "ceiling"}
    assert {"PCA (30 components)", "HVG (all 30 genes)"} <= set(table["model"])
    text = page.read_text(encoding="utf-8")
    assert "| PCA (30 components) | floor |" in text
    assert "Gain over" not in text
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_network_without_weights_is_called_random_and_work_is_not_done_twice(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out", []
    page = embeddings.run(embeddings.load(config), out, tick=lambda *at: seen.append(at)).read_text(encoding="utf-8")
    mine = rows(out)[rows(out)["model"] == "scgpt architecture, random weights"]
    assert set(mine["role"]) == {"random"}
    assert set(mine["n_seeds"]) == {5}
    assert (mine["seed_sd"] > 0).any()
    assert "tiny, weights drawn" in page
    assert "than PCA" in page
    assert {what for what, _, _ in seen} == {"toy: embedding", "toy: judging"}
    again: list[str] = []
    monkeypatch.setattr(candidates, "embed", lambda *a: again.append("embed"))
    monkeypatch.setattr(embeddings.evaluate, "embedding", lambda *a, **k: again.append("judge"))
    embeddings.run(embeddings.load(config), out)
    assert again == []
    made = embeddings.provenance.provenance(0, {}, {}) | {"commit": "another"}
    monkeypatch.setattr(embeddings.provenance, "provenance", lambda *_: made)
    with pytest.raises(AttributeError):  # the stand-in of embed makes nothing
        embeddings.run(embeddings.load(config), out)
    assert again == ["embed"]


def test_one_seed_lost_is_one_seed_made_again(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, again, real = tmp_path / "out", [], candidates.embed
    embeddings.run(embeddings.load(config), out)
    (out / "embeddings" / "toy" / "scgpt-random-3.safetensors").unlink()
    before = rows(out)
    monkeypatch.setattr(candidates, "embed", lambda *a: again.append(a[3]) or real(*a))
    embeddings.run(embeddings.load(config), out)
    assert again == [3]
    pd.testing.assert_frame_equal(rows(out), before)


def pretend(folder: Path, *, marked: bool) -> Path:
    """Weights in the published layout over the genes of the file; without the mark they pass for a user's own."""
    encoders.model("scgpt").write_tiny(folder, [f"Gene{i}" for i in range(GENES)], seed=7)
    if not marked:
        (folder / "embryo-weights.json").unlink()
    return folder


def test_a_users_weights_stand_beside_the_same_network_shuffled(config: Path, tmp_path: Path) -> None:
    found = embeddings.load(config)
    own = candidates.Candidate(
        encoder="scgpt", weights=pretend(tmp_path / "own", marked=False), options={"species": "Homo sapiens"}
    )
    page = embeddings.run(found.model_copy(update={"models": [own]}), tmp_path / "out").read_text(encoding="utf-8")
    table = rows(tmp_path / "out")
    roles = dict(zip(table["model"], table["role"], strict=True))
    assert roles["scgpt, pretrained"] == "ours"
    assert roles["scgpt architecture, random weights"] == "random"
    assert candidates.SHUFFLED in page
    z = [
        store.read_tensors(tmp_path / "out" / "embeddings" / "toy" / f"scgpt-{name}.safetensors")[0]["z"]
        for name in ("pretrained-0", "random-0", "random-1")
    ]
    assert z[0].shape == z[1].shape
    assert not np.allclose(z[0], z[1])
    assert not np.allclose(z[1], z[2])


def test_weights_with_the_mark_of_random_ones_are_never_called_pretrained(tmp_path: Path) -> None:
    for marked, kinds in ((True, ["random"]), (False, ["pretrained", "random"])):
        folder = pretend(tmp_path / str(marked), marked=marked)
        assert candidates.kinds(candidates.Candidate(encoder="scgpt", weights=folder)) == kinds
    assert candidates.kinds(candidates.Candidate(encoder="scgpt")) == ["random"]


def test_shuffling_keeps_the_numbers_of_every_tensor(tmp_path: Path) -> None:
    encoder = encoders.open_dir("scgpt", pretend(tmp_path / "own", marked=False))
    before = {name: p.detach().clone() for name, p in encoder.network.named_parameters()}
    candidates._shuffle(encoder, seed=1)
    for name, p in encoder.network.named_parameters():
        np.testing.assert_array_equal(p.detach().flatten().sort().values, before[name].flatten().sort().values)
    assert any(not (p == before[name]).all() for name, p in encoder.network.named_parameters())


def test_a_model_that_cannot_read_the_cells_is_told_and_stops_nobody(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise EmbryoError(Problem("reporters", "counts", "measure RNA"))

    monkeypatch.setattr(candidates, "embed", refuse)
    page = embeddings.run(embeddings.load(config), tmp_path / "out").read_text(encoding="utf-8")
    assert "scgpt: cannot read this board with random weights: reporters (expected counts)." in page
    assert "PCA (" in page


def test_worm_genes_are_not_read_by_human_weights() -> None:
    worm = ad.AnnData(np.ones((2, 2)), uns={schema.META: {"organism": "Caenorhabditis elegans"}})
    one = candidates.Candidate(encoder="scgpt")
    said = candidates.cannot_read(one, worm)
    assert said == "published weights read genes of Homo sapiens; they cannot read Caenorhabditis elegans genes"
    for organism in ("Homo sapiens", "Mus musculus"):
        worm.uns[schema.META]["organism"] = organism
        assert candidates.cannot_read(one, worm) is None


def test_a_config_is_checked_whole(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("seeds: 3\nboards: []\nmodel: []\n")
    with pytest.raises(ConfigError) as caught:
        embeddings.load(path)
    for words in ("seeds = 3", "boards = []", "unknown key 'model'"):
        assert words in str(caught.value)
    path.write_text("boards: [{name: a}, {name: a}]\nmodels: [{encoder: scgpt}, {encoder: scgpt}]\n")
    with pytest.raises(ConfigError, match="two boards called 'a'"):
        embeddings.load(path)


@pytest.mark.parametrize("name", ["embedding-tal1", "embedding-celegans"])
def test_the_configs_that_come_along_are_right(name: str) -> None:
    config = embeddings.load(Path(__file__).parents[2] / "configs" / "evaluate" / f"{name}.yaml")
    assert config.name == name
    assert all(issubclass(encoders.model(m.encoder), Pretrained) for m in config.models)


def test_pages_are_put_together(config: Path, tmp_path: Path) -> None:
    found = embeddings.load(config).model_copy(update={"models": []})
    embeddings.run(found, tmp_path / "out")
    text = embeddings.page([tmp_path / "out"])
    assert text.startswith("# Embeddings")
    assert "## try" in text
    with pytest.raises(StoreError, match="a finished evaluation"):
        embeddings.page([tmp_path / "nothing"])


def test_the_verdict_keeps_batch_mixing_apart() -> None:
    rows = [
        {"role": "difference", "metric": m, "model": f"net minus PCA ({k} components)", "verdict": v}
        for k, (m, v) in enumerate(
            [("a probe", "worse than PCA"), ("batch mixing, x", "better than PCA"), ("order", "not better than PCA")]
        )
    ]
    model = embedding_page.Model("net", 3, {})
    found = embedding_page.Found("b", (1, 1, "x"), "", pd.DataFrame(rows), ("one stage",), (), (model,), ("x: no.",))
    assert embedding_page.verdict(found) == [
        "net: not better than PCA on any of the 2 scores that tell cells apart; better than PCA on 1 of 1 of batch "
        "mixing. Of 3 scores, better than the best floor on 1, worse on 1, not better on 1.",
        "one stage.",
        "x: no.",
    ]
