import numpy as np
import pytest

from embryo.core.errors import ConfigError, SchemaError
from embryo.encoders.stage2.grammar import Grammar
from embryo.encoders.stage2.series import Question, Series, Split, roles

STAGES = np.repeat([0.0, 10.0, 20.0, 30.0], 2)


def test_whole_stages_are_held_out_and_no_embryo_is_split():
    """Embryo B is followed through a held-out stage: it gives no training cell at any other time."""
    embryo = np.array(["A", "B", "A", "C", "C", "B", "A", "C"], dtype=object)
    found = roles(STAGES, embryo, Split(val=(20.02,)))
    assert found.tolist() == ["train", "left out", "train", "left out", "val", "val", "train", "left out"]
    for name in set(embryo):
        assert len({r for r in found[embryo == name] if r in ("train", "val")}) == 1


def test_no_held_out_stage_leaves_all_for_training():
    assert set(roles(STAGES, np.array(list("ABABABAB"), dtype=object), Split())) == {"train"}


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (Split(val=(11.0,)), "val stages that no cell is at: 11 h; expected of 0, 10, 20, 30 h"),
        (Split(val=(10.0,), test=(10.0,)), "10 h in val and in test"),
        (Split(val=(10.0, 12.0), test=(10.0, 99.0)), "3 problems"),
        (Split(val=(0.0, 10.0), test=(20.0,)), "1 training stages"),
    ],
)
def test_a_split_that_cannot_be_is_refused(split, says):
    embryo = np.array([f"{t:g}" for t in STAGES], dtype=object)
    with pytest.raises(ConfigError, match=says):
        roles(STAGES, embryo, split)


def read(encoder, adata, split=None):
    return Series.read(encoder, adata, split or Split(val=(10.0,), test=(30.0,)), 16)


def test_training_draws_training_cells_only(encoder, series):
    data = read(encoder, series())
    train = set(data.of("train"))
    drawn = data.draw(np.random.default_rng(0), 500, 3)
    assert {row for q in drawn for row in (*q.context, q.query)} <= train
    assert {len(q.context) for q in drawn} == {1, 2, 3}
    assert all(np.all(np.diff(data.time_h[list(q.context)]) >= 0) for q in drawn)
    stages, times = np.unique([data.time_h[q.query] for q in drawn], return_counts=True)
    assert stages.tolist() == [0, 20, 40, 50]
    assert np.abs(times - 125).max() < 40  # four standard deviations


def test_stages_are_drawn_evenly_whatever_their_size(encoder, series):
    adata = series()
    few = adata[~((adata.obs["time"] == 20.0) & (np.arange(adata.n_obs) % 10 > 0))].copy()
    data = read(encoder, few)
    drawn = data.draw(np.random.default_rng(0), 800, 1)
    assert 140 < sum(data.time_h[q.query] == 20.0 for q in drawn) < 260


def test_held_out_cells_are_asked_about_behind_training_cells(encoder, series):
    data = read(encoder, series())
    asked = data.questions("test", 2, seed=0)
    assert [q.query for q in asked] == data.of("test").tolist()
    assert {row for q in asked for row in q.context} <= set(data.of("train"))
    assert asked == data.questions("test", 2, seed=0)
    assert asked != data.questions("test", 2, seed=1)
    assert len(data.questions("test", 2, seed=0, limit=7)) == 7


def test_a_question_is_spelled_and_labelled(encoder, series):
    data = read(encoder, series())
    first, last = int(data.of("train")[0]), int(data.of("train")[-1])
    question = Question((first, last), int(data.of("val")[0]))
    assert data.label(question) == -40.0
    sentence = data.sentence(Grammar(18, 10, 5.0), question).tolist()
    cells = [data.cells[row].tolist() for row in (first, last, question.query)]
    assert sentence == [*cells[0], 18 + 2 + 10, *cells[1], 18, *cells[2], 19]


def test_cells_are_cut_between_their_ends(encoder, series):
    data = Series.read(encoder, series(), Split(), 6)
    whole = Series.read(encoder, series(), Split(), 99)
    for cut, full in zip(data.cells, whole.cells, strict=True):
        assert cut.tolist() == ([*full[:5], full[-1]] if len(full) > 6 else full.tolist())


def test_a_series_without_times_is_refused(encoder, series):
    adata = series()
    del adata.obs["time"]
    with pytest.raises(SchemaError, match="time"):
        read(encoder, adata)


def test_without_embryos_each_stage_is_one(encoder, series):
    adata = series()
    del adata.obs["embryo"]
    assert set(read(encoder, adata).embryo) == {"0 h", "10 h", "20 h", "30 h", "40 h", "50 h"}
