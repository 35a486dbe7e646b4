"""MaxToki, a tiny random one, taught to tell time on a file of cells, by the same code that a user runs."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from embryo import encoders
from embryo.config import Protect
from embryo.core import store
from embryo.core.errors import ConfigError
from embryo.encoders import stage2
from embryo.pipeline import clock

GENES = [f"ENSG{k:011d}" for k in range(14)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    time = np.repeat([0.0, 10.0, 20.0, 30.0, 40.0], 12)
    rate = np.exp(np.linspace(-3, 3, len(GENES)) * (time[:, None] / 40 - 0.5)) * 20
    obs = pd.DataFrame({"time": time, "embryo": [f"E{t:g}-{k % 2}" for k, t in enumerate(time)]})
    obs.index = [f"c{k}" for k in range(len(time))]
    counts = sparse.csr_matrix(rng.poisson(rate).astype(float))
    adata = ad.AnnData(counts, obs, pd.DataFrame(index=GENES), layers={"counts": counts.copy()})
    adata.uns["embryo"] = {"expression": "counts", "organism": "Homo sapiens", "time_unit": "h"}
    adata.write_h5ad(tmp_path / "series.h5ad")
    encoders.model("maxtoki").write_tiny(tmp_path / "weights", GENES)
    tree = {
        "name": "tiny clock",
        "seeds": 2,
        "read": {"path": str(tmp_path / "series.h5ad"), "time_unit": "h", "dataset": None},
        "weights": str(tmp_path / "weights"),
        "val": [10.0],
        "test": [30.0],
        "training": {"context": 2, "tokens_per_cell": 16, "steps": 4, "batch": 4, "unit_h": 5.0},
    }
    (tmp_path / "clock.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "clock.yaml"


def test_a_clock_is_trained_saved_and_stands_beside_its_floors(config: Path, tmp_path: Path) -> None:
    page = clock.run(clock.load(config), tmp_path / "out")
    table = store.read_table(tmp_path / "out" / "table.csv")
    assert set(table["split"]) == {"val 10 h", "test 30 h"}
    for _, part in table.groupby("split"):
        assert part.set_index("model")["role"].to_dict() == {
            "stage 2": "ours", "random body, trained alike": "floor", "random body, frozen": "floor",
            "ridge on PCA": "floor", "train mean": "floor",
        }  # fmt: skip
        mean = part.set_index("model").loc["train mean"]
        held = float(str(part["split"].iloc[0]).split()[1])
        assert mean["value"] == pytest.approx(abs(held - np.mean([0.0, 20.0, 40.0])))  # the constant, by hand
    assert "Stage 1 weights: random" in page.read_text()
    assert "Stage 1 was trained on nothing: random weights; leaks: nothing was protected." in page.read_text()
    encoder = encoders.open_dir("maxtoki", tmp_path / "weights")
    assert stage2.load(tmp_path / "out" / "stage2", encoder).grammar.unit_h == 5.0


def test_weights_that_have_seen_what_is_protected_are_refused(config: Path, tmp_path: Path) -> None:
    (tmp_path / "weights" / "embryo-weights.json").unlink()
    corpus = {"name": "series", "parts": [{"organism": "human", "stages": ["30 h"]}]}
    (tmp_path / "weights" / "corpus.json").write_text(json.dumps(corpus))
    found = clock.load(config).model_copy(update={"protect": Protect(stages=["24-48"])})
    with pytest.raises(ConfigError, match="encoder maxtoki: found stages 30 h of human in the training corpus"):
        clock.run(found, tmp_path / "out")


def test_a_run_that_was_stopped_goes_on(config: Path, tmp_path: Path) -> None:
    """Two seeds of three networks of 4 steps; the first seed's model is trained once, and a whole run not again."""
    steps: list[int] = []

    def stop(_what: str, done: int, _of: int) -> None:
        steps.append(done)
        if len(steps) == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clock.run(clock.load(config), tmp_path / "out", tick=stop)
    clock.run(clock.load(config), tmp_path / "out", tick=lambda _what, done, _of: steps.append(done))
    assert steps == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, *[1, 2, 3, 4] * 4]
    clock.run(clock.load(config), tmp_path / "whole")
    table, whole = (store.read_table(tmp_path / name / "table.csv") for name in ("out", "whole"))
    pd.testing.assert_frame_equal(table, whole)
    clock.run(clock.load(config), tmp_path / "out", tick=lambda *_: pytest.fail("trained again"))


def test_a_wrong_key_of_the_training_is_named(config: Path) -> None:
    config.write_text(config.read_text().replace("steps:", "step:"))
    with pytest.raises(ConfigError, match=r"unknown key 'training\.step'"):
        clock.load(config)


def test_a_setting_of_the_wrong_kind_is_told(config: Path) -> None:
    config.write_text(config.read_text().replace("steps: 4", "steps: many"))
    with pytest.raises(ConfigError, match="a setting of the wrong kind"):
        clock.load(config)
