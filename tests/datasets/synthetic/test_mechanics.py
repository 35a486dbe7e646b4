import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from embryo.datasets.synthetic import PANEL, Mechanics
from embryo.datasets.synthetic.mechanics import bonds, neighbours, pair_velocity, single_velocity

M = Mechanics()


def forces(x: np.ndarray, g: np.ndarray, mechanics: Mechanics = M) -> np.ndarray:
    near = neighbours(mechanics, x)
    return pair_velocity(mechanics, x, near, bonds(mechanics, g, near))


def cloud(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 40, (n, 3)), rng.random((n, len(PANEL)))


def pair(distance: float, levels: dict[str, float], axis: int = 1) -> float:
    """Speed at which the second of two like cells leaves the first, µm/h."""
    g = np.zeros((2, len(PANEL)))
    for gene, level in levels.items():
        g[:, PANEL.index(gene)] = level
    x = np.zeros((2, 3))
    x[1, axis] = distance
    return float(forces(x, g)[1, axis])


def by_hand(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The equations of the module's head, pair by pair."""
    total = np.zeros_like(x)
    cadherins = [PANEL.index(gene) for gene in ("cad_a", "cad_b", "cad_c")]
    motility = g[:, PANEL.index("motility")]
    for i in range(len(x)):
        for j in range(len(x)):
            r = np.linalg.norm(x[j] - x[i])
            s = r / M.spacing_um
            if i == j or s >= M.reach:
                continue
            u = (x[j] - x[i]) / r
            shared = sum(c * g[i, k] * g[j, k] for k, c in zip(cadherins, M.cadherin_strengths, strict=True))
            f = -M.repulsion_um_per_h * max(0.0, 1 - s)
            if s > 1:
                hump = (s - 1) * (M.reach - s) / ((M.reach - 1) / 2) ** 2
                f += M.adhesion_um_per_h * (M.unspecific_adhesion + shared) * hump
            bell = (1 - s / M.reach) ** 2
            f += M.intercalation_um_per_h * (motility[i] + motility[j]) / 2 * (1 - 3 * u[0] ** 2) / 2 * bell
            total[i] += f * u
    return total


@pytest.mark.parametrize("seed", range(3))
def test_pair_forces_are_those_of_the_equations(seed: int) -> None:
    x, g = cloud(seed)
    np.testing.assert_allclose(forces(x, g), by_hand(x, g), rtol=1e-7, atol=1e-6)


def test_action_equals_reaction() -> None:
    x, g = cloud(3, n=400)
    v = forces(x, g)
    assert abs(v).max() > 1
    np.testing.assert_allclose(v.sum(0), 0, atol=1e-9 * abs(v).sum())


def test_central_forces_turn_nothing() -> None:
    x, g = cloud(4)
    np.testing.assert_allclose(np.cross(x, forces(x, g)).sum(0), 0, atol=1e-7)


def test_two_cells_rest_at_their_spacing() -> None:
    sticky = {"cad_a": 1.0, "cad_b": 0.5}
    assert pair(M.spacing_um, sticky) == pytest.approx(0, abs=1e-6)
    assert pair(0.8 * M.spacing_um, sticky) == pytest.approx(0.2 * M.repulsion_um_per_h, rel=1e-6)
    assert pair(1.25 * M.spacing_um, sticky) < 0
    assert pair(1.01 * M.reach * M.spacing_um, sticky) == 0


def test_the_pull_peaks_at_the_adhesion_of_shared_cadherins() -> None:
    middle = (1 + M.reach) / 2 * M.spacing_um
    for gene, strength in zip(("cad_a", "cad_b", "cad_c"), M.cadherin_strengths, strict=True):
        expected = -M.adhesion_um_per_h * (M.unspecific_adhesion + strength)
        assert pair(middle, {gene: 1.0}) == pytest.approx(expected, rel=1e-6)


def test_intercalation_pulls_across_the_axis_and_pushes_along_it() -> None:
    across, along = pair(9.0, {"motility": 1.0}, axis=2), pair(9.0, {"motility": 1.0}, axis=0)
    rest = pair(9.0, {})
    assert across < rest < along
    assert along - rest == pytest.approx(-2 * (across - rest))


def test_forces_turn_with_the_body_about_its_long_axis() -> None:
    x, g = cloud(5)
    turn = Rotation.from_euler("x", 0.7).as_matrix()
    np.testing.assert_allclose(forces(x @ turn.T, g), forces(x, g) @ turn.T, atol=1e-6)
    slope = np.random.default_rng(0).normal(size=x.shape)
    single = single_velocity(M, x, g, slope)
    np.testing.assert_allclose(single_velocity(M, x @ turn.T, g, slope @ turn.T), single @ turn.T, atol=1e-9)


def test_cells_crawl_up_the_slope_and_the_membrane_holds_them() -> None:
    g = np.zeros((2, len(PANEL)))
    g[0, PANEL.index("motility")] = 1.0
    x = np.array([[0.0, 10, 0], [50, 0, M.membrane_radius_um + 5]])
    slope = np.array([[1.0, 0, 0], [1, 0, 0]])
    v = single_velocity(M, x, g, slope)
    np.testing.assert_allclose(v[0], [M.chemotaxis_um_per_h, 0, 0], rtol=0.01)
    np.testing.assert_allclose(v[1], [0, 0, -5 * M.membrane_stiffness_per_h], atol=1e-6)


def test_the_stable_step_is_below_the_limit_of_a_close_packing() -> None:
    """Largest relaxation rate of an fcc crystal of cells, from its numerical stiffness matrix; Euler needs 2 / rate."""
    half = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / np.sqrt(2)
    cells = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3) * np.sqrt(2)
    x = (cells[:, None] + half).reshape(-1, 3) * M.spacing_um * 0.98
    g = np.zeros((len(x), len(PANEL)))
    near = neighbours(M, x)
    none = np.zeros(len(near.first))
    stiffness = np.zeros((x.size, x.size))
    for k in range(x.size):
        nudge = np.zeros(x.size)
        nudge[k] = 1e-4
        plus, minus = x + nudge.reshape(x.shape), x - nudge.reshape(x.shape)
        change = pair_velocity(M, plus, near, (none, none)) - pair_velocity(M, minus, near, (none, none))
        stiffness[:, k] = -change.ravel() / 2e-4
    fastest = np.linalg.eigvalsh((stiffness + stiffness.T) / 2).max()
    assert 0.5 < M.stable_step_h * fastest < 2
    assert not g.any()
