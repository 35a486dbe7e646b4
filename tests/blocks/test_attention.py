"""Masked attention against torch's own multi-head module."""

import torch
from torch import nn

from embryo.blocks.attention import attend


def test_it_is_what_torchs_own_module_computes() -> None:
    torch.manual_seed(1)
    x, heads = torch.randn(3, 7, 12), 4
    keep = torch.arange(7)[None] < torch.tensor([7, 4, 1])[:, None]
    theirs = nn.MultiheadAttention(12, heads, batch_first=True).train()  # in training it takes no shortcut
    expected, _ = theirs(x, x, x, key_padding_mask=~keep, need_weights=False)
    q, k, v = (x @ theirs.in_proj_weight.T + theirs.in_proj_bias).chunk(3, dim=-1)
    ours = theirs.out_proj(attend(q, k, v, keep, heads))
    assert torch.allclose(ours[keep], expected[keep], atol=1e-6)


def test_padding_is_not_attended_to() -> None:
    torch.manual_seed(2)
    x = torch.randn(1, 5, 8)
    padded = torch.cat([x, torch.full((1, 3, 8), 1e3)], dim=1)
    keep = torch.arange(8)[None] < 5
    alone = attend(x, x, x, torch.ones(1, 5, dtype=torch.bool), 2)
    assert torch.allclose(attend(padded, padded, padded, keep, 2)[:, :5], alone, atol=1e-6)
