"""What the solvers do with frames, with forbidden pairs, and what they say of themselves."""

import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist

from embryo.couple import Transport, solvers

NOWHERE = np.zeros((20, 0))


def costs(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cdist(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), "sqeuclidean")


def test_exact_certifies_itself() -> None:
    cost = costs()
    found = solvers.solve(cost, NOWHERE, NOWHERE, Transport())
    even = np.full(20, 0.05)
    assert found.objective == pytest.approx(ot.emd2(even, even, cost))
    assert abs(found.notes["gap"]) < 1e-9
    assert found.notes["converged"]


@pytest.mark.parametrize("solver", ["exact", "unbalanced"])
def test_cells_without_an_allowed_partner_are_left_without_mass(solver: str) -> None:
    cost = costs()
    cost[3] = np.inf
    cost[:, 7] = np.inf
    found = solvers.solve(cost, NOWHERE, NOWHERE, Transport(solver=solver))
    assert found.plan[3].sum() == found.plan[:, 7].sum() == 0
    assert found.plan.sum() > 0.9
    said = any("no allowed partner" in c for c in found.notes["complaints"])
    assert said == (not found.notes["converged"]) == (solver == "exact")


def test_gromov_finds_a_turned_and_mirrored_shape() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)) * [3, 2, 1]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(20)
    label = np.arange(20) // 5  # a hint: without one the problem is not convex
    hint = (label[:, None] != label[order]).astype(float)
    for mirror in (1, -1):
        y = (x * [1, 1, mirror])[order] @ turn.T + 7
        found = solvers.solve(hint, x, y, Transport(solver="fgw"))
        np.testing.assert_array_equal(found.plan.argmax(axis=0), order)
        assert found.objective == pytest.approx(0, abs=1e-8)
        assert found.notes["converged"]
