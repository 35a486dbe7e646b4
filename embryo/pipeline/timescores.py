"""One held-out part of a board, judged: by its kind, with the predictors and the floors of that kind."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd
from anndata import AnnData

from embryo.evaluate.result import Result
from embryo.evaluate.time import Predictor, Series, candidates
from embryo.evaluate.time.floors import FLOORS
from embryo.evaluate.time.judge import judge
from embryo.evaluate.time.law import law
from embryo.evaluate.time.stack import stacked
from embryo.evaluate.tracked import tracked
from embryo.pipeline import embryofolds, timeboards
from embryo.pipeline.rollouts import Tick
from embryo.pipeline.timeboards import Split, TimeBoard


@dataclass(frozen=True)
class Judged:
    """Rows, and per split the sentences that they support and what the inner hold-out chose."""

    table: pd.DataFrame
    sentences: dict[str, list[str]]
    chosen: dict[str, list[str]] = field(default_factory=dict)


SAME = "training half of that stage"
Part = tuple[str, Callable[[Tick], Judged]]


def parts(adata: AnnData, board: TimeBoard, seed: int, seeds: int) -> list[Part]:
    """Return what a board consists of: a name and the work of each part, none of it done yet."""
    draws = tuple(range(seed, seed + seeds))
    if board.kind == "embryos":
        return [("held-out embryos", lambda tick: _embryos(adata, board, draws, tick))]
    if board.kind == "law":
        return [("law", lambda tick: _law(timeboards.whole(adata, board, seed), board, draws, tick))]
    if board.kind == "cells":
        return [("other half", lambda tick: _stage(timeboards.halves(adata, board, seed), board, draws, tick))]
    times = timeboards.held_out(board, timeboards.stages(adata))
    return [(f"t = {t:g} h", _one(adata, board, t, draws)) for t in times]


def _one(adata: AnnData, board: TimeBoard, t_h: float, seeds: Sequence[int]) -> Callable[[Tick], Judged]:
    return lambda tick: _stage(timeboards.split(adata, board, t_h, seeds[0]), board, seeds, tick)


def _stage(split: Split, board: TimeBoard, seeds: Sequence[int], tick: Tick) -> Judged:
    series, truth = (
        Series.of(part, counts_grow=board.counts_grow, numbers=split.numbers) for part in (split.train, split.truth)
    )
    alone = candidates.learned(neighbours=board.neighbours and series.space > 1)
    same = [Predictor(SAME, "ceiling", lambda training, t_h, _: training.at(t_h))] if board.kind == "cells" else []
    ours, stack = stacked([*FLOORS, *alone])
    choice = stack.choose(series, split.t_h)
    result = judge(board.name, series, truth, [ours, *alone, *same], seeds=seeds, split=split.name, tick=tick)
    return _judged(result, {split.name: [choice.sentence] if choice else []})


def _law(cells: AnnData, board: TimeBoard, seeds: Sequence[int], tick: Tick) -> Judged:
    return _judged(law(cells, seeds=seeds, board=board.name, tick=tick), {})


def _embryos(adata: AnnData, board: TimeBoard, seeds: Sequence[int], tick: Tick) -> Judged:
    held = embryofolds.held_out(adata, board, seeds[0])
    t0 = embryofolds.start_h(adata, board)

    def ticking() -> Iterator[tuple[AnnData, AnnData]]:
        for k, fold in enumerate(embryofolds.folds(adata, board, seeds[0], held)):
            yield fold
            tick("folds", k + 1, len(held))

    result = tracked(
        ticking(), start_h=t0, horizons_h=board.horizons_h, seeds=len(seeds), seed=seeds[0], board=board.name
    )
    splits = [str(split) for split in dict.fromkeys(result.table["split"])]
    rest = [s for s in result.sentences if s.startswith("Chosen")]
    said = {split: [s for s in result.sentences if f", {split}" in s and s not in rest] for split in splits}
    start = f"From {t0:g} h; {len(held)} folds, {sum(map(len, held))} embryos held out."
    if board.start_h is None:
        start += " The numbers of cells of all embryos chose the start, held-out ones among them."
    return Judged(result.table, said, {splits[0]: [start, *rest]})


def _judged(result: Result, chosen: dict[str, list[str]]) -> Judged:
    sentences: dict[str, list[str]] = {}
    for split in dict.fromkeys(result.table["split"]):
        start = f"{split}: "
        sentences[split] = [s.removeprefix(start) for s in result.sentences if s.startswith(start)]
    return Judged(result.table, sentences, chosen)
