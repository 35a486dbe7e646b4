"""Cells as sentences: gene symbols in upper case, the most expressed first (Cell2Sentence; Rizvi et al. 2025, bioRxiv).

Counts are scaled to 10,000 and taken as ``log10(1 + x)``. Genes with equal counts stand in an order drawn for the cell.
Back from a sentence, expression is linear in ``log10(rank)``, with a line fitted on cells (`RankLine`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt64

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.encoders.inputs.tokens import Profiles


def hashed(words: Sequence[str]) -> UInt64[np.ndarray, " words"]:
    """Return a number for each word that depends on nothing else."""
    return np.asarray(pd.util.hash_array(np.array(words, dtype=object), categorize=False), dtype=np.uint64)


def drawn(words: UInt64[np.ndarray, " words"], key: np.uint64, seed: int) -> UInt64[np.ndarray, " words"]:
    """Return a random number for each word of a cell, from the word's hash, the cell's key and the seed alone."""
    cell = pd.util.hash_array(np.array([key ^ np.uint64(seed)], dtype=np.uint64))[0]
    return np.asarray(pd.util.hash_array(words ^ cell), dtype=np.uint64)


def order(cells: Profiles, words: UInt64[np.ndarray, " words"], seed: int, k: int) -> list[Int[np.ndarray, " _"]]:
    """Return the columns of the first `k` genes of each cell's sentence.

    Parameters
    ----------
    cells
        Counts; the scale of a cell does not change its order.
    words
        `hashed` symbol of each column.
    seed
        Ties are drawn from the seed, the cell's key and the gene: neither other cells nor the order of the columns nor
        an edit of another gene changes them.
    k
        Longest sentence.
    """
    out = []
    for cell in range(len(cells)):
        columns, counts = cells.row(cell)
        columns, counts = columns[counts > 0], counts[counts > 0]
        out.append(columns[np.lexsort((drawn(words[columns], cells.keys[cell], seed), -counts))[:k]])
    return out


def keys(cells: Profiles, words: UInt64[np.ndarray, " words"]) -> UInt64[np.ndarray, " cells"]:
    """Return a key for each cell from its symbols and their shares, whatever its depth and the order of the columns."""
    counts = cells.counts
    share = counts.data / np.repeat(cells.total, np.diff(counts.indptr))
    entry = pd.util.hash_array(words[counts.indices] ^ pd.util.hash_array(share))
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(entry, dtype=np.uint64)])
    return np.asarray(total[counts.indptr[1:]] - total[counts.indptr[:-1]], dtype=np.uint64)


@dataclass(frozen=True)
class RankLine:
    """Expression as a line in the logarithm of the rank, ``log10(1 + x) = intercept + slope log10(rank)``.

    Parameters
    ----------
    slope, intercept
        x is counts scaled to 10,000 per cell; rank starts at 1.
    r2
        Share of the variance over the fitted genes and cells that the line explains.
    """

    slope: float
    intercept: float
    r2: float

    @classmethod
    def fit(cls, cells: Profiles, sentences: Sequence[Int[np.ndarray, " _"]]) -> "RankLine":
        """Fit the line by least squares on the genes of the sentences of `cells`.

        Raises
        ------
        SchemaError
            If the sentences hold fewer than two genes each, which make no line.
        """
        if max(map(len, sentences), default=0) < 2:
            raise SchemaError(Problem("sentences of one gene", "two genes or more", "give cells with more genes"))
        rank = np.concatenate([np.arange(1, len(s) + 1) for s in sentences])
        level = np.concatenate(
            [cells.counts[[row]].toarray().ravel()[s] / max(cells.total[row], 1.0) for row, s in enumerate(sentences)]
        )
        x, y = np.log10(rank), np.log10(1 + level * schema.TARGET_SUM)
        slope, intercept = np.polynomial.Polynomial.fit(x, y, 1).convert().coef[::-1]
        left = y - intercept - slope * x
        return cls(float(slope), float(intercept), float(1 - left.var() / y.var()) if y.var() > 0 else 1.0)

    def expression(self, words: Sequence[str], genes: Sequence[str]) -> Float[np.ndarray, " genes"]:
        """Return ``log(1 + x)``, natural as everywhere in embryo, of each gene that a sentence names; else 0.

        A gene that stands twice takes the mean of its ranks, as upstream does; words that are no gene take a rank too.
        """
        ranks: dict[str, list[int]] = {}
        for rank, word in enumerate(words, 1):
            ranks.setdefault(word, []).append(rank)
        level = [
            self.intercept + self.slope * np.log10(np.mean(ranks[gene.upper()])) if gene.upper() in ranks else 0.0
            for gene in genes
        ]
        return np.asarray(np.maximum(np.array(level, dtype=np.float64), 0.0) * np.log(10))
