"""For every cell the k cells of another cloud that are cheapest to reach: squared distance less the price there.

Distances are matrix products of single precision, in blocks, one thread each; memory is that of the answer. Where the
other cloud is large only the most promising nodes of its hierarchy are searched.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Float, Float32, Int32
from threadpoolctl import ThreadpoolController

_BLOCK = 128  # cells that are searched for together; neighbours, as they follow the order of a hierarchy
_NODE = 64  # cells of the other cloud that are searched or passed over together
_CHUNK = 4096  # columns of one matrix product
_REACH = 16384  # cells of the other cloud that are searched for each block


class Cheapest(NamedTuple):
    """The k cheapest of every cell, the cheapest first.

    Parameters
    ----------
    rows
        Rows of the other cloud.
    cost
        Squared distance less the price, with the rounding of single precision.
    """

    rows: Int32[np.ndarray, "cells k"]
    cost: Float32[np.ndarray, "cells k"]


def cheapest(
    x: Float32[np.ndarray, "cells dims"],
    others: Float32[np.ndarray, "others dims"],
    price: Float[np.ndarray, " others"],
    k: int,
    *,
    reach: int | None = _REACH,
) -> Cheapest:
    """Return for every cell the `k` others of least ``|x - y|^2 - price(y)``.

    Parameters
    ----------
    x, others
        Two clouds, both in the order of their hierarchies where `reach` is below the number of others.
    price
        Of every other cell, in units of squared distance.
    k
        How many, at most the number of others.
    reach
        Others that are looked at for each block of cells; None for all of them.
    """
    k = min(k, len(others))
    found = Cheapest(np.full((len(x), k), -1, np.int32), np.full((len(x), k), np.finfo(np.float32).max, np.float32))
    offset = np.einsum("ij,ij->i", others, others) - price.astype(np.float32)
    nodes = None if reach is None or len(others) <= reach else _Nodes(others, offset, reach)

    def search(start: int) -> None:
        block = slice(start, start + _BLOCK)
        rows = np.arange(len(others), dtype=np.int32) if nodes is None else nodes.near(x[block])
        for first in range(0, len(rows), _CHUNK):
            some = rows[first : first + _CHUNK]
            columns = slice(first, first + _CHUNK) if nodes is None else some
            costs = x[block] @ (-2 * others[columns]).T
            costs += offset[columns]
            _keep(costs, some, found.cost[block], found.rows[block])

    with threads() as together:
        together(search, range(0, len(x), _BLOCK))
    found.cost[:] += np.einsum("ij,ij->i", x, x)[:, None]
    return found


@contextmanager
def threads() -> Iterator[Callable[[Callable[[int], None], Iterable[int]], None]]:
    """Give a way to do work side by side: a thread for each processor to use, a single one for products within each.

    Many small teams of threads would wait for one another on a busy machine; these never wait.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(int(asked), usable) if asked.isdigit() and int(asked) else usable
    with _libraries().limit(limits=1), ThreadPoolExecutor(workers) as pool:

        def together(work: Callable[[int], None], items: Iterable[int]) -> None:
            for _ in pool.map(work, items):
                pass

        yield together


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


class _Nodes:
    """Runs of neighbouring cells, searched whole or not at all."""

    def __init__(
        self, others: Float32[np.ndarray, "others dims"], offset: Float32[np.ndarray, " others"], reach: int
    ) -> None:
        self.starts = np.linspace(0, len(others), len(others) // _NODE + 1).astype(np.int32)
        size = np.diff(self.starts).astype(np.float32)
        self.centre = np.add.reduceat(others, self.starts[:-1], axis=0) / size[:, None]
        self.offset = np.add.reduceat(offset, self.starts[:-1]) / size  # with it a product gives the mean over a node
        self.many = max(1, reach // _NODE)

    def near(self, block: Float32[np.ndarray, "cells dims"]) -> Int32[np.ndarray, " rows"]:
        """Rows of the nodes whose mean cost is least for some cell of the block."""
        cost = block @ (-2 * self.centre).T + self.offset
        cost -= cost.min(axis=1, keepdims=True)
        chosen = np.sort(np.argpartition(cost.min(axis=0), self.many - 1)[: self.many])
        return np.concatenate([np.arange(self.starts[c], self.starts[c + 1], dtype=np.int32) for c in chosen])


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "arcp", "afn"})
@no_type_check
def _keep(costs, columns, cost, rows):
    """Sort the columns of each row that are cheaper than its last into it."""
    last = cost.shape[1] - 1
    for r in range(costs.shape[0]):
        best, who, worst = cost[r], rows[r], cost[r, last]
        for first in range(0, costs.shape[1], 64):
            end = min(first + 64, costs.shape[1])
            least = costs[r, first]
            for j in range(first, end):
                least = min(least, costs[r, j])
            if least >= worst:
                continue
            for j in range(first, end):
                c = costs[r, j]
                if c < worst:
                    p = last
                    while p > 0 and best[p - 1] > c:
                        best[p], who[p] = best[p - 1], who[p - 1]
                        p -= 1
                    best[p], who[p] = c, columns[j]
                    worst = best[last]
