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


class _Enough(Exception):  # noqa: N818  no error: what follows is tested elsewhere
    """Ends a run where the test has seen what it wanted."""


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


@pytest.mark.parametrize(("asked", "places", "taken"), [(True, True, True), (True, False, False), (False, True, False)])
def test_the_law_of_neighbours_stands_where_a_board_asks_and_has_positions(
    board: TimeBoard, monkeypatch: pytest.MonkeyPatch, asked: bool, places: bool, taken: bool
) -> None:
    adata = drift()
    if places:
        adata.obsm[schema.SPATIAL] = np.random.default_rng(2).normal(0, 9, (150, 2))
    given = []

    def learned(**options: bool) -> None:
        given.append(options)
        raise _Enough

    monkeypatch.setattr(candidates, "learned", learned)
    asking = board.model_copy(update={"neighbours": asked, "in_one_frame": True})
    with pytest.raises(_Enough):
        timescores._stage(timeboards.split(adata, asking, 2.0, 0), asking, SEEDS, lambda *_: None)
    assert given == [{"neighbours": taken}]
