"""Cells as ranks: genes ordered by how far they stand above their usual level (Geneformer, MaxToki).

``v = counts / library size * 10,000 / median of the gene``, genes of the dictionary with a count, the highest first
(Theodoris et al. 2023, Nature 618:616). A cell's depth cancels. Genes with equal v stand in the order of their tokens:
upstream sorts without a rule for ties, so that their order there depends on the machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, Problem, StoreError
from embryo.encoders.inputs.tokens import SPECIAL, Profiles, Tokens
from embryo.encoders.weights import checkpoint

TIES = "stable, ties by token id"
TOKENS, MEDIANS, SYMBOLS = "token_dictionary", "gene_median_dictionary", "gene_name_id_dict"
_CONVERT = (
    "python -c \"import json, pickle, sys; json.dump(dict(pickle.load(open(sys.argv[1], 'rb'))), "
    "open(sys.argv[2], 'w'), default=float)\" {name}.pkl {name}.json"
)
_RELEASE = "take dictionaries and weights from one release"


@dataclass(frozen=True)
class Vocabulary:
    """What a rank model reads.

    Parameters
    ----------
    genes
        Ensembl ids in the order of their tokens.
    ids
        Token of each gene, ascending.
    medians
        Median of each gene's normalised counts over the cells of the corpus where it was found; same scale as
        ``counts / library size * 10,000``.
    special
        Token of each entry that is no gene, such as ``<pad>``.
    symbols
        Ensembl id of each gene symbol, where the release says it.
    files
        What was read.
    """

    genes: tuple[str, ...]
    ids: Int[np.ndarray, " genes"]
    medians: Float[np.ndarray, " genes"]
    special: Mapping[str, int]
    symbols: Mapping[str, str] | None = None
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.genes) + len(self.special)

    @classmethod
    def find(cls, folder: Path, rows: int) -> "Vocabulary":
        """Read the dictionaries that belong to a folder of weights.

        ``token_dictionary*.json`` is looked for in the folder and then beside it; of several, the one with as many
        tokens as the embedding has rows is taken, with ``gene_median_dictionary*.json`` of the same ending, and
        ``gene_name_id_dict*.json`` if it is there. Pickles are never read.

        Parameters
        ----------
        folder
            Folder of ``config.json`` and the weights.
        rows
            Rows of the embedding.

        Raises
        ------
        StoreError
            If a dictionary is absent (with the line that converts a pickle), damaged, or of another size.
        """
        near = [folder, folder.absolute().parent]
        found = [path for place in near for path in sorted(place.glob(f"{TOKENS}*.json"))]
        if not found:
            raise _absent(folder, near, TOKENS)
        sizes = {path: len(entries) for path in found if isinstance(entries := checkpoint.read_json(path), dict)}
        path = next((p for p in found if sizes.get(p) == rows), found[0])
        checkpoint.require_rows(sizes.get(path, 0), rows, subject=path.name)
        medians = path.with_name(path.name.replace(TOKENS, MEDIANS))
        if not medians.is_file():
            raise _absent(folder, [path.parent], medians.stem)
        symbols = path.with_name(path.name.replace(TOKENS, SYMBOLS))
        return cls.read(path, medians, symbols if symbols.is_file() else None)

    @classmethod
    def read(cls, tokens: Path, medians: Path, symbols: Path | None = None) -> "Vocabulary":
        """Read the dictionaries, JSON, and check them: whole numbers from 0 without gaps, a positive median per gene.

        Raises
        ------
        StoreError
            With everything that is wrong with them.
        """
        number, level = checkpoint.read_json(tokens), checkpoint.read_json(medians)
        names = None if symbols is None else checkpoint.read_json(symbols)
        if not all(isinstance(d, dict) for d in (number, level)) or not isinstance(names, dict | None):
            raise StoreError(
                Problem("a dictionary file that holds no mapping", "one JSON object in each", _RELEASE),
                subject=tokens.name,
            )
        problems = []
        if sorted(map(str, number.values())) != sorted(map(str, range(len(number)))):
            problems.append(Problem("tokens that are not 0, 1, 2, ... once each", "one token per entry", _RELEASE))
            number = {name: n for n, name in enumerate(number)}  # to find what else is wrong
        special = {name: int(n) for name, n in number.items() if name.startswith("<")}
        genes = sorted((name for name in number if name not in special), key=lambda name: int(number[name]))
        without = [g for g in genes if not (isinstance(m := level.get(g), int | float) and 0 < m < float("inf"))]
        if without:
            found = f"{len(without)} genes without a positive median: {phrases.few(without)}"
            problems.append(Problem(found, f"a median in {medians.name} for every gene of {tokens.name}", _RELEASE))
        if problems:
            raise StoreError(*problems, subject=tokens.name)
        ids = np.array([int(number[gene]) for gene in genes], dtype=np.int64)
        read = tuple(path for path in (tokens, medians, symbols) if path is not None)
        return cls(tuple(genes), ids, np.array([float(level[g]) for g in genes]), special, names, read)

    def token(self, name: str, *, subject: str) -> int:
        """Return the token of a special entry; `StoreError` where the dictionary has none."""
        if name not in self.special:
            found = f"a dictionary without {name} (special entries: {phrases.few(sorted(self.special))})"
            raise StoreError(Problem(found, name, _RELEASE), subject=subject)
        return self.special[name]


def tokenize(
    profiles: Profiles, vocabulary: Vocabulary, limit: int, *, start: int | None = None, end: int | None = None
) -> Tokens:
    """Return the genes of each cell as tokens, the highest above its median first.

    Parameters
    ----------
    profiles
        Counts over ``vocabulary.genes``.
    vocabulary
        Tokens and medians.
    limit
        Most tokens per cell, special ones included; the lowest genes are left out.
    start, end
        Special tokens before and after the genes.
    """
    counts = profiles.counts
    found = counts.data > 0
    rows = np.repeat(np.arange(len(profiles)), np.diff(counts.indptr))[found]
    columns = counts.indices[found].astype(np.int64)
    total = np.where(profiles.total > 0, profiles.total, 1.0)
    level = counts.data[found] / total[rows] * schema.TARGET_SUM / vocabulary.medians[columns]
    columns = columns[np.lexsort((vocabulary.ids[columns], -level, rows))]
    before, after = (np.array([], np.int64) if t is None else np.array([t], np.int64) for t in (start, end))
    room = limit - len(before) - len(after)
    cells = np.split(columns, np.cumsum(np.bincount(rows, minlength=len(profiles)))[:-1]) if len(profiles) else []
    blank = np.array([SPECIAL], np.int64)
    return Tokens(
        ids=tuple(np.concatenate([before, vocabulary.ids[cell[:room]], after]) for cell in cells),
        columns=tuple(
            np.concatenate([blank[: len(before)], cell[:room], blank[: len(after)]]).astype(np.int64) for cell in cells
        ),
    )


def edited(tokens: Tokens, edits: Sequence[tuple[Operation, int, int]], limit: int) -> tuple[Tokens, Tokens]:
    """Edit ranks: ``knockout`` takes the gene's token out, ``overexpress`` puts it first, found in the cell or not.

    Where a gene that comes new to the front leaves too little room, the last gene falls out. For a comparison at
    equal positions it must fall out of the unedited cell too.

    Parameters
    ----------
    tokens
        Cells as `tokenize` gives them.
    edits
        Operation, target column and token of each gene, in the order in which they are done.
    limit
        As in `tokenize`.

    Returns
    -------
    edited, comparable
        The edited cells, and the unedited ones without the genes that had to give way.
    """
    pairs = [_edited(*cell, edits, limit) for cell in zip(tokens.ids, tokens.columns, strict=True)]
    new, old = ([pair[side] for pair in pairs] for side in (0, 1))
    changed, comparable = (
        replace(tokens, ids=tuple(ids for ids, _ in side), columns=tuple(columns for _, columns in side))
        for side in (new, old)
    )
    return changed, comparable


def require_native(edits: Sequence[Edit], *, model: str) -> None:
    """Raise `EditError` for operations that have no counterpart in ranks, all at once."""
    odd = [edit for edit in edits if edit.operation not in (Operation.KNOCKOUT, Operation.OVEREXPRESS)]
    if odd:
        raise EditError(
            *(
                Problem(
                    f"{edit.label} on the tokens of {model}",
                    "knockout (the token is taken out) or overexpress (it is put first)",
                    "edit the counts instead (edit), which has every operation",
                )
                for edit in odd
            )
        )


_Cell: TypeAlias = tuple[np.ndarray, np.ndarray]  # tokens of one cell, and their columns


def _edited(
    ids: np.ndarray, columns: np.ndarray, edits: Sequence[tuple[Operation, int, int]], limit: int
) -> tuple[_Cell, _Cell]:
    new_ids, new_columns = ids, columns
    for operation, column, token in edits:
        stay = new_columns != column
        new_ids, new_columns = new_ids[stay], new_columns[stay]
        if operation is Operation.OVEREXPRESS:
            first = int(new_columns[:1].tolist() == [SPECIAL])  # after a special token at the front
            new_ids, new_columns = np.insert(new_ids, first, token), np.insert(new_columns, first, column)
    over = max(len(new_ids) - limit, 0)
    return _without_last(new_ids, new_columns, over), _without_last(ids, columns, over)


def _without_last(ids: np.ndarray, columns: np.ndarray, over: int) -> _Cell:
    """Return a cell without its last `over` genes; what stands after the genes stays."""
    genes = np.flatnonzero(columns != SPECIAL)
    out = genes[max(len(genes) - over, 0) :]
    return np.delete(ids, out), np.delete(columns, out)


def _absent(folder: Path, places: Sequence[Path], name: str) -> StoreError:
    pickles = sorted(p.stem for place in places for p in place.glob(f"{name}*.pkl"))
    if pickles:
        found = f"{phrases.few([f'{p}.pkl' for p in pickles])} but no {name}*.json"
        cure = (
            "a pickle runs code when it is opened, so embryo never opens one; if you trust the file, convert it in an "
            f"interpreter of your own: {_CONVERT.format(name=pickles[0])}"
        )
    else:
        found = f"no {name}*.json in the folder of weights or beside it"
        cure = f"put the release's {name}, as JSON, into the folder; from a pickle: {_CONVERT.format(name=name)}"
    return StoreError(Problem(found, f"{name}*.json", cure), subject=folder.name)
