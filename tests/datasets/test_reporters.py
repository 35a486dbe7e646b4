import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embryo import datasets
from embryo.datasets import lineage
from embryo.datasets.movies import Movie
from embryo.datasets.reporters import assemble, cell_means, guess, inherit, relative


def movie(level: list[float], cells: tuple[str, ...] = ("ABa",), code: list[int] | None = None) -> Movie:
    n = len(level)
    return Movie(
        "m",
        cells,
        np.array(code if code is not None else [0] * n, dtype=np.int32),
        np.arange(n, dtype=float),
        np.zeros((n, 3), np.float32),
        np.array(level, np.float32),
    )


def test_relative_is_clipped_and_scaled() -> None:
    level = np.arange(-5.0, 1000.0)
    found = relative(movie(level.tolist()))
    assert found.min() == 0
    np.testing.assert_allclose(found[5:], level[5:] / np.quantile(level, 0.99), rtol=1e-5)


def test_noise_is_not_blown_up() -> None:
    noise = np.random.default_rng(0).normal(-50, 20, 2000)
    assert relative(movie(noise.tolist())).max() < 0.5
    assert (relative(movie([0.0] * 10)) == 0).all()
    assert np.isnan(relative(movie([np.nan] * 3))).all()


def test_the_scale_can_be_blind_to_the_future() -> None:
    level = [1.0, 2.0, 3.0, 4.0, 1e6]
    np.testing.assert_allclose(
        relative(movie(level), until_frame=3.0)[:4] * np.quantile(level[:4], 0.99), level[:4], rtol=1e-5
    )


def test_cell_means_leave_out_unnamed_and_unmeasured() -> None:
    made = movie([1, 3, 10, np.nan], ("ABa", "E", "Nuc1"), [0, 0, 2, 1])
    assert cell_means(made, made.level).to_dict() == {"ABa": 2.0}


def test_a_missing_cell_takes_its_mother_never_its_daughters() -> None:
    means = {"e1": pd.Series({"ABa": 1.0, "ABala": 5.0}), "e2": pd.Series({"ABal": 2.0, "P1": 7.0})}
    table = assemble(means, {"e1": "g1", "e2": "g2"})
    assert table.loc["ABal", "g1"] == 1.0  # its mother's, though its daughter is known
    assert table.loc["ABala"].tolist() == [5.0, 2.0]
    assert table.loc["ABa", "g2"] == 0.0  # nothing known above it
    assert table.loc["AB"].tolist() == [0.0, 0.0]
    assert table.dtypes.eq(np.float32).all()


def test_embryos_of_one_reporter_are_averaged() -> None:
    means = {"e1": pd.Series({"E": 1.0, "MS": 4.0}), "e2": pd.Series({"E": 3.0})}
    table = assemble(means, {"e1": "g", "e2": "g"})
    assert table.loc["E", "g"] == 2.0
    assert table.loc["MS", "g"] == 4.0


@given(
    st.dictionaries(
        st.builds(lambda r, p: r + p, st.sampled_from(["AB", "MS", "E", "C"]), st.text("ap", max_size=5)),
        st.floats(0, 10),
        min_size=1,
    )
)
def test_inherited_values_come_from_the_nearest_ancestor(levels: dict[str, float]) -> None:
    table = inherit(pd.DataFrame({"g": levels}))
    for cell in table.index:
        line = [c for c in [cell, *lineage.ancestors(cell)] if c in levels]
        assert table.loc[cell, "g"] == pytest.approx(levels[line[0]] if line else 0.0, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "gene"),
    [
        ("CD20080418_pha-4_3E3C5_1", "pha-4"),
        ("CD20090723_hlh26_1_L2", "hlh-26"),
        ("CD20071013_hlh_3_5", "hlh-3"),
        ("CD20080815_dmd-4b_L1", "dmd-4"),
        ("movie7", ""),
    ],
)
def test_guess(name: str, gene: str) -> None:
    assert guess(name) == gene


@pytest.mark.real
def test_guesses_agree_with_the_registry() -> None:
    files = [f for f in datasets.entry("celegans-epic").files if "-" in f.facts["reporter"]]
    right = [guess(f.name.removesuffix(".csv")) == f.facts["reporter"] for f in files]
    assert len(files) > 90
    assert np.mean(right) > 0.9
