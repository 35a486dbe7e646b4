import numpy as np
import pytest
import torch
from scipy.integrate import quad

from embryo import fit
from embryo.core.state import State, Velocity

N, DT, H = 7, 2.5, 1e-5


def cells(seed: int, n: int = N) -> State:
    rng = torch.Generator().manual_seed(seed)
    return State(*(torch.randn(n, d, generator=rng, dtype=torch.float64) for d in (4, 2, 3)),
                 torch.randn(n, generator=rng, dtype=torch.float64))  # fmt: skip


def of(value: float) -> torch.Tensor:
    return torch.full((N,), value, dtype=torch.float64)


def velocities(seed: int) -> Velocity:
    s = cells(seed)
    return Velocity(s.z, s.g, s.x, 0 * s.log_mass)


SHAPES = {
    "straight": {},
    "dirac": {"angle": torch.linspace(0, 1.6, N, dtype=torch.float64)},
    "smooth": {"ends": fit.Ends(velocities(5), velocities(6))},
    "smooth dirac": {"angle": of(0.8), "ends": fit.Ends(velocities(5), velocities(6))},
}
shaped = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@shaped
@pytest.mark.parametrize("at", [0.02, 0.5, 0.9])
def test_velocity_and_growth_are_derivatives_of_point_and_mass(shape: dict, at: float) -> None:
    a, b = cells(0), cells(1)
    _, v = fit.path(a, b, of(at), of(DT), **shape)
    up, down = (fit.path(a, b, of(at + h), of(DT), **shape)[0] for h in (H, -H))
    for rate, p, q in zip(v.parts(), up.parts(), down.parts(), strict=True):
        torch.testing.assert_close((p - q) / (2 * H * DT), rate, rtol=1e-6, atol=1e-8)


@shaped
def test_ends_are_met_with_their_masses(shape: dict) -> None:
    a, b = cells(0), cells(1)
    for end, at in ((a, 0.0), (b, 1.0)):
        point, _ = fit.path(a, b, of(at), of(DT), **shape)
        for p, q in zip(point.parts(), end.parts(), strict=True):
            torch.testing.assert_close(p, q)


def test_a_smooth_curve_has_the_velocities_given_at_its_ends() -> None:
    ends = SHAPES["smooth"]["ends"]
    for wanted, at in ((ends.start, 0.0), (ends.end, 1.0)):
        _, v = fit.path(cells(0), cells(1), of(at), of(DT), ends=ends)
        torch.testing.assert_close(v.dx, wanted.dx)


@pytest.mark.parametrize(("m0", "m1", "far"), [(1.0, 1.0, 0.7), (1.0, 3.0, 2.0), (2.0, 0.1, 3.0)])
def test_the_action_of_a_travelling_dirac_is_the_distance_squared(m0: float, m1: float, far: float) -> None:
    """Between m0 and m1 it is 2 delta^2 (m0 + m1 - 2 sqrt(m0 m1) cos(d / 2 delta)) (Chizat et al. 2018, eq. 4.1)."""
    delta, none = 1.3, torch.zeros(1, 0, dtype=torch.float64)

    def action(s: float) -> float:
        one = torch.ones(1, dtype=torch.float64)
        a, b = (State(none, none, x * one[:, None], np.log(m) * one) for x, m in ((0.0, m0), (far, m1)))
        point, v = fit.path(a, b, s * one, one, angle=far / (2 * delta) * one)
        return float(point.mass * (v.dx[:, 0] ** 2 + delta**2 * v.growth**2) / 2)

    distance = 2 * delta**2 * (m0 + m1 - 2 * np.sqrt(m0 * m1) * np.cos(far / (2 * delta)))
    assert quad(action, 0, 1)[0] == pytest.approx(distance, rel=1e-6)


def test_without_growth_a_travelling_dirac_goes_straight_as_delta_grows() -> None:
    a, b = cells(0), cells(1)
    b = State(b.z, b.g, b.x, a.log_mass)
    for p, q in zip(fit.path(a, b, of(0.3), of(DT)), fit.path(a, b, of(0.3), of(DT), angle=of(1e-3)), strict=True):
        for one, other in zip(p.parts(), q.parts(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_travelling_dirac_moves_while_it_is_light() -> None:
    a = cells(0)
    for sign in (1.0, -1.0):
        b = State(a.z, a.g, a.x + 1, a.log_mass + sign)
        gone = fit.path(a, b, of(0.5), of(DT), angle=of(0.5))[0].x - a.x
        assert bool(((gone > 0.5) if sign > 0 else (gone < 0.5)).all())


def test_beyond_pi_delta_a_path_is_taken_for_as_far_as_that() -> None:
    a, b = cells(0), cells(1)
    edge, far = (fit.path(a, b, of(0.4), of(DT), angle=of(angle)) for angle in (np.pi / 2, 9.0))
    torch.testing.assert_close(edge[0].x, far[0].x)
    torch.testing.assert_close(edge[1].growth, far[1].growth)


def test_a_displaced_point_relaxes_onto_its_path() -> None:
    """d/dt of point(t) = path(t) + e exp(-kappa t), by central differences at t = s dt."""
    a, b, e = cells(1), cells(2), cells(3)
    s, kappa = of(0.4), of(0.7)

    def at(shift: float) -> State:
        tube = fit.Tube(e.map(lambda part: part * np.exp(-0.7 * shift)), kappa)
        return fit.path(a, b, s + shift / DT, of(DT), tube=tube)[0]

    _, v = fit.path(a, b, s, of(DT), tube=fit.Tube(e, kappa))
    for rate, up, down in zip(v.parts()[:3], at(H).parts(), at(-H).parts(), strict=False):
        torch.testing.assert_close((up - down) / (2 * H), rate)
