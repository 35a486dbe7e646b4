"""Tables of cells as csv: tracks of AceTree and EPIC, any table with named columns, and samples of a trajectory."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import EmbryoError, Problem, SchemaError, StoreError
from embryo.datasets import celegans
from embryo.read import conventions, files, units
from embryo.read.keys import Keys

_EPIC = {"celltime", "cell", "time", "global", "local", "blot", "cross", "z", "x", "y"}
_SAMPLE = re.compile(r"[xX]\d+")
_NOT_GENES = re.compile(
    r"size|radius|diameter|volume|area|gweight|weight|id|index|row|.*_id|n_?counts|n_?genes|cell_?count|unnamed:.*|barcode"
)


def is_epic(path: Path) -> bool:
    """Whether the header of a csv is that of AceTree and EPIC."""
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline(4096)
    return {name.strip().strip('"').lower() for name in header.split(",")} >= _EPIC


def epic(paths: Sequence[Path], keys: Keys) -> AnnData:
    """Return tracked, named embryos; one file on its own clock, several on the clock of their divisions.

    Sizes and frame interval are those of EPIC (0.09 µm, planes of 1 µm, 1 minute) unless `keys` give others.
    """
    options: dict[str, Any] = {"pixel_um": keys.pixel_um, "plane_um": keys.z_um}
    problems = []
    if keys.time_unit is not None:
        frame = units.hours(keys.time_unit)
        if isinstance(frame, Problem):
            problems.append(frame)
        else:
            options["frame_min"] = frame * 60
    if keys.space_unit is not None and keys.space_unit.lower() not in units.PIXELS:
        scale = units.micrometres(keys.space_unit, 3, keys)
        if isinstance(scale, Problem):
            problems.append(scale)
        else:
            options |= {"pixel_um": scale[0], "plane_um": scale[2]}
    if problems:
        raise SchemaError(*problems, subject=phrases.few(p.name for p in paths))
    given = {name: value for name, value in options.items() if value is not None}
    if len(paths) == 1:
        given |= {"clock": "nominal", "step_min": None}
    return celegans.tracks(list(paths), **given)


def table(path: Path, keys: Keys) -> AnnData:
    """Return a table as AnnData under its own names: numbers that are no convention's become genes, the rest obs.

    Raises
    ------
    StoreError
        If it is no table.
    SchemaError
        If columns that `keys` name are missing.
    """
    frame = load(path)
    samples = [c for c in frame.columns if _SAMPLE.fullmatch(c)]
    if len(samples) == frame.shape[1] - 1 and conventions.find(frame.columns, ("samples",)) is not None:
        genes = samples
    else:
        genes = _genes(frame, keys, path)
    obs = frame.drop(columns=genes)
    obs.index = pd.RangeIndex(len(obs)).astype(str)
    x = frame[genes].to_numpy(dtype=np.float32) if genes else np.zeros((len(frame), 0), dtype=np.float32)
    adata = AnnData(x, obs=obs, var=pd.DataFrame(index=pd.Index(genes, dtype=object)))
    if genes and genes == samples:  # coordinates of a reduced space, not genes
        adata.obsm["X_pca"] = x.copy()
        adata.uns[schema.META] = {"expression": "relative"}
    if keys.embryo is None and conventions.find(obs.columns, conventions.OBS[schema.EMBRYO]) is None:
        adata.obs[schema.EMBRYO] = path.stem
    return adata


def load(path: Path) -> pd.DataFrame:
    """Return a delimited text file as a data frame; the delimiter is that of its header.

    Raises
    ------
    StoreError
        If it is empty, binary, ragged, without a header or without rows.
    """
    files.require(path)
    expected = "a text table with one header line and one row per cell"
    cure = "export it as csv with columns such as cell,time,x,y,z,parent"
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        if "\x00" in header:
            message = "binary data"
            raise ValueError(message)
        separator = max(",\t;", key=header.count) if re.search(r"[,\t;]", header) else r"\s+"
        frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig", low_memory=False, float_precision="round_trip")
    except pd.errors.EmptyDataError as error:
        raise StoreError(Problem("an empty file", expected, cure), subject=path.name) from error
    except (pd.errors.ParserError, UnicodeDecodeError, csv.Error, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise StoreError(Problem(f"text that is no table ({reason})", expected, cure), subject=path.name) from error
    frame.columns = frame.columns.astype(str).str.strip()
    problems = []
    if frame.empty:
        problems.append(Problem("a header without rows", expected, cure))
    if all(_is_number(c) for c in frame.columns):
        found = f"a first line of numbers ({phrases.few(frame.columns)}) where names are expected"
        problems.append(Problem(found, expected, "add a header line"))
    if problems:
        raise StoreError(*problems, subject=path.name)
    return frame


def folder(path: Path, keys: Keys) -> AnnData:
    """Return all csv files of a folder as one AnnData, an embryo each unless they name embryos.

    Raises
    ------
    SchemaError, StoreError
        With the problems of all files.
    """
    paths = sorted(path.glob("*.csv"))
    like_epic = [is_epic(p) for p in paths]
    if all(like_epic):
        return epic(paths, keys)
    if any(like_epic):
        odd = phrases.few(p.name for p, epic_ in zip(paths, like_epic, strict=True) if not epic_)
        cure = "read them apart"
        raise SchemaError(Problem(f"files of other columns among tracks: {odd}", "one layout", cure), subject=path.name)
    parts, problems = [], []
    for each in paths:
        try:
            parts.append(table(each, keys))
        except EmbryoError as error:
            problems += [Problem(f"{each.name}: {p.found}", p.expected, p.cure) for p in error.problems]
    if problems:
        raise SchemaError(*problems, subject=path.name)
    return anndata.concat(parts, join="inner", merge="same", keys=[p.stem for p in paths], index_unique=":")


def _genes(frame: pd.DataFrame, keys: Keys, path: Path) -> list[str]:
    if keys.genes is not None:
        missing = [g for g in keys.genes if g not in frame.columns]
        words = [g for g in keys.genes if g in frame.columns and not pd.api.types.is_numeric_dtype(frame[g])]
        problems = []
        if missing:
            found = f"no column {phrases.few(missing)} for genes among {phrases.few(frame.columns, 12)}"
            problems.append(Problem(found, "columns of the table", "correct the names (config read.keys.genes)"))
        if words:
            found = f"gene columns without numbers: {phrases.few(words)}"
            problems.append(Problem(found, "numbers", "correct the values, or leave these columns out"))
        if problems:
            raise SchemaError(*problems, subject=path.name)
        return list(keys.genes)
    known = {c.lower() for names in (*conventions.OBS.values(), *conventions.COLUMNS) for c in names}
    space = keys.space if isinstance(keys.space, tuple) else (keys.space,)
    taken = {getattr(keys, slot, None) for slot in conventions.OBS} | set(space)
    return [
        c
        for c in frame.columns
        if c not in taken
        and c.lower() not in known
        and not _NOT_GENES.fullmatch(c.lower())
        and pd.api.types.is_numeric_dtype(frame[c])
        and not pd.api.types.is_bool_dtype(frame[c])
    ]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
