"""measure: trajectories and states -> numbers with units.

Creating verbs: they return a value and never touch their input. Means are weighted by mass, in float64.
"""

from embryo.measure.batches import batch_asw, comparable, neighbour_entropy
from embryo.measure.clusters import agreement, clusters, separation
from embryo.measure.composition import FateClassifier, bray_curtis, composition, fates
from embryo.measure.crossed import crossed_interval
from embryo.measure.difference import Repeat, difference
from embryo.measure.distance import chamfer_um, energy_distance, occupancy_overlap
from embryo.measure.neighbourhood import mixing, neighbourhood_enrichment
from embryo.measure.noise import halves
from embryo.measure.order import sequential_order
from embryo.measure.paired import FATE_PROBABILITIES, TERMINAL_STATES, displacement_um, per_cell
from embryo.measure.probes import Method, balanced_accuracy, read_labels, read_times
from embryo.measure.shape import SIZE_UNITS, laterality, size

__all__ = [
    "FATE_PROBABILITIES",
    "SIZE_UNITS",
    "TERMINAL_STATES",
    "FateClassifier",
    "Method",
    "Repeat",
    "agreement",
    "balanced_accuracy",
    "batch_asw",
    "bray_curtis",
    "chamfer_um",
    "clusters",
    "comparable",
    "composition",
    "crossed_interval",
    "difference",
    "displacement_um",
    "energy_distance",
    "fates",
    "halves",
    "laterality",
    "mixing",
    "neighbour_entropy",
    "neighbourhood_enrichment",
    "occupancy_overlap",
    "per_cell",
    "read_labels",
    "read_times",
    "separation",
    "sequential_order",
    "size",
]
