"""Division and death against Kendall's birth-and-death process in closed form."""

import numpy as np
import pytest
from scipy import stats

from embryo.core import pedigree
from embryo.simulate.division import Brood, Division

FOUNDERS = 4000


def clones(brood: Brood) -> np.ndarray:
    return np.bincount(pedigree.clone(brood.cell), minlength=FOUNDERS)


def grown(births: float, deaths: float, steps: int, seed: int = 0) -> np.ndarray:
    """Clone sizes after an hour of rates `births` and `deaths`."""
    division = Division(seed, 0.0)
    brood = division.begin(FOUNDERS, 0)
    for _ in range(steps):
        n = len(brood.cell)
        brood, _ = division.step(brood, np.full(n, births / steps), np.full(n, deaths / steps))
    return clones(brood)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize(("births", "deaths"), [(1.2, 0.0), (0.0, 0.7), (1.0, 0.4), (0.8, 0.8)])
def test_clones_are_as_large_as_kendall_says(births: float, deaths: float, steps: int) -> None:
    """P(0) = d (m - 1) / (b m - d); then geometric with ratio b (m - 1) / (b m - d), m = exp(b - d)."""
    sizes = grown(births, deaths, steps)
    m = np.exp(births - deaths)
    share = 1 / (1 + births) if births == deaths else (m - 1) / (births * m - deaths)
    none, ratio = deaths * (births / (1 + births) / births if births == deaths else share), births * share
    top = 6
    expected = np.array([none, *((1 - none) * (1 - ratio) * ratio ** np.arange(top))])
    expected = np.append(expected, 1 - expected.sum())
    found = np.bincount(sizes.clip(max=top + 1), minlength=top + 2)
    there = expected * FOUNDERS > 1e-9
    assert found[~there].sum() == 0
    assert stats.chisquare(found[there], expected[there] / expected[there].sum() * FOUNDERS).pvalue > 1e-3
    variance = 2 * births if births == deaths else (births + deaths) / (births - deaths) * m * (m - 1)
    assert abs(sizes.mean() - m) < 4 * np.sqrt(variance / FOUNDERS)
    assert sizes.var(ddof=1) == pytest.approx(variance, rel=0.2)


def test_luck_hangs_on_the_cell_not_on_the_grid_or_the_others() -> None:
    """A clone of rates that differ from its neighbours' grows as it does beside others, and on any grid."""
    division = Division(3, 0.0)
    everyone, few = division.begin(50, 0), division.begin(50, 0).chosen(np.arange(10))
    for _ in range(4):
        n = len(everyone.cell)
        fast = np.where(pedigree.clone(everyone.cell) < 10, 0.3, 2.0)
        everyone, _ = division.step(everyone, fast, np.full(n, 0.1))
    few, _ = division.step(few, np.full(10, 1.2), np.full(10, 0.4))
    here = everyone.cell[pedigree.clone(everyone.cell) < 10]
    assert sorted(here) == sorted(few.cell)


def test_daughters_lie_apart_by_the_spacing_about_their_mother() -> None:
    division = Division(1, 4.0)
    brood, events = division.step(division.begin(200, 3), np.full(200, 0.3), np.zeros(200))
    assert events > 40
    by_cell = dict(zip(brood.cell.tolist(), brood.shift, strict=True))
    pairs = [(by_cell[c], by_cell[c + 1]) for c in by_cell if c % 2 == 0 and c + 1 in by_cell]
    assert len(pairs) > 30
    assert np.allclose([np.linalg.norm(a - b) for a, b in pairs], 4.0)
    first = pedigree.generation(brood.cell) == 1
    a, b = (brood.cell[first] % 2 == k for k in (0, 1))
    both = set(brood.cell[first][a] + 1) & set(brood.cell[first][b])
    assert np.allclose(np.sum([by_cell[c] + by_cell[c - 1] for c in both], axis=0), 0)
