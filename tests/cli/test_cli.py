"""The command line as a person meets it: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import embryo
from embryo import cli, encoders
from embryo.core import store

if TYPE_CHECKING:
    from broken import Broken

TINY = """
name: tiny
seeds: 2
read: {params: {n_embryos: 3, n_edited: 1, times_h: [4.0, 6.0, 8.0], measurement: {n_genes: 40}}}
split: {hold_out: 1}
embed: {dims: 5}
couple: {max_cells: 200}
fit: {steps: 20, width: 16}
simulate: {step_h: 1.0, save_every_h: 2.0, max_cells: 300}
measure: {max_cells: 200}
render: {film: false}
"""


def call(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "EMBRYO_GL": "off", "COLUMNS": "400", **environment}
    return subprocess.run(
        [sys.executable, "-m", "embryo.cli", *words], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(TINY)
    done = call("run", "tiny.yaml", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_leaves_a_page_tables_pictures_and_says_so(tiny: Path) -> None:
    run = tiny / "run"
    page = (run / "report.html").read_text(encoding="utf-8")
    for words in ("no change", "half against half of the truth", "measured wild type", "Tier C", "knockout tail"):
        assert words in page
    assert (run / "pictures/embryos.png").stat().st_size > 10_000
    table = store.read_table(run / "tables/edits.csv")
    assert {"ours", "floor", "ceiling"} <= set(table["role"])
    shown = call("show", "run", cwd=tiny)
    assert shown.returncode == 0
    assert "perturb" in shown.stdout
    assert "floor" in shown.stdout or "not better than" in shown.stdout


def test_tables_of_runs_become_one_page_with_the_commit(tiny: Path) -> None:
    done = call("tables", "run", "--out", "results.md", cwd=tiny)
    assert done.returncode == 0, done.stderr
    page = (tiny / "results.md").read_text(encoding="utf-8")
    assert "Commit" in page
    assert "| floor |" in page
    assert "effect recovery in fates" in page


def test_running_again_does_nothing_and_a_changed_edit_redoes_only_what_depends_on_it(tiny: Path) -> None:
    before = store.read_json(tiny / "run/run.json")["stages"]
    again = call("run", "tiny.yaml", "--out", "run", cwd=tiny)
    assert again.returncode == 0, again.stderr
    assert store.read_json(tiny / "run/run.json")["stages"] == before
    other = call("run", "tiny.yaml", "--out", "run", "--set", "render.fps=9", cwd=tiny)
    assert other.returncode == 0, other.stderr
    after = store.read_json(tiny / "run/run.json")["stages"]
    same = call("run", "run", cwd=tiny)
    assert same.returncode == 0, same.stderr
    assert store.read_json(tiny / "run/run.json")["stages"] == after
    changed = {name for name in after if after[name]["fingerprint"] != before[name]["fingerprint"]}
    assert changed == {"render", "report"}
    fits = [name for name in after if name.startswith("fit")]
    assert [after[name] for name in fits] == [before[name] for name in fits]


def test_help_and_version_are_quick_and_quiet(tmp_path: Path) -> None:
    assert embryo.__version__ in call("--version", cwd=tmp_path).stdout
    text = call("--help", cwd=tmp_path).stdout
    for command in ("run", "show", "check", "convert", "data"):
        assert command in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "nowhere.yaml"), "no file 'nowhere.yaml'"),
        (("run", "--set", "fit.stepz=3"), "unknown key 'fit.stepz'"),
        (("run", "--set", "perturb.edits=[{gene: nope}]", "--set", "read.dataset=nosuch"), "nosuch"),
        (("show", "."), "run folder"),
        (("simulate", "--until-h", "3"), "--until-h without --start"),
        (("check", "nowhere.h5ad"), "nowhere.h5ad"),
        (("data", "card", "nosuch"), "nosuch"),
        (("data", "fetch", "celegans-epic", "--mirror", "nowhere"), "nowhere"),
        (("check", "empty.csv"), "empty"),
        (("check", "words.h5ad"), "words.h5ad"),
        (("convert", "words.h5ad", "--out", "new.h5ad"), "words.h5ad"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_is_told_without_a_traceback(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "words.h5ad").write_text("not an h5ad")
    before = sorted(p.name for p in tmp_path.iterdir())
    done = call(*words, cwd=tmp_path, EMBRYO_DATA_DIR=str(tmp_path / "cache"))
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert says in done.stderr
    assert "expected" in done.stderr
    left = sorted(p.name for p in tmp_path.iterdir() if p.name not in ("cache", "runs"))
    assert left == before


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("do not touch")
    done = call("run", "--out", "mine", cwd=tmp_path)
    assert done.returncode == 1
    assert "run.json" in done.stderr
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_every_broken_file_is_told_by_check_without_a_traceback(
    broken_file: "Broken", capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, for speed: the same `main` that the command calls."""
    folder = broken_file.path.parent
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["embryo", "check", *broken_file.argv])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    told = capsys.readouterr()
    assert stop.value.code == 1
    assert "Traceback" not in told.err + told.out
    for words in broken_file.says:
        assert words in told.err
    assert sorted(folder.rglob("*")) == before


# ---------------------------------------------------------------- encoders


def test_every_encoder_is_listed_and_has_a_card(tmp_path: Path) -> None:
    listed = call("encoders", "list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    for name in (*encoders.names(), "precomputed"):
        assert f"\n{name} - " in f"\n{listed.stdout}"
    card = call("encoders", "card", "cellfm", cwd=tmp_path)
    assert "CC BY-NC-ND" in card.stdout
    unknown = call("encoders", "card", "cellfn", cwd=tmp_path)
    assert unknown.returncode == 1
    assert "did you mean 'cellfm'?" in unknown.stderr


def test_a_file_is_embedded_with_the_weights_of_a_folder(tmp_path: Path, human_cells_file: Path) -> None:
    genes = ad.read_h5ad(human_cells_file).var_names
    encoders.model("geneformer").write_tiny(tmp_path / "weights", list(genes))
    words = ["embed", human_cells_file.name, "--encoder", "geneformer", "--weights", "weights", "--out", "out.h5ad"]
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "geneformer, random weights, 32 dimensions" in done.stdout
    assert "30 of 30 genes read" in done.stdout
    made = ad.read_h5ad(tmp_path / "out.h5ad")
    assert made.obsm["X_embed"].shape == (20, 32)
    assert made.uns["embryo"]["embeddings"]["X_embed"]["weights"] == "random"
    reduced = call(*words, "--set", "dims=3", "--set", "pooling=mean", cwd=tmp_path)
    assert reduced.returncode == 0, reduced.stderr
    assert ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_embed"].shape == (20, 3)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--encoder", "geneformer"], "embed.encoder = geneformer without embed.weights"),
        (["--encoder", "genefromer"], "found embed.encoder = 'genefromer'; expected Input should be 'pca'"),
        (["--encoder", "geneformer", "--weights", "nowhere"], "no such file or folder"),
        (["--set", "layers=3"], "unknown key 'embed.layers' (did you mean 'layer'?)"),
        (["--out", "out.zarr"], "a name ending in .h5ad"),
    ],
)
def test_what_cannot_be_embedded_is_told_without_a_traceback(
    tmp_path: Path, human_cells_file: Path, words: list[str], found: str
) -> None:
    done = call("embed", human_cells_file.name, "--out", "out.h5ad", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert found in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == [human_cells_file.name]


@pytest.fixture
def human_cells_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(2.0, (20, 30)) + 1.0)
    names = [f"ENSG{k:011d}" for k in range(30)]
    adata = ad.AnnData(counts, pd.DataFrame(index=[f"c{k}" for k in range(20)]), pd.DataFrame(index=names))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"
