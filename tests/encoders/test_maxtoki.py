"""MaxToki against `transformers.LlamaForCausalLM.from_pretrained` on the same folder."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from embryo.core.edit import Edit
from embryo.core.errors import ConfigError, StoreError
from embryo.encoders import maxtoki
from embryo.encoders.maxtoki import MaxToki
from embryo.encoders.networks import architecture
from embryo.encoders.options import Options

transformers = pytest.importorskip("transformers", reason="the extra `foundation` is not installed")

GENES = tuple(f"ENSG{k:011d}" for k in range(25))
PLAIN = Options(dtype="float32")


@pytest.fixture
def data(cells):
    adata = cells(10, 25)
    adata.var_names = list(GENES)
    return adata


@pytest.fixture
def folder(tmp_path):
    return MaxToki.write_tiny(tmp_path / "MaxToki-HF", GENES, seed=5)


def tokens_of(encoder, data):
    ((_, cells),) = encoder.profiles(data)
    return encoder.tokenize(cells)


def reference(folder, tokens):
    """Output of the library for every cell, one at a time, without padding."""
    network = transformers.LlamaForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        return [network(torch.tensor(ids)[None], output_hidden_states=True) for ids in tokens.ids]


def test_a_cell_stands_between_bos_and_eos(folder, data):
    dictionary = json.loads((folder / "token_dictionary_v1.json").read_text())
    tokens = tokens_of(MaxToki.from_dir(folder), data)
    for ids, columns in zip(tokens.ids, tokens.columns, strict=True):
        assert [ids[0], ids[-1]] == [dictionary["<bos>"], dictionary["<eos>"]]
        assert [dictionary[GENES[c]] for c in columns[1:-1]] == ids[1:-1].tolist()


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("layer", [None, -2, 0])
def test_it_is_what_transformers_computes(folder, data, pooling, layer):
    encoder = MaxToki.from_dir(folder, replace(PLAIN, layer=layer, pooling=pooling))
    states = [
        out.hidden_states[-1 if layer is None else layer][0] for out in reference(folder, tokens_of(encoder, data))
    ]
    expected = [s[-1] if pooling == "last" else s[1:-1].mean(0) for s in states]
    np.testing.assert_allclose(encoder.encode(data), torch.stack(expected).numpy(), atol=1e-5)


def test_the_likelihood_is_the_loss_of_transformers(folder, data):
    """The library's own loss over the genes, the labels of the special tokens left out."""
    encoder = MaxToki.from_dir(folder, PLAIN)
    network = transformers.LlamaForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    expected = []
    for ids in tokens_of(encoder, data).ids:
        words = torch.tensor(ids)[None]
        labels = torch.where(torch.isin(words, torch.tensor([2, 3])), -100, words)
        expected.append(-network(words, labels=labels).loss.item())
    np.testing.assert_allclose(encoder.log_likelihood(data), expected, atol=1e-5)


def test_a_network_that_knows_nothing_gives_minus_the_log_of_its_tokens(folder, data):
    encoder = MaxToki.from_dir(folder, PLAIN)
    encoder.network.lm_head.weight.data.zero_()
    np.testing.assert_allclose(encoder.log_likelihood(data), -np.log(29), rtol=1e-6)


def test_a_tied_head_needs_no_weights_of_its_own(tmp_path, folder, data):
    config = transformers.LlamaConfig(
        **json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    )
    with architecture.seeded(1):
        network = transformers.LlamaForCausalLM(config)
    tied = tmp_path / "tied"
    architecture.save_random(network, tied, 1)
    assert "lm_head.weight" not in load_file(tied / "model.safetensors")
    for part in folder.glob("*dict*.json"):
        (tied / part.name).write_text(part.read_text())
    encoder = MaxToki.from_dir(tied, PLAIN)
    expected = [out.hidden_states[-1][0, -1] for out in reference(tied, tokens_of(encoder, data))]
    np.testing.assert_allclose(encoder.encode(data), torch.stack(expected).numpy(), atol=1e-5)
    assert encoder.network.lm_head.weight is encoder.network.model.embed_tokens.weight


def test_an_untied_head_must_be_there(folder):
    state = load_file(folder / "model.safetensors")
    del state["lm_head.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(StoreError, match=r"1 weights missing: lm_head\.weight"):
        MaxToki.from_dir(folder)


def test_a_dictionary_that_is_off_by_one_is_refused(folder):
    path = folder / "token_dictionary_v1.json"
    tokens = json.loads(path.read_text())
    path.write_text(json.dumps({name: n for name, n in tokens.items() if n < 28}))
    with pytest.raises(StoreError, match="28 tokens for an embedding of 29 rows"):
        MaxToki.from_dir(folder)


def test_dictionaries_beside_the_folder_have_their_checksums_too(folder, tmp_path):
    """And those of another size that lie there, and were not read, have none."""
    beside = tmp_path / "beside"
    beside.mkdir()
    folder = folder.rename(beside / "model")
    read = sorted(path.rename(beside / path.name) for path in folder.glob("*dict*.json"))
    (beside / "token_dictionary_other.json").write_text('{"<pad>": 0}')
    said = MaxToki.from_dir(folder).provenance()["sha256"]
    expected = {f"../{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in read}
    assert len(expected) == 2
    assert {name: value for name, value in said.items() if "dictionary" in name} == expected
    read[0].write_text(read[0].read_text() + "\n")
    changed = MaxToki.from_dir(folder).provenance()["sha256"]
    assert [name for name in said if said[name] != changed[name]] == [f"../{read[0].name}"]


def test_a_dictionary_without_bos_is_refused(folder, data):
    path = folder / "token_dictionary_v1.json"
    path.write_text(path.read_text().replace("<bos>", "<start>"))
    with pytest.raises(StoreError, match="without <bos>"):
        MaxToki.from_dir(folder)


def test_there_is_no_cls(folder):
    with pytest.raises(ConfigError, match="pooling 'cls'"):
        MaxToki.from_dir(folder, Options(pooling="cls"))


def test_a_token_taken_out_is_a_cell_without_the_gene(folder, data):
    encoder = MaxToki.from_dir(folder, PLAIN)
    gene_map = encoder.map_genes(data)
    ((_, cells),) = encoder.profiles(data, gene_map)
    gone = encoder.edit_tokens(encoder.tokenize(cells), [Edit(GENES[1])], gene_map)
    same = encoder.tokenize(encoder.edit(cells, [Edit(GENES[1])], gene_map))
    np.testing.assert_array_equal(encoder.encode_tokens(gone), encoder.encode_tokens(same))


def test_the_published_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = maxtoki.build(maxtoki.sizes()["217M"])
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(216.95e6, rel=1e-4)
