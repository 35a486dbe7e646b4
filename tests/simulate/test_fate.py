"""Fates and drivers against closed forms, scipy and statsmodels; under the keys that CellRank 2.0.7 reads."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats
from statsmodels.stats.multitest import multipletests

from embryo import simulate
from embryo.core.errors import EmbryoError
from embryo.core.frame import Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory
from embryo.fields.analytic import Expansion, Linear


def start(cells: int = 40) -> State:
    rng = torch.Generator().manual_seed(0)
    z, g, x = (torch.randn(cells, n, generator=rng) for n in (2, 3, 3))
    return State(z, g, x, torch.zeros(cells))


def read(z: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-z[:, 0]))
    return np.stack([p, 1 - p], axis=1)


def saddle() -> Linear:
    return Linear(torch.diag(torch.tensor([1.0, -1.0])), torch.zeros(3, 3))


def test_a_roll_out_reads_the_end_of_each_cell() -> None:
    s = start()
    found = simulate.fates([simulate.forward(saddle(), s, [0.0, 1.0, 2.0])], read, ("A", "B"))
    expected = 1 / (1 + np.exp(-np.exp(2) * s.z[:, 0].numpy()))
    np.testing.assert_allclose(found.probabilities[:, 0], expected, atol=1e-3)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert np.isnan(found.error).all()
    assert (found.descendants == 1).all()


def by_hand(fates: list[list[tuple[float, float]]]) -> list[Trajectory]:
    """Roll-outs of two particles whose end has the z and the mass given."""
    out = []
    for ends in fates:
        z = torch.tensor([[[0.0], [0.0]], [[z] for z, _ in ends]])
        log_mass = torch.tensor([[0.0, 0.0], [m for _, m in ends]]).log()
        log_mass[0] = 0
        none = torch.zeros(2, 2, 0)
        out.append(Trajectory(torch.tensor([0.0, 1.0]), z, none, none, log_mass, (), Frame(), ("p", "q")))
    return out


def test_members_weigh_by_their_descendants() -> None:
    """Cell p: 3 descendants in A and 1 in B; cell q dies in one member and in the other has B."""
    members = by_hand([[(1.0, 3.0), (1.0, 0.0)], [(0.0, 1.0), (0.0, 2.0)]])
    found = simulate.fates(members, lambda z: np.stack([z[:, 0], 1 - z[:, 0]], axis=1), ("A", "B"))
    np.testing.assert_allclose(found.probabilities, [[0.75, 0.25], [0.0, 1.0]])
    np.testing.assert_allclose(found.descendants, [2.0, 1.0])
    np.testing.assert_allclose(found.error[0, 0], np.sqrt(2 * ((3 * 0.25) ** 2 + 0.75**2)) / 4)


def test_cells_that_left_nobody_have_no_fate() -> None:
    members = by_hand([[(1.0, 3.0), (1.0, 0.0)], [(0.0, 1.0), (0.0, 0.0)]])
    found = simulate.fates(members, lambda z: np.stack([z[:, 0], 1 - z[:, 0]], axis=1), ("A", "B"))
    assert np.isnan(found.probabilities[1]).all()
    adata = ad.AnnData(obs=pd.DataFrame(index=["p", "q"]))
    found.write(adata)
    assert adata.obs["term_states_fwd"].tolist()[0] == "A"
    assert adata.obs["term_states_fwd"].isna().tolist() == [False, True]


def test_daughters_count_for_their_founder() -> None:
    cells = simulate.particles(Expansion(0.3), start(), [0.0, 1.0], seed=0)
    found = simulate.fates([cells], read, ("A", "B"))
    assert found.cells == tuple(str(k) for k in range(40))
    assert found.descendants.sum() == float(cells.at(-1).mass.sum())
    np.testing.assert_allclose(found.probabilities, read(start().z.double().numpy()), rtol=1e-5)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_drivers_are_those_of_scipy_and_statsmodels(kind: type) -> None:
    rng = np.random.default_rng(0)
    s = start()
    found = simulate.fates([simulate.forward(saddle(), s, [0.0, 1.0])], read, ("A", "B"))
    x = rng.poisson(2.0, (40, 5)).astype(float)
    x[:, 0] = np.round(3 + s.z[:, 0].numpy())
    x[:, 4] = 2.0
    table = simulate.drivers(kind(x), found, ["g0", "g1", "g2", "g3", "flat"])
    assert list(table)[:2] == ["A_corr", "B_corr"]
    for gene in range(4):
        r = stats.pearsonr(x[:, gene], found.probabilities[:, 0])
        low, high = r.confidence_interval(0.95)
        np.testing.assert_allclose(table.iloc[gene][["A_corr", "A_ci_low", "A_ci_high"]], [r.statistic, low, high])
        p = 2 * stats.norm.sf(abs(np.arctanh(r.statistic)) * np.sqrt(37))
        np.testing.assert_allclose(table["A_pval"].iloc[gene], p)
    assert table.loc["flat"].isna().all()
    np.testing.assert_allclose(table["A_qval"].iloc[:4], multipletests(table["A_pval"].iloc[:4], method="fdr_bh")[1])
    assert table["A_corr"].idxmax() == "g0"


def test_written_as_cellrank_reads_it(tmp_path: Path) -> None:
    """What Lineage.from_adata takes: data of obsm, names of the categories, colours of uns; also through a file."""
    s = start()
    found = simulate.fates([simulate.forward(saddle(), s, [0.0, 1.0])], read, ("A", "B"))
    adata = ad.AnnData(s.g.numpy(), obs=pd.DataFrame(index=found.cells), var=pd.DataFrame(index=["g0", "g1", "g2"]))
    found.write(adata)
    adata.varm["terminal_lineage_drivers"] = simulate.drivers(adata.X, found, list(adata.var_names))
    adata.write_h5ad(tmp_path / "x.h5ad")
    back = ad.read_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(back.obsm["lineages_fwd"], found.probabilities)
    assert back.obs["term_states_fwd"].cat.categories.tolist() == ["A", "B"]
    assert (back.obs["term_states_fwd_probs"] == found.probabilities.max(axis=1)).all()
    assert all(c.startswith("#") and len(c) == 7 for c in back.uns["term_states_fwd_colors"])
    assert set(back.varm["terminal_lineage_drivers"]) == {
        f"{fate}_{what}" for fate in "AB" for what in ("corr", "pval", "qval", "ci_low", "ci_high")
    }


def test_what_does_not_fit_is_refused() -> None:
    found = simulate.fates([simulate.forward(saddle(), start(), [0.0, 1.0])], read, ("A", "B"))
    with pytest.raises(EmbryoError, match=r"(?s)2 problems.*3 cells for the fates of 40.*3 colours for 2 fates"):
        found.write(ad.AnnData(np.zeros((3, 1))), colours=["#000000"] * 3)
    with pytest.raises(EmbryoError, match="expected one or more of one start, read as 3 fates"):
        simulate.fates([simulate.forward(saddle(), start(), [0.0, 1.0])], read, ("A", "B", "C"))
    with pytest.raises(EmbryoError, match=r"expression of shape \(3, 1\)"):
        simulate.drivers(np.zeros((3, 1)), found, ["a"])
