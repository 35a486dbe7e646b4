"""measure: trajectories and states -> numbers with units.

Creating verbs: they return a value and never touch their input. Means are weighted by mass, in float64.
"""

from embryo.measure.composition import FateClassifier, bray_curtis, composition, fates
from embryo.measure.difference import Repeat, difference
from embryo.measure.distance import chamfer_um, energy_distance, occupancy_overlap
from embryo.measure.neighbourhood import mixing, neighbourhood_enrichment
from embryo.measure.paired import FATE_PROBABILITIES, TERMINAL_STATES, displacement_um, per_cell
from embryo.measure.shape import SIZE_UNITS, laterality, size

__all__ = [
    "FATE_PROBABILITIES",
    "SIZE_UNITS",
    "TERMINAL_STATES",
    "FateClassifier",
    "Repeat",
    "bray_curtis",
    "chamfer_um",
    "composition",
    "difference",
    "displacement_um",
    "energy_distance",
    "fates",
    "laterality",
    "mixing",
    "neighbourhood_enrichment",
    "occupancy_overlap",
    "per_cell",
    "size",
]
