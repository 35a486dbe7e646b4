"""Couplings -> Field: flow matching."""

from embryo.fit.coupled import Pairs, pairs, states
from embryo.fit.paths import Tube, path
from embryo.fit.regression import Progress, flow, regress
from embryo.fit.training import Training

__all__ = ["Pairs", "Progress", "Training", "Tube", "flow", "pairs", "path", "regress", "states"]
