"""Expression that is not what it says, and names that stand twice or nowhere."""

import numpy as np

from broken import make

EXPRESSION = {
    "duplicate genes": make.Broken(
        make.h5ad(make.genes_twice),
        make.SCHEMA,
        (
            "2 duplicate gene names: gene0, gene2",
            "every gene name once",
            "var_names_make_unique",
            "read.keys.gene_symbols",
        ),
    ),
    "negative counts": make.Broken(
        make.h5ad(make.counts(make.cells_to([0, 9], -3))),
        make.SCHEMA,
        ('2 negative values in layers["counts"] (lowest -3)', "values of 0 or more", "read.keys.counts"),
    ),
    "log-normalised values as counts": make.Broken(
        make.h5ad(make.counts(lambda v: np.log1p(make.scaled(v)))),
        make.SCHEMA,
        (
            'non-integer values in layers["counts"]',
            "log-normalised values: log1p of counts scaled to 1e+04 per cell",
            "raw counts, whole numbers",
            "undo the normalisation",
        ),
    ),
    "size-normalised values as counts": make.Broken(
        make.h5ad(make.counts(make.scaled)),
        make.SCHEMA,
        ("values normalised to 1e+04 per cell", "raw counts, whole numbers"),
    ),
    "no counts where they are needed": make.Broken(
        make.h5ad(make.no_counts),
        make.SCHEMA,
        ('no layers["counts"] (layers: none; X holds log-normalised values', "raw counts", "read.keys.counts"),
        needs={"counts": True},
    ),
    "NaN expression": make.Broken(
        make.h5ad(make.counts(make.cells_to([0, 1], np.nan))),
        make.SCHEMA,
        ('2 NaN and 0 infinite values in layers["counts"]', "put 0 where"),
    ),
    "infinite expression": make.Broken(
        make.h5ad(make.counts(make.cells_to([4], np.inf))),
        make.SCHEMA,
        ("0 NaN and 1 infinite values in X", "finite numbers"),
    ),
    "empty cells where counts are needed": make.Broken(
        make.h5ad(make.counts(lambda v: v * (np.arange(make.N) != 11)[:, None])),
        make.SCHEMA,
        ('no counts in layers["counts"] for 1 of 270 cells (rows 11:', "at least one count", "drop empty cells"),
        needs={"counts": True},
    ),
    "nothing but zeros": make.Broken(
        make.h5ad(make.counts(lambda v: v * 0)),
        make.SCHEMA,
        ("X all zero: 270 cells x 6 genes", "check which layer was read"),
    ),
    "counts key names no layer": make.Broken(
        make.h5ad(lambda _: None),
        make.SCHEMA,
        ("no 'count' for counts", "(did you mean 'counts'?)", "--key counts=..."),
        keys={"counts": "count"},
    ),
    "symbol key names no column": make.Broken(
        make.h5ad(lambda _: None),
        make.SCHEMA,
        ("no column 'symbol' in var (columns: none)", "--key gene_symbols=..."),
        keys={"gene_symbols": "symbol"},
    ),
    "panel names missing": make.Broken(
        make.h5ad(make.panel),
        make.SCHEMA,
        ("2 different panel names", "for 3 columns", "one name per column", "embryo.embed.panel"),
    ),
    "embedding NaN": make.Broken(
        make.h5ad(make.embedding),
        make.SCHEMA,
        ('NaN or infinite values of obsm["X_embed"] in 2 of 270 cells (rows 2, 5:', "finite"),
    ),
    "embedding missing where it is needed": make.Broken(
        make.h5ad(lambda _: None),
        make.SCHEMA,
        ('no obsm["X_embed"]', "a fresh one", "run embryo.embed.cells first"),
        needs={"embed": True},
    ),
}

NAMES = {
    "no cells": make.Broken(
        make.h5ad(lambda a: a[:0].copy()), make.SCHEMA, ("0 cells", "at least one cell", "check the filter")
    ),
    "duplicate row names": make.Broken(
        make.h5ad(make.rows_twice),
        make.SCHEMA,
        ("1 duplicate cell name in obs_names: same", "every row name once", "obs_names_make_unique"),
    ),
    "duplicate cells": make.Broken(
        make.h5ad(make.cell_twice),
        make.SCHEMA,
        ("1 duplicate cells, the same embryo, time, cell: e0 / 6.0 / c0", "once at a time", "read.keys.embryo"),
    ),
    "type without cells": make.Broken(
        make.h5ad(make.empty_type),
        make.SCHEMA,
        ('1 of 3 categories of obs["cell_type"] without cells: ghost', "cells in every category", "remove_unused"),
    ),
    "cells without an embryo": make.Broken(
        make.h5ad(make.no_embryo),
        make.SCHEMA,
        ('no obs["embryo"] for 2 of 270 cells (rows 4, 9:', "a name for every cell"),
    ),
    "no tracks where they are needed": make.Broken(
        make.h5ad(make.column("cell", lambda a: np.arange(a.n_obs).astype(str))),
        make.SCHEMA,
        ("no cell that is followed: 270 names", "tracks", "couple by transport"),
        needs={"tracks": True},
    ),
    "no types where they are needed": make.Broken(
        make.h5ad(make.drop("cell_type")),
        make.SCHEMA,
        ('no obs["cell_type"] among the columns', "read.keys.cell_type"),
        needs={"cell_types": True},
    ),
    "slices too small where they are needed": make.Broken(
        make.h5ad(make.column("slice", lambda a: np.where(np.arange(a.n_obs) < 2, "top", "rest"))),
        make.SCHEMA,
        ('1 groups of obs["slice"] with fewer than 3 cells: top (2)', "at least 3 cells", "merge or drop"),
        needs={"slices": True},
    ),
    "unknown key": make.Broken(
        make.h5ad(lambda _: None),
        make.CONFIG,
        ("unknown key 'tyme' (did you mean 'time'?)", "one of: time, space", "rename"),
        keys={"tyme": "day"},
    ),
    "key out of range": make.Broken(
        make.h5ad(lambda _: None),
        make.CONFIG,
        ("flip_axis 'w'", "x, y or z", "name one axis"),
        keys={"flip_axis": "w"},
    ),
    "size that is no number": make.Broken(
        make.h5ad(lambda _: None),
        make.CONFIG,
        ("pixel_um = 'tiny'", "a number, µm", "read.keys.pixel_um"),
        keys={"pixel_um": "tiny"},
    ),
    "five problems at once": make.Broken(
        make.h5ad(make.everything),
        make.SCHEMA,
        (
            "6 problems",
            'NaN or infinite obs["time"] in 1 of 270',
            'values of obsm["spatial"] in 1 of 270',
            "mirrored",
            '1 negative values in layers["counts"]',
            "2 duplicate gene names",
            "  6. found",
        ),
    ),
}
