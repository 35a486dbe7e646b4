"""C2S-Scale against `transformers` on the same folder: network, tokenizer, generation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embryo.core.edit import Edit
from embryo.core.errors import ConfigError, SchemaError, StoreError
from embryo.encoders import c2s
from embryo.encoders.c2s import C2S
from embryo.encoders.networks import architecture, causal
from embryo.encoders.options import Options

transformers = pytest.importorskip("transformers", reason="the extra `foundation` is not installed")
tokenizers = pytest.importorskip("tokenizers")

PLAIN = Options(dtype="float32")
GENES = [f"GENE{k}" for k in range(30)]


@pytest.fixture
def data(human_cells):
    return human_cells("symbol")


@pytest.fixture(params=["gemma2", "gpt_neox"])
def folder(request, tmp_path):
    return C2S.write_tiny(tmp_path / request.param, GENES, family=request.param)


def letters(folder):
    """Replace the tokenizer by one that spells genes in pieces, as published ones do: byte pairs with a space mark."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=33, special_tokens=["<pad>", "<eos>"], initial_alphabet=[], show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(GENES)], trainer)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def reference(folder, sentences):
    """Hidden states by the library, one sentence at a time, tokens by its own fast tokenizer."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    words = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    words.backend_tokenizer.no_padding()
    words.backend_tokenizer.no_truncation()
    with torch.no_grad():
        ids = [torch.tensor(words(text).input_ids)[None] for text in sentences]
        return [network(i, output_hidden_states=True).hidden_states for i in ids]


def sentences_of(encoder, data):
    """Written out from the definition: scanpy's levels, falling; the encoder's own order among ties."""
    ((_, cells),) = encoder.profiles(data)
    found = c2s.sentences.order(cells, c2s.sentences.hashed(encoder.targets), encoder.seed, encoder.length)
    return [" ".join(encoder.targets[c] for c in columns) for columns in found]


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("spelled", [False, True])
def test_it_is_what_transformers_computes(folder, data, pooling, layer, spelled):
    folder = letters(folder) if spelled else folder
    encoder = C2S.from_dir(folder, replace(PLAIN, layer=layer, pooling=pooling))
    states = [s[-1 if layer is None else layer][0] for s in reference(folder, sentences_of(encoder, data))]
    expected = [s.mean(0) if pooling == "mean" else s[-1] for s in states]
    np.testing.assert_allclose(encoder.encode(data), torch.stack(expected).numpy(), atol=1e-5)


def test_every_piece_belongs_to_its_gene(folder, data):
    encoder = C2S.from_dir(letters(folder), PLAIN)
    ((_, cells),) = encoder.profiles(data)
    tokens = encoder.tokenize(cells)
    for text, ids, columns in zip(sentences_of(encoder, data), tokens.ids, tokens.columns, strict=True):
        assert len(ids) > len(text.split())
        for word in text.split():
            mine = ids[columns == encoder.targets.index(word)]
            assert encoder.tokenizer.decode(mine.tolist()).strip() == word


def test_padding_does_not_matter(folder, data):
    encoder = C2S.from_dir(folder, PLAIN)
    alone = C2S.from_dir(folder, replace(PLAIN, batch_tokens=1))
    np.testing.assert_allclose(alone.encode(data), encoder.encode(data), atol=1e-6)


def test_sentences_are_cut_to_the_number_of_genes(folder, data):
    encoder = C2S.from_dir(folder, replace(PLAIN, variant="5"))
    assert {len(text.split()) for text in sentences_of(encoder, data)} == {5}
    assert encoder.provenance()["genes_per_sentence"] == 5
    with pytest.raises(ConfigError, match="variant 'many'"):
        C2S.from_dir(folder, Options(variant="many"))


def test_other_data_before_do_not_change_an_embedding(folder, data):
    """The vocabulary is open: columns grow, embeddings stay; mouse symbols are read in upper case."""
    mouse = data.copy()
    mouse.var_names = [f"Gene{k}" for k in reversed(range(30))]
    mouse.uns["embryo"] = data.uns["embryo"] | {"organism": "Mus musculus"}
    fresh, used = C2S.from_dir(folder, PLAIN), C2S.from_dir(folder, PLAIN)
    part = data[:, :7].copy()
    used.encode(part)
    used.encode(mouse)
    np.testing.assert_array_equal(used.encode(data), fresh.encode(data))
    assert used.targets[:7] == tuple(sorted(GENES[:7]))
    assert set(used.targets) == set(GENES)


def test_ids_without_symbols_are_refused(folder, human_cells):
    encoder = C2S.from_dir(folder, PLAIN)
    with pytest.raises(SchemaError, match=r"symbols of 0 of 30 genes.*var\['feature_name'\]"):
        encoder.encode(human_cells("ensembl"))
    named = human_cells("ensembl")
    named.var["feature_name"] = GENES
    np.testing.assert_array_equal(encoder.encode(named), encoder.encode(human_cells("symbol")))
    worm = human_cells("symbol")
    worm.uns["embryo"]["organism"] = "Caenorhabditis elegans"
    with pytest.raises(SchemaError, match="genes of Caenorhabditis elegans"):
        encoder.encode(worm)


def test_what_the_tokenizer_cannot_spell_is_counted(folder, data):
    """Two of 30 genes renamed: the share of the counts is that of the other 28."""
    encoder = C2S.from_dir(folder, PLAIN)
    data.var_names = ["unheard", "two words", *data.var_names[2:]]
    coverage = encoder.map_genes(data).coverage
    sums = np.asarray(data.layers["counts"].sum(0)).ravel()
    assert coverage.unmapped == ("unheard", "two words")
    assert coverage.share_of_counts == pytest.approx(sums[2:].sum() / sums.sum())


def test_genes_of_one_symbol_are_one(folder, data):
    encoder = C2S.from_dir(folder, PLAIN)
    data.var_names = ["gene1", *data.var_names[1:]]
    assert encoder.map_genes(data).coverage.duplicates == ("GENE1",)


def test_what_the_model_writes_is_what_transformers_generates(folder, data):
    encoder = C2S.from_dir(folder, PLAIN)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    words = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    prompt = "{sentence} {edit} :"
    found = encoder.perturbed(data[:2].copy(), [Edit("GENE3")], prompt=prompt)
    for text, written in zip(sentences_of(encoder, data[:2].copy()), found, strict=True):
        asked = torch.tensor(words(prompt.format(sentence=text, edit="knockout GENE3")).input_ids)[None]
        room = 6 * len(text.split())
        whole = network.generate(
            asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=room, pad_token_id=0
        )
        assert written == words.decode(whole[0, asked.shape[1] :], skip_special_tokens=True).upper().split()[:200]
    encoder.limit = 8
    with pytest.raises(ConfigError, match="room in a context of 8"):
        encoder.perturbed(data[:1].copy(), [Edit("GENE3")])


def test_the_line_of_ranks_is_fitted_on_the_cells(folder, data):
    encoder = C2S.from_dir(folder, PLAIN)
    line = encoder.line(data)
    assert line.slope < 0
    assert 0.3 < line.r2 <= 1
    level = np.log1p(data.layers["counts"].toarray() / data.layers["counts"].sum(1) * 1e4)
    back = np.stack([line.expression(text.split(), list(data.var_names)) for text in sentences_of(encoder, data)])
    assert np.corrcoef(back.ravel(), np.asarray(level).ravel())[0, 1] > 0.7


def test_a_damaged_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(StoreError, match="no tokenizer"):
        C2S.from_dir(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(StoreError, match=r"none of tokenizer\.json"):
        C2S.from_dir(folder)


def test_a_tokenizer_of_another_model_is_named(folder, tmp_path):
    more = C2S.write_tiny(tmp_path / "more", [f"G{k}" for k in range(99)])
    (folder / "tokenizer.json").write_text((more / "tokenizer.json").read_text())
    with pytest.raises(StoreError, match="103 tokens for an embedding of 34 rows"):
        C2S.from_dir(folder)


def test_weights_may_lie_in_shards(folder, data):
    whole = C2S.from_dir(folder, PLAIN).encode(data)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    (folder / "model.safetensors").unlink()
    network.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    np.testing.assert_array_equal(C2S.from_dir(folder, PLAIN).encode(data), whole)


def test_half_the_memory_where_asked(folder, data):
    half = C2S.from_dir(folder, Options(dtype="bfloat16"))
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    np.testing.assert_allclose(half.encode(data), C2S.from_dir(folder, PLAIN).encode(data), atol=0.1)


def test_exact_means_float32_also_where_weights_are_kept_in_bfloat16(folder, data):
    """Against a network in float32 with the same, rounded, weights and factors; afterwards all is as it was."""
    half, rounded = (C2S.from_dir(folder, Options(dtype=dtype)) for dtype in ("bfloat16", "float32"))
    for part in rounded.network.parameters():
        part.data = part.data.bfloat16().float()
    for name, part in rounded.network.named_buffers():
        part.copy_(half.network.get_buffer(name))
    before = {name: part.clone() for name, part in half.network.state_dict(keep_vars=True).items()}
    buffers = {name: part.clone() for name, part in half.network.named_buffers()}
    ((_, cells),) = half.profiles(data)
    assert half.map_genes(data).targets == rounded.map_genes(data).targets
    tokens = half.tokenize(cells)
    expected = rounded.encode_tokens(tokens)
    np.testing.assert_allclose(half.encode_tokens(tokens, exact=True), expected, atol=1e-6)
    assert np.abs(half.encode_tokens(tokens) - expected).max() > 1e-4  # what bfloat16 arithmetic costs
    for name, part in half.network.state_dict(keep_vars=True).items():
        assert part.dtype == torch.bfloat16
        assert torch.equal(part, before[name])
    for name, part in half.network.named_buffers():
        assert part.dtype == buffers[name].dtype
        assert torch.equal(part, buffers[name])


def test_likelihood_and_soft_cap_are_those_of_transformers(folder):
    """Gemma 2 bounds its logits: the loss of the library has the bound in it."""
    config = architecture.read_config(folder, "gemma2", "gpt_neox")
    network = causal.read(folder, config).eval()
    for part in network.get_output_embeddings().parameters():
        part.data.mul_(300)  # logits far beyond the bound of 30
    ids = torch.randint(4, 34, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine = causal.log_likelihood(network, ids, torch.ones_like(ids, dtype=torch.bool), torch.ones_like(ids) > 0)
        theirs = [-network(row[None], labels=row[None]).loss.item() for row in ids]
    np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "parameters"), [("Pythia-410M", 405_334_016), ("Pythia-1B", 1_011_781_632), ("Gemma-2-2B", 2_614_341_888)]
)
def test_published_sizes_have_the_published_number_of_parameters(size, parameters):
    with torch.device("meta"):
        network = c2s.build(c2s.sizes()[size])
    assert sum(p.numel() for p in network.parameters()) == parameters
