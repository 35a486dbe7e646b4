"""Fitting a law that reads neighbours: poses do not matter, numbers of cells come out, spacing is kept."""

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from scipy.spatial.transform import Rotation

from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.core.errors import SchemaError
from embryo.core.state import State
from embryo.fields.spatial import SpatialNetwork
from embryo.fit import Tissue, Training, spatial_flow, states

QUICK = Training(steps=250, batch=60, width=48, depth=2, learning_rate=5e-3, ema=0.95, width_of_paths=0.02)


def stretched(poses: int, seed: int = 0) -> tuple[AnnData, list[Coupling]]:
    """Bodies that stretch by a half along the side where a gene is high, each in a pose of its own, cells tracked."""
    rng = np.random.default_rng(seed)
    early, late, z, who = [], [], [], []
    for k in range(poses):
        x = rng.normal(size=(60, 3)) * [20.0, 10.0, 10.0]
        turn = Rotation.random(rng=rng).as_matrix()
        early.append(x @ turn.T)
        late.append((x * [1.5, 1.0, 1.0]) @ turn.T)
        z.append(x[:, :1] / 20)
        who += [f"e{k}"] * 60
    n = 60 * poses
    adata = AnnData(shape=(2 * n, 0))
    adata.obs[schema.TIME] = np.repeat([0.0, 2.0], n)
    adata.obs[schema.EMBRYO] = who * 2
    adata.obsm[schema.SPATIAL] = adata.obsm[schema.ALIGNED] = np.concatenate([*early, *late]).astype(np.float32)
    adata.obsm[schema.EMBED] = np.tile(np.concatenate(z), (2, 1)).astype(np.float32)
    adata.obsm[schema.PANEL] = np.zeros((2 * n, 0), np.float32)
    rows = np.arange(2 * n)
    return adata, [Coupling(0.0, 2.0, sparse.csr_array(sparse.eye_array(n)), rows[:n], rows[n:], {"method": "tracks"})]


def test_a_pose_never_seen_moves_as_those_seen() -> None:
    adata, couplings = stretched(4)
    field = spatial_flow(adata, couplings, QUICK, Tissue(neighbours=4, repulsion=0.0))
    other, (coupling,) = stretched(1, seed=9)
    cells = states(other)
    v = field(torch.tensor(0.0), cells[torch.as_tensor(coupling.sources)]).dx
    truth = (cells.x[60:] - cells.x[:60]) / 2
    assert torch.nn.functional.cosine_similarity(v.flatten(), truth.flatten(), dim=0) > 0.97


def test_the_number_of_cells_comes_out_with_the_dead_counted() -> None:
    adata, (c,) = stretched(2)
    lives = np.arange(120) % 3 > 0
    plan = sparse.csr_array(sparse.diags_array(np.where(lives, 1.0, 0.0)))
    plan.eliminate_zeros()
    dying = [Coupling(0.0, 2.0, plan, c.sources, c.targets, {"method": "tracks"})]
    field = spatial_flow(adata, dying, QUICK, Tissue(neighbours=4))
    growth = field(torch.tensor(1.0), states(adata)[torch.arange(60)]).growth
    assert float((2 * growth.detach()).exp().mean()) == pytest.approx(2 / 3, abs=0.05)


def test_same_seed_same_law_and_the_spacing_is_the_tissues() -> None:
    adata, couplings = stretched(1)
    short = Training(steps=5, batch=60, width=16, depth=1)
    first, again = (spatial_flow(adata, couplings, short, Tissue(neighbours=4, repulsion=3.0)) for _ in range(2))
    for p, q in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
    assert isinstance(first, SpatialNetwork)
    length, early, late, repulsion = first.body.tolist()
    x = adata.obsm[schema.ALIGNED]
    far = [np.sort(np.linalg.norm(e[:, None] - e, axis=-1), axis=1)[:, 1] for e in (x[:60], x[60:])]
    assert repulsion == pytest.approx(1.5)
    assert length == pytest.approx(float(np.sqrt(((x[:60] - x[:60].mean(0)) ** 2).sum(1).mean())), rel=1e-4)
    np.testing.assert_allclose([early, late], [np.sort(f)[29] for f in far], rtol=1e-4)


def test_bodies_are_sampled_and_stand_for_the_whole() -> None:
    adata, couplings = stretched(1)
    field = spatial_flow(
        adata, couplings, Training(steps=2, batch=20, width=16, depth=1), Tissue(neighbours=4, most=20)
    )
    part = states(adata)[torch.arange(0, 60, 3)]
    sampled = State(part.z, part.g, part.x, torch.full((20,), float(np.log(3.0))))
    assert field(torch.tensor(0.5), sampled).dx.isfinite().all()


def test_cells_without_space_are_refused() -> None:
    adata, couplings = stretched(1)
    del adata.obsm[schema.SPATIAL]
    with pytest.raises(SchemaError, match=r"fit\.neighbours"):
        spatial_flow(adata, couplings, QUICK)
