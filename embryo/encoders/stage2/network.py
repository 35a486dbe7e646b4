"""The Stage 1 network with rows for the new tokens, and a regression head that is read at ``<eoq>``."""

import copy
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from embryo.encoders import maxtoki
from embryo.encoders.networks import architecture, causal


class Clockwork(nn.Module):
    """A Llama with more tokens and ``Linear(hidden, 1)``.

    Parameters
    ----------
    language
        Stage 1 network; copied.
    rows
        Tokens of both stages.
    frozen
        Whether what Stage 1 knew stays as it was; the head and the rows of the new tokens are trained all the same.
    """

    def __init__(self, language: Any, rows: int, *, frozen: bool) -> None:
        super().__init__()
        self.first = int(language.config.vocab_size)
        self.language: Any = copy.deepcopy(language).float()
        self.language.resize_token_embeddings(rows, mean_resizing=False)
        self.head = nn.Linear(int(language.config.hidden_size), 1)
        self.requires_grad_(requires_grad=True)
        if frozen:
            self.language.requires_grad_(requires_grad=False)
            tables = {id(t.weight): t.weight for t in (self.language.get_input_embeddings(), self.language.lm_head)}
            for weight in tables.values():
                weight.requires_grad_(requires_grad=True)
                weight.register_hook(self._only_new)

    def gap(
        self, ids: Int[Tensor, "sentences length"], keep: Bool[Tensor, "sentences length"]
    ) -> Float[Tensor, " sentences"]:
        """Return the answer to questions about time in units of the label's scale; their last token is ``<eoq>``."""
        states = causal.hidden(self.language, ids, keep, self.language.config.num_hidden_layers)
        out: Tensor = self.head(causal.pooled(states, keep, keep, "last"))[:, 0]
        return out

    def answers(
        self,
        ids: Int[Tensor, "sentences length"],
        keep: Bool[Tensor, "sentences length"],
        answer: Bool[Tensor, "sentences length"],
    ) -> Float[Tensor, " sentences"]:
        """Return the mean log probability of the tokens of an answer, nats."""
        return causal.log_likelihood(self.language, ids, keep, answer)

    def _only_new(self, gradient: Tensor) -> Tensor:
        """Keep the rows of Stage 1 where they are."""
        kept = gradient.clone()
        kept[: self.first] = 0.0
        return kept


def clockwork(language: Any, rows: int, *, frozen: bool, seed: int, random: bool = False) -> Clockwork:
    """Return the network of Stage 2.

    Parameters
    ----------
    language
        Stage 1 network.
    rows, frozen
        As in `Clockwork`.
    seed
        Of the head, of the new rows, and of a random body.
    random
        Draw the body anew, as a floor: the architecture without what it learned.
    """
    with architecture.seeded(seed):
        body = maxtoki.build(copy.deepcopy(language.config)) if random else language
        return Clockwork(body, rows, frozen=frozen)


def padded(
    sentences: list[Any], pad: int = 0
) -> tuple[Int[Tensor, "sentences length"], Bool[Tensor, "sentences length"]]:
    """Return sentences as one batch, and where it is real."""
    parts = [torch.as_tensor(sentence, dtype=torch.int64) for sentence in sentences]
    lengths = torch.tensor([len(part) for part in parts])
    ids = nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=pad)
    return ids, torch.arange(ids.shape[1])[None] < lengths[:, None]
