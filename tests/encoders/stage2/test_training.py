"""What is trained on, what is not, and that a stopped run is no other run."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from embryo.core.errors import ConfigError, DivergedError, StoreError
from embryo.encoders import stage2
from embryo.encoders.stage2 import Settings, Split
from embryo.encoders.stage2.network import clockwork
from embryo.encoders.stage2.series import Series
from embryo.encoders.stage2.training import PARTIAL, next_cells

SPLIT = Split(val=(10.0,), test=(30.0,))


def weights(trained):
    return {name: part.detach().clone() for name, part in trained.network.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_an_easy_series(encoder, series, settings):
    """Against closed forms at the held-out 10 h, training stages 0, 20, 40, 50 drawn evenly.

    The constant answer of least error errs by ``E|10 - t|`` over the last time of two draws; the train mean by
    ``|27.5 - 10|``.
    """
    adata = series()
    trained = stage2.train(encoder, adata, SPLIT, settings(steps=100, batch=32))
    data = Series.read(encoder, adata, SPLIT, 16)
    asked = data.questions("val", 2, seed=0)
    hours = trained.hours([data.sentence(trained.grammar, q) for q in asked])
    error = np.abs(hours - [data.label(q) for q in asked]).mean()
    last = np.maximum.outer(*[np.array([0.0, 20.0, 40.0, 50.0])] * 2).ravel()
    constant = min(np.abs((10 - last) - c).mean() for c in 10 - last)
    assert constant == pytest.approx(10.625)
    assert error < min(constant, 17.5) / 2


def test_held_out_stages_are_never_touched(encoder, series, settings):
    """Other counts at held-out stages, or none of their cells but one: the same weights, bit for bit."""
    adata = series()
    one = weights(stage2.train(encoder, adata, SPLIT, settings()))
    held = adata.obs["time"].isin([10.0, 30.0]).to_numpy()
    other = adata.copy()
    counts = other.layers["counts"].toarray()
    counts[held] = np.random.default_rng(5).poisson(3.0, (held.sum(), counts.shape[1])) + 1
    other.layers["counts"] = counts
    assert same(weights(stage2.train(encoder, other, SPLIT, settings())), one)
    fewer = adata[~held | (np.arange(adata.n_obs) % 30 < 2)].copy()
    assert same(weights(stage2.train(encoder, fewer, SPLIT, settings())), one)
    moved = adata.copy()
    counts = moved.layers["counts"].toarray()
    counts[0] = counts[-1]
    moved.layers["counts"] = counts
    changed = stage2.train(encoder, moved, SPLIT, settings(steps=40))
    assert not same(weights(changed), weights(stage2.train(encoder, adata, SPLIT, settings(steps=40))))


def test_stage_1_is_not_changed(encoder, series, settings):
    before = {name: part.clone() for name, part in encoder.network.state_dict().items()}
    rows = encoder.network.config.vocab_size
    stage2.train(encoder, series(), SPLIT, settings())
    assert all(torch.equal(part, before[name]) for name, part in encoder.network.state_dict().items())
    assert encoder.network.config.vocab_size == rows
    assert not any(part.requires_grad for part in encoder.network.parameters())


@pytest.mark.parametrize("next_cell", [0.0, 1.0])
def test_frozen_means_that_only_what_is_new_moves(encoder, series, settings, next_cell):
    trained = stage2.train(encoder, series(), SPLIT, settings(frozen=True, next_cell=next_cell, seed=2))
    untrained = clockwork(encoder.network, trained.grammar.rows, frozen=True, seed=2)
    first, moved = trained.grammar.first, []
    for name, part in untrained.named_parameters():
        after = dict(trained.network.named_parameters())[name]
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            assert torch.equal(part[:first], after[:first])
        if not torch.equal(part, after):
            moved.append(name)
    expected = {"language.model.embed_tokens.weight", "head.weight", "head.bias"}
    assert set(moved) == expected | ({"language.lm_head.weight"} if next_cell else set())


class StoppedError(Exception):
    pass


def stop_at(step):
    def progress(now):
        if now.step == step:
            raise StoppedError

    return progress


def test_a_stopped_run_goes_on_where_it_was(encoder, series, settings, tmp_path):
    adata, how = series(), settings(steps=9, keep_every=2, next_cell=0.5)
    whole = weights(stage2.train(encoder, adata, SPLIT, how))
    with pytest.raises(StoppedError):
        stage2.train(encoder, adata, SPLIT, how, folder=tmp_path, progress=stop_at(7))
    assert [path.name for path in tmp_path.iterdir()] == [PARTIAL]
    seen = []
    again = stage2.train(encoder, adata, SPLIT, how, folder=tmp_path, progress=seen.append)
    assert [now.step for now in seen] == [7, 8, 9]  # 6 was on disk
    assert same(weights(again), whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage2.json", "stage2.safetensors"]


def test_what_is_trained_is_not_trained_again(encoder, series, settings, tmp_path):
    adata, how, seen = series(), settings(), []
    first = stage2.train(encoder, adata, SPLIT, how, folder=tmp_path)
    again = stage2.train(encoder, adata, SPLIT, how, folder=tmp_path, progress=seen.append)
    assert seen == []
    assert same(weights(again), weights(first))
    assert again.record == first.record
    other = stage2.train(encoder, adata, SPLIT, replace(how, seed=5), folder=tmp_path, progress=seen.append)
    assert len(seen) == how.steps
    assert same(weights(stage2.load(tmp_path, encoder)), weights(other))


@pytest.mark.parametrize("change", ["settings", "data"])
def test_the_state_of_another_training_is_not_taken(encoder, series, settings, tmp_path, change):
    how = settings(steps=6, keep_every=2)
    with pytest.raises(StoppedError):
        stage2.train(encoder, series(), SPLIT, how, folder=tmp_path, progress=stop_at(4))
    other = (series(seed=1), how) if change == "data" else (series(), replace(how, rate=1e-4))
    with pytest.raises(ConfigError, match="the state of a training with other data, settings or weights"):
        stage2.train(encoder, other[0], SPLIT, other[1], folder=tmp_path)


def test_a_damaged_state_is_named(encoder, series, settings, tmp_path):
    (tmp_path / PARTIAL).write_bytes(b"half a file")
    with pytest.raises(StoreError, match="cannot be read"):
        stage2.train(encoder, series(), SPLIT, settings(), folder=tmp_path)


def test_the_next_cell_is_learned(encoder, series, settings):
    """Log probability of held-out cells given their time, against the uniform guess, -log of the tokens."""
    adata = series()
    trained = stage2.train(encoder, adata, SPLIT, settings(steps=60, batch=16, next_cell=1.0))
    data = Series.read(encoder, adata, SPLIT, 16)
    asked = [q for q in data.questions("test", 1, seed=0) if data.label(q) >= 0]
    with torch.no_grad():
        found = next_cells(trained.network, data, trained.grammar, asked).mean().item()
    assert found > -np.log(trained.grammar.rows) + 1.0


def test_the_record_says_what_was_trained_on(encoder, series, settings):
    record = stage2.train(encoder, series(), SPLIT, settings()).record
    about = record["training"]
    assert about["stages_h"] == [0, 20, 40, 50]
    assert (about["cells_train"], about["cells_val"], about["cells_test"], about["embryos"]) == (120, 30, 30, 8)
    assert record["split"] == asdict(SPLIT)
    assert (record["body"], record["stage1"]["weights"]) == ("random", "random")
    assert record["settings"]["scale_h"] == 50.0


def test_a_loss_that_leaves_the_numbers_is_told(encoder, series, settings):
    with pytest.raises(DivergedError, match="lower rate"):
        stage2.train(encoder, series(), SPLIT, settings(rate=1e30, steps=20))


def test_sentences_must_fit_the_network(encoder, series, settings):
    with pytest.raises(ConfigError, match=r"sentences of up to 305 tokens .* at most 256"):
        stage2.train(encoder, series(), SPLIT, settings(tokens_per_cell=100))


def test_settings_out_of_range_are_listed():
    with pytest.raises(ConfigError) as error:
        Settings(context=0, rate=-1.0, unit_h=float("nan"), next_cell=-1.0, steps=0)
    assert len(error.value.problems) == 5
