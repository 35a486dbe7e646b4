"""Floors: none of them sees the truth of its own edit."""

from dataclasses import replace

import numpy as np
import pytest

from embryo.core.edit import Edit, Operation
from embryo.evaluate.perturbation import EndPopulation, Trial, floors, halves, same_law
from embryo.evaluate.perturbation.floors import linear_shift


def _all(trial: Trial, edit: Edit) -> dict[str, EndPopulation | None]:
    found = {f.name: f(edit, 0) for f in floors(trial)}
    return {name: None if p is None else p.edited for name, p in found.items()}


def test_the_own_truth_has_no_say_in_any_floor(trial: Trial) -> None:
    label = trial.labels[0]
    spoilt = replace(trial, truth={**trial.truth, label: trial.truth[trial.labels[1]]})
    for (name, a), b in zip(
        _all(trial, trial.edits[label]).items(), _all(spoilt, trial.edits[label]).values(), strict=True
    ):
        assert a is not None, name
        assert b is not None, name
        np.testing.assert_array_equal(a.fate, b.fate)
        np.testing.assert_allclose(a.g, b.g)


def test_the_delay_is_chosen_on_training_perturbations(trial: Trial) -> None:
    early = replace(trial, training={"knockout g9": trial.earlier[2.0]})
    assert _all(early, trial.edits["knockout g0"])["developmental delay"] is trial.earlier[2.0]
    late = replace(trial, training={"knockout g9": trial.wild})
    assert _all(late, trial.edits["knockout g0"])["developmental delay"] is trial.wild


def test_a_linear_shift_is_the_regression_on_the_gene(trial: Trial) -> None:
    wild = trial.wild
    found = linear_shift(trial, Edit("g0"))
    level = np.expm1(wild.g)
    slope = np.polyfit(level[:, 0], level[:, 1], 1)[0]
    expected = np.clip(level[:, 1] - slope * level[:, 0], 0, None)
    np.testing.assert_allclose(np.expm1(found.g[:, 1]), expected, atol=1e-9)
    np.testing.assert_allclose(found.g[:, 0], 0, atol=1e-9)
    kept = linear_shift(trial, Edit("g0", Operation.KNOCKDOWN, dose=1.0))
    np.testing.assert_allclose(kept.g, wild.g)


def test_the_mean_cell_has_the_true_shares_and_one_state(trial: Trial) -> None:
    found = _all(trial, trial.edits["knockout g0"])["train mean"]
    assert found is not None
    assert np.ptp(found.z, axis=0).max() == pytest.approx(0.0)


def test_without_other_perturbations_floors_that_need_them_say_nothing(trial: Trial) -> None:
    label = trial.labels[0]
    one = replace(trial, truth={label: trial.truth[label]}, edits={label: trial.edits[label]})
    silent = {name for name, p in _all(one, trial.edits[label]).items() if p is None}
    assert silent == {
        "mean of the other perturbations", "effects by ridge on wild-type profiles", "developmental delay",
        "matched random gene",
    }  # fmt: skip


def test_ceilings_are_embryos_of_the_truth(trial: Trial) -> None:
    edit = trial.edits["knockout g0"]
    half = halves(trial)(edit, 0)
    assert half is not None
    assert len(half.seen) == 1
    assert half.edited.embryos == half.seen
    law = same_law(trial.truth)(edit, 4)
    assert law is not None
    assert law.edited.embryos == (trial.truth[edit.label].embryos[4 % 3],)
