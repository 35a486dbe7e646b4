"""Couplings -> Field: flow matching."""

from embryo.fit.atlas import atlas
from embryo.fit.coupled import Pairs, pairs, states
from embryo.fit.paths import Ends, Tube, path
from embryo.fit.regression import Progress, flow, regress
from embryo.fit.training import Training

__all__ = ["Ends", "Pairs", "Progress", "Training", "Tube", "atlas", "flow", "pairs", "path", "regress", "states"]
