"""One held-out part of a board: what is chosen for it knows nothing of it."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from embryo.config import Embed, Read
from embryo.core import schema
from embryo.evaluate.time import candidates, pairs
from embryo.pipeline import timeboards, timescores
from embryo.pipeline.timeboards import TimeBoard

SEEDS = (0, 1)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> TimeBoard:
    """A board of three components that come along, with the candidates that cost nothing."""
    cheap = candidates.interpolant("entropic midpoint", partial(pairs.unbalanced, epsilon=0.1), None)
    monkeypatch.setattr(candidates, "learned", lambda **_: (cheap,))
    how = {"name": "b", "read": Read(dataset="emt"), "embed": Embed(encoder="precomputed", dims=2), "scale": "train"}
    return TimeBoard.model_validate(how)


def drift() -> AnnData:
    """Five stages of 30 cells that drift."""
    rng = np.random.default_rng(0)
    time = np.repeat(np.arange(5.0), 30)
    obs = pd.DataFrame({schema.TIME: time, schema.EMBRYO: "e"}, index=pd.Index([f"c{k}" for k in range(150)]))
    z = rng.normal(size=(150, 2)) + time[:, None]
    adata = AnnData(z.astype(np.float32), obs=obs, obsm={"X_pca": z})
    adata.uns[schema.META] = {"time_unit": "h", "space_unit": "um", "expression": "relative"}
    return adata


@pytest.mark.parametrize("t_h", [2.0, 4.0])
def test_the_truth_is_never_looked_at(board: TimeBoard, t_h: float) -> None:
    """Another truth, other scores, but the same mixture: between the stages and after the last of them."""
    plain, other = drift(), drift()
    held = (other.obs[schema.TIME] == t_h).to_numpy()
    other.obsm["X_pca"][held] = np.random.default_rng(1).normal(20.0, 5.0, (30, 2))
    made = [
        timescores._stage(timeboards.split(adata, board, t_h, 0), board, SEEDS, lambda *_: None)
        for adata in (plain, other)
    ]
    chosen, again = (one.chosen for one in made)
    assert [len(said) for said in chosen.values()] == [1]
    assert "held out inside" in str(chosen)
    assert chosen == again
    scores = [one.table.set_index(["metric", "model"])["value"] for one in made]
    place = ("energy distance of states", "embryo")
    assert scores[1][place] > 10 * scores[0][place]
