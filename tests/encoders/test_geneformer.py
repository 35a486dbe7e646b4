"""Geneformer against `transformers.BertForMaskedLM.from_pretrained` on the same folder."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from embryo.core.edit import Edit, Operation
from embryo.core.errors import ConfigError, EditError, StoreError
from embryo.encoders import geneformer
from embryo.encoders.geneformer import Geneformer
from embryo.encoders.options import Options
from embryo.encoders.ranked import write_dictionaries

transformers = pytest.importorskip("transformers", reason="the extra `foundation` is not installed")

GENES = tuple(f"ENSG{k:011d}" for k in range(25))
PLAIN = Options(dtype="float32")


@pytest.fixture
def data(cells):
    adata = cells(12, 25)
    adata.var_names = list(GENES)
    return adata


@pytest.fixture(params=["V1", "V2"])
def folder(request, tmp_path):
    return Geneformer.write_tiny(tmp_path / request.param, GENES, seed=3, version=request.param)


def as_torch_file(folder):
    """Write the weights as V1 published them: a torch file, with the constant that old versions stored."""
    state = load_file(folder / "model.safetensors")
    state["bert.embeddings.position_ids"] = torch.arange(256)[None]
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def reference(folder, encoder, data):
    """Hidden states of every cell by the library, one cell at a time, without padding; and its tokens."""
    network = transformers.BertForMaskedLM.from_pretrained(folder, local_files_only=True).eval()
    ((_, cells),) = encoder.profiles(data)
    tokens = encoder.tokenize(cells)
    with torch.no_grad():
        states = [network(torch.tensor(ids)[None], output_hidden_states=True).hidden_states for ids in tokens.ids]
    return tokens, states


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("layer", [None, -1, 0, 1])
def test_it_is_what_transformers_computes(folder, data, kind, layer):
    if kind == "pytorch_model.bin":
        as_torch_file(folder)
    encoder = Geneformer.from_dir(folder, replace(PLAIN, layer=layer))
    tokens, states = reference(folder, encoder, data)
    inner = slice(1, -1) if encoder.version == "V2" else slice(None)
    expected = [s[-2 if layer is None else layer][0, inner].mean(0).numpy() for s in states]
    np.testing.assert_allclose(encoder.encode(data), expected, atol=1e-5)
    parts = list(encoder.gene_embeddings(data, GENES))
    order = np.argsort(np.concatenate([rows for rows, _, _ in parts]))
    genes, found = (torch.cat([part[k] for part in parts]).numpy()[order] for k in (1, 2))
    for k, (columns, state) in enumerate(zip(tokens.columns, states, strict=True)):
        column, at = columns[inner][0], 1 if encoder.version == "V2" else 0
        assert set(np.flatnonzero(found[k])) == set(columns[inner])
        np.testing.assert_allclose(genes[k, column], state[-2 if layer is None else layer][0, at].numpy(), atol=1e-5)


def test_cls_is_the_first_token_of_v2(tmp_path, data):
    folder = Geneformer.write_tiny(tmp_path / "v2", GENES, version="V2")
    encoder = Geneformer.from_dir(folder, replace(PLAIN, pooling="cls"))
    _, states = reference(folder, encoder, data)
    np.testing.assert_allclose(encoder.encode(data), [s[-2][0, 0].numpy() for s in states], atol=1e-5)


def test_v2_stands_between_cls_and_eos(tmp_path, data):
    encoder = Geneformer.from_dir(Geneformer.write_tiny(tmp_path, GENES, version="V2"), PLAIN)
    ((_, cells),) = encoder.profiles(data)
    tokens = encoder.tokenize(cells)
    for ids, columns in zip(tokens.ids, tokens.columns, strict=True):
        assert (ids[0], ids[-1]) == (2, 3)
        assert (columns[0], columns[-1]) == (-1, -1)
        assert (columns[1:-1] >= 0).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pooling": "cls", "variant": "V2"}, "2 problems"),
        ({"pooling": "cls"}, "has no <cls>"),
        ({"variant": "V2"}, "found the files of V1; expected V2"),
        ({"layer": 4}, "layer 4 of a network with 3 layers"),
        ({"pooling": "last"}, "pooling 'last'"),
    ],
)
def test_what_v1_has_not_is_refused(tmp_path, options, says):
    folder = Geneformer.write_tiny(tmp_path / "v1", GENES)
    with pytest.raises(ConfigError, match=says):
        Geneformer.from_dir(folder, Options(**options))


def test_edits_of_ranks_are_cells_of_their_own(folder, data):
    """A knocked-out token is a cell without the gene; a gene in front is a cell where it stands highest."""
    encoder = Geneformer.from_dir(folder, PLAIN)
    gene_map = encoder.map_genes(data)
    ((_, cells),) = encoder.profiles(data, gene_map)
    tokens = encoder.tokenize(cells)
    gone = encoder.edit_tokens(tokens, [Edit(GENES[4])], gene_map)
    same = encoder.tokenize(encoder.edit(cells, [Edit(GENES[4])], gene_map))
    high = encoder.edit_tokens(tokens, [Edit(GENES[4], Operation.OVEREXPRESS, 1.0)], gene_map)
    clamp = Edit(GENES[4], Operation.CLAMP, 30.0)
    higher = encoder.tokenize(encoder.edit(cells, [clamp], gene_map))
    for a, b in ((gone, same), (high, higher)):
        for one, two in zip(a.ids, b.ids, strict=True):
            np.testing.assert_array_equal(one, two)
    with pytest.raises(EditError, match=r"clamp .* on the tokens of geneformer"):
        encoder.edit_tokens(tokens, [clamp], gene_map)
    with pytest.raises(EditError, match="no gene 'NKX2-5'"):
        encoder.edit_tokens(tokens, [Edit("NKX2-5")], gene_map)


def test_the_shift_is_a_cosine(folder, data):
    encoder = Geneformer.from_dir(folder, PLAIN)
    edits = [Edit(GENES[2])]
    edited = data.copy()
    edited.layers["counts"] = edited.layers["counts"].toarray()
    edited.layers["counts"][:, 2] = 0
    before, after = encoder.encode(data), encoder.encode(edited)
    score = torch.nn.functional.cosine_similarity(torch.tensor(before), torch.tensor(after)).numpy()
    np.testing.assert_allclose(encoder.shift(data, edits), score, atol=1e-6)
    goal = after.mean(0)
    toward = torch.nn.functional.cosine_similarity
    nearer = toward(torch.tensor(after), torch.tensor(goal)[None]) - toward(
        torch.tensor(before), torch.tensor(goal)[None]
    )
    np.testing.assert_allclose(encoder.shift(data, edits, goal), nearer.numpy(), atol=1e-6)
    absent = np.flatnonzero(data.layers["counts"].toarray()[:, 2] == 0)
    np.testing.assert_allclose(encoder.shift(data, edits)[absent], 1.0, atol=1e-6)


def test_a_full_cell_is_compared_at_equal_positions(folder, data):
    encoder = Geneformer.from_dir(folder, PLAIN)
    encoder.limit = 6
    gene_map = encoder.map_genes(data)
    ((_, cells),) = encoder.profiles(data, gene_map)
    tokens = encoder.tokenize(cells)
    edits = [Edit(GENES[24], Operation.OVEREXPRESS, 1.0)]
    new, old = encoder.edit_tokens(tokens, edits, gene_map), encoder.comparable(tokens, edits, gene_map)
    for before, a, b in zip(tokens.columns, new.columns, old.columns, strict=True):
        brought = len(before) == 6 and 24 not in before
        assert max(len(a), len(b)) <= 6
        assert set(before) - set(b) == ({before[before >= 0][-1]} if brought else set())
        assert set(a[a >= 0]) == set(b[b >= 0]) | {24}


def test_a_neighbours_dictionary_is_refused(folder):
    path = folder / "token_dictionary.json"
    tokens = json.loads(path.read_text())
    path.write_text(json.dumps(tokens | {"ENSG99999999999": len(tokens)}))
    with pytest.raises(StoreError, match=f"{len(tokens) + 1} tokens for an embedding of {len(tokens)} rows"):
        Geneformer.from_dir(folder)


def test_dictionaries_are_written_as_they_are_read(tmp_path):
    assert write_dictionaries(tmp_path, GENES, ("<pad>", "<mask>"), 0, "_x") == 27
    tokens, medians = (
        json.loads((tmp_path / f"{n}_x.json").read_text()) for n in ("token_dictionary", "gene_median_dictionary")
    )
    assert tokens == {name: n for n, name in enumerate(["<pad>", "<mask>", *GENES])}
    assert set(medians) == set(GENES)
    assert min(medians.values()) > 0


def test_missing_and_foreign_weights_are_listed(folder):
    state = load_file(folder / "model.safetensors")
    del state["bert.encoder.layer.1.output.dense.bias"]
    state["bert.encoder.layer.9.output.dense.bias"] = torch.zeros(32)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(StoreError) as error:
        Geneformer.from_dir(folder)
    assert "encoder.layer.1.output.dense.bias" in str(error.value)
    assert "encoder.layer.9.output.dense.bias" in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "llama"}, "a network of type 'llama'"),
        ({"model_type": None}, "a network of type None"),
        ({"hidden_size": "wide"}, "found hidden_size 'wide'"),
    ],
)
def test_another_config_is_refused(folder, change, says):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=says):
        Geneformer.from_dir(folder)


def test_random_weights_say_so(folder):
    said = Geneformer.from_dir(folder).provenance()
    assert (said["weights"], said["weights_seed"], said["variant"]) == ("random", 3, folder.name)
    assert {"config.json", "model.safetensors", "token_dictionary.json"} <= set(said["sha256"])


def test_dictionaries_beside_the_folder_have_their_checksums_too(folder, tmp_path):
    """And those of another size that lie there, and were not read, have none."""
    beside = tmp_path / "beside"
    beside.mkdir()
    folder = folder.rename(beside / "model")
    read = sorted(path.rename(beside / path.name) for path in folder.glob("*dict*.json"))
    (beside / "token_dictionary_other.json").write_text('{"<pad>": 0}')
    said = Geneformer.from_dir(folder).provenance()["sha256"]
    expected = {f"../{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in read}
    assert len(expected) == 2
    assert {name: value for name, value in said.items() if "dictionary" in name} == expected
    read[0].write_text(read[0].read_text() + "\n")
    changed = Geneformer.from_dir(folder).provenance()["sha256"]
    assert [name for name in said if said[name] != changed[name]] == [f"../{read[0].name}"]


@pytest.mark.parametrize(
    ("size", "millions"), [("V1-10M", 10.29), ("V1-40M", 39.6), ("V2-104M", 104.39), ("V2-316M", 316.35)]
)
def test_published_sizes_have_the_published_number_of_parameters(size, millions):
    with torch.device("meta"):
        network = transformers.BertForMaskedLM(geneformer.configuration(geneformer.sizes()[size]))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(millions * 1e6, rel=6e-4)


def test_the_published_config_is_read(real_folder, tmp_path):
    """The real config and dictionaries of V1 around random weights of the published size."""
    source = real_folder("foundation-vocabularies") / "geneformer_v1"
    for name in ("config.json", "token_dictionary.json", "gene_median_dictionary.json", "gene_name_id_dict.json"):
        (tmp_path / name).symlink_to(source / name)
    network = transformers.BertForMaskedLM(transformers.BertConfig.from_pretrained(tmp_path))
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items() if "decoder" not in k},
        tmp_path / "model.safetensors",
    )
    encoder = Geneformer.from_dir(tmp_path)
    assert (len(encoder.targets), encoder.dims, encoder.limit, encoder.version) == (25_424, 256, 2048, "V1")
    assert len(encoder.network.encoder.layer) == 5
