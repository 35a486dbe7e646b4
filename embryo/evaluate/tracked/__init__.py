"""Held-out embryos of a tracked species: where every cell's descendants are, with names and without."""

from embryo.evaluate.tracked.board import tracked
from embryo.evaluate.tracked.folds import dealt

__all__ = ["dealt", "tracked"]
