"""The AnnData contract: where everything lies, in which units.

Slot names are spelled here and nowhere else. One row is one cell at one time in one embryo.
"""

# obs
TIME = "time"  # developmental time, hours, float
EMBRYO = "embryo"  # which embryo (or replicate) the cell belongs to
CELL = "cell"  # name or track of the cell; the same name at two times of an embryo is the same cell
PARENT = "parent"  # name or track of the mother; "" where unknown
CELL_TYPE = "cell_type"  # annotated type or fate
SLICE = "slice"  # physical section, where there are any

# obsm
SPATIAL = "spatial"  # raw position, µm, right-handed, (cells, 2 or 3)
ALIGNED = "spatial_aligned"  # position in the common body frame, µm
EMBED = "X_embed"  # embedding z
PANEL = "X_panel"  # panel genes g, log1p-normalised; names in uns["embryo"]["panel"]

# layers
COUNTS = "counts"  # raw counts

# uns
META = "embryo"  # {"time_unit": "h", "space_unit": "um", "frame": "raw" | "body", "dataset": ..., "assembled": bool, ...}

TARGET_SUM = 1e4  # library size after normalisation, as in scanpy's habit
