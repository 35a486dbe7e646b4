"""A fitted law against the one that made the slides."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.spatial.transform import Rotation

from embryo import couple, fit
from embryo.core import schema
from embryo.core.errors import FrameError, SchemaError
from embryo.datasets import stvcr
from embryo.evaluate.time.law import Fitting, law

TIMES = (0.0, 0.5, 1.0)
FAST = Fitting(
    couple.Transport(solver="unbalanced", epsilon=0.01, tau=0.5),
    fit.Training(steps=800, width=64, width_of_paths=0.05),
    rounds=2,
)
BRIEF = Fitting(FAST.transport, fit.Training(steps=5, width=8), rounds=2)  # where the fit itself is not asked


@pytest.fixture
def slides(rng: np.random.Generator) -> AnnData:
    """A cloud that stretches along one axis, with a gene that tells where a cell started; each slide turned."""
    start = rng.normal(size=(80, 2)) * [10.0, 6.0] + [[8.0, 3.0]] * (rng.random(80) < 0.3)[:, None]
    rate = np.array([0.6, -0.3])
    parts = []
    for t in TIMES:
        x = start * np.exp(rate * t)
        z = np.c_[start[:, 0] / 10, rng.normal(size=80) * 0.01, start[:, 1] / 6]
        angle = 40.0 * t
        turn = Rotation.from_euler("z", angle, degrees=True).as_matrix()[:2, :2]
        obs = pd.DataFrame(
            {schema.TIME: t, schema.EMBRYO: f"s{t}", schema.CELL_TYPE: "a"}, index=[f"{t}:{k}" for k in range(80)]
        )
        slots = {
            schema.EMBED: z, schema.PANEL: np.zeros((80, 0)), stvcr.TRUE_FRAME: x, stvcr.TRUE_VELOCITY: x * rate,
            schema.ALIGNED: x @ turn.T, schema.SPATIAL: x @ turn.T,
        }  # fmt: skip
        parts.append(AnnData(obs=obs, obsm={k: np.asarray(v) for k, v in slots.items()}))
        parts[-1].obs[stvcr.TRUE_GROWTH] = 0.0
    obs = pd.concat([p.obs for p in parts]).set_index(pd.Index([f"c{k}" for k in range(240)]))
    obsm = {k: np.concatenate([p.obsm[k] for p in parts]) for k in parts[0].obsm}
    return AnnData(obs=obs, obsm=obsm, uns={schema.META: {"panel": []}})


def test_the_law_stands_beside_its_floors_and_its_ceiling(slides: AnnData) -> None:
    slides.obsm[schema.ALIGNED] = slides.obsm[stvcr.TRUE_FRAME]  # laid into one frame without an error
    found = law(slides, seeds=(0, 1), fitting=FAST, board="b")
    cosine = found.table[found.table["metric"] == "velocity cosine"].set_index("model")["value"]
    assert cosine["embryo"] > 0.8
    assert cosine["true law of the nearest cells"] > 0.95
    assert set(found.table["role"]) == {"ours", "floor", "ceiling", "difference"}
    gains = found.table[found.table["role"] == "difference"]
    assert len(gains) == len(found.sentences)
    for words, sentence in zip(gains["verdict"], found.sentences, strict=True):
        assert words in sentence
    errors = found.table[found.table["metric"].str.contains("error") & (found.table["role"] != "difference")]
    assert not (errors["low"] < 0).any()
    assert (found.table.loc[found.table["model"] == "embryo", "n_seeds"] == 2).all()
    assert any(s.startswith("all cells: velocity cosine: embryo: ") for s in found.sentences)


def test_the_truth_is_turned_with_the_slides(slides: AnnData) -> None:
    """Where each slide lies turned, the nearest cells' true law is as good a ceiling as in one frame."""
    turned = law(slides, seeds=(0,), fitting=BRIEF)
    slides.obsm[schema.ALIGNED] = slides.obsm[stvcr.TRUE_FRAME]
    straight = law(slides, seeds=(0,), fitting=BRIEF)
    ceilings = [
        f.table.query("role == 'ceiling' and metric == 'velocity cosine'")["value"].item() for f in (turned, straight)
    ]
    assert ceilings[0] == pytest.approx(ceilings[1], abs=1e-6)


def test_what_a_simulation_must_tell_is_said(slides: AnnData) -> None:
    flat = slides.copy()
    flat.obsm[stvcr.TRUE_FRAME] = flat.obsm[stvcr.TRUE_FRAME] * 0.0
    with pytest.raises(FrameError, match="leave open"):
        law(flat, seeds=(0,), fitting=FAST)
    del slides.obsm[stvcr.TRUE_VELOCITY]
    with pytest.raises(SchemaError, match="judge held-out stages"):
        law(slides, seeds=(0,), fitting=FAST)
