import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from embryo import encoders
from embryo.config import Protect
from embryo.core import schema, store
from embryo.core.errors import ConfigError, EmbryoError, Problem, StoreError
from embryo.embed import choice
from embryo.encoders.facts.leaks import Protected
from embryo.encoders.pretrained import Pretrained
from embryo.pipeline import candidates, embedding_page, embeddings, pages

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
    made = pages.provenance.provenance(0, {}, {})
    monkeypatch.setattr(pages.provenance, "provenance", lambda *_: made)


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
    monkeypatch.setattr(candidates, "embed", lambda *a, **k: again.append("embed"))
    monkeypatch.setattr(embeddings.evaluate, "embedding", lambda *a, **k: again.append("judge"))
    embeddings.run(embeddings.load(config), out)
    assert again == []
    made = pages.provenance.provenance(0, {}, {}) | {"commit": "another"}
    monkeypatch.setattr(pages.provenance, "provenance", lambda *_: made)
    with pytest.raises(AttributeError):  # the stand-in of embed makes nothing
        embeddings.run(embeddings.load(config), out)
    assert again == ["embed"]


def test_one_seed_lost_is_one_seed_made_again(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, again, real = tmp_path / "out", [], candidates.embed
    embeddings.run(embeddings.load(config), out)
    (out / "embeddings" / "toy" / "scgpt-random-3.safetensors").unlink()
    before = rows(out)
    monkeypatch.setattr(candidates, "embed", lambda *a, **k: again.append(a[3]) or real(*a, **k))
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


def protecting(config: Path, own: candidates.Candidate, **protect: object) -> embeddings.Embeddings:
    found = embeddings.load(config)
    board = found.boards[0].model_copy(update={"protect": Protect(**protect)})
    return found.model_copy(update={"models": [own], "boards": [board]})


def users(folder: Path, corpus: dict[str, object] | None = None) -> candidates.Candidate:
    pretend(folder, marked=False)
    if corpus is not None:
        (folder / "corpus.json").write_text(json.dumps(corpus))
    return candidates.Candidate(encoder="scgpt", weights=folder, options={"species": "Homo sapiens"})


ATLAS = {"name": "an atlas", "parts": [{"organism": "mouse", "stages": ["E8-E9"], "genotypes": []}]}


def test_weights_that_have_seen_what_a_board_protects_have_no_row_unless_allowed(config: Path, tmp_path: Path) -> None:
    own = users(tmp_path / "own", ATLAS)
    page = embeddings.run(protecting(config, own, stages=["E8.5"]), tmp_path / "no").read_text(encoding="utf-8")
    table = rows(tmp_path / "no")
    assert "scgpt, pretrained" not in set(table["model"])
    assert "scgpt architecture, random weights" in set(table["model"])  # the control has seen nothing
    assert "scgpt: is not judged on this board with pretrained weights: stages E8-E9 of mouse in the training" in page
    allowed = protecting(config, own, stages=["E8.5"], allow=True)
    page = embeddings.run(allowed, tmp_path / "yes").read_text(encoding="utf-8")
    assert "scgpt, pretrained" in set(rows(tmp_path / "yes")["model"])
    assert "| an atlas | LEAK, allowed: stages E8-E9 of mouse in the training corpus |" in page
    assert "LEAK, allowed" in (tmp_path / "yes" / "report.html").read_text(encoding="utf-8")


def test_a_board_of_no_organism_that_protects_something_stops_the_run(config: Path, tmp_path: Path) -> None:
    adata = ad.read_h5ad(tmp_path / "cells.h5ad")
    del adata.uns[schema.META]["organism"]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ConfigError, match="board toy: found protected stages or genotypes of no organism"):
        embeddings.run(protecting(config, users(tmp_path / "own"), stages=["E8.5"]), tmp_path / "out")


def test_a_shuffled_control_is_called_random_and_has_no_corpus(config: Path, tmp_path: Path) -> None:
    own, adata = users(tmp_path / "own", ATLAS), ad.read_h5ad(tmp_path / "cells.h5ad")
    protected = Protected("Mus musculus", ("E8.5",))
    about = candidates.embed(own, adata, "random", 3, protected).provenance
    assert (about["weights"], about["weights_seed"], about["corpus"]) == ("random", 3, "nothing: random weights")
    assert about["leaks"] == "nothing protected is in the training corpus"
    assert (about["control"], about["shuffled_from"]) == (candidates.SHUFFLED, "own")
    assert candidates.embed(own, adata, "pretrained", 3, Protected("")).provenance["corpus"] == "an atlas"


def test_mouse_genes_are_read_with_the_orthologs_of_the_registry(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["Gene stable ID,Gene name,Human gene stable ID,Human gene name,Human homology type,"
             '"Human orthology confidence [0 low, 1 high]"']  # fmt: skip
    lines += [f"ENSMUSG{i:011d},Gene{i},ENSG{i:011d},GENE{i},ortholog_one2one,1" for i in range(GENES)]
    (tmp_path / "orthologs.csv").write_text("\n".join(lines))
    encoders.model("scgpt").write_tiny(tmp_path / "own", [f"GENE{i}" for i in range(GENES)])
    (tmp_path / "own" / "embryo-weights.json").unlink()
    own, adata = candidates.Candidate(encoder="scgpt", weights=tmp_path / "own"), ad.read_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(choice, "registered_orthologs", lambda: None)
    with pytest.raises(EmbryoError):
        candidates.embed(own, adata, "pretrained", 0, Protected(""))
    monkeypatch.setattr(choice, "registered_orthologs", lambda: tmp_path / "orthologs.csv")
    read = candidates.embed(own, adata, "pretrained", 0, Protected("")).provenance["coverage"]
    assert read["n_mapped_data"] == GENES


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
    def refuse(*_: object, **__: object) -> None:
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
    for organism in ("Homo sapiens", "Mus musculus", "mus musculus", "mouse"):
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
    text = pages.join([tmp_path / "out"])
    assert text.startswith("# Embeddings")
    assert "## try" in text
    with pytest.raises(StoreError, match="a finished evaluation"):
        pages.join([tmp_path / "nothing"])


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


def test_a_folder_of_weights_that_is_not_there_is_told_before_any_work(tmp_path: Path) -> None:
    tree = {
        "models": [{"encoder": "scgpt", "weights": "nowhere"}],
        "boards": [{"name": "b", "read": {"path": "x.h5ad"}}],
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match="no folder 'nowhere' for scgpt"):
        embeddings.load(tmp_path / "c.yaml")
