"""A whole run whose cells are embedded by a pretrained network: a tiny one, marked as random."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from embryo import config as configs
from embryo import encoders, pipeline
from embryo.core.edit import Edit
from embryo.core.errors import ConfigError
from embryo.pipeline.perturbing.bench import Bench
from embryo.pipeline.perturbing.encoded import Asked

TINY = (
    "read.params={n_embryos: 3, n_edited: 0, times_h: [4.0, 6.0, 8.0], params: {n_cells: 80}}",
    "split.hold_out=1",
    "seeds=1",
    "fit.steps=20",
    "fit.width=16",
    "render.film=false",
    "embed.dims=6",
    "embed.species=Homo sapiens",
    "embed.dtype=float32",
)


def test_a_pretrained_encoder_runs_from_cells_to_edit(tmp_path: Path) -> None:
    config = configs.load(None, (*TINY, "embed.encoder=scgpt", f"embed.weights={tmp_path / 'weights'}"))
    genes = [str(g) for g in pipeline.cells.load(config).var_names]
    encoders.model("scgpt").write_tiny(tmp_path / "weights", genes, 0)
    run = pipeline.run(config, tmp_path / "run")
    summary = run.stages["embed"]["summary"]
    assert "scgpt (random weights, 6 dimensions, float32)" in summary
    assert "decoder" in summary
    cells = ad.read_h5ad(run.path / "cells.h5ad")
    about = cells.uns["embryo"]["embeddings"]["X_embed"]
    assert (about["weights"], int(about["dims"]), int(about["reduced_from"])) == ("random", 6, 16)
    assert cells.obsm["X_embed"].shape[1] == 6
    kept = encoders.load(run.path / "encoder.safetensors")
    moved = kept.response(["tail"])
    assert moved.shape == (1, 6)
    assert np.abs(moved).max() > 0
    bench = Bench.open(run.path)
    assert np.abs(bench.asked.moved([Edit("tail")])).max() > 0  # by the network itself, opened again
    own = cells[bench.asked.adata.obs_names].obsm["X_embed"]
    np.testing.assert_allclose(bench.asked.z, own, atol=1e-4)
    (tmp_path / "weights").rename(tmp_path / "away")
    assert "was not asked" in Asked.of(run, bench.adata, 8.0, bench.fate)


def test_a_pretrained_encoder_without_weights_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match=r"embed\.encoder = geneformer without embed\.weights"):
        configs.load(None, ("embed.encoder=geneformer",))
