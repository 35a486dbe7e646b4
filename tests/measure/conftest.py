"""Roll-outs with known answers: two fates at z = -3 and 3, a ball of cells that the edit moves, kills or re-fates."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from embryo.core.frame import Frame
from embryo.core.trajectory import Trajectory
from embryo.measure import FateClassifier, fates

TIMES_H = (0.0, 6.0, 12.0)


@pytest.fixture
def read_out() -> FateClassifier:
    rng = np.random.default_rng(0)
    labels = np.repeat(["left", "right"], 60)
    z = rng.normal(size=(120, 2)) * 0.3 + np.where(labels == "left", -3.0, 3.0)[:, None]
    return fates(z, labels, groups=np.arange(120) % 4)


@pytest.fixture
def rolled() -> Callable[..., Trajectory]:
    """Make a roll-out of 90 cells, one third "left"; later times shift, re-fate or grow the cells as asked."""

    def make(
        seed: int = 0,
        *,
        shift_um: tuple[float, ...] = (0.0, 0.0, 0.0),
        switched: int = 0,
        grown: float = 1.0,
        wild_noise: float = 0.0,
        frame: Frame | None = None,
        space: int = 3,
    ) -> Trajectory:
        base, rng = np.random.default_rng(99), np.random.default_rng(seed)
        n = 90
        z0 = base.normal(size=(n, 2)) * 0.3 + np.where(np.arange(n) < 30, -3.0, 3.0)[:, None]
        x0 = base.normal(size=(n, 3)) * [40.0, 20.0, 20.0] * (1 + wild_noise * rng.normal())
        z, x, log_mass = [], [], []
        for part in np.linspace(0, 1, len(TIMES_H)):
            zt = z0.copy()
            if part == 1:
                zt[:switched] = 3.0
            z.append(zt)
            x.append((x0 + part * np.asarray(shift_um))[:, :space])
            log_mass.append(np.full(n, part * np.log(grown)))
        z_, x_, m_ = (torch.from_numpy(np.stack(part)) for part in (z, x, log_mass))
        return Trajectory(
            torch.tensor(TIMES_H),
            z_,
            z_[:, :, :1].clone(),
            x_,
            m_,
            ("sox2",),
            frame or Frame(),
            tuple(f"cell{i}" for i in range(n)),
        )

    return make
