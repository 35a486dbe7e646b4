"""MaxToki taught to tell time on a series of one's own: trained, saved, and judged on stages that it never saw.

::

    out/
        config.yaml provenance.json
        stage2/         weights and record of the first seed; `embryo.encoders.stage2.load` reads them
            judged/     errors of every network that is trained: a run that was stopped goes on
        table.csv       one row per model and held-out stage, floors beside
        report.md
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import Field

from embryo import config as configs
from embryo import embed
from embryo.config import Protect, Read, Section
from embryo.core import provenance, schema, store, table
from embryo.core.errors import ConfigError, Problem
from embryo.encoders import stage2
from embryo.encoders.options import Options
from embryo.pipeline import boards, chosen, pages
from embryo.pipeline.rollouts import Tick

_BOARD, _METRIC = "hours between cells", "absolute error of hours"


class Clock(Section):
    """What to train on, and which whole stages to hold out."""

    name: str = "clock"
    seed: int = 0
    seeds: int = Field(3, ge=1)
    read: Read
    weights: Path = Field(description="folder of MaxToki (Stage 1) that you have downloaded")
    val: list[float] = Field(default_factory=list, description="held-out stages to look at while you choose, hours")
    test: list[float] = Field(min_length=1, description="held-out stages of the result, hours")
    species: str | None = None
    orthologs: Path | None = None
    device: str = "cpu"
    min_coverage: float = Field(0.5, ge=0, le=1)
    protect: Protect = Protect()
    training: dict[str, Any] = Field(default_factory=dict, description="see `embryo.encoders.stage2.Settings`")

    def settings(self) -> stage2.Settings:
        """Return the training's settings; `ConfigError` naming what is unknown or out of range."""
        known = [f.name for f in fields(stage2.Settings) if f.name != "seed"]
        unknown = [
            Problem(f"unknown key 'training.{name}'", f"one of: {', '.join(known)}", "remove or rename it")
            for name in self.training
            if name not in known
        ]
        if unknown:
            raise ConfigError(*unknown, subject=self.name)
        try:
            return stage2.Settings(**self.training, seed=self.seed)
        except TypeError as error:
            found = f"a setting of the wrong kind ({error})"
            problem = Problem(found, "numbers where numbers are due", "correct training")
            raise ConfigError(problem, subject=self.name) from error


def load(path: Path) -> Clock:
    """Read a config.

    Raises
    ------
    ConfigError
        Listing every unknown key and bad value at once.
    """
    config = configs.section(Clock, configs.read_yaml(path), subject=path.name)
    config.settings()
    return config


def run(config: Clock, out: Path, *, tick: Tick | None = None) -> Path:
    """Train on every seed, judge on the held-out stages beside the floors, and leave the first seed's model.

    Parameters
    ----------
    config
        What to do.
    out
        Folder for the results.
    tick
        Called with (what, done, of).

    Returns
    -------
    Path
        The page.

    Raises
    ------
    EmbryoError
        If data, weights or split cannot be used, or Stage 1 has seen what is protected.
    """
    pages.begin(out)
    adata = boards.source(config.read, needs=schema.Needs(times=3, counts=True), subject=config.name)
    options = Options(
        device=config.device, seed=config.seed, species=config.species, orthologs=config.orthologs, dtype="float32",
        min_coverage=config.min_coverage,
    )  # fmt: skip
    organism = config.species or schema.meta(adata).get("organism")
    protected = chosen.protected(config.protect, organism, subject=config.name)
    encoder = embed.encoder("maxtoki", config.weights, options, protected=protected, allow_leaks=config.protect.allow)
    split, settings = stage2.Split(tuple(config.val), tuple(config.test)), config.settings()

    def progress(p: stage2.Progress) -> None:
        if tick is not None:
            tick("stage 2", p.step, p.steps)

    seeds = range(config.seed, config.seed + config.seeds)
    found = stage2.compare(encoder, adata, split, settings, seeds=seeds, folder=out / "stage2", progress=progress)
    store.write_table(table.table(_rows(found.table)), out / "table.csv")
    made = provenance.provenance(config.seed, config.model_dump(mode="json"), {})
    store.write_json({**made, "encoder": encoder.provenance()}, out / "provenance.json")
    with store.atomic(out / "config.yaml") as partial:
        partial.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    with store.atomic(out / "report.md") as partial:
        partial.write_text(_page(config.name, str(made["commit"]), found, encoder.provenance()), encoding="utf-8")
    return out / "report.md"


def _page(name: str, commit: str, found: object, stage1: Mapping[str, Any]) -> str:
    seen = f"Stage 1 was trained on {stage1['corpus']}; leaks: {stage1['leaks']}."
    return f"# {name}\n\nCommit {commit}.\n\n{seen}\n\n```\n{found}\n```\n"


def _rows(errors: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield tidy rows: mean over embryos for each seed, interval over seeds."""
    for (role, stage, model), part in errors.groupby(["role", "stage_h", "model"], sort=False):
        by_seed = part.groupby("seed")["error_h"].mean().tolist()
        yield table.row(
            board=_BOARD,
            split=f"{role} {stage:g} h",
            model=str(model),
            role="ours" if model == stage2.MODEL else "floor",
            metric=_METRIC,
            unit="h",
            values=table.interval(by_seed).within(0.0),
        ) | {"n_embryos": part["embryo"].nunique()}
