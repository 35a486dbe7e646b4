"""scFoundation against the outputs of its released code, its tokens by hand, and what is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from embryo.core.errors import ConfigError, SchemaError, StoreError
from embryo.encoders import scfoundation
from embryo.encoders.genes.genetables import read_numbers
from embryo.encoders.inputs.tokens import Profiles
from embryo.encoders.options import Options
from embryo.encoders.scfoundation import INDEX, WEIGHTS, Resolution, ScFoundation

EXACT = Options(dtype="float32")
GENES = [f"GENE{k}" for k in range(30)]


@pytest.fixture
def golden(real_folder: Callable[[str], Path], tmp_path: Path) -> tuple[dict[str, np.ndarray], Path]:
    """Counts and cell embeddings of the released code, and its checkpoint beside a list of 30 symbols."""
    source = real_folder("foundation-golden") / "golden_tiny" / "scfoundation"
    shutil.copy(source / WEIGHTS, tmp_path / WEIGHTS)
    pd.DataFrame({"gene_name": GENES, "index": range(30)}).to_csv(tmp_path / INDEX, sep="\t", index=False)
    with np.load(source / "golden.npz", allow_pickle=False) as held:
        return dict(held), tmp_path


def adata_of(counts: np.ndarray, genes: list[str]) -> AnnData:
    matrix = sparse.csr_matrix(counts)
    about = {"embryo": {"expression": "counts", "time_unit": "h", "organism": "Homo sapiens"}}
    return AnnData(matrix, var=pd.DataFrame(index=genes), layers={"counts": matrix.copy()}, uns=about)


def profiles(rows: list[list[float]], total: list[float]) -> Profiles:
    counts = sparse.csr_array(np.array(rows, dtype=np.float64))
    return Profiles(counts, np.array(total), np.arange(len(rows), dtype=np.uint64))


@pytest.mark.parametrize("tokens", [1, 16_384])
def test_it_is_what_the_released_code_computes(golden, tokens: int) -> None:
    """Batched as one at a time: the released code must run one at a time, where its last two tokens are T and S."""
    answers, folder = golden
    encoder = ScFoundation.from_dir(folder, replace(EXACT, batch_tokens=tokens))
    cells = encoder.encode(adata_of(answers["counts"], GENES))
    assert len(set((answers["counts"] > 0).sum(axis=1))) > 1  # cells of unlike length: there is padding
    assert np.abs(cells - answers["cell"]).max() < 1e-5


def test_half_precision_stays_near(golden) -> None:
    answers, folder = golden
    encoder = ScFoundation.from_dir(folder, replace(EXACT, dtype="bfloat16"))
    assert np.abs(encoder.encode(adata_of(answers["counts"], GENES)) - answers["cell"]).max() < 0.1


def test_the_genes_of_the_data_may_stand_in_any_order(golden) -> None:
    answers, folder = golden
    order = np.random.default_rng(0).permutation(30)
    adata = adata_of(answers["counts"][:, order], [GENES[k] for k in order])
    assert np.abs(ScFoundation.from_dir(folder, EXACT).encode(adata) - answers["cell"]).max() < 1e-5


def test_poolings_are_parts_of_each_other(golden) -> None:
    answers, folder = golden
    adata = adata_of(answers["counts"], GENES)
    s, t, most, mean = np.split(ScFoundation.from_dir(folder, EXACT).encode(adata), 4, axis=1)
    largest = ScFoundation.from_dir(folder, replace(EXACT, pooling="max")).encode(adata)
    np.testing.assert_allclose(largest, np.maximum.reduce([s, t, most]), atol=1e-6)
    encoder = ScFoundation.from_dir(folder, EXACT)
    parts = list(encoder.gene_embeddings(adata, GENES))
    order = np.argsort(np.concatenate([rows for rows, _, _ in parts]))
    genes, found = (torch.cat([part[k] for part in parts]).numpy()[order] for k in (1, 2))
    np.testing.assert_array_equal(found, answers["counts"] > 0)
    np.testing.assert_allclose(mean, genes.sum(axis=1) / found.sum(axis=1, keepdims=True), atol=1e-5)


def test_the_network_is_torchs_own_encoder(golden) -> None:
    """Hidden states by torch.nn.TransformerEncoderLayer with the file's own names, and the soft bins written out."""
    answers, folder = golden
    encoder = ScFoundation.from_dir(folder, replace(EXACT, layer=1))
    state = torch.load(folder / WEIGHTS, weights_only=True)["cell"]["state_dict"]
    state = {key.removeprefix("model."): value for key, value in state.items()}
    layer = torch.nn.TransformerEncoderLayer(16, 2, 64, batch_first=True).eval()
    prefix = "encoder.transformer_encoder.0."
    layer.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    counts = answers["counts"][:1]
    tokens = encoder.tokenize(profiles(counts.tolist(), [counts.sum()]))
    values = torch.from_numpy(tokens.values[0])[:, None]
    y = torch.nn.functional.leaky_relu(values @ state["token_emb.mlp.weight"].T + state["token_emb.mlp.bias"], 0.1)
    share = torch.softmax(y @ state["token_emb.mlp2.weight"].T + state["token_emb.mlp2.bias"] + y, dim=1)
    x = share @ state["token_emb.emb.weight"] + state["pos_emb.weight"][torch.from_numpy(tokens.ids[0])]
    with torch.no_grad():
        expected = layer(x[None])
        out = encoder.forward(tokens.batch([0], pad=0))
    assert torch.allclose(out.gene, expected, atol=1e-5)


def test_the_published_list_of_symbols_is_read(real_folder) -> None:
    genes = read_numbers(real_folder("foundation-vocabularies") / "scfoundation" / INDEX, "gene_name", "index")
    assert len(genes) == scfoundation.sizes()["100M"].genes == 19_264
    assert list(genes)[:2] == ["A1BG", "A1CF"]


# ---------------------------------------------------------------- tokens


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return ScFoundation.write_tiny(tmp_path / "m", GENES[:4])


@pytest.mark.parametrize(
    ("variant", "asked"),
    [(None, [4.0, 4.0]), ("t3.5", [3.5, 3.5]), ("f10", [3.0, 4.0]), ("f0.5", [1.69897, 2.69897]), ("a0.5", [2.5, 3.5])],
)
def test_tokens_by_hand(folder: Path, variant: str | None, asked: list[float]) -> None:
    encoder = ScFoundation.from_dir(folder, replace(EXACT, variant=variant))
    tokens = encoder.tokenize(profiles([[0, 7, 0, 2], [1, 1, 1, 0]], [100.0, 1000.0]))
    np.testing.assert_array_equal(tokens.ids[0], [1, 3, 4, 5])  # genes, T, S
    np.testing.assert_array_equal(tokens.columns[0], [1, 3, -1, -1])
    np.testing.assert_allclose(tokens.values[0], [np.log(701), np.log(201), asked[0], 2.0], rtol=1e-5)
    np.testing.assert_allclose(tokens.values[1], [np.log(11)] * 3 + [asked[1], 3.0], rtol=1e-5)


def test_the_depth_of_a_cell_and_the_depth_asked_for_matter(folder: Path) -> None:
    def embedded(variant: str, depth: float) -> np.ndarray:
        encoder = ScFoundation.from_dir(folder, replace(EXACT, variant=variant))
        return encoder.encode_tokens(encoder.tokenize(profiles([[0, 7 * depth, 0, 2 * depth]], [100.0 * depth])))

    assert np.abs(embedded("t4", 1.0) - embedded("t5", 1.0)).max() > 1e-4
    assert np.abs(embedded("t4", 1.0) - embedded("t4", 10.0)).max() > 1e-4  # S
    np.testing.assert_allclose(embedded("t3", 1.0), embedded("f10", 1.0), atol=1e-6)


@pytest.mark.parametrize("text", ["", "t", "4", "x4", "t0", "t-1", "f0", "tnan", "finf", "t 4 5"])
def test_a_depth_that_says_nothing_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="t4 asks for a depth of 10\\^4"):
        Resolution.parse(text)
    if text:
        with pytest.raises(ConfigError):
            ScFoundation.from_dir(folder, replace(EXACT, variant=text))


@pytest.mark.parametrize(
    ("row", "total", "variant"),
    [([1, 0, 0, 0], 1.0, "t4"), ([0, 0, 0, 0], 50.0, "t4"), ([3, 0, 0, 0], 3.0, "f0.1"), ([3, 0, 0, 0], 3.0, "a-1")],
)
def test_a_cell_without_genes_or_depth_is_named(folder: Path, row: list[float], total: float, variant: str) -> None:
    """The released code would drop T or S and take the last gene for it."""
    encoder = ScFoundation.from_dir(folder, replace(EXACT, variant=variant))
    with pytest.raises(SchemaError, match=r"1 cells \(rows 1\) without a gene or too shallow"):
        encoder.tokenize(profiles([[5, 5, 5, 5], row], [200.0, total]))


# ---------------------------------------------------------------- the checkpoint


def held(folder: Path) -> dict:
    return torch.load(folder / WEIGHTS, weights_only=True)


def test_other_networks_and_the_decoder_are_left_alone(folder: Path, human_cells: Callable[..., AnnData]) -> None:
    adata = human_cells("symbol", genes=4)
    before = ScFoundation.from_dir(folder, EXACT).encode(adata)
    whole = held(folder)
    for key in (
        "decoder_embed.weight",
        "norm.bias",
        "to_final.weight",
        "decoder.performer.net.layers.0.0.fn.to_q.weight",
    ):
        whole["cell"]["state_dict"][f"model.{key}"] = torch.randn(3, 3)
    torch.save(whole | {"gene": {"config": {}, "state_dict": {}}, "rde": {}}, folder / WEIGHTS)
    np.testing.assert_array_equal(ScFoundation.from_dir(folder, EXACT).encode(adata), before)


def test_a_tiny_folder_names_its_weights_as_the_released_code_does(golden, folder: Path) -> None:
    theirs, ours = (set(held(place)["cell"]["state_dict"]) for place in (golden[1], folder))
    assert theirs - ours == {
        f"model.{k}.{p}" for k in ("decoder_embed", "norm", "to_final") for p in ("weight", "bias")
    }
    assert not ours - theirs


def test_weights_that_nobody_asked_for_are_named(folder: Path) -> None:
    whole = held(folder)
    whole["cell"]["state_dict"]["model.encoder.adapter.weight"] = torch.zeros(2)
    del whole["cell"]["state_dict"]["model.encoder.norm.bias"]
    torch.save(whole, folder / WEIGHTS)
    with pytest.raises(StoreError) as caught:
        ScFoundation.from_dir(folder, EXACT)
    assert "encoder.adapter.weight" in str(caught.value)
    assert "last_norm.bias" in str(caught.value)


def test_another_list_of_symbols_is_refused(folder: Path) -> None:
    pd.DataFrame({"gene_name": GENES[:5], "index": range(5)}).to_csv(folder / INDEX, sep="\t", index=False)
    with pytest.raises(StoreError, match="5 tokens for an embedding of 4 rows"):
        ScFoundation.from_dir(folder, EXACT)


def test_another_checkpoint_is_refused(folder: Path) -> None:
    whole = held(folder)
    torch.save({"gene": whole["cell"]}, folder / WEIGHTS)
    with pytest.raises(StoreError, match="entries gene; expected an entry 'cell'"):
        ScFoundation.from_dir(folder, EXACT)
    whole["cell"]["config"]["model_config"]["mae_autobin"]["encoder"]["module_type"] = "performer"
    torch.save(whole, folder / WEIGHTS)
    with pytest.raises(StoreError, match=r"ValueError: performer.*a transformer as its encoder"):
        ScFoundation.from_dir(folder, EXACT)
    whole["cell"]["config"] = {"model": "mae_autobin"}
    torch.save(whole, folder / WEIGHTS)
    with pytest.raises(StoreError, match="KeyError: 'model_config'"):
        ScFoundation.from_dir(folder, EXACT)


def test_the_published_size_has_a_hundred_million_weights() -> None:
    with torch.device("meta"):
        network = scfoundation.build(scfoundation.sizes()["100M"])
    layer = 4 * 768 * 768 + 4 * 768 + 8 * 768 * 768 + 5 * 768 + 4 * 768
    positions, bins = 19_267 * 768, 100 * 768 + 100 * 100 + 300
    assert sum(p.numel() for p in network.parameters()) == 12 * layer + 2 * 768 + positions + bins


def test_the_variant_is_told(folder: Path) -> None:
    assert ScFoundation.from_dir(folder, EXACT).provenance()["variant"] == "t4"
    assert ScFoundation.from_dir(folder, replace(EXACT, variant="f2.0")).provenance()["variant"] == "f2"
