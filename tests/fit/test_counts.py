import numpy as np
import pytest
import torch

from embryo.core.errors import ConfigError
from embryo.fit import counts


def tissue(depth: float, cells: int = 1500, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A sharp boundary and a slope: truth, counts over depth, place."""
    rng = np.random.default_rng(seed)
    place = rng.random((cells, 2))
    truth = np.stack([(place[:, 0] > 0.5) * 1.0, place[:, 1], np.zeros(cells)], 1)
    seen = rng.poisson(truth * depth) / depth
    return torch.tensor(truth), torch.tensor(seen), torch.tensor(place)


@pytest.mark.parametrize("depth", [3.0, 10.0])
def test_shrinking_brings_levels_nearer_to_the_truth(depth: float) -> None:
    truth, seen, place = tissue(depth)
    per_unit = torch.full((3,), depth, dtype=torch.float64)
    found = counts.shrunk(seen, per_unit, place, 30)
    assert float((found - truth).pow(2).mean()) < 0.3 * float((seen - truth).pow(2).mean())
    assert found[:, 2].abs().max() == 0
    near = (place[:, 0] - 0.5).abs() < 0.05
    plain = counts.shrunk(seen, per_unit, place, 30, passes=1)
    assert (found - truth)[near, 0].pow(2).mean() < (plain - truth)[near, 0].pow(2).mean()


def test_many_counts_are_left_alone() -> None:
    truth, _, place = tissue(1e6)
    per_unit = torch.full((3,), 1e6, dtype=torch.float64)
    torch.testing.assert_close(counts.shrunk(truth, per_unit, place, 20), truth, atol=1e-3, rtol=0)


def test_sparser_counts_ask_more_neighbours() -> None:
    chosen = []
    for depth in (1.0, 200.0):
        _, seen, place = tissue(depth)
        per_unit = torch.full((3,), depth, dtype=torch.float64)
        chosen.append(counts.neighbours_of(seen, per_unit, place, (6, 25, 100), seed=0))
    assert chosen[0] > chosen[1]


def test_no_neighbours_is_refused() -> None:
    _, seen, place = tissue(1.0, 10)
    with pytest.raises(ConfigError, match="1 neighbours"):
        counts.shrunk(seen, torch.ones(3).double(), place, 1)
