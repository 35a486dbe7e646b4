"""Couplings -> Field by flow matching, or stages -> Field by matching roll-outs to them."""

from embryo.fit.atlas import atlas
from embryo.fit.bootstrap import drawn
from embryo.fit.circuit import UNPOSED, Settings
from embryo.fit.conditional import conditional, gene_vectors
from embryo.fit.counts import Shrinkage
from embryo.fit.coupled import Pairs, pairs, states
from embryo.fit.geodesic import bends
from embryo.fit.growth import rescaled, smoothed
from embryo.fit.marginals import Settings as Marginals
from embryo.fit.matching import Matching, match
from embryo.fit.paths import Ends, Tube, path
from embryo.fit.regression import Progress, flow, regress
from embryo.fit.regulated import regulated
from embryo.fit.snapshots import unit_of
from embryo.fit.spatial import Tissue, spatial_flow
from embryo.fit.tissue import Forces
from embryo.fit.training import Training
from embryo.fit.wiring import Wiring

__all__ = [
    "UNPOSED",
    "Ends",
    "Forces",
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
    "conditional",
    "drawn",
    "flow",
    "gene_vectors",
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
