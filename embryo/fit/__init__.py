"""Couplings -> Field by flow matching, or stages -> Field by matching roll-outs to them."""

from embryo.fit.atlas import atlas
from embryo.fit.circuit import Settings
from embryo.fit.counts import Shrinkage
from embryo.fit.coupled import Pairs, pairs, states
from embryo.fit.geodesic import bends
from embryo.fit.growth import rescaled, smoothed
from embryo.fit.marginals import Settings as Marginals
from embryo.fit.matching import Matching, match
from embryo.fit.paths import Ends, Tube, path
from embryo.fit.regression import Progress, flow, regress
from embryo.fit.regulated import Wiring, regulated
from embryo.fit.snapshots import unit_of
from embryo.fit.spatial import Tissue, spatial_flow
from embryo.fit.training import Training

__all__ = [
    "Ends",
    "Marginals",
    "Matching",
    "Pairs",
    "Progress",
    "Settings",
    "Shrinkage",
    "Tissue",
    "Training",
    "Tube",
    "Wiring",
    "atlas",
    "bends",
    "flow",
    "match",
    "pairs",
    "path",
    "regress",
    "regulated",
    "rescaled",
    "smoothed",
    "spatial_flow",
    "states",
    "unit_of",
]
