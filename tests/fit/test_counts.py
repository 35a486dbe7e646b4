import numpy as np
import pytest
import torch
from anndata import AnnData

from embryo import embed
from embryo.core import schema
from embryo.core.errors import ConfigError
from embryo.fit import Shrinkage, counts


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
        errors = counts.held_out(seen, per_unit, place, (6, 25, 100), seed=0)
        chosen.append((6, 25, 100)[int(errors.argmin())])
    assert chosen[0] > chosen[1]


def test_no_neighbours_is_refused() -> None:
    _, seen, place = tissue(1.0, 10)
    with pytest.raises(ConfigError, match="1 neighbours"):
        counts.shrunk(seen, torch.ones(3).double(), place, 1)


def test_noise_beyond_counting_is_read_off_steady_genes_and_shrunk_too() -> None:
    """Gamma-distributed capture (squared coefficient of variation .2) on top of counting."""
    truth, _, place = tissue(10.0)
    truth = torch.cat([truth, torch.ones(len(truth), 3).double()], 1)
    rng = np.random.default_rng(1)
    seen = torch.tensor(rng.poisson(10.0 * truth.numpy() * rng.gamma(5.0, 0.2, size=tuple(truth.shape))) / 10.0)
    per_unit = torch.full((6,), 10.0, dtype=torch.float64)
    excess = float(np.quantile(counts.excess_of(seen, per_unit, place).numpy(), 0.1))
    assert excess == pytest.approx(0.2, abs=0.08)
    without, with_it = (counts.shrunk(seen, per_unit, place, 50, excess=e) for e in (0.0, excess))
    assert (with_it - truth).square().mean() < 0.7 * (without - truth).square().mean()


def measured(cells: int = 900) -> tuple[AnnData, np.ndarray]:
    """Two stages of two embryos whose cells are captured unequally well; truth in levels of the panel."""
    truth, _, place = tissue(1.0, cells)
    rng = np.random.default_rng(2)
    level = np.exp2(2.0 * truth.numpy()) - 0.9
    size = np.exp(0.5 * rng.normal(size=(cells, 1)))
    full = np.concatenate([level, 20.0 * np.ones((cells, 1))], 1)
    adata = AnnData(rng.poisson(size * full).astype(np.float32))
    adata.var_names = ["a", "b", "c", "steady"]
    adata.layers[schema.COUNTS] = adata.X.copy()
    adata.uns[schema.META] = {"expression": "counts"}
    adata.obs[schema.TIME] = (np.arange(cells) % 2).astype(float)
    adata.obsm[schema.ALIGNED] = place.numpy()
    embed.panel(adata, ["a", "b", "c"])
    return adata, schema.TARGET_SUM * level / full.sum(1, keepdims=True)


def test_a_panel_is_shrunk_cell_by_cell_as_deeply_as_it_was_counted() -> None:
    adata, truth = measured()
    before = adata.obsm[schema.PANEL].copy()
    how = Shrinkage.of(adata, [""] * adata.n_obs, seed=0)
    found = np.expm1(how.panel(adata, [""] * adata.n_obs))
    raw = np.expm1(before)
    assert ((found - truth) ** 2).mean() < 0.3 * ((raw - truth) ** 2).mean()
    np.testing.assert_array_equal(adata.obsm[schema.PANEL], before)
    assert Shrinkage.from_dict(how.to_dict()) == how
    few = adata[:20].copy()  # ten of a stage
    np.testing.assert_array_equal(how.panel(few, [""] * few.n_obs), few.obsm[schema.PANEL])


def test_groups_do_not_lend_each_other_cells() -> None:
    adata, _ = measured()
    groups = np.where(np.arange(adata.n_obs) // 2 % 2, "a", "b")
    how = Shrinkage.of(adata, groups.tolist(), seed=0)
    other = adata.copy()
    other.obsm[schema.PANEL][groups == "b"] = 0.0
    one, two = (how.panel(part, groups.tolist())[groups == "a"] for part in (adata, other))
    np.testing.assert_array_equal(one, two)


def test_levels_without_counts_or_places_are_refused_at_once() -> None:
    adata, _ = measured()
    del adata.obs[schema.PER_LEVEL], adata.obsm[schema.ALIGNED]
    with pytest.raises(ConfigError) as error:
        Shrinkage.of(adata, [""] * adata.n_obs, seed=0)
    assert [p.found for p in error.value.problems] == ["no obs['counts_per_level']", "no obsm['spatial_aligned']"]
