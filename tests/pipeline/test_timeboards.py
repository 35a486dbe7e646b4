"""Boards of dynamics: what is held out stays out of everything that is fitted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.spatial.transform import Rotation

from embryo import read
from embryo.config import Config, Embed, Read
from embryo.core import schema
from embryo.core.errors import ConfigError
from embryo.pipeline import timeboards
from embryo.pipeline.timeboards import Scale, TimeBoard

TIMES = (0.0, 1.0, 2.0, 3.0)


def series(*, space: int = 0, embryos: int = 1, cells: int = 40, seed: int = 0) -> AnnData:
    rng = np.random.default_rng(seed)
    n = len(TIMES) * embryos * cells
    time = np.repeat(TIMES, embryos * cells)
    embryo = np.tile(np.repeat([f"e{k}" for k in range(embryos)], cells), len(TIMES))
    obs = pd.DataFrame({schema.TIME: time, schema.EMBRYO: embryo}, index=pd.Index([f"c{k}" for k in range(n)]))
    z = rng.normal(size=(n, 6)) + time[:, None]
    adata = AnnData(z.astype(np.float32), obs=obs, obsm={"X_pca": z.copy()})
    if space:
        adata.obsm[schema.SPATIAL] = rng.normal(size=(n, space)) * np.arange(1, space + 1)[::-1] * 10
    adata.uns[schema.META] = {"time_unit": "h", "space_unit": "um", "expression": "relative"}
    return adata


def board(**kw: object) -> TimeBoard:
    given = {"name": "b", "read": Read(dataset="emt"), "embed": Embed(encoder="precomputed", dims=3), **kw}
    return TimeBoard.model_validate(given)


def test_every_later_stage_is_held_out_by_default_and_only_inner_ones_where_asked() -> None:
    times = np.array(TIMES)
    assert timeboards.held_out(board(), times) == [1.0, 2.0, 3.0]
    assert timeboards.held_out(board(hold_out="interior"), times) == [1.0, 2.0]
    assert timeboards.held_out(board(hold_out=[2.0]), times) == [2.0]


@pytest.mark.parametrize(("wanted", "n"), [([0.0], 4), ([1.5], 4), ("interior", 2), ("later", 2)])
def test_a_stage_that_cannot_be_held_out_is_told(wanted: object, n: int) -> None:
    with pytest.raises(ConfigError, match="expected"):
        timeboards.held_out(board(hold_out=wanted), np.array(TIMES[:n]))


def test_the_held_out_stage_is_in_no_fit() -> None:
    plain, shifted = series(), series()
    late = (shifted.obs[schema.TIME] == 2.0).to_numpy()
    shifted.X[late] += 1000.0
    how = board(embed=Embed(encoder="pca", dims=3, panel=["0", "1"]), scale="train")
    one, two = (timeboards.split(adata, how, 2.0, seed=1) for adata in (plain, shifted))
    np.testing.assert_array_equal(one.train.obsm[schema.EMBED], two.train.obsm[schema.EMBED])
    assert not np.allclose(one.truth.obsm[schema.EMBED], two.truth.obsm[schema.EMBED])
    assert one.name == "t = 2 h, interpolation"
    assert timeboards.split(plain, how, 3.0, seed=1).name == "t = 3 h, extrapolation"


def test_units_are_those_given_or_of_the_training_stages() -> None:
    given = Scale(centre=[1.0, 0.0, 0.0], spread=[2.0, 1.0, 1.0])
    adata = series()
    found = timeboards.split(adata, board(scale=given), 1.0, seed=0)
    raw = adata.obsm["X_pca"][(adata.obs[schema.TIME] != 1.0).to_numpy(), :3]
    np.testing.assert_allclose(found.train.obsm[schema.EMBED], (raw - [1, 0, 0]) / [2, 1, 1], rtol=1e-5, atol=1e-6)
    white = timeboards.split(adata, board(scale="train"), 1.0, seed=0).train.obsm[schema.EMBED]
    np.testing.assert_allclose(white.std(axis=0), 1.0, rtol=1e-5)
    with pytest.raises(ConfigError, match="2 units for 3 dimensions"):
        timeboards.split(adata, board(scale=Scale(centre=[0.0, 0.0], spread=[1.0, 1.0])), 1.0, seed=0)


def test_halves_share_no_cell() -> None:
    found = timeboards.halves(series(), board(kind="cells"), seed=0)
    assert not set(found.train.obs_names) & set(found.truth.obs_names)
    assert set(found.truth.obs[schema.TIME]) == {3.0}
    assert found.train.n_obs == 4 * 20
    assert found.truth.n_obs == 20


def test_whole_embryos_are_drawn_and_the_numbers_are_those_before() -> None:
    adata = series(embryos=5, cells=30)
    found = timeboards.split(adata, board(max_cells=70), 1.0, seed=3)
    per = found.train.obs.groupby([schema.TIME, schema.EMBRYO], observed=True).size()
    assert set(per) == {30}
    assert (per.groupby(schema.TIME).sum() == 60).all()
    assert found.numbers == dict.fromkeys(TIMES, 30.0)
    alone = timeboards.split(series(cells=90), board(max_cells=70), 1.0, seed=3)
    assert alone.truth.n_obs == 70
    assert alone.numbers[1.0] == 90.0


def test_a_held_out_embryo_of_the_series_moves_as_it_did_at_the_other_times() -> None:
    adata = series(space=3, cells=60)
    turn = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    adata.obsm[schema.SPATIAL] = adata.obsm[schema.SPATIAL] @ turn.T + [5.0, 6.0, 7.0]
    found = timeboards.split(adata, board(), 1.0, seed=0)
    raw = [part.obsm[schema.SPATIAL] for part in (found.train, found.truth)]
    aligned = [part.obsm[schema.ALIGNED] for part in (found.train, found.truth)]
    across = [np.linalg.norm(a[:20, None] - b[None, :20], axis=2) for a, b in (raw, aligned)]
    np.testing.assert_allclose(*across, rtol=1e-6)


def test_space_is_left_out_where_the_board_says_so() -> None:
    found = timeboards.split(series(space=3), board(space=False), 1.0, seed=0)
    assert schema.ALIGNED not in found.train.obsm
    assert schema.SPATIAL not in found.truth.obsm


def test_positions_may_lie_in_another_slot(tmp_path: Path) -> None:
    adata = series(space=2)
    adata.obsm["elsewhere"] = adata.obsm[schema.SPATIAL] + 1000.0
    read.write(adata, tmp_path / "x.h5ad")
    how = {"read": Read(dataset=None, path=tmp_path / "x.h5ad"), "positions": "elsewhere", "in_one_frame": True}
    found = timeboards.split(timeboards.load(board(**how), 0), board(**how), 1.0, seed=0)
    assert found.train.obsm[schema.ALIGNED].min() > 800.0
    with pytest.raises(ConfigError, match="no obsm\\['nowhere'\\]"):
        timeboards.load(board(**{**how, "positions": "nowhere"}), 0)


def test_the_board_of_a_run_says_what_of_its_config_is_not_used() -> None:
    assert any("fit and couple are not used" in note for note in timeboards.of_run(Config()).notes)
