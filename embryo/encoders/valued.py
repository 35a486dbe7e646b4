"""What scGPT and Tahoe-x1 share: a cell is ``<cls>`` and its genes, each with a value; the embedding is of ``<cls>``.

**Padding is masked**, whatever the release does: with ``attn_impl: torch`` Tahoe-x1 attends to it, so that a cell's
embedding depends on the longest cell beside it. **Draws belong to genes**: a cell draws one number per gene of the
vocabulary for ties and one for the sample that fits, so that an edit of one gene moves no other gene's draw.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from torch.nn import functional

from embryo.core.checks import phrases
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, Problem, StoreError
from embryo.encoders.genes.genemap import GeneMap
from embryo.encoders.inputs.tokens import SPECIAL, Encoded, Profiles, TokenBatch, Tokens, masked_mean
from embryo.encoders.networks.value_network import ValueNetwork
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained
from embryo.encoders.weights import checkpoint

_CURE = "take all files from one release of the model"


@dataclass(frozen=True)
class Grammar:
    """How a cell is written.

    Parameters
    ----------
    genes
        Token of each target gene.
    lead
        Tokens that start a cell: ``<cls>``, and the drug's place where there is one.
    blank
        Their value.
    limit
        Tokens of a cell at most; of a cell with more genes a random sample is read.
    values
        What stands for the counts of one cell; draws of its genes from 0 to 1 as the second argument.
    top
        Value of an over-expressed gene; None where there is no highest value.

    Raises
    ------
    StoreError
        If the limit leaves no room for a gene.
    """

    genes: Int[np.ndarray, " targets"]
    lead: tuple[int, ...]
    blank: float
    limit: int
    values: Callable[[np.ndarray, np.ndarray], np.ndarray]
    top: float | None

    def __post_init__(self) -> None:
        if self.limit <= len(self.lead):
            raise StoreError(Problem(f"cells of {self.limit} tokens", f"more than {len(self.lead)}", _CURE))

    def write(
        self,
        columns: Int[np.ndarray, " found"],
        counts: Float[np.ndarray, " found"],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ids, columns and values of a cell's tokens."""
        values = self.values(counts, rng.random(len(self.genes))[columns])
        room = self.limit - len(self.lead)
        if len(columns) > room:
            turns = rng.random(len(self.genes))[columns]
            chosen = np.sort(np.argpartition(turns, room)[:room])
            columns, values = columns[chosen], values[chosen]
        n = len(self.lead)
        return (
            np.concatenate([np.array(self.lead, dtype=np.int64), self.genes[columns]]),
            np.concatenate([np.full(n, SPECIAL, dtype=np.int64), columns]),
            np.concatenate([np.full(n, self.blank), values]).astype(np.float32),
        )


class Valued(Pretrained):
    """A model whose tokens are genes with values.

    Parameters
    ----------
    targets, network, options
        See `Pretrained`.
    grammar
        How a cell is written.
    """

    poolings: ClassVar[tuple[str, ...]] = ("cls", "mean")
    network: ValueNetwork

    def __init__(self, targets: Sequence[str], network: ValueNetwork, options: Options, grammar: Grammar) -> None:
        super().__init__(targets, network, options, width=network.shape.dims)
        self.grammar = grammar
        self.pooling = self.pooling_of(options)
        self.layer = self.layer_of(options, network.shape.layers, default=network.shape.layers)

    def tokenize(self, profiles: Profiles) -> Tokens:
        """Return ``<cls>`` and the genes found in each cell, a random sample of them where they are too many."""
        rows = [self.grammar.write(*profiles.row(c), profiles.rng(c, self.seed)) for c in range(len(profiles))]
        ids, columns, values = zip(*rows, strict=True) if rows else ((), (), ())
        return Tokens(ids, columns, values)

    def forward(self, batch: TokenBatch) -> Encoded:
        """Return hidden states, and cells of length 1: what ``<cls>`` became, or the mean of the genes."""
        hidden = self.network(
            batch.ids, batch.levels, batch.keep, layer=self.layer, drugs=batch.extra.get("drug")
        ).float()
        genes = batch.keep & (batch.columns != SPECIAL)
        cell = hidden[:, 0] if self.pooling == "cls" else masked_mean(hidden, genes)
        return Encoded(functional.normalize(cell, dim=-1), hidden, batch.columns, batch.keep)

    def edit_tokens(self, tokens: Tokens, edits: Sequence[Edit], gene_map: GeneMap) -> Tokens:
        """Return tokens with genes set to bin 0 (knock-out) or to the top bin (over-expression), in all the cells.

        The token of a knocked-out gene stays and no other value moves, where `edit` takes the count away, and with it
        the token and its share in the quantiles. An over-expressed gene that is not in a cell is appended to it, one
        token beyond the limit if need be. The dose has no counterpart.

        Parameters
        ----------
        tokens
            What `tokenize` gave; not modified.
        edits
            Knock-outs and over-expressions. A gene that the model does not read changes nothing, nor does the
            knock-out of one that is not in the cell.
        gene_map
            Of the data.

        Raises
        ------
        EditError
            For other operations, all at once.
        """
        levels = self._levels(edits)
        cells = [list(cell) for cell in zip(tokens.ids, tokens.columns, tokens.values or (), strict=True)]
        for each, level in zip(edits, levels, strict=True):
            column = gene_map.column(each.gene)
            if column >= 0:
                cells = [self._set(cell, column, level) for cell in cells]
        ids, columns, values = (tuple(cell[part] for cell in cells) for part in range(3))
        return replace(tokens, ids=ids, columns=columns, values=values)

    def _set(self, cell: list[np.ndarray], column: int, level: float) -> list[np.ndarray]:
        ids, columns, values = cell
        where = columns == column
        if where.any():
            return [ids, columns, np.where(where, np.float32(level), values)]
        if not level:
            return cell
        added = np.array([level], dtype=np.float32)
        return [np.append(ids, self.grammar.genes[column]), np.append(columns, column), np.append(values, added)]

    def _levels(self, edits: Sequence[Edit]) -> list[float]:
        levels = {Operation.KNOCKOUT: 0.0} | (
            {} if self.grammar.top is None else {Operation.OVEREXPRESS: self.grammar.top}
        )
        problems = [
            Problem(
                f"{each.label} on the tokens of {self.name}",
                " or ".join(levels),
                "use edit, on gene inputs, which knows every operation",
            )
            for each in edits
            if each.operation not in levels
        ]
        if problems:
            raise EditError(*problems)
        return [levels[each.operation] for each in edits]


def vocabulary(path: Path, appended: Sequence[str]) -> dict[str, int]:
    """Return token -> row of the embedding.

    Parameters
    ----------
    path
        JSON file.
    appended
        Special tokens that the release appends, in this order, where the file lacks them.

    Raises
    ------
    StoreError
        If the rows are not 0, 1, 2, ..., each once: a gap means that entries were lost.
    """
    found = checkpoint.read_json(path)
    fine = isinstance(found, dict) and all(type(row) is int for row in found.values())
    if not fine or sorted(found.values()) != list(range(len(found))):
        what = f"{len(found):,} tokens with rows that are not 0 to {len(found) - 1:,}, each once" if fine else "no rows"
        raise StoreError(Problem(what, "a row of the embedding for each token", _CURE), subject=path.name)
    tokens: dict[str, int] = dict(found)
    for token in appended:
        tokens.setdefault(token, len(tokens))
    return tokens


def genes_of(tokens: Mapping[str, int]) -> tuple[tuple[str, ...], Int[np.ndarray, " targets"]]:
    """Return the genes of a vocabulary in the order of their rows, and these; names that start with ``<`` are none."""
    pairs = sorted((row, token) for token, row in tokens.items() if not token.startswith("<"))
    return tuple(token for _, token in pairs), np.array([row for row, _ in pairs], dtype=np.int64)


def settings(record: Any, subject: str, *, needed: Sequence[str] = (), default: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config, each of the kind of its default.

    Parameters
    ----------
    record
        What the file holds.
    subject
        Its name, for the message.
    needed
        Whole numbers of 1 or more that have no default.
    default
        Value of each setting that may be left out; a number where it is a float, a whole number where it is an int.

    Raises
    ------
    StoreError
        Naming every one that is missing or of another kind.
    """
    if not isinstance(record, Mapping):
        raise StoreError(Problem(f"a {type(record).__name__}", "settings by name", _CURE), subject=subject)
    taken = dict(default) | {key: record[key] for key in (*needed, *default) if key in record}
    bad = [f"no {key}{phrases.nearest(key, record)}" for key in needed if key not in record]
    bad += [f"{key} = {taken[key]!r}" for key in needed if key in record and not _counts(taken[key])]
    bad += [f"{key} = {taken[key]!r}" for key, value in default.items() if not _alike(taken[key], value)]
    if bad:
        raise StoreError(*(Problem(what, "a setting of the release", _CURE) for what in bad), subject=subject)
    return {key: float(value) if isinstance(default.get(key), float) else value for key, value in taken.items()}


def _counts(value: Any) -> bool:
    return type(value) is int and value > 0


def _alike(value: Any, default: Any) -> bool:
    if isinstance(default, float):
        return type(value) in (int, float)
    return isinstance(value, Mapping) if isinstance(default, Mapping) else type(value) is type(default)
