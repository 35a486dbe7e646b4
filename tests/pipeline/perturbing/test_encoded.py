"""The encoder's answer beside the law's: a law that does just what the encoder says, or twice its opposite."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from embryo import config as configs
from embryo import embed, encoders, measure
from embryo.core import schema
from embryo.core.edit import Edit, Operation
from embryo.core.frame import BODY, Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory
from embryo.pipeline import cells
from embryo.pipeline.folder import RunFolder
from embryo.pipeline.perturbing import encoded
from embryo.pipeline.perturbing.encoded import ALL, ANSWER, RANDOM, Asked

GENES = [f"gene{k}" for k in range(6)]


@pytest.fixture
def asked() -> Asked:
    """Cells of two types; gene5 is silent, and an edited embryo must not be asked."""
    rng = np.random.default_rng(0)
    kind = np.repeat(["a", "b"], 40)
    rate = np.where(kind[:, None] == "a", [9, 1, 5, 5, 5, 0], [1, 9, 5, 5, 5, 0])
    counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
    obs = pd.DataFrame({schema.CELL_TYPE: kind, schema.TIME: np.tile([0.0, 2.0], 40), cells.SPLIT: cells.TRAIN})
    obs.index = obs.index.astype(str)
    obs.loc[obs.index[:10], cells.SPLIT] = cells.EDITED
    adata = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES), layers={schema.COUNTS: counts.copy()})
    adata.uns[schema.META] = {"expression": "counts"}
    encoder = encoders.build("pca", dims=3).fit(adata)
    embed.cells(adata, encoder)
    reads = measure.fates(np.asarray(adata.obsm[schema.EMBED]), kind, neighbours=5)
    late = adata[(adata.obs[schema.TIME] == 2.0).to_numpy()].copy()
    return Asked(encoder, late, np.asarray(encoder.encode(late), dtype=float), reads, 2.0)


def arms(asked: Asked, dz: np.ndarray) -> list[tuple[Trajectory, Trajectory]]:
    n, about = len(asked.z), {"panel": tuple(GENES), "frame": Frame(BODY)}

    def arm(z: np.ndarray) -> Trajectory:
        last = State(torch.tensor(z), torch.zeros(n, 6), torch.zeros(n, 3), torch.zeros(n))
        return Trajectory.of(
            torch.tensor([0.0, 2.0]), [last, last], cells=tuple(asked.adata.obs_names), provenance={}, **about
        )

    return [(arm(asked.z), arm(asked.z + dz))]


@pytest.mark.parametrize(("times", "cosine", "ratio"), [(1.0, 1.0, 1.0), (-2.0, -1.0, 0.5)])
def test_direction_and_size_are_those_that_went_in(asked: Asked, times: float, cosine: float, ratio: float) -> None:
    edits = [Edit("gene0", t_on_h=1.0, fraction=0.5)]
    dz = asked.moved(edits)
    assert np.abs(dz).max() > 0.1
    found, said = encoded.answers(asked, edits, [[Edit("gene2")], [Edit("gene3")]], arms(asked, times * dz), "x")
    own = found[found["model"] == ANSWER].set_index("metric")["value"]
    for name in (ALL, "a", "b"):
        assert own[f"cosine[{name}]"] == pytest.approx(cosine)
        assert own[f"size_ratio[{name}]"] == pytest.approx(ratio)
    null = found[(found["model"] == RANDOM) & (found["metric"] == f"cosine[{ALL}]")].iloc[0]
    assert null["n_seeds"] == 2
    assert -1 <= null["low"] <= null["high"] < 1
    assert f"cosine of {cosine:.2f}" in said[0]


def test_an_edit_of_one_type_moves_no_other(asked: Asked) -> None:
    dz = asked.moved([Edit("gene2", Operation.KNOCKDOWN, 0.2, cell_type="a")])
    kind = asked.adata.obs[schema.CELL_TYPE].to_numpy()
    assert np.abs(dz[kind == "b"]).max() == 0
    assert np.abs(dz[kind == "a"]).max() > 0


def test_who_stands_still_has_no_direction(asked: Asked) -> None:
    found, said = encoded.answers(asked, [Edit("gene5")], [], arms(asked, np.ones_like(asked.z)), "x")
    assert set(found["metric"].str.partition("[")[0]) == {"size_ratio"}
    assert (found["value"] == 0).all()
    assert said == []
    assert encoded.answers(asked, [Edit("gene0")], [], arms(asked, np.zeros_like(asked.z)), "x")[0].empty


def test_what_means_something_else_on_gene_inputs_is_not_compared() -> None:
    assert encoded.comparable([Edit("a"), Edit("b", Operation.KNOCKDOWN, 0.5, cell_type="x")])
    for edit in (Edit("a", Operation.OVEREXPRESS, 1.0), Edit("a", region="ap<0.5"), Edit(operation=Operation.ABLATE)):
        assert not encoded.comparable([Edit("b"), edit])


def test_measured_cells_of_the_end_are_asked_and_no_edited_ones(asked: Asked, tmp_path, monkeypatch) -> None:
    run = RunFolder(tmp_path, configs.parse({}))
    encoders.save(asked.encoder, tmp_path / "encoder.safetensors")
    both = ad.concat([asked.adata, asked.adata[:7]], uns_merge="same", index_unique="-")
    both.obs[schema.TIME] = [2.0] * len(asked.adata) + [0.0] * 7
    assert "genes.h5ad" in Asked.of(run, both, 2.3, asked.reads)
    both.write_h5ad(tmp_path / "genes.h5ad")
    found = Asked.of(run, cells.without_genes(both), 2.3, asked.reads)
    rows = both[found.adata.obs_names]
    np.testing.assert_allclose(found.z, asked.encoder.encode(rows), atol=1e-6)
    wild = int((asked.adata.obs[cells.SPLIT] != cells.EDITED).sum())
    assert (found.adata.n_obs, found.time_h) == (wild, 2.0)
    monkeypatch.setattr(encoded, "_encoder", lambda *_: "nobody is there")
    assert encoded.answers(Asked.of(run, both, 2.3, asked.reads), [Edit("gene0")], [], [], "x")[1] == [
        "nobody is there"
    ]
