"""The evaluation of predicted knock-outs as one job: boards -> truth and predictors -> a table and a page, resumed.

::

    out/
        config.yaml             the resolved config
        truth/DIGEST/           simulated embryos, made once
        boards/BOARD.csv .json  what was found on a board, and the sentences
        table.csv report.md report.html provenance.json
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field
from threadpoolctl import threadpool_limits

from embryo import config as configs
from embryo.config import Section
from embryo.core import store
from embryo.core.errors import ConfigError, Problem
from embryo.evaluate.perturbation import floors, halves, judge, same_law
from embryo.pipeline import knockoutboards, knockoutpredictors, knockouts_page, pages, places
from embryo.pipeline.folder import fingerprint
from embryo.pipeline.knockoutboards import Loaded
from embryo.pipeline.knockoutdials import ChimeraBoard, KnockoutBoard, SyntheticBoard
from embryo.pipeline.rollouts import Tick

_LEAST_SEEDS = 3


class Knockouts(Section):
    """What knock-outs to judge, and on what. Floors and ceilings are always there."""

    name: str = "perturbation"
    seed: int = 0
    seeds: int = Field(_LEAST_SEEDS, ge=_LEAST_SEEDS, description="fits and starts of what is random")
    boards: list[Annotated[SyntheticBoard | ChimeraBoard, Field(discriminator="kind")]] = Field(min_length=1)


def load(path: Path, overrides: Sequence[str] = ()) -> Knockouts:
    """Read the config of an evaluation.

    Raises
    ------
    ConfigError
        Listing every unknown key and bad value at once, unknown models, and boards that are called alike.
    """
    tree = configs.read_yaml(path)
    for text in overrides:
        configs.override(tree, text)
    for board in tree.get("boards", []) if isinstance(tree.get("boards"), list) else []:
        if isinstance(board, dict):
            board.setdefault("kind", "synthetic")
    config = configs.section(Knockouts, tree, subject=path.name)
    problems = places.alike([b.name for b in config.boards], "board")
    known = knockoutpredictors.names()
    problems += [
        Problem(f"model {m!r} of {b.name}", f"one of {', '.join(known)}", "correct models")
        for b in config.boards
        for m in b.models
        if m not in known
    ]
    if problems:
        raise ConfigError(*problems, subject=path.name)
    return config


def run(
    config: Knockouts, out: Path, *, tick: Tick | None = None, said: Callable[[str, str], None] | None = None
) -> Path:
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

    def judged(board: KnockoutBoard, commit: str) -> knockouts_page.Found:
        return _Job(config, board, out, commit, tick or (lambda *_: None)).run()

    return pages.judge(config, out, knockouts_page, judged, said=said)


@dataclass
class _Job:
    """One board."""

    config: Knockouts
    board: KnockoutBoard
    out: Path
    commit: str  # what another commit made is made again, so that the page's commit is true
    tick: Tick

    def run(self) -> knockouts_page.Found:
        """Load or simulate, predict and judge."""
        seed, seeds = self.config.seed, self.config.seeds
        loaded = knockoutboards.load(self.board, self.out, self.commit, seed=seed, seeds=seeds, tick=self.tick)
        pages.keep_config(self.config, self.out)
        how = self.board.model_dump(mode="json", exclude={"notes"})
        mark = fingerprint(self.commit, loaded.digest, how, seed, seeds)
        paths = [self.out / "boards" / f"{places.slug(self.board.name)}.{kind}" for kind in ("csv", "json")]
        if all(p.is_file() for p in paths) and store.read_json(paths[1]).get("fingerprint") == mark:
            table, record = store.read_table(paths[0]), store.read_json(paths[1])
        else:
            with threadpool_limits(1):  # many small fits: threads would only wait for each other
                table, sentences = self._judged(loaded)
            record = {"fingerprint": mark, "sentences": sentences}
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            store.write_table(table, paths[0])
            store.write_json(record, paths[1])
        return knockouts_page.Found(
            self.board.name, loaded.facts, loaded.digest, table, tuple(record["sentences"]), loaded.notes
        )

    def _judged(self, loaded: Loaded) -> tuple[pd.DataFrame, list[str]]:
        ours = knockoutpredictors.build(self.board.models, loaded.known)
        law = [same_law(loaded.law)] if loaded.law else []
        every = [*ours, *floors(loaded.trial), halves(loaded.trial), *law]
        seeds = tuple(range(self.config.seed, self.config.seed + self.config.seeds))
        result = judge(
            loaded.trial, every, seeds=seeds, tick=lambda what, k, n: self.tick(f"{self.board.name}: {what}", k, n)
        )
        silent = [p.name for p in ours if p.name not in set(result.table["model"])]
        said = [f"{name}: no prediction." for name in silent] + self._unpredicted(loaded, len(ours) - len(silent))
        doubts = [sentence for p in ours for sentence in p.doubts()]
        return result.table, [*said, *doubts, *result.sentences]

    @staticmethod
    def _unpredicted(loaded: Loaded, answers: int) -> list[str]:
        """Say why nothing of ours predicts, where nothing does: an honest gap is a result too."""
        if answers:
            return []
        known, why = loaded.known, []
        if known.end_h <= known.start_h:
            why.append("one stage alone holds no law of motion")
        outside = sorted({e.gene for e in loaded.trial.edits.values()} - set(known.panel))
        if outside:
            why.append(f"{', '.join(outside)} is not among the measured genes, so that no edit can act on it")
        return [f"No prediction of ours: {'; '.join(why) or 'no model is named'}."]
