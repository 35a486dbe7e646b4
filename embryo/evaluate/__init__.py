"""Predictions against held-out truth, always beside their floors, their ceiling and the spread of repeats.

- `positions`: where each cell is, for tracked embryos.
- `tracked`: the same forecast by an atlas of named cells, with names and without, fold by fold.
- `populations`: the embryo as a whole at later times: form, states, fates, numbers.
- `embedding`: embeddings of cells, by probes, clusters, batches and order of stages.
- `edits`: an edited roll-out against embryos that truly carry the edit.

Every function returns a `Result`: one tidy table (`embryo.core.table`) and the sentences that it supports.
"""

from embryo.evaluate.edits import edits
from embryo.evaluate.embedding import Embedding, embedding, require_floors
from embryo.evaluate.exam import Task
from embryo.evaluate.population import Population, populations
from embryo.evaluate.positions import positions
from embryo.evaluate.result import Result, Rollout
from embryo.evaluate.tracked import tracked

__all__ = [
    "Embedding",
    "Population",
    "Result",
    "Rollout",
    "Task",
    "edits",
    "embedding",
    "populations",
    "positions",
    "require_floors",
    "tracked",
]
