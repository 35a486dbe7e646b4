"""Names under which other systems keep what embryo needs, in order of preference.

squidpy, moscot and NicheFlow: ``obsm["spatial"]``; Spateo and the Virtual Embryo Challenge: ``obsm["spatial_3D"]``,
``obsm["3d_align_spatial"]``, ``obsm["align_spatial"]``; CytoBridge: ``obsm["spatial_aligned"]``,
``obs["time_point_processed"]``; stVCR: ``obsm["X_spatial_input"]`` (divided by its maximum), ``obs["time"]``; Navigo:
``obs["day"]``; CELLxGENE: ``obs["development_stage"]``, ``obs["donor_id"]``, ``var["feature_name"]``; MOSTA:
``obs["timepoint"]``, ``obs["annotation"]``, ``layers["count"]``; MERSCOPE ``center_x``, Xenium ``x_centroid``, in µm.
"""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema

OBS = {
    schema.TIME: (
        schema.TIME, "time_h", "time_hours", "hours", "hour", "hpf", "time_hpf", "dpf", "time_dpf", "time_min",
        "minutes", "day", "days", "age_days", "timepoint", "time_point", "timepoints", "time_point_processed", "stage",
        "development_stage", "developmental_stage", "age", "samples",
    ),
    schema.EMBRYO: (schema.EMBRYO, "embryo_id", "embryoid", "embryo_name", "animal", "donor_id", "sample", "replicate"),
    schema.CELL: (schema.CELL, "cell_name", "cellname", "cell_id", "track_id", "track", "lineage_name"),
    schema.PARENT: (schema.PARENT, "parent_name", "parent_id", "mother", "mother_id", "parent_track_id"),
    schema.CELL_TYPE: (
        schema.CELL_TYPE, "celltype", "cell_types", "cell type", "cell.type", "celltypes", "fate", "annotation",
    ),
    schema.SLICE: (schema.SLICE, "slice_id", "slices", "section", "section_id", "slice_name"),
    schema.PERTURBATION: (schema.PERTURBATION,),
}  # fmt: skip

SPACE_3D = ("spatial_3D", "spatial_3d", "3d_align_spatial", "spatial3d")
SPACE = (schema.SPATIAL, *SPACE_3D, "align_spatial", schema.ALIGNED, "X_spatial", "X_spatial_input")
COLUMNS = (
    ("x_um", "y_um", "z_um"),
    ("x", "y", "z"),
    ("spatial_x", "spatial_y", "spatial_z"),
    ("pos_x", "pos_y", "pos_z"),
    ("xcoord", "ycoord", "zcoord"),
    ("x_centroid", "y_centroid", "z_centroid"),
    ("center_x", "center_y", "center_z"),
)
_VENDOR_UM = ("x_centroid", "center_x")
LAYERS = (schema.COUNTS, "count", "raw_counts", "raw", "umi", "umis")
SYMBOLS = ("feature_name", "gene_symbols", "gene_symbol", "gene_name", "gene_names", "gene_short_name", "symbol")
ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?|FBgn\d{7}|WBGene\d{8}")

_TIME_UNIT = (
    (re.compile(r"(^|_)(h|hours?|hpf)$"), "h"),
    (re.compile(r"(^|_)(d|days?|dpf|dpc)$"), "day"),
    (re.compile(r"(^|_)(min|minutes?)$"), "min"),
)
_SPACE_UNIT = re.compile(r"[xyz]_(um|µm|mm|nm)")


def find(names: Iterable[object], candidates: Iterable[str]) -> str | None:
    """Return the first candidate that is among the names, whatever its capitals, as the names spell it."""
    held = [n for n in names if isinstance(n, str)]
    exact, lower = set(held), {n.lower(): n for n in reversed(held)}
    return next((c if c in exact else lower[c.lower()] for c in candidates if c in exact or c.lower() in lower), None)


def space_slot(adata: AnnData) -> str | None:
    """Return the slot of obsm that holds positions: the usual one, or a 3D one where the usual one is flat."""
    slot = find(adata.obsm, SPACE)
    if slot == schema.SPATIAL and _width(adata, slot) == 2:
        built = find(adata.obsm, (*SPACE_3D, "align_spatial"))
        if built is not None and _width(adata, built) >= 3:
            return built
    return slot


def space_columns(columns: Iterable[object]) -> tuple[str, ...]:
    """Return the columns that hold positions, two or three of them, or none."""
    held = list(columns)
    for names in COLUMNS:
        found = [find(held, (name,)) for name in names]
        if found[0] is not None and found[1] is not None:
            return tuple(name for name in found if name is not None)
    return ()


def time_unit(column: str) -> str | None:
    """Return the unit that the name of a time column says, if it does."""
    return next((unit for form, unit in _TIME_UNIT if form.search(column.lower())), None)


def space_unit(columns: tuple[str, ...]) -> str | None:
    """Return the unit that the names of position columns say, if they do."""
    if columns and columns[0].lower() in _VENDOR_UM:
        return "um"
    matches = {m[1] for c in columns if (m := _SPACE_UNIT.fullmatch(c.lower()))}
    return matches.pop() if len(matches) == 1 else None


def are_ids(names: pd.Index) -> bool:
    """Whether most genes are named by database ids."""
    head = [str(n) for n in names[:200]]
    return bool(head) and float(np.mean([ENSEMBL.fullmatch(n) is not None for n in head])) > 0.5


def _width(adata: AnnData, slot: str) -> int:
    shape = np.shape(adata.obsm[slot])
    return int(shape[1]) if len(shape) == 2 else 0
