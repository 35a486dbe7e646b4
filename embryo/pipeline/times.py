"""The evaluation of dynamics as one job: boards -> held-out stages -> a table and a page, resumed where it was.

::

    out/
        config.yaml             the resolved config
        boards/BOARD/NN.csv .json   what was found on a split: rows, sentences, what the inner hold-out chose
        table.csv report.md report.html provenance.json
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from pydantic import Field
from threadpoolctl import threadpool_limits

from embryo import config as configs
from embryo.config import Section
from embryo.core import schema, store
from embryo.core.errors import ConfigError
from embryo.pipeline import pages, places, timeboards, times_page, timescores
from embryo.pipeline.folder import cells_digest, contents, fingerprint
from embryo.pipeline.rollouts import Tick
from embryo.pipeline.timeboards import TimeBoard
from embryo.pipeline.timescores import Judged

_LEAST_SEEDS = 5


class Times(Section):
    """What to hold out of which series. The floors and the ceiling are always there."""

    name: str = "times"
    seed: int = 0
    seeds: int = Field(_LEAST_SEEDS, ge=_LEAST_SEEDS, description="fits, draws of random floors, bootstraps")
    boards: list[TimeBoard] = Field(min_length=1)


def load(path: Path, overrides: Sequence[str] = ()) -> Times:
    """Read the config of an evaluation, or of a run: its cells, each stage held out.

    Raises
    ------
    ConfigError
        Listing every unknown key and bad value at once, and boards that are called alike.
    """
    tree = configs.read_yaml(path)
    if "boards" not in tree:
        run = configs.load(path, tuple(overrides))
        return Times(name=run.name, seed=run.seed, seeds=max(run.seeds, _LEAST_SEEDS), boards=[timeboards.of_run(run)])
    for text in overrides:
        configs.override(tree, text)
    config = configs.section(Times, tree, subject=path.name)
    twice = places.alike([b.name for b in config.boards], "board")
    if twice:
        raise ConfigError(*twice, subject=path.name)
    return config


def run(config: Times, out: Path, *, tick: Tick | None = None, said: Callable[[str, str], None] | None = None) -> Path:
    """Judge every board; what the same code found before with the same config and cells is not done again.

    Parameters
    ----------
    config
        What to judge.
    out
        Folder for the results; made if absent.
    tick
        Called with (what, done, of) while work goes on.
    said
        Called with (board, summary) when a board is done.

    Returns
    -------
    Path
        The page, ``report.md``; ``report.html``, ``table.csv`` lie beside it.

    Raises
    ------
    EmbryoError
        If a board cannot be read.
    """

    def judged(board: TimeBoard, commit: str) -> times_page.Found:
        return _Job(config, board, out, commit, tick or (lambda *_: None)).run()

    return pages.judge(config, out, times_page, judged, said=said)


@dataclass
class _Job:
    """One board."""

    config: Times
    board: TimeBoard
    out: Path
    commit: str  # what another commit made is made again, so that the page's commit is true
    tick: Tick

    def run(self) -> times_page.Found:
        """Read, hold out, fit and judge."""
        adata = timeboards.load(self.board, self.config.seed)
        pages.keep_config(self.config, self.out)
        digest = cells_digest(adata)
        how = self.board.model_dump(mode="json", exclude={"notes"})
        mark = fingerprint(
            self.commit, digest, contents(self.board.read.path), how, self.config.seed, self.config.seeds
        )
        judged = []
        with threadpool_limits(1):  # many small fits: threads would only wait for each other
            parts = timescores.parts(adata, self.board, self.config.seed, self.config.seeds)
            for k, (name, work) in enumerate(parts):
                judged.append(self._part(name, work, k, fingerprint(mark, name)))
                self.tick(self.board.name, k + 1, len(parts))
        table = pd.concat([one.table for one in judged], ignore_index=True)
        sentences = {split: said for one in judged for split, said in one.sentences.items()}
        chosen = {split: said for one in judged for split, said in one.chosen.items()}
        notes = times_page.notes(self.board)
        return times_page.Found(
            self.board.name, _facts(adata), digest, table, sentences, notes, chosen, self.board.kind
        )

    def _part(self, name: str, work: Callable[[Tick], Judged], k: int, mark: str) -> Judged:
        folder = self.out / "boards" / places.slug(self.board.name)
        paths = [folder / f"{k:02d}.{kind}" for kind in ("csv", "json")]
        if all(path.is_file() for path in paths):
            kept = store.read_json(paths[1])
            if kept.get("fingerprint") == mark:
                return Judged(store.read_table(paths[0]), kept["sentences"], kept["chosen"])
        judged = work(lambda what, done, of: self.tick(f"{self.board.name}, {name}: {what}", done, of))
        folder.mkdir(parents=True, exist_ok=True)
        store.write_table(judged.table, paths[0])
        record: dict[str, Any] = {"fingerprint": mark, "sentences": judged.sentences, "chosen": judged.chosen}
        store.write_json(record, paths[1])
        return judged


def _facts(adata: AnnData) -> str:
    t = adata.obs[schema.TIME].to_numpy(float)
    embryos = adata.obs[schema.EMBRYO].nunique()
    organism = str(schema.meta(adata).get("organism", "organism not said"))
    span = f"{t.min():g} to {t.max():g} h"
    return f"{adata.n_obs:,} cells of {embryos} embryos at {len(set(t))} times, {span}; {organism}"
