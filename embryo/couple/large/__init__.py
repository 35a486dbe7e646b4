"""Optimal transport between up to millions of cells, in memory linear in their number."""

from embryo.couple.large.solving import plan

__all__ = ["plan"]
