"""Held-out embryos of a tracked species: where every cell's descendants are, with names and without.

With names hidden a model still knows the time: it is the synchronised one, which the converter reads off the named
divisions of the held-out embryo before the start. Only cells are nameless, and the pose is unknown.
"""

from embryo.evaluate.tracked.board import tracked
from embryo.evaluate.tracked.folds import dealt

__all__ = ["dealt", "tracked"]
