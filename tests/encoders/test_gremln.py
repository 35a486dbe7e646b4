"""GREmLN against the outputs of its released code, its tokens by hand, and its regulatory network."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from embryo.core.errors import SchemaError, StoreError
from embryo.encoders import gremln
from embryo.encoders.gremln import GREmLN, quantile_bins
from embryo.encoders.inputs.tokens import Profiles, TokenBatch
from embryo.encoders.options import Options

EXACT = Options(dtype="float32")
GENES = [f"ENSG{k:011d}" for k in range(47)]  # rows 2 to 48 of the golden checkpoint's 50


@pytest.fixture
def golden(real_folder: Callable[[str], Path]) -> tuple[dict[str, np.ndarray], Path]:
    folder = real_folder("foundation-golden") / "golden_tiny" / "gremln"
    with np.load(folder / "golden.npz", allow_pickle=False) as held:
        return dict(held), folder / "model.ckpt"


def vocabulary(genes: list[str]) -> str:
    entries = ["<PAD>,0", "<MASK>,1", f"<CLS>, {len(genes) + 2}", *(f"{g},{k}" for k, g in enumerate(genes, 2))]
    return "\n".join(["gene_name,idx", *entries]) + "\n"


@pytest.fixture
def opened(golden, tmp_path: Path) -> Callable[[Options], GREmLN]:
    """Open the golden checkpoint with a vocabulary and the golden cell's graph written around it."""
    answers, weights = golden
    shutil.copy(weights, tmp_path / "model.ckpt")
    (tmp_path / "gene_vocab.csv").write_text(vocabulary(GENES))
    names = [GENES[row - 2] for row in answers["gene_ids"][0, 1:]]
    edges = [f"{names[a]}\t{names[b]}" for a, b in answers["edge_index"].T]
    (tmp_path / "network.tsv").write_text("\n".join(["regulator.values\ttarget.values", *edges]) + "\n")
    return lambda options: GREmLN.from_dir(tmp_path, options)


def golden_batch(answers: dict[str, np.ndarray], pad: int = 0) -> TokenBatch:
    """The golden cell, and beside it a shorter one where there is padding."""
    genes, ranks = (torch.from_numpy(answers[key]) for key in ("gene_ids", "rank_ids"))
    columns = torch.where(genes == genes[0, 0], -1, genes - 2)
    keep = torch.ones_like(genes, dtype=torch.bool)
    if pad:
        filled = [torch.nn.functional.pad(p, (0, pad), value=v) for p, v in ((genes, 0), (columns, -1), (ranks, 100))]
        genes, columns, ranks = (torch.cat([part, part], dim=0) for part in filled)
        keep = torch.nn.functional.pad(keep, (0, pad), value=False).repeat(2, 1)
        keep[1, 5:] = False
        columns[1, 5:], genes[1, 5:], ranks[1, 5:] = -1, 0, 100
    return TokenBatch(genes, columns, keep, ranks.float())


@pytest.mark.parametrize("pad", [0, 6])
def test_it_is_what_the_released_code_computes(golden, opened, pad: int) -> None:
    answers, _ = golden
    encoder = opened(EXACT)
    with torch.inference_mode():
        out = encoder.forward(golden_batch(answers, pad))
    hidden = out.gene[0, : answers["hidden_fp32"].shape[0]].numpy()
    assert np.abs(hidden - answers["hidden_fp32"]).max() < 1e-5
    assert np.abs(hidden - answers["hidden_bf16"]).max() < 5e-3  # upstream computes in bfloat16
    assert np.abs(out.cell[0].numpy() - answers["cell_mean_fp32"]).max() < 1e-5


def test_in_half_precision_it_stays_near(golden, opened) -> None:
    answers, _ = golden
    encoder = opened(replace(EXACT, dtype="bfloat16"))
    with torch.inference_mode(), encoder.options.precision():
        out = encoder.forward(golden_batch(answers))
    assert np.abs(out.gene[0].float().numpy() - answers["hidden_bf16"]).max() < 0.05


@pytest.mark.parametrize(("pooling", "rows"), [("mean", slice(None)), ("genes", slice(1, None)), ("cls", slice(0, 1))])
def test_poolings_and_layers_are_named(golden, opened, pooling: str, rows: slice) -> None:
    answers, _ = golden
    with torch.inference_mode():
        cell = opened(replace(EXACT, pooling=pooling)).forward(golden_batch(answers)).cell[0].numpy()
        first = opened(replace(EXACT, layer=0)).forward(golden_batch(answers)).gene[0].numpy()
    np.testing.assert_allclose(cell, answers["hidden_fp32"][rows].mean(axis=0), atol=1e-5)
    state = torch.load(golden[1], weights_only=True)["state_dict"]
    gene = state["gene_embedding.weight"][answers["gene_ids"][0]]
    rank = state["rank_embedding.weight"][answers["rank_ids"][0]]
    np.testing.assert_array_equal(first, torch.cat([gene, rank], dim=1).numpy())


def test_the_published_vocabulary_is_read(real_folder, tmp_path: Path) -> None:
    path = real_folder("foundation-vocabularies") / "gremln" / "gene_vocab.csv"
    rows = gremln._vocabulary(path)
    assert len(rows) == gremln.sizes()["gremln"].genes == 19_247
    assert (rows["<PAD>"], rows["<MASK>"], rows["<CLS>"], rows["ENSG00000000003"]) == (0, 1, 19_246, 2)


# ---------------------------------------------------------------- tokens


def test_bins_of_a_cell_by_hand() -> None:
    # the inner edges of 198 different levels: 98 of them, each between two levels two apart
    levels = np.arange(1.0, 199.0)
    bins = quantile_bins(np.random.default_rng(0).permutation(levels))
    assert (bins.min(), bins.max()) == (1, 99)
    np.testing.assert_array_equal(np.bincount(bins)[1:], 2)
    # 0, 1/99, ... of (1, 1, 2, 3): edges below 1/3 of the way are 1, and a level equal to an edge lies below it
    by_hand = {1.0: 1, 2.0: 1 + sum(k / 99 * 3 < 2 for k in range(1, 99)), 3.0: 99}
    values = [3.0, 1.0, 2.0, 1.0]
    np.testing.assert_array_equal(quantile_bins(np.array(values)), [by_hand[v] for v in values])
    np.testing.assert_array_equal(quantile_bins(np.full(4, 2.5)), 50)
    assert quantile_bins(np.zeros(0)).shape == (0,)


def profiles(rows: list[list[float]]) -> Profiles:
    counts = sparse.csr_array(np.array(rows, dtype=np.float64))
    total = np.asarray(counts.sum(axis=1)).ravel() + 7.0  # genes measured, but not read
    return Profiles(counts, total, np.arange(len(rows), dtype=np.uint64))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    GREmLN.write_tiny(tmp_path / "m", GENES[:6])
    edges = [(0, 1), (1, 2), (2, 4)]
    text = "\n".join(["regulator,target", *(f"{GENES[a]},{GENES[b]}" for a, b in edges)])
    (tmp_path / "m" / "network.csv").write_text(text + "\n")
    return tmp_path / "m"


def test_tokens_are_cls_and_the_expressed_genes_of_the_network(folder: Path) -> None:
    encoder = GREmLN.from_dir(folder, EXACT)
    tokens = encoder.tokenize(profiles([[4, 0, 2, 9, 1, 0], [0, 5, 5, 0, 0, 5]]))
    np.testing.assert_array_equal(tokens.columns[0], [-1, 0, 2, 4])  # genes 3 and 5 are in no edge
    np.testing.assert_array_equal(tokens.ids[0], [8, 2, 4, 6])
    bins = quantile_bins(np.log1p(np.array([4, 2, 9, 1]) / 23 * 1e6))  # over all genes read, network or not
    np.testing.assert_array_equal(tokens.values[0], [102, bins[0], bins[1], bins[3]])
    np.testing.assert_array_equal(tokens.values[1], [102, 50, 50])


def test_too_many_genes_leave_the_highest_bins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gremln, "LENGTH", 2)
    tokens = GREmLN.from_dir(folder, EXACT).tokenize(profiles([[4, 1, 2, 0, 9, 0], [3, 3, 3, 0, 3, 0]]))
    np.testing.assert_array_equal(tokens.columns[0], [-1, 0, 4])
    np.testing.assert_array_equal(tokens.columns[1], [-1, 0, 1])  # ties by vocabulary


def test_a_cell_outside_the_network_is_named(folder: Path) -> None:
    with pytest.raises(SchemaError, match=r"1 cells \(rows 1\) without a gene of the regulatory network"):
        GREmLN.from_dir(folder, EXACT).tokenize(profiles([[1, 0, 0, 0, 0, 0], [0, 0, 0, 3, 0, 2]]))


# ---------------------------------------------------------------- the regulatory network


def test_the_network_changes_the_embedding_and_is_told(folder: Path, human_cells: Callable[..., AnnData]) -> None:
    adata = human_cells(genes=6)
    wired = GREmLN.from_dir(folder, EXACT)
    (folder / "blood.tsv").write_text(f"regulator\ttarget\n{GENES[0]}\t{GENES[2]}\n{GENES[1]}\t{GENES[4]}\n")
    other = GREmLN.from_dir(folder, replace(EXACT, variant="blood.tsv"))
    assert np.abs(wired.encode(adata) - other.encode(adata)).max() > 1e-4
    assert (wired.provenance()["network_edges"], other.provenance()["network_edges"]) == (3, 2)
    assert other.provenance()["network"] == "blood.tsv"
    assert {"blood.tsv", "gene_vocab.csv", "model.ckpt"} <= set(other.provenance()["sha256"])


def test_without_a_network_it_must_be_said(folder: Path) -> None:
    (folder / "network.csv").unlink()
    with pytest.raises(StoreError, match=r"no regulatory network \(looked for network.csv, network.tsv\)"):
        GREmLN.from_dir(folder, EXACT)
    encoder = GREmLN.from_dir(folder, replace(EXACT, variant="no network"))
    assert (encoder.provenance()["network"], encoder.provenance()["network_edges"]) == ("no network", 0)
    tokens = encoder.tokenize(profiles([[4, 0, 2, 9, 1, 0]]))
    np.testing.assert_array_equal(tokens.columns[0], [-1, 0, 2, 3, 4])


def test_without_edges_queries_are_scaled_by_one_number(folder: Path) -> None:
    """exp(-beta (M + 1)) is 1 for a cell without edges, as upstream's loops make it, and c_0 / 2 is 0.907."""
    encoder = GREmLN.from_dir(folder, replace(EXACT, variant="no network", layer=1))
    batch = encoder.tokenize(profiles([[4, 0, 2, 9, 1, 0]])).batch([0], pad=0, pad_value=100.0)
    layer = encoder.network.transformer_encoder[0]
    x = torch.cat([encoder.network.gene_embedding(batch.ids), encoder.network.rank_embedding(batch.values.long())], -1)
    attention = torch.nn.MultiheadAttention(32, 2, batch_first=True)
    state = {"in_proj_weight": layer.attention.qkv.weight, "in_proj_bias": layer.attention.qkv.bias}
    state |= {"out_proj.weight": layer.attention.out.weight, "out_proj.bias": layer.attention.out.bias}
    attention.load_state_dict(state)
    outputs = []
    for factor in (1.0, 1.907101):  # <CLS> and genes
        scaled = {k: v.clone() for k, v in state.items()}
        scaled["in_proj_weight"][:32] *= factor
        scaled["in_proj_bias"][:32] *= factor
        attention.load_state_dict(scaled)
        outputs.append(attention(x, x, x, need_weights=False)[0])
    mixed = torch.cat([outputs[0][:, :1], outputs[1][:, 1:]], dim=1)
    h = layer.ln1(x + mixed)
    expected = layer.ln2(h + layer.ff(h))
    assert torch.allclose(encoder.forward(batch).gene, expected, atol=1e-5)


# ---------------------------------------------------------------- what is refused


def test_a_tiny_folder_names_its_weights_as_the_released_code_does(golden, folder: Path) -> None:
    theirs, ours = (set(torch.load(p, weights_only=True)["state_dict"]) for p in (golden[1], folder / "model.ckpt"))
    assert {key.split(".")[0] for key in theirs - ours} == {"rank_prediction_head"}
    assert not ours - theirs


def test_dictionary_and_weights_must_be_of_one_release(folder: Path) -> None:
    (folder / "gene_vocab.csv").write_text(vocabulary(GENES[:7]))
    with pytest.raises(StoreError, match="10 tokens for an embedding of 9 rows"):
        GREmLN.from_dir(folder, EXACT)


def test_a_vocabulary_without_its_special_tokens_is_refused(folder: Path) -> None:
    (folder / "gene_vocab.csv").write_text("gene_name,idx\nA,0\nB,1\n")
    with pytest.raises(StoreError, match="no <PAD>, <MASK>, <CLS>"):
        GREmLN.from_dir(folder, EXACT)


def test_another_checkpoint_is_refused(folder: Path) -> None:
    path = folder / "model.ckpt"
    held = torch.load(path, weights_only=True)
    torch.save({"model": {}}, path)
    with pytest.raises(StoreError, match="a checkpoint with model; expected a state_dict"):
        GREmLN.from_dir(folder, EXACT)
    torch.save({"state_dict": {"encoder.weight": torch.zeros(2)}}, path)
    with pytest.raises(StoreError, match=r"weights named encoder.weight"):
        GREmLN.from_dir(folder, EXACT)
    held["state_dict"]["new_head.weight"] = torch.zeros(3)
    del held["state_dict"]["transformer_encoder.1.ln1.weight"]
    torch.save(held, path)
    with pytest.raises(StoreError) as caught:
        GREmLN.from_dir(folder, EXACT)
    assert "new_head.weight" in str(caught.value)
    assert "transformer_encoder.1.ln1.weight" in str(caught.value)
    shutil.copy(path, folder / "second.ckpt")
    with pytest.raises(StoreError, match=r"model.ckpt, second.ckpt; expected one checkpoint"):
        GREmLN.from_dir(folder, EXACT)


def test_the_published_size_has_ten_million_weights() -> None:
    shape = gremln.sizes()["gremln"]
    assert (shape.width, shape.layers, shape.heads, shape.inner) == (512, 3, 8, 512)
    with torch.device("meta"):
        network = gremln.build(shape)
    head = 512 * 512 + 512 + 2 * 512 + 103 * 512 + 103  # for masked bins: not read here
    assert sum(p.numel() for p in network.parameters()) + head == pytest.approx(10.3e6, rel=0.04)
