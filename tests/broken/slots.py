"""Times and positions that are missing, in an unknown unit, out of range, or in frames that do not fit."""

import numpy as np

from broken import make

TIME = {
    "time column missing": make.Broken(
        make.h5ad(make.drop("time")),
        make.SCHEMA,
        ('no obs["time"]', "embryo, cell, cell_type", "in hours", "--key time=day"),
    ),
    "time column under an unknown name": make.Broken(
        make.h5ad(make.renamed),
        make.SCHEMA,
        ('no obs["time"]', "--key time=my_day_count"),
    ),
    "time NaN in two cells": make.Broken(
        make.h5ad(make.time({3: np.nan, 7: np.nan})),
        make.SCHEMA,
        (
            'NaN or infinite obs["time"] in 2 of 270 cells (rows 3, 7: e0:c3:6.0, e0:c7:6.0)',
            "finite time",
            "drop these",
        ),
    ),
    "time infinite": make.Broken(
        make.h5ad(make.time({0: np.inf})),
        make.SCHEMA,
        ('NaN or infinite obs["time"] in 1 of 270 cells (rows 0: e0:c0:6.0)', "fill"),
    ),
    "time words without a time": make.Broken(
        make.h5ad(make.words),
        make.SCHEMA,
        ("1 values", "'HH10'", "in 90 of 270 cells", "E9.5, 24hpf", "map each stage"),
    ),
    "one time only": make.Broken(
        make.h5ad(lambda a: a[a.obs["time"] == 8].copy()),
        make.SCHEMA,
        ('1 distinct time in obs["time"] (8 h)', "at least 2 distinct times", "add cells of other times"),
    ),
    "fewer times than needed": make.Broken(
        make.h5ad(lambda _: None),
        make.SCHEMA,
        ("3 distinct times", "(6 h, 8 h, 10 h)", "at least 5"),
        needs={"times": 5},
    ),
    "time unit missing": make.Broken(
        make.h5ad(lambda _: None, make.foreign),
        make.SCHEMA,
        ("units missing: no time_unit", "time_unit 'h'", "--time-unit h, min, day", "config read.time_unit"),
        keys={"space_unit": "um"},
    ),
    "time unit unknown": make.Broken(
        make.h5ad(lambda _: None, make.foreign),
        make.SCHEMA,
        ("time unit 'hourz' (did you mean 'hour", "h, min, s, day", "--time-unit"),
        keys={"time_unit": "hourz", "space_unit": "um"},
    ),
    "time unit of the file unknown": make.Broken(
        make.h5ad(make.meta(time_unit="fortnight")),
        make.SCHEMA,
        ("time unit 'fortnight'", "h, min, s, day, week", "read.time_unit"),
    ),
    "stages against the unit": make.Broken(
        make.h5ad(make.stages),
        make.SCHEMA,
        ("which is 180 h, beside the unit 'min'", "one unit", "leave the unit out"),
        keys={"time_unit": "min"},
    ),
    "time key names no column": make.Broken(
        make.h5ad(lambda _: None),
        make.SCHEMA,
        ("no column 'tme' in obs for time", "(did you mean 'time'?)", "--key time=...", "read.keys.time"),
        keys={"time": "tme"},
    ),
}

SPACE = {
    "space unit missing": make.Broken(
        make.h5ad(lambda _: None, make.foreign),
        make.SCHEMA,
        ("units missing: no space_unit", "space_unit 'um'", "--space-unit um, mm, nm, px"),
        keys=make.H,
    ),
    "space unit unknown": make.Broken(
        make.h5ad(lambda _: None, make.foreign),
        make.SCHEMA,
        ("space unit 'furlong'", "um, mm, nm, m", "--space-unit"),
        keys={"time_unit": "h", "space_unit": "furlong"},
    ),
    "pixels without sizes": make.Broken(
        make.h5ad(lambda _: None, make.foreign),
        make.SCHEMA,
        ("positions in pixels without pixel_um and z_um", "distance of planes", "--key pixel_um=... --key z_um=..."),
        keys={"time_unit": "h", "space_unit": "px"},
    ),
    "space key names no slot": make.Broken(
        make.h5ad(lambda _: None),
        make.SCHEMA,
        ("no obsm['spatal']", "(did you mean 'spatial'?)", "--key space=spatial"),
        keys={"space": "spatal"},
    ),
    "positions missing where they are needed": make.Broken(
        make.h5ad(lambda a: a.obsm.clear()),
        make.SCHEMA,
        ('no obsm["spatial"]', "the position of every cell in µm", "--key space="),
        needs={"space": True},
    ),
    "body frame missing where it is needed": make.Broken(
        make.h5ad(lambda _: None),
        make.SCHEMA,
        ('no obsm["spatial_aligned"]', "embryo.reconstruct.body_frame"),
        needs={"aligned": True},
    ),
    "coordinates NaN": make.Broken(
        make.h5ad(make.space(lambda x: make.put(x, [1, 2, 5], np.nan))),
        make.SCHEMA,
        ('NaN or infinite values of obsm["spatial"] in 3 of 270 cells (rows 1, 2, 5:', "finite numbers", "drop these"),
    ),
    "coordinates infinite": make.Broken(
        make.h5ad(make.space(lambda x: make.put(x, [269], np.inf))),
        make.SCHEMA,
        ("in 1 of 270 cells (rows 269: e1:c44:10.0)", "fill"),
    ),
    "four spatial columns": make.Broken(
        make.h5ad(make.space(lambda x: np.c_[x, x[:, 0] ** 2])),
        make.SCHEMA,
        ('obsm["spatial"] with 4 columns', "2 or 3 columns", "--key space="),
    ),
    "one spatial column": make.Broken(
        make.h5ad(make.space(lambda x: x[:, :1])),
        make.SCHEMA,
        ('obsm["spatial"] with 1 columns', "2 or 3 columns"),
    ),
    "constant x": make.Broken(
        make.h5ad(make.space(lambda x: x * [0, 1, 1])),
        make.SCHEMA,
        ("one value (0) along x for all 270 cells", "differ along every axis", "read the true coordinate"),
    ),
    "one column twice": make.Broken(
        make.h5ad(make.space(lambda x: x[:, [0, 1, 1]])),
        make.SCHEMA,
        ("linearly dependent", "cells that fill 3 dimensions", "no column is named twice"),
    ),
    "metres taken for micrometres": make.Broken(
        make.h5ad(lambda _: None, lambda: make.foreign(unit=1e-6)),
        make.SCHEMA,
        ("implausible for µm", "the numbers look like m;", "from 1 to 100000 µm", "--space-unit m,"),
        keys=make.UM,
    ),
    "millimetres taken for micrometres": make.Broken(
        make.h5ad(lambda _: None, lambda: make.foreign(unit=1e-3)),
        make.SCHEMA,
        ("in 2 of 2 embryos (e0, e1)", "the numbers look like mm;", "--space-unit mm,"),
        keys=make.UM,
    ),
    "nanometres taken for micrometres": make.Broken(
        make.h5ad(lambda _: None, lambda: make.foreign(unit=3e3)),
        make.SCHEMA,
        ("the numbers look like nm;", "--space-unit nm,"),
        keys=make.UM,
    ),
    "coordinates divided by their maximum": make.Broken(
        make.h5ad(make.space(lambda x: x / np.abs(x).max())),
        make.SCHEMA,
        ("largest coordinate is exactly 1", "multiply by the scale factor"),
    ),
    "one embryo mirrored": make.Broken(
        make.h5ad(make.space(lambda x: x * [1, 1, -1], "e1")),
        make.SCHEMA,
        (
            "mirrored embryos: e1 against embryo e0 (or the others are: half against half)",
            "over 45 shared cells",
            "a reflection leaves",
            "proper rotation",
            "--key flip_axis=z",
        ),
    ),
    "one embryo in millimetres": make.Broken(
        make.h5ad(make.space(lambda x: x / 1000, "e1")),
        make.SCHEMA,
        ("non-rigid frames", "e1 (0.001", "one unit for all embryos", "in 1 of 2 embryos (e1)", "look like mm"),
    ),
    "one embryo with planes for micrometres": make.Broken(
        make.h5ad(make.space(lambda x: x * [1, 1, 6], "e1")),
        make.SCHEMA,
        ("non-rigid frames", "along one axis than along another", "axes in one unit", "--key pixel_um=... --key z_um"),
    ),
    "stored motion mirrored": make.Broken(
        make.h5ad(make.motions(np.diag([1.0, 1.0, -1.0]))),
        make.SCHEMA,
        ('uns["embryo"]["motions"] of e1 mirrored (determinant -1)', "determinant +1", "embryo.reconstruct.body_frame"),
    ),
    "stored motion sheared": make.Broken(
        make.h5ad(make.motions(np.array([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]]))),
        make.SCHEMA,
        ("of e1 with singular values 1.281, 1, 0.7808", "a rigid motion (all 1)", "align again"),
    ),
    "flip of an axis that is not there": make.Broken(
        make.h5ad(make.space(lambda x: x[:, :2])),
        make.SCHEMA,
        ("flip_axis 'z' for positions with 2 axes", "name x or y"),
        keys={"flip_axis": "z"},
    ),
}
