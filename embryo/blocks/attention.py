"""Attention over padded batches: padding is never attended to."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def attend(
    queries: Float[Tensor, "cells length width"],
    keys: Float[Tensor, "cells length width"],
    values: Float[Tensor, "cells length width"],
    keep: Bool[Tensor, "cells length"],
    heads: int,
) -> Float[Tensor, "cells length width"]:
    """Return softmax(Q K^T / sqrt(width / heads)) V of each head, side by side.

    Parameters
    ----------
    queries, keys, values
        Already projected; the heads lie side by side in `width`.
    keep
        True where a token may be attended to. What comes out at the other tokens means nothing.
    heads
        Number of heads; divides `width`.
    """
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (queries, keys, values))
    mixed: Tensor = functional.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :])
    return mixed.transpose(1, 2).flatten(-2)
