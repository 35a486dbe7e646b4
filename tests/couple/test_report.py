"""The line that a user reads."""

import numpy as np
import pytest
from scipy import sparse

from embryo.core.coupling import Coupling
from embryo.couple import summary


def coupling(t: float, **notes: object) -> Coupling:
    return Coupling(t, t + 1, sparse.csr_array(np.eye(3)), np.arange(3), np.arange(3), {"method": "m", **notes})


def test_the_worst_is_said() -> None:
    turned = {"angle_deg": 31.6, "ambiguous": True}
    line = summary(
        [
            coupling(0.0, source_residual=1e-7, target_residual=3e-4, gap=2e-3, converged=True, alignment=turned),
            coupling(1.0, gap=-1e-9, converged=False, complaints=["too slow"]),
        ]
    )
    assert line == (
        "2 intervals by m, 6 pairs; marginal residuals up to 0.0003; duality gaps up to 0.002; turned by 32°; "
        "rotation ambiguous (symmetric shape) from 0 to 1 h; 1 did not converge: 1 to 2 h; too slow"
    )


@pytest.mark.parametrize("converged", [True, None])
def test_nothing_is_said_of_what_is_well(converged: bool | None) -> None:
    notes = {} if converged is None else {"converged": converged}
    assert summary([coupling(0.0, **notes)]) == "1 intervals by m, 3 pairs"
