"""A trained Stage 2: its answers are those of `transformers` and the head; what is written comes back."""

import json

import numpy as np
import pytest
import torch

from embryo.core.errors import ConfigError, SchemaError, StoreError
from embryo.encoders import stage2
from embryo.encoders.maxtoki import MaxToki
from embryo.encoders.options import Options
from embryo.encoders.stage2 import Split

transformers = pytest.importorskip("transformers", reason="the extra `foundation` is not installed")

SPLIT = Split(val=(10.0,), test=(30.0,))


@pytest.fixture
def trained(encoder, series, settings):
    return stage2.train(encoder, series(), SPLIT, settings(next_cell=1.0))


def language(trained):
    """The library's network with the trained weights."""
    network = transformers.LlamaForCausalLM(trained.network.language.config).eval()
    network.load_state_dict(trained.network.language.state_dict())
    return network


def sentence(trained, before, after):
    """Spelled out from the guide."""
    ((_, cells),) = trained.encoder.profiles(before)
    ((_, queries),) = trained.encoder.profiles(after)
    first = len(trained.encoder.vocabulary)
    one, two = trained.encoder.tokenize(cells).ids, trained.encoder.tokenize(queries).ids
    return [[*a, first, *b, first + 1] for a, b in zip(one, two, strict=True)]


def test_hours_are_the_head_on_the_last_hidden_state(trained, series):
    before, after = series(5, seed=1), series(5, seed=2)
    network, head = language(trained), trained.network.head
    with torch.no_grad():
        expected = [
            50.0 * head(network.model(torch.tensor([ids])).last_hidden_state[0, -1]).item()
            for ids in sentence(trained, before, after)
        ]
    np.testing.assert_allclose(trained.score_time(before, after), expected, atol=1e-3)


def test_times_of_the_dated_cells_are_not_read(trained, series):
    before, after = series(5, seed=1), series(5, seed=2)
    found = trained.score_time(before, after)
    after.obs["time"] = 7.0
    before.obs["time"] = 3.0
    np.testing.assert_array_equal(trained.score_time(before, after), found)


def test_longer_contexts_say_when_they_are(trained, series):
    first, second, after = series(5, seed=1), series(5, seed=2), series(5, seed=3)
    found = trained.score_time([first, second], after)
    ((_, cells),) = trained.encoder.profiles(first)
    ids = trained.encoder.tokenize(cells).ids
    rest = sentence(trained, second, after)
    base = len(trained.encoder.vocabulary)
    with torch.no_grad():
        words = torch.tensor([[*ids[3], base + 2, *rest[3]]])  # 0 h apart
        expected = 50.0 * trained.network.head(language(trained).model(words).last_hidden_state[0, -1]).item()
    np.testing.assert_allclose(found[3], expected, atol=1e-3)
    second.obs["time"] = first.obs["time"] - 10.0
    with pytest.raises(ConfigError, match="a time of -10 h"):
        trained.score_time([first, second], after)


def test_pairs_must_be_pairs(trained, series):
    with pytest.raises(SchemaError, match=r"\[30\] cells before and 12 after"):
        trained.score_time(series(5), series(2))
    with pytest.raises(ConfigError, match="contexts of 3 cells"):
        trained.score_time([series(2)] * 3, series(2))


def test_the_next_cell_is_written_greedily_without_repeats(trained, series):
    """Step by step, the whole sentence read anew: the likeliest gene that was not yet written."""
    before = series(1)[:2].copy()
    network, vocabulary = language(trained), trained.encoder.vocabulary
    ((_, cells),) = trained.encoder.profiles(before)
    first = len(vocabulary)
    for ids, written in zip(trained.encoder.tokenize(cells).ids, trained.next_cell(before, 20.0, 5), strict=True):
        words, expected = [*ids, first, first + 2 + 4, first + 1, 2], []
        for _ in range(5):
            with torch.no_grad():
                logits = network(torch.tensor([words])).logits[0, -1]
            best = max((t for t in vocabulary.ids.tolist() if t not in words[len(ids) + 4 :]), key=logits.__getitem__)
            words.append(best)
            expected.append(vocabulary.genes[vocabulary.ids.tolist().index(best)])
        assert written == expected
    assert len(trained.next_cell(before, 20.0, 99)[0]) == len(vocabulary.genes)


def test_what_was_not_trained_is_not_told(encoder, series, settings):
    with pytest.raises(ConfigError, match="trained with next_cell > 0"):
        stage2.train(encoder, series(), SPLIT, settings()).next_cell(series(1), 10.0, 3)


def test_it_comes_back_as_it_was_written(trained, series, tmp_path):
    again = stage2.load(trained.save(tmp_path / "clock"), trained.encoder)
    before, after = series(4, seed=1), series(4, seed=2)
    np.testing.assert_array_equal(again.score_time(before, after), trained.score_time(before, after))
    assert again.next_cell(before, 10.0, 3) == trained.next_cell(before, 10.0, 3)
    assert json.loads(json.dumps(again.record)) == json.loads((tmp_path / "clock" / "stage2.json").read_text())


def test_another_stage_1_is_refused(trained, tmp_path):
    other = MaxToki.from_dir(MaxToki.write_tiny(tmp_path / "other", trained.encoder.targets, seed=9), Options())
    with pytest.raises(StoreError, match="trained from another Stage 1"):
        stage2.load(trained.save(tmp_path / "clock"), other)


@pytest.mark.parametrize("how", ["cut", "record", "absent"])
def test_damaged_files_are_named(trained, tmp_path, how):
    folder = trained.save(tmp_path / "clock")
    weights, record = folder / "stage2.safetensors", folder / "stage2.json"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-30])
    elif how == "record":
        record.write_text(json.dumps({"grammar": {"first": 3}}))
    else:
        weights.unlink()
    with pytest.raises(StoreError):
        stage2.load(folder, trained.encoder)
