"""Causal language models of the transformers library as encoders: loading, hidden states, pooling, likelihood."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from embryo.encoders.inputs.tokens import masked_mean
from embryo.encoders.networks import architecture
from embryo.encoders.weights import checkpoint

_CONSTANT = (r".*rotary_emb\.inv_freq", r".*attention\.(masked_)?bias")  # buffers that older files carry


def read(folder: Path, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Return the network of a configuration with the weights of a folder, in this precision.

    Where the configuration ties the head to the embedding, a file without the head is whole.

    Raises
    ------
    StoreError
        If no such network can be built, or weights are missing, left over, of another shape, or damaged.
    """
    model = architecture.library().AutoModelForCausalLM
    network = architecture.made(folder, lambda: model.from_config(config, dtype=dtype))
    network.tie_weights()
    state = checkpoint.read_weights(folder)
    names = {id(part): name for name, part in network.named_parameters()}
    own = network.state_dict(keep_vars=True)
    tied = {name: state[first] for name, part in own.items() if (first := names.get(id(part))) in state}
    checkpoint.load_into(network, tied | state, ignore=_CONSTANT, subject=folder.name)
    return network


@contextmanager
def in_float32(network: Any) -> Iterator[None]:
    """Compute in float32 inside, whatever precision the weights are kept in; afterwards they are what they were.

    Every bfloat16 number is a float32 number, so that nothing is lost on the way and back. Buffers stay as the library
    made them: frequencies of rotary positions in float32, the factor of Gemma's embedding rounded as its weights are.
    """
    kept = [(part, part.dtype) for part in network.parameters() if part.dtype != torch.float32]
    try:
        for part, _ in kept:
            part.data = part.data.float()
        yield
    finally:
        for part, dtype in kept:
            part.data = part.data.to(dtype)


def hidden(
    network: Any, ids: Int[Tensor, "cells length"], keep: Bool[Tensor, "cells length"], layer: int
) -> Float[Tensor, "cells length width"]:
    """Return the hidden states of a layer: 0 the embedding, the last one behind the final norm. The head is not run."""
    last = layer == network.config.num_hidden_layers
    out = network.base_model(input_ids=ids, attention_mask=keep.long(), use_cache=False, output_hidden_states=not last)
    states: Tensor = out.last_hidden_state if last else out.hidden_states[layer]
    return states


def pooled(
    states: Float[Tensor, "cells length width"],
    keep: Bool[Tensor, "cells length"],
    genes: Bool[Tensor, "cells length"],
    pooling: str,
) -> Float[Tensor, "cells width"]:
    """Return the cell: ``last``, its last real token, which has read all others, or ``mean`` over its genes."""
    if pooling == "mean":
        return masked_mean(states, genes)
    return states[torch.arange(len(states), device=states.device), keep.sum(dim=1) - 1]


def log_likelihood(
    network: Any,
    ids: Int[Tensor, "cells length"],
    keep: Bool[Tensor, "cells length"],
    scored: Bool[Tensor, "cells length"],
) -> Float[Tensor, " cells"]:
    """Return the mean of ``log p(token | all before)`` in nats over the tokens that `scored` marks, never the first."""
    states = hidden(network, ids, keep, network.config.num_hidden_layers)
    head = network.get_output_embeddings()
    out = []
    for row, target, mark in zip(states[:, :-1], ids[:, 1:], scored[:, 1:], strict=True):  # one cell's logits at a time
        logits = soft_capped(head(row[mark]).float(), getattr(network.config, "final_logit_softcapping", None))
        out.append(-torch.nn.functional.cross_entropy(logits, target[mark]))
    return torch.stack(out)


def soft_capped(logits: Float[Tensor, "*any words"], cap: float | None) -> Float[Tensor, "*any words"]:
    """Return logits as Gemma 2 bounds them, ``cap tanh(logits / cap)``."""
    return logits if cap is None else torch.tanh(logits / cap) * cap
