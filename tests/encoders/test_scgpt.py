"""scGPT: the golden outputs of upstream's code, its tokens by hand, edits of tokens, and files that do not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, StoreError
from embryo.encoders.genes.genemap import GeneMap
from embryo.encoders.inputs.tokens import SPECIAL, Profiles, TokenBatch
from embryo.encoders.options import Options
from embryo.encoders.scgpt import ScGPT, build, sizes
from embryo.encoders.valued import genes_of, vocabulary

EXACT = Options(dtype="float32")


@pytest.fixture
def golden(real_folder: Callable[[str], Path]) -> Path:
    return real_folder("foundation-golden") / "golden_tiny" / "scgpt"


@pytest.fixture
def outputs(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "golden.npz") as kept:
        return dict(kept)


def profiles(counts: np.ndarray, keys: np.ndarray | None = None) -> Profiles:
    levels = np.asarray(counts, dtype=np.float64)
    keys = np.arange(len(levels), dtype=np.uint64) if keys is None else keys
    return Profiles(sparse.csr_array(levels), levels.sum(axis=1), keys)


def batch(ids: np.ndarray, values: np.ndarray, pad: int, more: int = 0) -> TokenBatch:
    """Golden tokens, with some more padding of odd content."""
    keep = np.pad(ids != pad, ((0, 0), (0, more)))
    columns = np.where(keep, np.arange(keep.shape[1]) - 1, SPECIAL)
    ids, values = np.pad(ids, ((0, 0), (0, more)), constant_values=3), np.pad(values, ((0, 0), (0, more)))
    return TokenBatch(*map(torch.from_numpy, (ids, columns, keep, values)))


@pytest.mark.parametrize("more", [0, 9])
def test_hidden_states_and_cells_are_those_of_upstream(golden, outputs, more):
    encoder = ScGPT.from_dir(golden, EXACT)
    tokens = batch(outputs["ids"], outputs["values"], pad=40, more=more)
    with torch.inference_mode():
        got = encoder.forward(tokens)
    kept = outputs["ids"] != 40
    hidden = got.gene.numpy()[:, : kept.shape[1]]
    np.testing.assert_allclose(hidden[kept], outputs["hidden"][kept], rtol=0, atol=1e-5)
    np.testing.assert_allclose(got.cell.numpy(), outputs["cell"], rtol=0, atol=1e-5)


def test_cells_come_out_of_raw_values_as_upstream_makes_them(golden, outputs):
    encoder = ScGPT.from_dir(golden, EXACT)
    assert encoder.targets == tuple(outputs["genes"])
    tokens = encoder.tokenize(profiles(outputs["X"]))
    for got, values, ids, expected in zip(tokens.ids, tokens.values, outputs["ids"], outputs["values"], strict=True):
        np.testing.assert_array_equal(got, ids[ids != 40])
        np.testing.assert_array_equal(values, expected[ids != 40])
    np.testing.assert_allclose(encoder.encode_tokens(tokens), outputs["cell"], rtol=0, atol=1e-5)


def test_names_of_torch_attention_are_read_too(golden, outputs, tmp_path):
    folder = tmp_path / "without-flash"
    shutil.copytree(golden, folder)
    state = torch.load(golden / "best_model.pt", weights_only=True)
    assert any("Wqkv." in key for key in state)
    torch.save({key.replace("Wqkv.", "in_proj_"): value for key, value in state.items()}, folder / "best_model.pt")
    cells = ScGPT.from_dir(folder, EXACT).encode_tokens(ScGPT.from_dir(folder, EXACT).tokenize(profiles(outputs["X"])))
    np.testing.assert_allclose(cells, outputs["cell"], rtol=0, atol=1e-5)


def test_a_tiny_file_has_the_names_and_shapes_of_upstream(golden, tiny_folder):
    """But for the rows of the embedding, and the flag encoder that the golden file, made by newer code, has not."""
    upstream, tiny = (
        torch.load(folder / "best_model.pt", weights_only=True) for folder in (golden, tiny_folder("scgpt"))
    )
    assert tuple(tiny.pop("flag_encoder.weight").shape) == (2, 16)
    rows = "encoder.embedding.weight"
    assert tiny.pop(rows).shape[1] == upstream.pop(rows).shape[1]
    assert {k: v.shape for k, v in tiny.items()} == {k: v.shape for k, v in upstream.items()}
    names = set(json.loads((golden / "args.json").read_text()))
    assert names == set(json.loads((tiny_folder("scgpt") / "args.json").read_text()))


def test_special_tokens_are_appended_to_the_published_vocabulary(real_folder):
    path = real_folder("foundation-vocabularies") / "scgpt" / "default_census_vocab.json"
    tokens = vocabulary(path, ("<pad>", "<cls>", "<eoc>"))
    assert len(tokens) == sizes()["human"].tokens == 60_697
    assert [tokens[t] for t in ("<pad>", "<cls>", "<eoc>")] == [60_694, 60_695, 60_696]
    genes, rows = genes_of(tokens)
    assert len(genes) == 60_694
    assert (genes[tokens["TBXT"]], rows[tokens["TBXT"]]) == ("TBXT", tokens["TBXT"])


def test_the_published_size_has_its_layers():
    with torch.device("meta"):
        network = build(sizes()["human"])
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes["gene.embedding.weight"] == (60_697, 512)
    assert shapes["layers.11.qkv.weight"] == (1536, 512)
    assert "layers.12.qkv.weight" not in shapes


# ---------------------------------------------------------------- tokens


@pytest.fixture
def short(tiny_folder, tmp_path) -> ScGPT:
    """A model that reads 8 tokens of a cell."""
    folder = tmp_path / "short"
    shutil.copytree(tiny_folder("scgpt"), folder)
    args = json.loads((folder / "args.json").read_text())
    (folder / "args.json").write_text(json.dumps(args | {"max_seq_len": 8}))
    return ScGPT.from_dir(folder, EXACT)


def test_too_many_genes_are_sampled_and_cls_is_kept(short):
    cells = profiles(np.tile(np.arange(1.0, 31), (300, 1)))
    tokens = short.tokenize(cells)
    assert {len(ids) for ids in tokens.ids} == {8}
    assert {int(ids[0]) for ids in tokens.ids} == {31}  # <pad> is 30, <cls> 31
    seen = np.bincount(np.concatenate([c[1:] for c in tokens.columns]), minlength=30)
    assert seen.sum() == 300 * 7
    assert np.abs(seen - 70).max() < 35  # 4.5 standard deviations of 300 draws of 7 in 30


def test_a_sample_belongs_to_its_cell_and_an_edit_changes_one_gene_of_it(short):
    counts = np.random.default_rng(0).poisson(3.0, (20, 30)) + 1.0
    tokens = short.tokenize(profiles(counts))
    turned = short.tokenize(profiles(counts[::-1], np.arange(20, dtype=np.uint64)[::-1].copy()))
    knocked = counts.copy()
    knocked[:, 4] = 0
    without = short.tokenize(profiles(knocked))
    for cell in range(20):
        np.testing.assert_array_equal(turned.ids[19 - cell], tokens.ids[cell])
        np.testing.assert_array_equal(turned.values[19 - cell], tokens.values[cell])
        lost = set(tokens.columns[cell]) - set(without.columns[cell])
        assert lost <= {4}
    assert not np.array_equal(tokens.columns[0], tokens.columns[1])


def test_another_seed_spreads_ties_otherwise(tiny):
    counts = np.ones((1, 30))
    a, b = (tiny("scgpt", Options(dtype="float32", seed=s)).tokenize(profiles(counts)).values[0] for s in (0, 1))
    assert set(np.unique(a[1:])) <= set(range(1, 51))
    assert not np.array_equal(a, b)


def test_the_mean_is_over_genes_and_of_length_one(tiny):
    counts = np.random.default_rng(0).poisson(2.0, (3, 30))
    mean = tiny("scgpt", Options(dtype="float32", pooling="mean"))
    tokens = mean.tokenize(profiles(counts))
    ((rows, encoded),) = mean.batches(tokens)
    for place, cell in enumerate(rows):
        genes = encoded.gene[place, 1 : len(tokens.ids[cell])].numpy().mean(axis=0)
        np.testing.assert_allclose(encoded.cell[place], genes / np.linalg.norm(genes), rtol=0, atol=1e-6)


# ---------------------------------------------------------------- edits of tokens


def edited(encoder: ScGPT, human_cells: Callable, *edits: Edit) -> tuple[dict, dict]:
    """Return value by gene of the first cell, before and after; gene 3 is not in it, gene 5 is."""
    adata = human_cells("symbol")
    counts = adata.layers["counts"].toarray()
    counts[0, [3, 5]] = 0, 4
    adata.layers["counts"] = sparse.csr_matrix(counts)
    gene_map: GeneMap = encoder.map_genes(adata)
    ((_, cells),) = encoder.profiles(adata, gene_map)
    tokens = encoder.tokenize(cells)
    after = encoder.edit_tokens(tokens, edits, gene_map)
    return tuple(dict(zip(t.columns[0].tolist(), t.values[0].tolist(), strict=True)) for t in (tokens, after))


def test_a_knock_out_is_bin_zero_and_moves_no_other_bin(tiny, human_cells):
    before, after = edited(tiny("scgpt"), human_cells, Edit("GENE5"))
    assert before[5] > 0
    assert after == before | {5: 0.0}


def test_over_expression_is_the_top_bin_of_a_gene_found_or_not(tiny, human_cells):
    up = [Edit(gene, Operation.OVEREXPRESS, 2.0) for gene in ("GENE5", "GENE3")]
    before, after = edited(tiny("scgpt"), human_cells, *up)
    assert 3 not in before
    assert after == before | {5: 50.0, 3: 50.0}


def test_the_knock_out_of_an_absent_gene_changes_nothing(tiny, human_cells):
    before, after = edited(tiny("scgpt"), human_cells, Edit("GENE3"))
    assert after == before


def test_operations_without_a_bin_are_refused_together(tiny, human_cells):
    odd = [Edit("GENE5", Operation.CLAMP, 1.0), Edit("GENE6", Operation.KNOCKDOWN, 0.5)]
    with pytest.raises(EditError, match="2 problems") as caught:
        edited(tiny("scgpt"), human_cells, *odd)
    assert [problem.found for problem in caught.value.problems] == [
        "clamp GENE5 on the tokens of scgpt",
        "knockdown GENE6 on the tokens of scgpt",
    ]


# ---------------------------------------------------------------- files that do not fit


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    shutil.copytree(tiny_folder("scgpt"), tmp_path / "model")
    return tmp_path / "model"


def change(path: Path, **values: object) -> None:
    record = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


def test_a_dictionary_that_is_off_by_one_is_refused(folder):
    change(folder / "vocab.json", EXTRA=33)
    with pytest.raises(StoreError, match="dictionary of 34 tokens for an embedding of 33 rows"):
        ScGPT.from_dir(folder)


def test_a_dictionary_with_a_gap_is_refused(folder):
    change(folder / "vocab.json", GENE7=None)
    with pytest.raises(StoreError, match="32 tokens with rows that are not 0 to 31, each once"):
        ScGPT.from_dir(folder)


def test_weights_beyond_the_heads_and_weights_that_lack_are_named(folder):
    state = torch.load(folder / "best_model.pt", weights_only=True)
    state["dsbn.bns.0.running_mean"] = torch.zeros(16)
    del state["value_encoder.norm.bias"]
    torch.save(state, folder / "best_model.pt")
    with pytest.raises(StoreError) as caught:
        ScGPT.from_dir(folder)
    assert [problem.found for problem in caught.value.problems] == [
        "1 weights missing: value.norm.bias",
        "1 weights that the network does not have: dsbn.bns.0.running_mean",
    ]


def test_settings_that_lack_or_are_of_another_kind_are_named_together(folder):
    change(folder / "args.json", nlayers=None, nlayer=2, embsize="16", n_bins=None, max_seq_len=1200.5)
    with pytest.raises(StoreError) as caught:
        ScGPT.from_dir(folder)
    found = [problem.found for problem in caught.value.problems]
    assert found == ["no nlayers (did you mean 'nlayer'?)", "embsize = '16'", "max_seq_len = 1200.5"]


def test_a_model_of_another_kind_is_refused(folder):
    change(folder / "args.json", input_emb_style="category", pre_norm=True)
    with pytest.raises(StoreError, match=r"(?s)input_emb_style = 'category'.*pre_norm = True"):
        ScGPT.from_dir(folder)
