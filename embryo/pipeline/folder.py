"""The run folder: what a run leaves behind, stage by stage, so that it can be interrupted, resumed and read.

::

    runs/demo/
        run.json           stages done, their fingerprints, seconds and summaries; provenance
        config.yaml        the resolved config
        genes.h5ad         all cells with their genes, as read, in µm and hours
        cells.h5ad         the same cells without genes: embedding, panel, aligned positions, split
        encoder.safetensors
        couplings/  fields/  trajectories/
        tables/*.csv       pictures/*.png    film.mp4
        report.html

A stage is done when its fingerprint, made of the config that it and the stages before it depend on, stands in
``run.json`` and its outputs are there. A changed config therefore redoes what depends on the change and nothing else.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

import embryo
from embryo import config as configs
from embryo.config import Config
from embryo.core import provenance, schema, store
from embryo.core.errors import Problem, StoreError
from embryo.pipeline import places

MANIFEST = "run.json"
_BEFORE, _ASIDE = ".before", "aside"  # folder and record of what a stage that is being redone had left
_FORMAT = {"format": "embryo-run", "version": 1}


@dataclass
class RunFolder:
    """A folder that holds one run.

    Parameters
    ----------
    path
        The folder.
    config
        Resolved config of the run.
    manifest
        Contents of ``run.json``.
    signed
        Whether its provenance is of this config.
    new
        Whether the folder was made for this run; None where a run was there before.
    order
        Names of all stages of this config, in order.
    """

    path: Path
    config: Config
    manifest: dict[str, Any] = field(default_factory=dict)
    signed: bool = False
    new: bool | None = None
    order: list[str] = field(default_factory=list)

    @classmethod
    def create(cls, path: Path, config: Config) -> "RunFolder":
        """Open `path` for a run of `config`: a new folder, or one that a run was made in before.

        Paths in the config become absolute, so that the run can go on from any directory. The config of a run that has
        finished stages stays as it is until a stage is done with the new one; see `settle`.

        Raises
        ------
        StoreError
            If the folder holds something else.
        """
        places.require_no_file(path, "run folder")
        manifest, new = dict(_FORMAT), not path.exists()
        held = path.is_dir() and any(path.iterdir())
        if held:
            manifest = _manifest(path)
        path.mkdir(parents=True, exist_ok=True)
        manifest["stages"] = manifest.get("stages", {})
        run = cls(path, configs.rooted(config), manifest, new=None if held else new)
        run._put_back()
        if not run.stages:
            run.settle()
        return run

    @classmethod
    def open(cls, path: Path, overrides: tuple[str, ...] = ()) -> "RunFolder":
        """Open an existing run, with overrides of its config for this time only.

        Raises
        ------
        StoreError
            If `path` is not a run folder of this version.
        """
        manifest = _manifest(path)
        return cls(path, configs.load(path / "config.yaml", overrides), manifest)

    @property
    def stages(self) -> dict[str, Any]:
        """What is known of each finished stage."""
        stages: dict[str, Any] = self.manifest["stages"]
        return stages

    def done(self, stage: str, fingerprint: str) -> bool:
        """Whether `stage` was finished with this fingerprint and its outputs are still there."""
        record = self.stages.get(stage)
        return bool(
            record and record["fingerprint"] == fingerprint and all((self.path / o).exists() for o in record["outputs"])
        )

    def do(self, stage: str, fingerprint: str, work: Callable[[], tuple[Sequence[str], str]]) -> bool:
        """Run `work` unless it is done; returns whether it ran. `work` returns its outputs and a one-line summary.

        Redoing a stage forgets it and all that came after it: nothing of an old config stays beside a new one. Where
        `work` fails, or is interrupted, all is as it was before.
        """
        if self.done(stage, fingerprint):
            return False
        self._set_aside(self._from(stage))
        if not self.signed:
            self.sign()
        start = time.perf_counter()
        try:
            outputs, summary = work()
        except BaseException:
            self._put_back()
            raise
        del self.manifest[_ASIDE]
        self.stages[stage] = {
            "fingerprint": fingerprint,
            "outputs": list(outputs),
            "summary": summary,
            "seconds": round(time.perf_counter() - start, 1),
        }
        self.settle()
        _remove(self.path / _BEFORE)
        return True

    def _from(self, stage: str) -> list[str]:
        """Return the finished stages from this one on, in the order of the run; without one, as they were done."""
        if self.order:
            later = self.order[self.order.index(stage) :]
            return [name for name in self.stages if name in later or name not in self.order]
        return list(self.stages)[list(self.stages).index(stage) :] if stage in self.stages else []

    def abandon(self) -> None:
        """Remove what this run has made, its folder too where that was new, if no stage of it was finished."""
        if self.new is not None and not self.stages:
            for path in [self.path] if self.new else list(self.path.iterdir()):
                _remove(path)

    def settle(self) -> None:
        """Write the config and the manifest: what lies in the folder is of this config now."""
        self.manifest["name"] = self.config.name
        self._write()
        with store.atomic(self.path / "config.yaml") as partial:
            partial.write_text(configs.dump(self.config), encoding="utf-8")

    def _set_aside(self, names: Sequence[str]) -> None:
        """Move what stages left out of the way, on record, until it is known whether it is needed again."""
        self.manifest[_ASIDE] = {
            "stages": dict(self.stages),
            "provenance": self.manifest.get("provenance"),
            "outputs": self._outputs_of(names),
        }
        self.manifest["stages"] = {name: record for name, record in self.stages.items() if name not in names}
        _remove(self.path / _BEFORE)
        self._write()
        for output in self.manifest[_ASIDE]["outputs"]:
            _move(self.path / output, self.path / _BEFORE / output)

    def _put_back(self) -> None:
        """Undo `_set_aside`, that of a killed process too."""
        kept = self.manifest.get(_ASIDE)
        if kept is not None:
            for output in kept["outputs"]:
                _move(self.path / _BEFORE / output, self.path / output)
            self.manifest["stages"] = kept["stages"]
            self.manifest["provenance"] = kept["provenance"] or {}
            del self.manifest[_ASIDE]
            self._write()
        _remove(self.path / _BEFORE)

    def source(self, name: str) -> str:
        """Return the digest of a source, `contents`, as it was when a stage last used it; empty if none did."""
        return str(self.manifest.get("sources", {}).get(name, ""))

    def used(self, name: str, digest: str) -> None:
        """Keep the digest of a source that a stage has used."""
        self.manifest["sources"] = {**self.manifest.get("sources", {}), name: digest}

    def forget_others(self, stages: Sequence[str]) -> None:
        """Forget stages that this config no longer has, such as fits with further seeds, and what they left."""
        self._forget([name for name in self.stages if name not in stages])

    def _forget(self, names: Sequence[str]) -> None:
        """Drop the records of stages and their outputs."""
        for output in self._outputs_of(names):
            _remove(self.path / output)
        for name in names:
            del self.stages[name]

    def _outputs_of(self, names: Sequence[str]) -> list[str]:
        """Return the outputs of stages that no other stage made too."""
        gone = {output for name in names for output in self.stages[name]["outputs"]}
        kept = {output for name, record in self.stages.items() if name not in names for output in record["outputs"]}
        return sorted(gone - kept)

    def sign(self, datasets: dict[str, Any] | None = None) -> None:
        """Write provenance: versions, seed, config and checksums (those known before, where none are given)."""
        datasets = self.manifest.get("provenance", {}).get("datasets", {}) if datasets is None else datasets
        record = provenance.provenance(self.config.seed, self.config.model_dump(mode="json"), datasets)
        self.manifest["provenance"], self.signed = record, True
        self._write()

    def _write(self) -> None:
        store.write_json(self.manifest, self.path / MANIFEST)


def contents(path: Path | None) -> str:
    """Return a digest of a file, or of the names, sizes and times of the files of a folder; empty without a path."""
    if path is None or not path.exists():
        return ""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return fingerprint([(str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns) for p in files])


def _move(path: Path, target: Path) -> None:
    """Move a file or folder, if it is there, to the place of another."""
    if path.exists():
        _remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def cells_digest(adata: AnnData) -> str:
    """Return a digest of cells: names, labels, expression, and what else is known of each."""
    values = sparse.csr_array(adata.layers.get(schema.COUNTS, adata.X))
    parts = [np.asarray(part).tobytes() for part in (values.data, values.indices, values.indptr)]
    parts += [np.asarray(adata.obsm[key]).tobytes() for key in sorted(adata.obsm)]
    table = adata.obs.to_csv().encode() + "\n".join(map(str, adata.var_names)).encode()
    return hashlib.sha256(b"".join([*parts, table])).hexdigest()[:16]


def fingerprint(*parts: Any) -> str:
    """Return a digest of plain data, of the package version and of what came before."""
    text = json.dumps([embryo.__version__, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    cure = "choose another folder, or make a run with embryo run --out FOLDER"
    if not file.is_file():
        what = "a folder without run.json" if path.is_dir() else "nothing"
        raise StoreError(Problem(f"{what} at {path.name!r}", "a run folder", cure), subject="run folder")
    manifest = store.read_json(file)
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT["format"]:
        raise StoreError(Problem(f"{MANIFEST} of another kind", "embryo-run", cure), subject="run folder")
    if manifest.get("version") != _FORMAT["version"]:
        raise StoreError(
            Problem(
                f"run format version {manifest.get('version')}",
                f"version {_FORMAT['version']}",
                "use the embryo that made it",
            ),
            subject="run folder",
        )
    return manifest
