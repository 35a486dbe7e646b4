"""Yardsticks beside an effect: what is said of them."""

import pandas as pd

from embryo.pipeline.perturbing import yardsticks


def test_shifts_that_differ_by_rounding_are_the_same() -> None:
    rows = [("difference", "embryo", 1.1e-16, 1), ("floor", yardsticks.RANDOM, 5.6e-17, 1)]
    rows += [("floor", yardsticks.DELAY, 5.6e-17, 1)]
    effect = pd.DataFrame(rows, columns=["role", "model", "value", "n_seeds"])
    effect = effect.assign(metric="bray_curtis[fates]", time_h=6.0, low=effect["value"], high=effect["value"])
    (said,) = yardsticks.sentences(effect)
    assert "shift by 0 (Bray-Curtis), no more than the same edit of one gene of like level does (0 to 0)" in said
