import numpy as np
import torch

from embryo import fit
from embryo.core.state import State


def test_path_and_velocity_agree() -> None:
    """The velocity is the derivative of the point with respect to time, by central differences."""
    rng = torch.Generator().manual_seed(0)

    def ends() -> State:
        return State(
            *(torch.randn(7, d, generator=rng, dtype=torch.float64) for d in (4, 2, 3)),
            torch.zeros(7, dtype=torch.float64),
        )

    a, b = ends(), ends()
    s, dt, growth = (
        torch.rand(7, generator=rng, dtype=torch.float64),
        torch.full((7,), 2.5, dtype=torch.float64),
        torch.zeros(7, dtype=torch.float64),
    )
    h = 1e-5
    up, down = (fit.path(a, b, s + d, dt, growth)[0] for d in (h, -h))
    _, v = fit.path(a, b, s, dt, growth)
    for rate, p, q in zip(v.parts()[:3], up.parts()[:3], down.parts()[:3], strict=True):
        torch.testing.assert_close((p - q) / (2 * h * dt[:, None]), rate)
    for end, at in ((a, 0.0), (b, 1.0)):
        point, _ = fit.path(a, b, torch.full_like(s, at), dt, growth)
        torch.testing.assert_close(point.x, end.x)


def test_a_displaced_point_relaxes_onto_its_path() -> None:
    """d/dt of point(t) = path(t) + e exp(-kappa t), by central differences at t = s dt."""
    rng = torch.Generator().manual_seed(1)
    a, b, e = (State(*(torch.randn(5, d, generator=rng, dtype=torch.float64) for d in (2, 1, 3)),
                     torch.zeros(5, dtype=torch.float64)) for _ in range(3))  # fmt: skip
    s, dt, zero = (torch.full((5,), v, dtype=torch.float64) for v in (0.4, 2.0, 0.0))
    kappa, h = torch.full((5,), 0.7, dtype=torch.float64), 1e-5

    def at(shift: float) -> State:
        tube = fit.Tube(e.map(lambda part: part * np.exp(-0.7 * shift)), kappa)
        return fit.path(a, b, s + shift / dt, dt, zero, tube)[0]

    _, v = fit.path(a, b, s, dt, zero, fit.Tube(e, kappa))
    for rate, up, down in zip(v.parts()[:3], at(h).parts(), at(-h).parts(), strict=False):
        torch.testing.assert_close((up - down) / (2 * h), rate)
