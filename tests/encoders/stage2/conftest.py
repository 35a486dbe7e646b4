"""An easy series: genes that rise and genes that fall, six stages, two embryos at each."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from embryo.encoders.maxtoki import MaxToki
from embryo.encoders.options import Options
from embryo.encoders.stage2 import Settings

STAGES = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
GENES = tuple(f"ENSG{k:011d}" for k in range(14))


def _series(cells: int = 30, seed: int = 0, stages: tuple[float, ...] = STAGES) -> ad.AnnData:
    """Return `cells` per stage; log rates of the genes are straight lines in time, depths differ tenfold."""
    rng = np.random.default_rng(seed)
    time = np.repeat(stages, cells)
    slope = np.linspace(-3, 3, len(GENES))
    rate = np.exp(slope * (time[:, None] / 50 - 0.5)) * rng.uniform(5, 50, (len(time), 1))
    counts = sparse.csr_matrix(rng.poisson(rate).astype(float))
    embryo = [f"E{t:g}-{k % 2}" for k, t in enumerate(time)]
    return ad.AnnData(
        counts,
        obs=pd.DataFrame({"time": time, "embryo": embryo}, index=[f"c{k}" for k in range(len(time))]),
        var=pd.DataFrame(index=list(GENES)),
        layers={"counts": counts.copy()},
        uns={"embryo": {"expression": "counts", "time_unit": "h", "organism": "Homo sapiens"}},
    )


@pytest.fixture(scope="session")
def series() -> Callable[..., ad.AnnData]:
    return _series


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="the extra `foundation` is not installed")
    return MaxToki.write_tiny(tmp_path_factory.mktemp("stage1") / "MaxToki-HF", GENES, seed=1)


@pytest.fixture
def encoder(folder: Path) -> MaxToki:
    return MaxToki.from_dir(folder, Options(dtype="float32"))


@pytest.fixture(scope="session")
def settings() -> Callable[..., Settings]:
    def make(**changes: object) -> Settings:
        easy = {"context": 2, "tokens_per_cell": 16, "steps": 4, "batch": 8, "rate": 3e-3, "unit_h": 5.0}
        return Settings(**easy | changes)

    return make
