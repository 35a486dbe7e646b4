"""Fitting mechanics: forces of the synthetic embryo are found again from its velocities, noisy ones too."""

import numpy as np
import pytest
import torch

from embryo.core.errors import SchemaError
from embryo.core.state import State
from embryo.datasets import synthetic
from embryo.datasets.synthetic.circuit import CADHERINS, INDEX, PANEL
from embryo.datasets.synthetic.ligand import Ligand, signal
from embryo.fit.mechanics import Fitted, Search, forces
from embryo.fit.scenes import Scene

TIMES = (6.0, 10.0, 14.0)
QUICK = Search(spacings=(1.0, 1.2, 1.3, 1.4, 1.5), reaches=(1.4, 1.5, 1.6), walls=(0.8, 0.9, 2.0))


def up(state: State) -> tuple[torch.Tensor, torch.Tensor]:
    level = np.expm1(state.g[:, INDEX["ligand"]].numpy())
    return tuple(map(torch.as_tensor, signal(Ligand(), state.x.numpy(), level)))


def seen(noise: float, seeds: tuple[int, ...] = (1, 2, 3)) -> list[Scene]:
    rng, made = np.random.default_rng(0), []
    for seed in seeds:
        for shot in synthetic.simulate(synthetic.Params(n_cells=400), seed=seed, times_h=TIMES).snapshots:
            dx = shot.dx + noise * np.sqrt((shot.dx**2).mean()) * rng.normal(size=shot.dx.shape)
            parts = (np.zeros((len(shot.x), 0)), np.log1p(shot.g), shot.x, np.zeros(len(shot.x)))
            state = State(*map(torch.tensor, parts))
            made.append(Scene(shot.t_h, state, torch.tensor(dx), torch.ones(len(dx)), str(seed)))
    return made


def told(fitted: Fitted) -> str:
    law = fitted.law
    sticky = {PANEL[k]: round(float(law.adhesion[k, k]), 2) for k in range(18) if law.adhesion[k, k] > 0}
    motile = {PANEL[k]: round(float(law.motility[k]), 1) for k in range(18) if law.motility[k] > 0}
    drawn = {PANEL[k]: round(float(law.chemotaxis[k, 0]), 2) for k in range(18) if law.chemotaxis[k, 0] != 0}
    return (
        f"{fitted.unexplained=:.4f} {fitted.without=:.3f} {fitted.penalty=} rep={float(law.repulsion):.1f} "
        f"cohesion={float(law.cohesion):.2f}\nsticky {sticky}\nmotile {motile}\ndrawn {drawn}\n"
        f"lengths {law.lengths.numpy().round(3)} wall {float(law.wall):.2f}\n"
        f"background {law.background.numpy().round(3)}"
    )


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_forces_and_the_genes_behind_them_are_found_among_eighteen(noise: float) -> None:
    fitted = forces(seen(noise), QUICK, up)
    law, truth, say = fitted.law, synthetic.Mechanics(), told(fitted)
    assert fitted.unexplained < 0.01 + 1.1 * noise**2 / (1 + noise**2), say
    assert float(law.repulsion) == pytest.approx(truth.repulsion_um_per_h, rel=0.05), say
    strength = law.adhesion.diagonal().numpy() * 1.0
    assert set(strength.argsort()[-3:]) == set(CADHERINS), say
    expected = truth.adhesion_um_per_h * np.array(truth.cadherin_strengths)
    np.testing.assert_allclose(strength[CADHERINS], expected, rtol=0.2, err_msg=say)
    assert np.delete(strength, CADHERINS).max() < 0.5, say
    assert int(law.motility.argmax()) == INDEX["motility"], say
    assert float(law.motility.max()) == pytest.approx(truth.intercalation_um_per_h, rel=0.15), say
    assert int(law.chemotaxis[:, 0].abs().argmax()) == INDEX["motility"], say
    assert float(law.chemotaxis[INDEX["motility"], 0]) == pytest.approx(truth.chemotaxis_um_per_h, rel=0.3), say


def test_one_scene_is_too_few() -> None:
    with pytest.raises(SchemaError, match="2 or more"):
        forces(seen(0.0, (1,))[:1])
