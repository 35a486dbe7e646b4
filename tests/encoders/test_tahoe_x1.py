"""Tahoe-x1: the golden outputs of upstream's code, padding that it attends to, the drug, files that do not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from scipy import sparse

from embryo.core.edit import Edit, Operation
from embryo.core.errors import ConfigError, EditError, StoreError
from embryo.encoders.inputs.tahoe_settings import Release
from embryo.encoders.inputs.tokens import SPECIAL, Profiles, TokenBatch
from embryo.encoders.options import Options
from embryo.encoders.tahoe_x1 import TahoeX1, build, sizes

EXACT = Options(dtype="float32")


@pytest.fixture
def golden(real_folder: Callable[[str], Path]) -> Path:
    return real_folder("foundation-golden") / "golden_tiny" / "tahoe_x1"


@pytest.fixture
def outputs(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "golden.npz") as kept:
        return dict(kept)


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    shutil.copytree(tiny_folder("tahoe-x1"), tmp_path / "model")
    return tmp_path / "model"


def change(path: Path, **values: Any) -> None:
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    record = read(path.read_text()) | values
    path.write_text(write({key: value for key, value in record.items() if value is not None}))


def profiles(counts: np.ndarray) -> Profiles:
    levels = np.asarray(counts, dtype=np.float64)
    return Profiles(sparse.csr_array(levels), levels.sum(axis=1), np.arange(len(levels), dtype=np.uint64))


def batch(ids: np.ndarray, values: np.ndarray, *, more: int = 0, attended: bool = False) -> TokenBatch:
    """Golden tokens, with some more padding of odd content."""
    keep = np.pad(ids != 0, ((0, 0), (0, more)))
    columns = np.where(keep, np.arange(keep.shape[1]) - 1, SPECIAL)
    ids, values = np.pad(ids, ((0, 0), (0, more)), constant_values=5), np.pad(values, ((0, 0), (0, more)))
    return TokenBatch(*map(torch.from_numpy, (ids, columns, keep | attended, values)))


def run(encoder: TahoeX1, tokens: TokenBatch) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        got = encoder.forward(tokens)
    return got.gene[:, 0].numpy(), got.cell.numpy()


# ---------------------------------------------------------------- upstream


@pytest.mark.parametrize("more", [0, 13])
def test_cells_are_those_of_upstream(golden, outputs, more):
    cell, unit = run(TahoeX1.from_dir(golden, EXACT), batch(outputs["ids"], outputs["values"], more=more))
    np.testing.assert_allclose(cell, outputs["cell"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(unit, outputs["cell_l2"], rtol=0, atol=1e-5)


def test_padding_changes_nothing_though_it_would_if_it_were_attended(golden, outputs):
    """The trap of the published setting, attn_impl torch without a mask."""
    encoder, ids, values = TahoeX1.from_dir(golden, EXACT), outputs["ids"], outputs["values"]
    cell, _ = run(encoder, batch(ids, values))
    for k in range(len(ids)):
        n = np.count_nonzero(ids[k])
        alone, _ = run(encoder, batch(ids[k : k + 1, :n], values[k : k + 1, :n]))
        np.testing.assert_allclose(alone[0], cell[k], rtol=0, atol=1e-6)
    assert (ids == 0).any(axis=1).sum() >= 2
    trapped, _ = run(encoder, batch(ids, values, attended=True))
    assert np.abs(trapped - cell).max() > 0.1


def test_a_row_without_a_token_is_that_of_the_drug(golden):
    """The golden dictionary has 43 tokens for 44 rows: training appends <drug>, the release may not name it."""
    encoder = TahoeX1.from_dir(golden, EXACT)
    assert len(json.loads((golden / "vocab.json").read_text())) == 43
    assert encoder.network.shape.tokens == 44
    assert (encoder.targets[0], int(encoder.grammar.genes[0])) == ("ENSG00000000001", 3)
    assert encoder.grammar.lead == (1,)


def test_a_tiny_file_has_the_names_and_shapes_of_upstream(golden, tiny_folder):
    upstream, tiny = (load_file(f / "model.safetensors") for f in (golden, tiny_folder("tahoe-x1")))
    chemistry = {key: tuple(tiny.pop(key).shape) for key in list(tiny) if key.startswith("model.chem_encoder.")}
    assert chemistry["model.chem_encoder.embedding.weight"] == (5, 8)
    assert {k.split(".")[2] for k in chemistry} == {"embedding", "fc", "proj", "norm"}
    rows = "model.gene_encoder.embedding.weight"
    assert tiny.pop(rows).shape[1] == upstream.pop(rows).shape[1]
    assert {k: v.shape for k, v in tiny.items()} == {k: v.shape for k, v in upstream.items()}


@pytest.mark.parametrize(("size", "parameters"), [("70m", 70e6), ("1b", 1.3e9), ("3b", 3e9)])
def test_published_sizes_have_their_parameters(size, parameters):
    with torch.device("meta"):
        network = build(sizes()[size])
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=0.15)


# ---------------------------------------------------------------- tokens


def test_ties_take_the_lowest_bin_and_cls_and_drug_lead(tiny):
    counts = np.zeros((1, 30))
    counts[0, [2, 7, 11, 20]] = 1, 1, 1, 6
    tokens = tiny("tahoe-x1").tokenize(profiles(counts))
    assert tokens.ids[0].tolist() == [1, 33, 5, 10, 14, 23]  # <pad> <cls> <eoc>, 30 genes, <drug>
    assert tokens.columns[0].tolist() == [SPECIAL, SPECIAL, 2, 7, 11, 20]
    assert tokens.values[0].tolist() == [-2, -2, 1, 1, 1, 50]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"right_binning": True}, [33, 33, 33, 50]),  # the edges at k / 49 up to 2/3 are 1: k = 0 to 32
        ({"do_binning": False, "log_transform": True, "target_sum": 90}, np.log1p([10, 10, 10, 60])),
        ({"do_binning": False}, [1, 1, 1, 6]),
    ],
)
def test_the_collator_says_what_stands_for_a_count(folder, setting, expected):
    change(folder / "collator_config.yml", **setting)
    tokens = TahoeX1.from_dir(folder, EXACT).tokenize(profiles(np.array([[1.0, 1, 1, 6] + [0.0] * 26])))
    np.testing.assert_allclose(tokens.values[0][2:], expected, rtol=1e-6)


def test_a_level_has_no_top(folder, human_cells):
    change(folder / "collator_config.yml", do_binning=False)
    encoder = TahoeX1.from_dir(folder, EXACT)
    adata = human_cells("ensembl")
    gene_map = encoder.map_genes(adata)
    tokens = encoder.tokenize(profiles(adata.X.toarray()))
    gene = str(adata.var_names[0])
    knocked = encoder.edit_tokens(tokens, [Edit(gene)], gene_map)
    assert {values[2] for values in knocked.values} == {0.0}
    with pytest.raises(EditError, match="expected knockout"):
        encoder.edit_tokens(tokens, [Edit(gene, Operation.OVEREXPRESS)], gene_map)


# ---------------------------------------------------------------- the drug


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(1).poisson(2.0, (4, 30)) + 0.0


def embed(encoder: TahoeX1, counts: np.ndarray, drugs: list[str | None] | None = None) -> np.ndarray:
    tokens = encoder.tokenize(profiles(counts))
    return encoder.encode_tokens(tokens if drugs is None else encoder.treat(tokens, drugs))


def test_a_drug_moves_the_cells_that_have_it(tiny, counts):
    encoder = tiny("tahoe-x1")
    none = embed(encoder, counts)
    mixed = embed(encoder, counts, [None, "drug B", "<pad>", "drug C"])
    np.testing.assert_array_equal(mixed[[0, 2]], none[[0, 2]])
    assert np.abs(mixed - none)[[1, 3]].max(axis=1).min() > 1e-3
    every = embed(tiny("tahoe-x1", Options(dtype="float32", variant="drug=drug B")), counts)
    np.testing.assert_allclose(every[1], mixed[1], rtol=0, atol=1e-6)


def test_no_drug_is_row_zero_as_in_training(folder, counts):
    """Whatever row 0 holds, an untreated cell is read with it."""
    before = embed(TahoeX1.from_dir(folder, EXACT), counts)
    state = load_file(folder / "model.safetensors")
    table = state["model.chem_encoder.embedding.weight"]
    table[0] = table[2]
    save_file(state, folder / "model.safetensors")
    after = embed(TahoeX1.from_dir(folder, EXACT), counts)
    treated = embed(TahoeX1.from_dir(folder, Options(dtype="float32", variant="drug=drug B")), counts)
    np.testing.assert_array_equal(after, treated)
    assert np.abs(after - before).max() > 1e-3


def test_without_the_slot_the_model_is_one_that_never_had_it(folder, tmp_path, counts):
    without = TahoeX1.from_dir(folder, Options(dtype="float32", variant="no-drug-slot"))
    never = tmp_path / "never"
    shutil.copytree(folder, never)
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "chem_encoder" not in k}, never / "model.safetensors")
    change(never / "model_config.yml", chemical_encoder=None)
    change(never / "collator_config.yml", use_chem_token=False, drug_to_id_path=None)
    np.testing.assert_array_equal(embed(without, counts), embed(TahoeX1.from_dir(never, EXACT), counts))
    assert np.abs(embed(without, counts) - embed(TahoeX1.from_dir(folder, EXACT), counts)).max() > 1e-3
    with pytest.raises(ConfigError, match="drugs for a model without a place for them"):
        embed(without, counts, [None] * 4)
    with pytest.raises(ConfigError, match="drug 'aspirin' for a model without a place for it"):
        TahoeX1.from_dir(never, Options(variant="drug=aspirin"))


def test_half_precision_stays_near(tiny, counts):
    """Eight bits of mantissa: a relative error of about 1/256 for each rounding."""
    exact, half = (embed(tiny("tahoe-x1", Options(dtype=d)), counts) for d in ("float32", "bfloat16"))
    assert 0 < np.abs(half - exact).max() < 0.03


def test_the_drug_is_in_the_provenance(tiny, golden):
    assert tiny("tahoe-x1").provenance()["drug"] == "<pad>"
    assert tiny("tahoe-x1", Options(variant="drug=drug A")).provenance()["drug"] == "drug A"
    assert tiny("tahoe-x1", Options(variant="no-drug-slot")).provenance()["drug"] == "no-drug-slot"
    assert "drug" not in TahoeX1.from_dir(golden).provenance()


def test_without_the_table_a_drug_is_a_row(folder, counts):
    named = embed(TahoeX1.from_dir(folder, Options(dtype="float32", variant="drug=drug C")), counts)
    (folder / "drug_to_id_pad.json").unlink()
    numbered = TahoeX1.from_dir(folder, Options(dtype="float32", variant="drug=3"))
    np.testing.assert_array_equal(embed(numbered, counts), named)
    with pytest.raises(ConfigError, match=r"drug 'drug C'; expected a row from 0 to 4.*drug_to_id file"):
        numbered.treat(numbered.tokenize(profiles(counts)), ["drug C"] * 4)


@pytest.mark.parametrize(
    ("variant", "says"),
    [("drug=drug G", "did you mean 'drug [A-D]'.*one of its 4 drugs"), ("drugs", "expected drug=NAME or no-drug-slot")],
)
def test_a_variant_that_is_none_is_refused(tiny_folder, variant, says):
    with pytest.raises(ConfigError, match=says):
        TahoeX1.from_dir(tiny_folder("tahoe-x1"), Options(variant=variant))


def test_there_is_one_drug_for_each_cell(tiny, counts):
    with pytest.raises(ConfigError, match="3 drugs for 4 cells"):
        embed(tiny("tahoe-x1"), counts, [None] * 3)


# ---------------------------------------------------------------- releases that do not fit


def test_a_dictionary_that_is_off_by_one_is_refused(folder):
    """One token too few is taken for <drug> only where no token is called so."""
    tokens = json.loads((folder / "vocab.json").read_text())
    change(folder / "model_config.yml", vocab_size=len(tokens) + 1)
    with pytest.raises(StoreError, match="dictionary of 34 tokens for an embedding of 35 rows"):
        TahoeX1.from_dir(folder)


def test_a_dictionary_whose_padding_lies_elsewhere_is_refused(folder):
    change(folder / "collator_config.yml", pad_token_id=33)
    with pytest.raises(StoreError, match=r"<pad> in row 0 of the dictionary, pad_token_id 33"):
        TahoeX1.from_dir(folder)


def test_parts_that_no_published_model_uses_are_refused_together(folder):
    change(folder / "model_config.yml", use_glu=True, norm_config={"norm_type": "rmsnorm"}, chemical_encoder=None)
    change(folder / "collator_config.yml", log_transform=True)
    with pytest.raises(StoreError) as caught:
        Release.read(folder)
    assert [problem.found for problem in caught.value.problems] == [
        "use_glu = True",
        "norm_config.norm_type = 'rmsnorm'",
        "log_transform with do_binning = True",
        "use_chem_token = True",
    ]


def test_settings_that_lack_are_named_together(folder):
    change(folder / "model_config.yml", n_heads=None, d_model="16")
    with pytest.raises(StoreError) as caught:
        Release.read(folder)
    assert [problem.found for problem in caught.value.problems] == ["no n_heads", "d_model = '16'"]


def test_the_drugs_need_a_table_with_none_in_row_zero(folder):
    change(folder / "drug_to_id_pad.json", **{"<pad>": 5})
    with pytest.raises(StoreError, match="no table of rows with <pad> in row 0"):
        TahoeX1.from_dir(folder)


def test_weights_that_no_head_explains_are_named(folder):
    state = load_file(folder / "model.safetensors")
    state["model.gene_encoder.extra_embeddings.esm.weight"] = torch.zeros(34, 4)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(StoreError, match=r"does not have: gene.extra_embeddings.esm.weight"):
        TahoeX1.from_dir(folder)
