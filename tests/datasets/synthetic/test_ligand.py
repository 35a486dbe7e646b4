from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erfc

from embryo.datasets.synthetic import Ligand
from embryo.datasets.synthetic.ligand import signal


def around(radius: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    direction = rng.normal(size=(len(radius), 3))
    return direction / np.linalg.norm(direction, axis=1, keepdims=True) * radius[:, None]


def smeared(r: np.ndarray, ligand: Ligand) -> np.ndarray:
    """Green's function of D lap c - k c + s rho = 0 for a Gaussian rho (Yukawa potential of a Gaussian charge)."""
    kappa, sd = 1 / ligand.screening_um, ligand.source_sd_um
    inner = np.exp(-kappa * r) * erfc(kappa * sd / np.sqrt(2) - r / (np.sqrt(2) * sd))
    outer = np.exp(kappa * r) * erfc(kappa * sd / np.sqrt(2) + r / (np.sqrt(2) * sd))
    front = ligand.secretion_um3_per_h / (8 * np.pi * ligand.diffusion_um2_per_h * r)
    return front * np.exp((kappa * sd) ** 2 / 2) * (inner - outer)


def one_source(ligand: Ligand, r: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signal and slope along the way out at distances `r` from one source at a random place."""
    rng = np.random.default_rng(seed)
    source = rng.uniform(-20, 20, size=(1, 3))
    ways = around(r, rng)
    c, gradient = signal(ligand, np.concatenate([source, source + ways]), np.r_[1.0, np.zeros(len(r))])
    return c[1:], (gradient[1:] * ways).sum(1) / r, np.linalg.norm(gradient[1:], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_a_point_source_gives_the_closed_form(seed: int) -> None:
    """exp(-kappa r) / (4 pi D r), with the source shrunk to (nearly) a point on a fine grid."""
    ligand = Ligand(diffusion_um2_per_h=150.0, decay_per_h=1.0, source_sd_um=1.5, spacing_um=2.0, padding=4.0)
    r = np.linspace(8, 40, 60)
    c, _, _ = one_source(ligand, r, seed)
    kappa = 1 / ligand.screening_um
    point = ligand.secretion_um3_per_h * np.exp(-kappa * r) / (4 * np.pi * ligand.diffusion_um2_per_h * r)
    np.testing.assert_allclose(c, point, rtol=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_the_default_grid_gives_the_closed_form_of_a_cell_sized_source(seed: int) -> None:
    ligand = Ligand()
    r = np.linspace(2, 40, 60)
    c, slope, steepness = one_source(ligand, r, seed)
    exact = smeared(r, ligand)
    np.testing.assert_allclose(c, exact, atol=0.06 * exact.max())
    assert np.sqrt(np.mean((c - exact) ** 2)) < 0.02 * exact.max()
    exact_slope = (smeared(r + 1e-3, ligand) - smeared(r - 1e-3, ligand)) / 2e-3
    np.testing.assert_allclose(slope, exact_slope, atol=0.11 * abs(exact_slope).max())
    np.testing.assert_allclose(steepness, abs(slope), atol=0.1 * abs(slope).max())


def test_a_wide_tissue_settles_at_secretion_times_density_over_decay() -> None:
    ligand = Ligand()
    side = np.arange(-60, 61, 6.0)
    x = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1).reshape(-1, 3)
    c, gradient = signal(ligand, x, np.full(len(x), 0.5))
    centre = np.flatnonzero((abs(x) < 1).all(1))
    expected = ligand.secretion_um3_per_h * 0.5 / 6.0**3 / ligand.decay_per_h
    np.testing.assert_allclose(c[centre], expected, rtol=0.03)
    assert np.linalg.norm(gradient[centre]) < 1e-3 * expected


def test_the_gradient_is_the_slope_of_the_field() -> None:
    """Central differences of the field itself at moved probes; corner cells hold the grid in place."""
    rng = np.random.default_rng(4)
    ligand = replace(Ligand(), spacing_um=3.0)
    corners = np.array([[-60.0, -60, -60], [60, 60, 60]])
    sources, probes = rng.uniform(-30, 30, (30, 3)), rng.uniform(-35, 35, (40, 3))

    def field(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        level = np.r_[np.zeros(2), np.ones(len(sources)), np.zeros(len(at))]
        c, gradient = signal(ligand, np.concatenate([corners, sources, at]), level)
        return c[2 + len(sources) :], gradient[2 + len(sources) :]

    _, gradient = field(probes)
    step = 3.0
    differences = np.stack(
        [(field(probes + step * axis)[0] - field(probes - step * axis)[0]) / (2 * step) for axis in np.eye(3)], axis=1
    )
    error = np.sqrt(((gradient - differences) ** 2).sum(1).mean() / (differences**2).sum(1).mean())
    assert error < 0.08


def test_the_signal_is_linear_and_rides_with_the_tissue() -> None:
    rng = np.random.default_rng(5)
    ligand, x, a, b = Ligand(), rng.normal(0, 30, (200, 3)), rng.random(200), rng.random(200)
    both, _ = signal(ligand, x, a + 2 * b)
    np.testing.assert_allclose(both, signal(ligand, x, a)[0] + 2 * signal(ligand, x, b)[0], rtol=1e-9)
    whole_cells = np.array([6.0, -12.0, 18.0])  # multiples of the grid spacing
    moved, gradient = signal(ligand, x + whole_cells, a)
    np.testing.assert_allclose(moved, signal(ligand, x, a)[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradient, signal(ligand, x, a)[1], rtol=1e-7, atol=1e-12)
