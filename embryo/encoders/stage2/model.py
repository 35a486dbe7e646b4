"""A trained Stage 2: tells the hours between cells, and how likely a cell is after a time; kept as safetensors."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core import store
from embryo.core.errors import ConfigError, Problem, SchemaError, StoreError
from embryo.encoders.inputs.tokens import by_length
from embryo.encoders.maxtoki import BOS, MaxToki
from embryo.encoders.networks import architecture
from embryo.encoders.stage2.grammar import Grammar
from embryo.encoders.stage2.network import Clockwork, clockwork, padded
from embryo.encoders.stage2.series import times, tokens
from embryo.encoders.weights import checkpoint

WEIGHTS, RECORD = "stage2.safetensors", "stage2.json"
_KIND = "stage2"


class Stage2:
    """MaxToki that tells time; made by `embryo.encoders.stage2.train` or `load`.

    Parameters
    ----------
    encoder
        Stage 1, for its vocabulary and options.
    network
        With its head.
    grammar
        Its tokens.
    record
        Settings, split and provenance, JSON-ready.
    """

    def __init__(self, encoder: MaxToki, network: Clockwork, grammar: Grammar, record: dict[str, Any]) -> None:
        self.encoder, self.network, self.grammar, self.record = encoder, network, grammar, record

    def score_time(self, before: AnnData | Sequence[AnnData], after: AnnData) -> Float[np.ndarray, " pairs"]:
        """Return how many hours each cell of `after` comes after its partner in `before`; negative where earlier.

        Parameters
        ----------
        before
            Row i is the context of row i of `after`; a sequence of AnnData, in order of time, for longer contexts,
            whose times are then needed in ``obs["time"]``.
        after
            Cells to be dated; their times, if any, are not read.

        Raises
        ------
        SchemaError
            If the numbers of cells differ or counts cannot be read.
        ConfigError
            If a context is longer than those of the training, or not in order of time.
        """
        contexts = [before] if isinstance(before, AnnData) else list(before)
        self._require_pairs(contexts, after)
        cells = [tokens(self.encoder, part, self._limit) for part in contexts]
        queries = tokens(self.encoder, after, self._limit)
        when = [times(part) for part in contexts] if len(contexts) > 1 else [np.zeros(after.n_obs)]
        sentences = [
            self.grammar.time_between([part[row] for part in cells], [float(t[row]) for t in when], queries[row])
            for row in range(after.n_obs)
        ]
        return self.hours(sentences)

    def hours(self, sentences: Sequence[Int[np.ndarray, " _"]]) -> Float[np.ndarray, " sentences"]:
        """Return the answers to questions about time that are tokens already."""
        out: np.ndarray = np.empty(len(sentences))
        options = self.encoder.options
        for rows in by_length([len(s) for s in sentences], options.batch_tokens):
            ids, keep = padded([sentences[row] for row in rows])
            with torch.inference_mode(), options.precision():
                found = self.network.gap(ids.to(options.device), keep.to(options.device))
            out[rows] = found.double().cpu().numpy()
        return out * float(self.record["settings"]["scale_h"])

    def next_cell(self, before: AnnData, hours: float, genes: int) -> list[list[str]]:
        """Return the genes that the model ranks first in each cell `hours` later, the likeliest one at a time.

        Parameters
        ----------
        before
            Cells now.
        hours
            How long after; rounded to whole units of the grammar.
        genes
            How many genes; no gene stands twice.

        Raises
        ------
        ConfigError
            If the model was trained without the next cell, or never on such a time.
        """
        if not self.record["settings"]["next_cell"] > 0:
            found = "a Stage 2 trained to tell time only"
            raise ConfigError(Problem(found, "one that was trained with next_cell > 0", "train it so"))
        vocabulary = self.encoder.vocabulary
        start = vocabulary.token(BOS, subject=self.encoder.name)
        gene_of = dict(zip(vocabulary.ids.tolist(), vocabulary.genes, strict=True))
        out = []
        for cell in tokens(self.encoder, before, self._limit):
            asked = np.append(self.grammar.next_cell([cell], [0.0], hours), start)
            out.append([gene_of[token] for token in self._written(asked, min(genes, len(gene_of)))])
        return out

    def save(self, folder: str | Path) -> Path:
        """Write weights and record, and return the folder; the record comes last, so that it speaks of its weights."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)
        meta = {"kind": _KIND, "stage1": self._stage1()}
        store.write_tensors(folder / WEIGHTS, dict(self.network.named_parameters()), meta)
        self.write_record(folder)
        return folder

    def write_record(self, folder: Path) -> None:
        """Write the record beside weights that are there already."""
        store.write_json(json.loads(json.dumps(self.record, default=str)), folder / RECORD)

    @property
    def _limit(self) -> int:
        return int(self.record["settings"]["tokens_per_cell"])

    def _stage1(self) -> dict[str, str]:
        return dict(self.encoder.weights.files)

    def _written(self, asked: Int[np.ndarray, " tokens"], genes: int) -> list[int]:
        """Return gene tokens, each the likeliest after those before it that was not yet written."""
        device = self.encoder.options.device
        ids = torch.as_tensor(asked, device=device)[None]
        free = torch.full((self.grammar.rows,), -torch.inf, device=device)
        free[torch.as_tensor(self.encoder.vocabulary.ids, device=device)] = 0.0
        cache, written = architecture.library().DynamicCache(), []
        with torch.inference_mode(), self.encoder.options.precision():
            for _ in range(genes):
                logits = self.network.language(
                    ids, None, None, cache, use_cache=True
                ).logits  # by place: its name changes
                best = int((logits[0, -1].float() + free).argmax())
                free[best] = -torch.inf
                written.append(best)
                ids = torch.tensor([[best]], device=device)
        return written

    def _require_pairs(self, contexts: Sequence[AnnData], after: AnnData) -> None:
        odd = [part.n_obs for part in contexts if part.n_obs != after.n_obs]
        if odd or not contexts:
            found = f"{odd or 'no'} cells before and {after.n_obs} after"
            raise SchemaError(Problem(found, "pairs: as many before as after", "repeat or choose cells"))
        most = int(self.record["settings"]["context"])
        if len(contexts) > most:
            found = f"contexts of {len(contexts)} cells"
            raise ConfigError(Problem(found, f"at most {most}, as in the training", "give fewer, or train with more"))


def load(folder: str | Path, encoder: MaxToki) -> Stage2:
    """Read what `Stage2.save` wrote.

    Parameters
    ----------
    folder
        Folder of a trained Stage 2.
    encoder
        The Stage 1 that it was trained from: its dictionaries and shapes.

    Raises
    ------
    StoreError
        If files are missing or damaged, or Stage 1 is another.
    """
    folder = Path(folder)
    record = checkpoint.read_json(folder / RECORD)
    tensors, meta = store.read_tensors(folder / WEIGHTS)
    if meta.get("kind") != _KIND or meta.get("stage1") != dict(encoder.weights.files):
        found = "weights that were trained from another Stage 1"
        raise StoreError(Problem(found, "the encoder of the training", "open that folder"), subject=folder.name)
    try:
        grammar, frozen = Grammar(**record["grammar"]), bool(record["settings"]["frozen"])
    except (KeyError, TypeError) as error:
        found = f"an incomplete record ({error})"
        raise StoreError(Problem(found, "grammar and settings", "train it again"), subject=RECORD) from error
    network = clockwork(encoder.network, grammar.rows, frozen=frozen, seed=0)
    checkpoint.load_into(network, _whole(network, tensors), subject=folder.name)
    network.eval().requires_grad_(requires_grad=False).to(encoder.options.device)
    return Stage2(encoder, network, grammar, record)


def _whole(network: Clockwork, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with a tied head under both its names."""
    head = "language.lm_head.weight"
    tied = head in network.state_dict() and head not in dict(network.named_parameters())
    return tensors | ({head: tensors["language.model.embed_tokens.weight"]} if tied else {})
