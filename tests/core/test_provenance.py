"""Provenance says what is needed to make a result again, and nothing about whose machine made it."""

import json
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest

from embryo.core import provenance as module
from embryo.core.provenance import provenance
from embryo.core.store import to_plain


def test_the_record_holds_what_it_says() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    record = provenance(7, {"fit": {"steps": 3}}, {"celegans-epic": "ab12"})
    assert (record["seed"], record["config"], record["datasets"]) == (
        7,
        {"fit": {"steps": 3}},
        {"celegans-epic": "ab12"},
    )
    assert before <= datetime.fromisoformat(record["made"]) <= datetime.now(UTC)
    assert record["python"] == platform.python_version()
    assert record["platform"] == f"{platform.system()} {platform.machine()}"
    for name in ("embryo", "torch", "torchdiffeq", "zarr", "anndata", "pot"):
        assert record["packages"][name] == metadata.version(name)
    assert "pytest" not in record["packages"]  # an extra
    json.dumps(to_plain(record), allow_nan=False)


def test_folders_and_host_names_are_left_out(tmp_path: Path) -> None:
    out = f"C:{chr(92)}Users{chr(92)}me{chr(92)}cells.h5ad"
    config = {"read": {"path": tmp_path / "embryo.h5ad", "more": [str(tmp_path / "a.csv"), out, "runs/demo", "a/b"]}}
    record = provenance(0, config, {})
    assert record["config"] == {"read": {"path": "embryo.h5ad", "more": ["a.csv", "cells.h5ad", "runs/demo", "a/b"]}}
    assert config["read"]["path"] == tmp_path / "embryo.h5ad"
    text = json.dumps(to_plain(record))
    for private in (str(tmp_path), str(Path.home()), sys.prefix, str(Path(module.__file__).parents[2])):
        assert private not in text
    if len(socket.gethostname()) > 6:
        assert socket.gethostname() not in text


def git(cwd: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S607


def test_the_commit_is_the_checkouts_own() -> None:
    here = Path(module.__file__).parent
    asked = git(here, "rev-parse", "HEAD")
    if asked.returncode or git(here, "ls-files", "--error-unmatch", "provenance.py").returncode:
        pytest.skip("the package does not run from a git checkout")
    commit = provenance(0, {}, {})["commit"]
    assert commit is not None
    assert commit.removesuffix("-dirty") == asked.stdout.strip()


def test_a_package_inside_another_repository_names_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "embryo" / "core"
    package.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(package / "provenance.py"))
    assert provenance(0, {}, {})["commit"] is None  # no repository at all
    assert git(tmp_path, "init", "-q").returncode == 0
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    assert git(tmp_path, *identity, "commit", "-q", "--allow-empty", "-m", "theirs").returncode == 0
    assert provenance(0, {}, {})["commit"] is None  # a repository that does not track the package
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    assert provenance(0, {}, {})["commit"] is None  # no git
