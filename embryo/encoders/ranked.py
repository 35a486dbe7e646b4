"""What the two rank models share: dictionary, tokens between special ones, perturbation of ranks and its score."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float
from torch import nn

from embryo.core.edit import Edit
from embryo.encoders.genes.genemap import GeneMap
from embryo.encoders.inputs import ranking
from embryo.encoders.inputs.ranking import Vocabulary
from embryo.encoders.inputs.tokens import Axes, Profiles, Tokens
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained
from embryo.encoders.weights.checkpoint import sha256


class Ranked(Pretrained):
    """A model that reads a cell as its genes in the order of ``counts / library size / median``.

    Parameters
    ----------
    vocabulary
        Tokens and medians.
    network, options, width
        As in `Pretrained`.
    limit
        Most tokens per cell, special ones included.
    """

    ids = "ensembl"
    axes = Axes("identity", "none: the order says it", f"ranked by counts / median ({ranking.TIES}); truncated")
    frame: tuple[str | None, str | None] = (None, None)  # special entries before and after the genes

    def __init__(self, vocabulary: Vocabulary, network: nn.Module, options: Options, *, width: int, limit: int) -> None:
        super().__init__(vocabulary.genes, network, options, width=width, symbols=vocabulary.symbols)
        self.vocabulary, self.limit = vocabulary, limit

    @classmethod
    def from_dir(cls, folder: str | Path, options: Options | None = None) -> "Ranked":
        """Open a folder, and keep the checksums of the dictionaries too where they lie beside it (``../name``)."""
        encoder = super().from_dir(folder, options)
        assert isinstance(encoder, Ranked)  # noqa: S101  what `read` of this class gives
        place = Path(folder).absolute()
        beside = {f"../{f.name}": sha256(f) for f in encoder.vocabulary.files if f.absolute().parent != place}
        encoder.weights = replace(encoder.weights, files={**encoder.weights.files, **beside})
        return encoder

    def tokenize(self, profiles: Profiles) -> Tokens:
        """Return the genes of every cell, the highest above its median first; see `ranking.tokenize`."""
        start, end = (None if t is None else self.vocabulary.token(t, subject=self.name) for t in self.frame)
        return ranking.tokenize(profiles, self.vocabulary, self.limit, start=start, end=end)

    def edit_tokens(self, tokens: Tokens, edits: Sequence[Edit], gene_map: GeneMap) -> Tokens:
        """Return the tokens after the upstream perturbation: knocked-out genes taken out, over-expressed ones first.

        Raises
        ------
        EditError
            For any other operation.
        """
        return self._edited(tokens, edits, gene_map)[0]

    def comparable(self, tokens: Tokens, edits: Sequence[Edit], gene_map: GeneMap) -> Tokens:
        """Return the unedited tokens without the genes that a full cell had to give up for the edit."""
        return self._edited(tokens, edits, gene_map)[1]

    def shift(
        self, adata: AnnData, edits: Sequence[Edit], goal: Float[np.ndarray, " dims"] | None = None
    ) -> Float[np.ndarray, " cells"]:
        """Return the score of an in-silico perturbation for every cell.

        Parameters
        ----------
        adata
            Cells with raw counts.
        edits
            Knock-outs and over-expressions, done on the tokens.
        goal
            Centroid of the embeddings of a state.

        Returns
        -------
        array
            Cosine between the edited and the unedited embedding; with a `goal`, how much nearer the cell came to it:
            ``cos(edited, goal) - cos(unedited, goal)``.
        """
        gene_map = self.map_genes(adata)
        out: np.ndarray = np.empty(adata.n_obs)
        for rows, cells in self.profiles(adata, gene_map):
            new, old = (self.encode_tokens(t) for t in self._edited(self.tokenize(cells), edits, gene_map))
            out[rows] = _cosine(new, old) if goal is None else _cosine(new, goal) - _cosine(old, goal)
        return out

    def _edited(self, tokens: Tokens, edits: Sequence[Edit], gene_map: GeneMap) -> tuple[Tokens, Tokens]:
        ranking.require_native(edits, model=self.name)
        found = [(edit.operation, gene_map.column(edit.gene)) for edit in edits]
        known = [(how, column, int(self.vocabulary.ids[column])) for how, column in found if column >= 0]
        return ranking.edited(tokens, known, self.limit)


def write_dictionaries(folder: Path, genes: Sequence[str], special: Sequence[str], seed: int, ending: str = "") -> int:
    """Write a dictionary and medians drawn with `seed` over `genes`, and return the number of tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*special, *genes]
    medians = np.exp(np.random.default_rng(seed).normal(1.0, 0.7, len(genes)))
    contents: Mapping[str, Any] = {
        ranking.TOKENS: {name: n for n, name in enumerate(names)},
        ranking.MEDIANS: dict(zip(genes, medians.tolist(), strict=True)),
    }
    for name, content in contents.items():
        (folder / f"{name}{ending}.json").write_text(json.dumps(content), encoding="utf-8")
    return len(names)


def _cosine(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " cells"]:
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(axis=-1) / np.maximum(norms, np.finfo(np.float64).tiny), dtype=np.float64)
