"""The AnnData contract: where everything lies, in which units.

Slot names are spelled here and nowhere else. One row is one cell at one time in one embryo. `check` lists everything
that is wrong with an AnnData at once; what can be wrong with each kind of slot stands in `embryo.core.checks`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Int

from embryo.core.checks import frames, matrices, names, phrases, positions, times
from embryo.core.errors import Problem, SchemaError

# obs
TIME = "time"  # developmental time, hours, float
EMBRYO = "embryo"  # which embryo (or replicate) the cell belongs to
CELL = "cell"  # name or track of the cell; the same name at two times of an embryo is the same cell
PARENT = "parent"  # name or track of the mother; "" where unknown
CELL_TYPE = "cell_type"  # annotated type or fate
MASS = "mass"  # how many cells of the embryo it stands for, where some were drawn; 1 where absent
SLICE = "slice"  # physical section, where there are any
PERTURBATION = "perturbation"  # label of the edit that this embryo carries; "" for wild type
PER_LEVEL = "counts_per_level"  # raw counts that expm1(g) = 1 stands for in the cell, where the panel is from counts

# obsm
SPATIAL = "spatial"  # raw position, µm, right-handed, (cells, 2 or 3)
ALIGNED = "spatial_aligned"  # position in the common body frame, µm
EMBED = "X_embed"  # embedding z
INPUTS = "inputs"  # inputs of a gene circuit measured in each cell, which ride with it and fade
PANEL = "X_panel"  # panel genes g, log1p-normalised; names in uns["embryo"]["panel"]
VELOCITY = "velocity_levels"  # measured d/dt of expm1(g), per hour, columns as the panel; NaN where a gene has none
MEASURED = "X_panel_measured"  # the same before levels were shrunk towards the cells around; absent where they are not

# CellRank's keys, which its Lineage.from_adata and its plots read
FATE_PROBABILITIES = "lineages_fwd"  # obsm, (cells, fates)
TERMINAL_STATES = "term_states_fwd"  # obs, categorical; its categories name the columns of FATE_PROBABILITIES
TERMINAL_PROBABILITIES = "term_states_fwd_probs"  # obs
TERMINAL_COLOURS = "term_states_fwd_colors"  # uns, one colour per category
DRIVERS = "terminal_lineage_drivers"  # varm, columns FATE_corr, FATE_pval, FATE_qval, FATE_ci_low, FATE_ci_high

# layers
COUNTS = "counts"  # raw counts
VELOCITY_LAYER = "velocity"  # RNA velocity as scVelo leaves it, in the unit that a config says

# uns
NAMELESS = "embryo_unnamed"  # in META: obs["embryo"] is the name of the file, which itself names no embryo
META = (
    "embryo"  # {"time_unit": "h", "space_unit": "um", "frame": "raw" | "body", "expression": ..., "dataset": ..., ...}
)

SAME_TIME_H = 0.05  # three minutes: an observation this near to a time was made at it
TARGET_SUM = 1e4  # library size after normalisation, as in scanpy's habit

EXPRESSIONS = ("counts", "log1p", "relative")  # raw counts; log1p of normalised counts; reporter levels
_FRAMES = ("raw", "body")


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a step needs beyond an AnnData without mistakes.

    Parameters
    ----------
    times
        Smallest number of distinct times.
    counts
        Raw counts, in ``layers["counts"]`` or declared in X.
    space, aligned
        Positions, as given or in the body frame.
    embed, panel
        Embedding z, gene panel g.
    cell_types
        A type for every cell.
    tracks
        Cells that are followed: a name seen at two times, or daughters that name their mother.
    slices
        Physical sections with enough cells to be placed.
    complete
        Embryos followed on one grid of times have cells at each of them.
    """

    times: int = 2
    counts: bool = False
    space: bool = False
    aligned: bool = False
    embed: bool = False
    panel: bool = False
    cell_types: bool = False
    tracks: bool = False
    slices: bool = False
    complete: bool = False


SERIES = Needs()  # at least two times
SNAPSHOT = Needs(times=1)


def check(adata: AnnData, needs: Needs = SERIES, held: Sequence[str] | None = None) -> list[Problem]:
    """List every problem of an AnnData at once, each with its cure; an empty list means that it keeps the contract.

    Parameters
    ----------
    adata
        One row per cell, time and embryo; slots as named in this file. Not modified; sparse matrices stay sparse.
    needs
        What the next step needs on top.
    held
        The columns of the file, for messages, where reading has added others to ``obs``.

    Returns
    -------
    list of Problem
        Never raises on odd values.
    """
    if not adata.n_obs:
        return [Problem("0 cells", "at least one cell", "check the filter or the file that was read")]
    return [
        *_meta(adata),
        *_columns(adata, needs, list(adata.obs.columns) if held is None else held),
        *_names(adata, needs),
        *_positions(adata, needs),
        *_expression(adata, needs),
        *_state(adata, needs),
        *_frames(adata),
    ]


def require(adata: AnnData, needs: Needs = SERIES, *, subject: str = "") -> None:
    """Raise unless `check` finds nothing.

    Parameters
    ----------
    adata, needs
        As in `check`.
    subject
        What the data are, for the message: a file or a dataset.

    Raises
    ------
    SchemaError
        With all problems.
    """
    found = check(adata, needs)
    if found:
        raise SchemaError(*found, subject=subject)


def meta(adata: AnnData) -> Mapping[str, Any]:
    """Return ``uns["embryo"]``, or an empty mapping where there is none."""
    held = adata.uns.get(META)
    return held if isinstance(held, Mapping) else {}


def _meta(adata: AnnData) -> Iterator[Problem]:
    held, slot = adata.uns.get(META), f'uns["{META}"]'
    if held is not None and not isinstance(held, Mapping):
        yield Problem(
            f"{slot} of kind {type(held).__name__}", "a mapping with time_unit, space_unit, ...", "make it one"
        )
    stated = meta(adata)
    units = [("time_unit", "h", "--time-unit h, min, day, ..., config read.time_unit or -s read.time_unit=h")]
    if SPATIAL in adata.obsm or ALIGNED in adata.obsm:
        units.append(
            ("space_unit", "um", "--space-unit um, mm, nm, px, config read.space_unit or -s read.space_unit=um")
        )
    for key, unit, how in units:
        if stated.get(key) != unit:
            found = f"{key} {stated[key]!r} in {slot}" if key in stated else f"units missing: no {key} in {slot}"
            yield Problem(found, f"{key} {unit!r}", f"say the unit when reading the file ({how})")
    choices: list[tuple[str, tuple[str, ...]]] = [("frame", _FRAMES)]
    if adata.n_vars and adata.X is not None:
        choices.append(("expression", EXPRESSIONS))
    for key, known in choices:
        if stated.get(key) not in known and (key in stated or key == "expression"):
            yield Problem(
                f"{key} {stated.get(key)!r} in {slot}",
                f"one of {', '.join(known)}",
                "read the file through embryo.read",
            )
    if "motions" in stated:
        yield from frames.motions(stated["motions"], f'{slot}["motions"]')


def _columns(adata: AnnData, needs: Needs, held: Sequence[str]) -> Iterator[Problem]:
    obs = adata.obs
    time = _column(adata, TIME)
    if time is None:
        yield times.absent(_obs(TIME), held)
    else:
        yield from times.problems(time, _obs(TIME), needs.times)
    twice = obs.columns[obs.columns.duplicated()]
    if len(twice):
        yield Problem(f"columns twice in obs: {phrases.few(twice)}", "every column once", "rename or drop the copies")
    for key, needed in {CELL_TYPE: needs.cell_types, SLICE: needs.slices, CELL: needs.tracks}.items():
        if needed and _column(adata, key) is None:
            how = f"name the column that holds it when reading (config read.keys.{key})"
            yield Problem(f"no {_obs(key)} among the columns {phrases.few(held, 8) or '(none)'}", "it", how)
    for key in (EMBRYO, CELL_TYPE, SLICE):
        column = _column(adata, key)
        if column is not None:
            yield from names.groups(column, _obs(key))
            if key == EMBRYO or (key == CELL_TYPE and needs.cell_types) or (key == SLICE and needs.slices):
                yield from names.unnamed(column, _obs(key))
            if key == SLICE and needs.slices:
                yield from names.sizes(column, _obs(key), 3)
    values = None if time is None else times.numbers(time)
    if needs.complete and values is not None and EMBRYO in obs:
        yield from times.gaps(values, *_embryos(adata), _obs(TIME))


def _names(adata: AnnData, needs: Needs) -> Iterator[Problem]:
    yield from names.genes(adata.var_names)
    yield from names.rows(adata.obs_names)
    cell = _column(adata, CELL)
    if cell is None:
        return
    keys = {key: _column(adata, key) for key in (EMBRYO, TIME, CELL)}
    if keys[TIME] is not None:
        frame = pd.DataFrame({key: column for key, column in keys.items() if column is not None})
        yield from names.observations(frame, list(frame.columns))
    if needs.tracks:
        parent = _column(adata, PARENT)
        yield from names.followed(_embryos(adata)[0], cell, parent, slots=(_obs(CELL), _obs(PARENT)))


def _positions(adata: AnnData, needs: Needs) -> Iterator[Problem]:
    wanted = {SPATIAL: needs.space, ALIGNED: needs.aligned}
    cures = {
        SPATIAL: "name the slot or columns that hold positions (--key space=..., config read.keys.space)",
        ALIGNED: "run embryo.reconstruct.body_frame first",
    }
    codes, labels = _embryos(adata)
    for key, needed in wanted.items():
        if key in adata.obsm:
            yield from positions.problems(adata.obsm[key], _obsm(key), adata.obs_names)
            x = positions.numbers(adata.obsm[key])
            if x is not None and x.shape[1] in (2, 3) and meta(adata).get("space_unit") == "um":
                yield from positions.scale(x, codes, _moments(adata), labels, _obsm(key))
        elif needed:
            others = phrases.few(adata.obsm, 8) or "(none)"
            yield Problem(f"no {_obsm(key)} among the slots {others}", "the position of every cell in µm", cures[key])


def _expression(adata: AnnData, needs: Needs) -> Iterator[Problem]:
    stated = meta(adata).get("expression")
    if adata.X is not None and adata.n_vars:
        yield from matrices.problems(adata.X, "X", counts=stated == "counts", signed=stated == "relative")
        yield from matrices.empty(adata.X, "X", adata.obs_names, counts=False)
    slot = f'layers["{COUNTS}"]'
    if COUNTS in adata.layers and adata.n_vars:
        yield from matrices.problems(adata.layers[COUNTS], slot, counts=True, signed=False)
        yield from matrices.empty(adata.layers[COUNTS], slot, adata.obs_names, counts=needs.counts)
    elif needs.counts:
        yield from matrices.no_counts(adata.X if adata.n_vars else None, slot, list(adata.layers))


def _state(adata: AnnData, needs: Needs) -> Iterator[Problem]:
    for key, needed, verb in ((EMBED, needs.embed, "embed.cells"), (PANEL, needs.panel, "embed.panel")):
        if key in adata.obsm:
            yield from positions.table(adata.obsm[key], _obsm(key), adata.obs_names)
        elif needed:
            yield Problem(f"no {_obsm(key)}", "a fresh one", f"run embryo.{verb} first")
    if PANEL in adata.obsm:
        genes, width = meta(adata).get("panel", ()), np.shape(adata.obsm[PANEL])[-1]
        listed = list(genes) if isinstance(genes, list | tuple | np.ndarray) else []
        if len(listed) != width or len(set(map(str, listed))) != width:
            yield Problem(
                f'{len(set(map(str, listed)))} different panel names in uns["{META}"]["panel"] for {width} columns of '
                f"{_obsm(PANEL)}",
                "one name per column",
                "run embryo.embed.panel again",
            )


def _frames(adata: AnnData) -> Iterator[Problem]:
    cell, time = _column(adata, CELL), _column(adata, TIME)
    x = positions.numbers(adata.obsm[SPATIAL]) if SPATIAL in adata.obsm else None
    hours = None if time is None else times.numbers(time)
    if cell is None or hours is None or x is None or x.shape[1] not in (2, 3) or EMBRYO not in adata.obs:
        return
    who = np.where(np.isfinite(hours) & ~names.blank(cell), pd.factorize(cell)[0], -1)
    codes, labels = _embryos(adata)
    yield from frames.problems(x, codes, who, _moments(adata), labels)


def _column(adata: AnnData, key: str) -> pd.Series | None:
    if key not in adata.obs:
        return None
    column = adata.obs[key]
    column = column.iloc[:, 0] if isinstance(column, pd.DataFrame) else column
    odd = column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) == "mixed"  # lists, dicts, ...
    return column.astype(str) if odd else column


def _embryos(adata: AnnData) -> tuple[Int[np.ndarray, " cells"], list[str]]:
    """Return the number of each cell's embryo (-1 where unknown) and the embryos' names; one embryo if none named."""
    column = _column(adata, EMBRYO)
    if column is None:
        return np.zeros(adata.n_obs, dtype=np.int64), ["embryo"]
    codes, labels = pd.factorize(column)
    return np.where(names.blank(column), -1, codes), [str(label) for label in labels]


def _moments(adata: AnnData) -> Int[np.ndarray, " cells"]:
    """Return the number of each cell's time point; all the same where times are not known."""
    time = _column(adata, TIME)
    hours = None if time is None else times.numbers(time)
    if hours is None:
        return np.zeros(adata.n_obs, dtype=np.int64)
    return np.asarray(np.unique(np.round(hours, 6), return_inverse=True)[1].reshape(-1), dtype=np.int64)


def _obs(key: str) -> str:
    return f'obs["{key}"]'


def _obsm(key: str) -> str:
    return f'obsm["{key}"]'
