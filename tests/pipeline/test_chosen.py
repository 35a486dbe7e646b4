import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from embryo import encoders
from embryo.config import Embed, Protect
from embryo.core.edit import Edit
from embryo.core.errors import ConfigError, EditError, SchemaError, StaleError
from embryo.encoders import precomputed
from embryo.encoders.facts import cards
from embryo.encoders.options import Options
from embryo.pipeline import chosen

GENES = [f"GENE{k}" for k in range(30)]


@pytest.fixture
def adata() -> ad.AnnData:
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (25, 30)) + 1.0)
    obs, var = pd.DataFrame(index=[f"c{k}" for k in range(25)]), pd.DataFrame(index=GENES)
    uns = {"embryo": {"expression": "counts", "organism": "Homo sapiens", "time_unit": "h"}}
    return ad.AnnData(counts, obs, var, uns=uns, layers={"counts": counts.copy()})


def section(folder: Path, **more: object) -> Embed:
    encoders.model("scgpt").write_tiny(folder, GENES)
    return Embed(encoder="scgpt", weights=folder, dtype="float32", **more)


def test_a_section_reaches_the_encoder(tmp_path: Path) -> None:
    found = chosen.encoder(
        section(tmp_path, dims=5, pooling="mean", layer=1, decoder="network"), dims=9, seed=4, organism=None
    )
    assert (found.dims, found.seed, found.options.pooling, found.options.layer) == (5, 4, "mean", 1)
    assert (found.options.decoder, found.options.precise) == ("network", "float32")
    assert chosen.encoder(Embed(encoder="hvg", dims=5), dims=3, seed=0, organism=None).dims == 3


def test_an_encoder_that_has_seen_what_is_protected_is_refused_unless_allowed(tmp_path: Path) -> None:
    corpus = {"known": True, "name": "an atlas", "parts": [{"organism": "Mus musculus", "stages": ["E8-E9"]}]}
    e = section(tmp_path, protect=Protect(stages=["E8.5"], organism="Mus musculus"))
    (tmp_path / "embryo-weights.json").unlink()  # random weights have seen nothing
    (tmp_path / "corpus.json").write_text(json.dumps(corpus))
    with pytest.raises(ConfigError, match=r"stages E8-E9 of Mus musculus in the training corpus"):
        chosen.encoder(e, dims=5, seed=0, organism=None)
    allowed = e.model_copy(update={"protect": Protect(stages=["E8.5"], organism="Mus musculus", allow=True)})
    about = chosen.encoder(allowed, dims=5, seed=0, organism=None).provenance()
    assert about["leaks"].startswith("LEAK, allowed")
    assert about["corpus"] == "an atlas"
    with pytest.raises(ConfigError, match="of no organism"):
        chosen.encoder(e.model_copy(update={"protect": Protect(stages=["E8.5"])}), dims=5, seed=0, organism=None)


def test_random_weights_have_seen_nothing(tmp_path: Path) -> None:
    e = section(tmp_path, protect=Protect(genotypes=["Tal1-/-"]))
    about = chosen.encoder(e, dims=5, seed=0, organism="Homo sapiens").provenance()
    assert about["corpus"] == "nothing: random weights"
    assert about["leaks"] == "nothing protected is in the training corpus"


def test_a_precomputed_file_is_taken_for_the_same_counts_only(adata: ad.AnnData, tmp_path: Path) -> None:
    z = np.random.default_rng(1).normal(size=(25, 4)).astype(np.float32)
    path = precomputed.write(tmp_path / "z.npz", list(adata.obs_names), z, adata, {"encoder": "elsewhere"})
    e = Embed(encoder="precomputed", weights=path)
    turned = adata[::-1].copy()
    assert "4 dimensions taken from z.npz" in chosen.precomputed(turned, e)
    np.testing.assert_array_equal(turned.obsm["X_embed"], z[::-1])
    adata.layers["counts"][0, 0] += 1
    with pytest.raises(StaleError):
        chosen.precomputed(adata, e)


E85 = Protect(stages=["E8.5"], organism="mouse")


def elsewhere(adata: ad.AnnData, path: Path, **about: object) -> Path:
    return precomputed.write(path, list(adata.obs_names), np.ones((25, 4), np.float32), adata, about)


def leaks_of(adata: ad.AnnData) -> str:
    return str(adata.uns["embryo"]["embeddings"]["X_embed"]["leaks"])


ATLAS = {"name": "mine", "parts": [{"organism": "Mus musculus", "stages": ["E8-E9"]}]}


@pytest.mark.parametrize(
    "about",
    [
        {"encoder": "scprint2"},
        {"encoder": "scprint2", "weights": "pretrained", "corpus": cards.card("scprint2").corpus.name},
        {"encoder": "mine", "corpus": ATLAS},
        {"encoder": "mine", "corpus": "mine", "leaks": "LEAK, allowed: stages E8-E9 of Mus musculus"},
    ],
)
def test_a_precomputed_embedding_that_has_seen_it_is_refused_unless_allowed(
    adata: ad.AnnData, tmp_path: Path, about: dict[str, object]
) -> None:
    e = Embed(encoder="precomputed", weights=elsewhere(adata, tmp_path / "z.npz", **about), protect=E85)
    with pytest.raises(ConfigError, match=r"encoder (scprint2|mine): found .*stages E8-"):
        chosen.precomputed(adata, e)
    said = chosen.precomputed(adata, e.model_copy(update={"protect": E85.model_copy(update={"allow": True})}))
    assert "LEAK, allowed: stages E8-" in said
    assert "LEAK, allowed: stages E8-" in leaks_of(adata)


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"encoder": "mine"},
        {"encoder": "geneformer", "corpus": "my own tuning"},
        {"encoder": "pca", "weights": "fitted"},
    ],
)
def test_a_precomputed_embedding_of_unknown_origin_cannot_be_checked(
    adata: ad.AnnData, tmp_path: Path, about: dict[str, object]
) -> None:
    unknown = "leaks cannot be checked: the training corpus is not known"
    e = Embed(encoder="precomputed", weights=elsewhere(adata, tmp_path / "z.npz", **about))
    assert chosen.precomputed(adata, e).endswith(unknown)
    assert leaks_of(adata) == unknown
    chosen.precomputed(adata, e.model_copy(update={"protect": E85}))
    assert leaks_of(adata) == f"{unknown}: it may hold E8.5"


def test_a_precomputed_embedding_of_a_human_corpus_holds_no_mouse(adata: ad.AnnData, tmp_path: Path) -> None:
    for about in ({"encoder": "geneformer"}, {"encoder": "scprint2", "weights": "random"}):
        e = Embed(encoder="precomputed", weights=elsewhere(adata, tmp_path / "z.npz", **about), protect=E85)
        chosen.precomputed(adata, e)
        assert leaks_of(adata) == "nothing protected is in the training corpus"


def test_a_slot_is_asked_what_it_was_made_with(adata: ad.AnnData) -> None:
    e = Embed(encoder="precomputed", slot="X_mine", protect=E85)
    adata.obsm["X_mine"] = np.ones((25, 4), np.float32)
    chosen.precomputed(adata, e)
    assert leaks_of(adata).startswith("leaks cannot be checked")
    adata.uns["embryo"] = {**adata.uns["embryo"], "embeddings": {"X_mine": {"encoder": "scprint2"}}}
    with pytest.raises(ConfigError, match="encoder scprint2: found stages E8-P0"):
        chosen.precomputed(adata, e)


def test_an_edit_does_not_reach_a_precomputed_embedding(adata: ad.AnnData, tmp_path: Path) -> None:
    z = np.zeros((25, 4), dtype=np.float32)
    path = precomputed.write(tmp_path / "z.npz", list(adata.obs_names), z, adata, {})
    with pytest.raises(EditError, match="an edit of GENE3 on a precomputed embedding"):
        precomputed.read(path).encode(adata, [Edit("GENE3")])


def test_a_file_without_cells_is_told(adata: ad.AnnData, tmp_path: Path) -> None:
    adata[:0].copy().write_h5ad(tmp_path / "none.h5ad")
    with pytest.raises(SchemaError, match="0 cells"):
        chosen.embed_file(tmp_path / "none.h5ad", Embed(), tmp_path / "out.h5ad")


def test_files_are_embedded_whole_and_fast_unless_said_otherwise(adata: ad.AnnData, tmp_path: Path) -> None:
    adata.write_h5ad(tmp_path / "in.h5ad")
    encoders.model("scgpt").write_tiny(tmp_path / "w", GENES)
    plain = chosen.embed_file(tmp_path / "in.h5ad", Embed(encoder="scgpt", weights=tmp_path / "w"), tmp_path / "a.h5ad")
    asked = Embed(encoder="scgpt", weights=tmp_path / "w", dims=3, dtype="float32")
    other = chosen.embed_file(tmp_path / "in.h5ad", asked, tmp_path / "b.h5ad")
    assert (plain["dims"], plain["dtype"]) == (16, Options(dtype="auto").precise)
    assert (other["dims"], other["dtype"]) == (3, "float32")


def test_an_embedding_is_told_in_one_sentence(tmp_path: Path, adata: ad.AnnData) -> None:
    found = chosen.encoder(section(tmp_path, dims=None), dims=5, seed=0, organism="Homo sapiens")
    found.encode(adata)
    said = chosen.sentence(found.provenance())
    assert said.startswith("scgpt, random weights, 16 dimensions")
    assert "30 of 30 genes read" in said


def test_tracks_without_genes_are_told_what_an_embedding_needs() -> None:
    with pytest.raises(SchemaError, match="no genes in X; expected expression to embed"):
        chosen.fitted(Embed(), ad.AnnData(np.zeros((4, 0))), seed=0)
