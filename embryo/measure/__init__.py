"""measure: trajectories and states -> numbers with units.

Creating verbs: they return a value and never touch their input. Means are weighted by mass, in float64.
"""

from embryo.measure.batches import batch_asw, comparable, neighbour_entropy
from embryo.measure.clusters import agreement, clusters, separation
from embryo.measure.composition import FateClassifier, bray_curtis, composition, fates
from embryo.measure.crossed import crossed_interval
from embryo.measure.difference import Repeat, difference
from embryo.measure.discrepancy import Discrepancy, discrepancy, kernels, median_square, thin, u_mean
from embryo.measure.distance import chamfer_um, energy_distance, occupancy_overlap
from embryo.measure.form import d2_shape, form_overlap, handedness_margin, scale_log_ratio
from embryo.measure.neighbourhood import mixing, neighbourhood_enrichment, surroundings
from embryo.measure.noise import halves
from embryo.measure.order import sequential_order
from embryo.measure.paired import FATE_PROBABILITIES, TERMINAL_STATES, displacement_um, per_cell
from embryo.measure.probes import Method, balanced_accuracy, read_labels, read_times
from embryo.measure.shape import SIZE_UNITS, landmarks, laterality, sides, size
from embryo.measure.transport import Transported, wasserstein

__all__ = [
    "FATE_PROBABILITIES",
    "SIZE_UNITS",
    "TERMINAL_STATES",
    "Discrepancy",
    "FateClassifier",
    "Method",
    "Repeat",
    "Transported",
    "agreement",
    "balanced_accuracy",
    "batch_asw",
    "bray_curtis",
    "chamfer_um",
    "clusters",
    "comparable",
    "composition",
    "crossed_interval",
    "d2_shape",
    "difference",
    "discrepancy",
    "displacement_um",
    "energy_distance",
    "fates",
    "form_overlap",
    "halves",
    "handedness_margin",
    "kernels",
    "landmarks",
    "laterality",
    "median_square",
    "mixing",
    "neighbour_entropy",
    "neighbourhood_enrichment",
    "occupancy_overlap",
    "per_cell",
    "read_labels",
    "read_times",
    "scale_log_ratio",
    "separation",
    "sequential_order",
    "sides",
    "size",
    "surroundings",
    "thin",
    "u_mean",
    "wasserstein",
]
