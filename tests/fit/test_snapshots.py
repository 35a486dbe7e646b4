import numpy as np
import torch

from embryo.blocks.diffusion import Medium
from embryo.core.state import State
from embryo.datasets import synthetic
from embryo.fields.circuit import Ligands
from embryo.fit import snapshots
from embryo.fit.snapshots import Riding


def state(level: torch.Tensor, x: torch.Tensor) -> State:
    return State(torch.zeros(len(level), 1), torch.log1p(level), x, torch.zeros(len(level)))


def test_levels_and_signals_are_those_of_the_synthetic_embryo() -> None:
    """Two embryos on the same places: each hears its own ligand alone."""
    params = synthetic.Params(n_cells=60, mechanics=None, growth=None)
    times = (0.0, 4.0)
    embryos = [synthetic.simulate(params, seed=seed, times_h=times) for seed in (0, 1)]
    shots = [[embryo.at(t) for embryo in embryos] for t in times]
    states = [
        state(torch.tensor(np.concatenate([s.g for s in pair])), torch.tensor(np.concatenate([s.x for s in pair])))
        for pair in shots
    ]
    who = [torch.arange(120) // 60] * 2
    riding = [Riding(s.x) for s in states]
    ligands = Ligands((synthetic.PANEL.index("ligand"),), (Medium(),))
    made = snapshots.series(times, states, who, riding, torch.ones(18), ligands)
    for stage, pair in zip(made.stages, shots, strict=True):
        np.testing.assert_allclose(stage.y.numpy(), np.concatenate([s.g for s in pair]), atol=1e-6)
        wanted = np.concatenate([s.inputs[:, 3:] for s in pair])
        np.testing.assert_allclose(stage.signals.numpy(), wanted, atol=1e-5)


def test_units_are_where_genes_saturate() -> None:
    level = np.stack([np.linspace(0, 8, 1001), np.zeros(1001)], 1)
    np.testing.assert_allclose(snapshots.unit_of(np.log1p(level)), [0.99 * 8, 1.0], rtol=1e-5)
