"""Tracked *C. elegans* embryos as AnnData: named cells in µm, on one clock, with assembled gene vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem
from embryo.datasets import contract, lineage, packer, reporters, transfer
from embryo.datasets.clock import LANDMARKS_H, MIN_EVENTS, Clock, births, synchronise
from embryo.datasets.movies import Microscope, Movie, read
from embryo.datasets.registry import Dataset

ORGANISM = "Caenorhabditis elegans"


class Options(BaseModel):
    """What to make of tracked movies.

    Parameters
    ----------
    embryos
        Names of the embryos to load, or how many (the first by name); all by default.
    step_min
        One frame is kept per so many minutes of the clock: the nearest, and ``obs["time"]`` is that of the grid.
        None keeps every frame with its own time.
    clock
        ``"consensus"``: frames of each embryo are mapped to hours by its divisions (see `embryo.datasets.clock`);
        ``"nominal"``: frame times `frame_min`.
    held_out
        Embryos that the consensus clock and the assembled vectors must not know: names, or how many (the last of
        `embryos` by name).
    synchronise_until_h
        Births of held-out embryos after this time (hours) are not looked at.
    assemble_from
        Embryos whose reporters make the gene vectors; all that are not held out by default.
    expression
        ``"reporters"``: levels assembled from the embryos; ``"packer"``: single-cell means per lineage group, from
        the dataset celegans-packer.
    genes
        Genes to keep, in this order; all by default.
    perturbed
        Edit that an embryo carries, by name, such as ``{"RNAi_07": "knockdown pha-4"}``; written to
        ``obs["perturbation"]``. The consensus clock and the assembled vectors do not know these embryos either.
    pixel_um, plane_um, frame_min
        See `embryo.datasets.movies.Microscope`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embryos: list[str] | PositiveInt | None = None
    step_min: PositiveFloat | None = 5.0
    clock: Literal["consensus", "nominal"] = "consensus"
    held_out: list[str] | NonNegativeInt = []
    synchronise_until_h: float = float("inf")
    assemble_from: list[str] | None = None
    expression: Literal["reporters", "packer"] = "reporters"
    genes: list[str] | None = None
    perturbed: dict[str, str] = {}
    pixel_um: PositiveFloat = 0.09
    plane_um: PositiveFloat = 1.0
    frame_min: PositiveFloat = 1.0


def epic(files: Sequence[Path], dataset: Dataset, **options: Any) -> AnnData:
    """Convert the registered EPIC embryos; see `tracks` and `Options`."""
    gene = {Path(file.name).stem: file.facts["reporter"] for file in dataset.files if "reporter" in file.facts}
    return tracks(files, gene=gene, **options)


def tracks(files: Sequence[str | Path], *, gene: Mapping[str, str] | None = None, **options: Any) -> AnnData:
    """Read tracked, named embryos from csv files in the layout of AceTree and EPIC.

    Parameters
    ----------
    files
        One csv per embryo, or folders that hold them.
    gene
        Reporter gene of each embryo, by file name without the ending; guessed from EPIC-like names where it is not
        given (``obs["reporter"]`` is ``""`` where nothing is known).
    options
        Fields of `Options`.

    Returns
    -------
    AnnData
        One row per nucleus and time. obs: time (h), time_nominal (h), frame, embryo, cell, parent, cell_type (major
        lineage), reporter, reporter_level (the embryo's own), expression_known. obsm["spatial"]: µm, right-handed
        microscope frame. X: gene vectors assembled by cell name, float32.

    Raises
    ------
    ConfigError
        For unknown options, embryos or genes, and values out of range; all at once.
    SchemaError
        For files that cannot be used, and embryos that cannot be put on the common clock; all at once.
    """
    chosen = _options(options)
    paths = _paths(files)
    plan = _plan([path.stem for path in paths], chosen)
    movies = {
        movie.name: movie
        for movie in read(
            [path for path in paths if path.stem in plan.needed],
            Microscope(chosen.pixel_um, chosen.plane_um, chosen.frame_min),
        )
    }
    named_gene = {name: (gene or {}).get(name) or reporters.guess(name) for name in movies}
    clocks, consensus = _clocks(movies, plan, chosen)
    parts = [_rows(movies[name], clocks[name], named_gene[name], plan, chosen) for name in plan.embryos]
    obs = pd.concat([part for part, _ in parts], ignore_index=True)
    table, known, expression = _expression(movies, named_gene, obs[schema.CELL], plan, chosen)
    adata = _adata(obs, np.concatenate([x for _, x in parts]), table, known)
    notes = _notes(movies, clocks, consensus, plan, chosen)
    notes["expression_coverage"] = float(adata.obs["expression_known"].mean())
    contract.note(adata, organism=ORGANISM, expression=expression, assembled=bool(adata.n_vars), notes=notes)
    adata.uns[schema.META]["named"] = True  # a name is the same cell in every embryo
    return adata


@dataclass(frozen=True)
class _Plan:
    """Which embryos play which part."""

    embryos: tuple[str, ...]
    assemble_from: tuple[str, ...]
    held_out: tuple[str, ...]
    perturbed: Mapping[str, str]

    @property
    def needed(self) -> set[str]:
        return {*self.embryos, *self.assemble_from}


def _options(given: Mapping[str, Any]) -> Options:
    try:
        return Options.model_validate(dict(given))
    except ValidationError as error:
        known = list(Options.model_fields)
        problems = []
        for e in error.errors():
            key = str(e["loc"][0])
            if e["type"] == "extra_forbidden":
                found = f"unknown parameter {key!r}{phrases.nearest(key, known)}"
                problems.append(Problem(found, f"one of: {', '.join(known)}", "remove or rename it"))
            else:
                problems.append(Problem(f"{key} = {e['input']!r}", e["msg"].lower(), f"change {key}"))
        raise ConfigError(*dict.fromkeys(problems), subject="tracks") from error


def _paths(files: Sequence[str | Path]) -> list[Path]:
    paths: list[Path] = []
    for given in map(Path, files):
        paths += sorted(given.glob("*.csv")) if given.is_dir() else [given]
    return sorted(paths, key=lambda path: path.stem)


def _plan(stems: Sequence[str], options: Options) -> _Plan:
    parts = (options.embryos, options.held_out, options.assemble_from, list(options.perturbed))
    given = [name for part in parts for name in _names(part)]
    problems = [
        Problem(
            f"no embryo {name!r}{phrases.nearest(name, stems)}",
            f"one of {len(stems)}: {phrases.few(stems, 3)}",
            "choose file names without the ending",
        )
        for name in dict.fromkeys(given)
        if name not in stems
    ]
    whole = options.embryos is None or isinstance(options.embryos, int)
    embryos = (
        sorted(stems)[: options.embryos if isinstance(options.embryos, int) else None]
        if whole
        else _names(options.embryos)
    )
    held = _names(options.held_out)
    if isinstance(options.held_out, int):
        if not 0 <= options.held_out < len(embryos):
            found = f"held_out = {options.held_out} of {len(embryos)} embryos"
            problems.append(Problem(found, "at least one embryo left", "hold out fewer, or load more"))
        held = sorted(embryos)[len(embryos) - options.held_out :]
    apart = {*held, *options.perturbed}
    both = sorted(apart & set(_names(options.assemble_from)))
    if both:
        found = f"{phrases.few(both)} in assemble_from, and held out or perturbed"
        problems.append(Problem(found, "embryos of the fit that lend expression", "remove them from assemble_from"))
    if problems:
        raise ConfigError(*problems, subject="tracks")
    lend = [name for name in stems if name not in apart]
    assemble = lend if options.assemble_from is None else _names(options.assemble_from)
    return _Plan(tuple(dict.fromkeys(embryos)), tuple(dict.fromkeys(assemble)), tuple(held), options.perturbed)


def _names(part: Sequence[str] | int | None) -> list[str]:
    if part is None or isinstance(part, int):
        return []
    return [part] if isinstance(part, str) else list(part)


def _clocks(movies: Mapping[str, Movie], plan: _Plan, options: Options) -> tuple[dict[str, Clock], pd.Series]:
    if options.clock == "nominal":
        return dict.fromkeys(movies, Clock(options.frame_min / 60, 0.0)), pd.Series(dtype=float)
    return synchronise(
        {name: births(movie.spans()) for name, movie in movies.items()},
        held_out={
            name: options.synchronise_until_h if name in plan.held_out else float("inf")
            for name in (*plan.held_out, *plan.perturbed)
            if name in movies
        },
        frame_min=options.frame_min,
    )


def _rows(movie: Movie, clock: Clock, gene: str, plan: _Plan, options: Options) -> tuple[pd.DataFrame, np.ndarray]:
    """Return obs and positions of the frames of one embryo that are kept."""
    hours = clock(movie.frame)
    keep, time = _grid(hours, options.step_min)
    until = options.synchronise_until_h if movie.name in plan.held_out else float("inf")
    level = reporters.relative(movie, float(movie.frame[hours <= until].max(initial=-np.inf)))
    cells = np.array(movie.cells, dtype=object)
    parent = lineage.mothers(movie.cells, movie.cells).to_numpy()
    founder = np.array([lineage.founder(c) for c in movie.cells], dtype=object)
    code = movie.code[keep]
    obs = pd.DataFrame(
        {
            schema.TIME: time,
            "time_nominal": movie.frame[keep] * (options.frame_min / 60),
            "frame": movie.frame[keep],
            schema.EMBRYO: movie.name,
            schema.CELL: cells[code],
            schema.PARENT: parent[code],
            schema.CELL_TYPE: founder[code],
            schema.PERTURBATION: plan.perturbed.get(movie.name, ""),
            "reporter": gene,
            "reporter_level": level[keep],
        }
    )
    return obs, movie.x_um[keep]


def _grid(hours: np.ndarray, step_min: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the frames nearest to a grid of times, and the grid time of each."""
    if step_min is None:
        return np.arange(len(hours)), hours
    step = step_min / 60
    times, frame = np.unique(hours, return_inverse=True)
    interval = float(np.median(np.diff(times))) if len(times) > 1 else step
    ticks = np.arange(np.ceil((times[0] - interval / 2) / step), np.floor((times[-1] + interval / 2) / step) + 1)
    right = np.clip(np.searchsorted(times, ticks * step), 1, max(len(times) - 1, 1))
    left = np.minimum(right - 1, len(times) - 1)
    right = np.minimum(right, len(times) - 1)
    near = np.where(np.abs(times[left] - ticks * step) <= np.abs(times[right] - ticks * step), left, right)
    distance = np.abs(times[near] - ticks * step)
    tick_of = np.full(len(times), np.nan)
    for k in np.argsort(-distance, kind="stable"):  # the nearest tick of a frame is written last
        if distance[k] <= 0.51 * interval:
            tick_of[near[k]] = ticks[k]
    tick_of = _longest_run(tick_of)
    keep = np.flatnonzero(~np.isnan(tick_of[frame]))
    return keep, np.round(tick_of[frame[keep]] * step, 9) + 0.0  # no -0.0


def _longest_run(ticks: np.ndarray) -> np.ndarray:
    """Keep the longest run of consecutive ticks; a movie with a hole would have cells vanish and come back."""
    held = ticks[~np.isnan(ticks)]
    run = np.cumsum(np.diff(held, prepend=held[:1]) > 1)
    longest = held[run == np.argmax(np.bincount(run.astype(int)))] if len(held) else held
    return np.where(np.isin(ticks, longest), ticks, np.nan)


def _expression(
    movies: Mapping[str, Movie], gene: Mapping[str, str], cells: pd.Series, plan: _Plan, options: Options
) -> tuple[pd.DataFrame, pd.Series, str]:
    """Return cells x genes, which cells are known, and the kind of values."""
    names = pd.unique(cells)
    if options.expression == "packer":
        folder = transfer.locate("celegans-packer")
        table, known = packer.join(packer.group_means(packer.read(sorted(folder.iterdir()))), names)
        return _genes(table, options), known, "log1p"
    sources = [name for name in plan.assemble_from if gene[name]]
    means = {name: reporters.cell_means(movies[name], reporters.relative(movies[name])) for name in sources}
    table = reporters.assemble(means, gene)
    known = pd.Series([name in table.index for name in names], index=names)
    return _genes(table.reindex(names).fillna(0).astype(np.float32), options), known, "relative"


def _genes(table: pd.DataFrame, options: Options) -> pd.DataFrame:
    if options.genes is None:
        return table
    problems = [
        Problem(f"no gene {name!r}{phrases.nearest(name, table.columns)}", f"{table.shape[1]} genes", "choose others")
        for name in options.genes
        if name not in table.columns
    ]
    if problems:
        raise ConfigError(*problems, subject="tracks")
    return table[list(options.genes)]


def _adata(obs: pd.DataFrame, x_um: np.ndarray, table: pd.DataFrame, known: pd.Series) -> AnnData:
    row = table.index.get_indexer(pd.Index(obs[schema.CELL]))
    obs["expression_known"] = known.reindex(obs[schema.CELL]).to_numpy(dtype=bool)
    obs.index = pd.Index(obs[schema.EMBRYO] + ":" + obs[schema.CELL] + ":" + obs["frame"].map("{:g}".format), dtype=str)
    groups = (schema.EMBRYO, schema.CELL, schema.PARENT, schema.CELL_TYPE, schema.PERTURBATION, "reporter")
    obs = obs.astype(dict.fromkeys(groups, "category"))
    var = pd.DataFrame(index=table.columns.astype(str))
    return AnnData(table.to_numpy()[row], obs=obs, var=var, obsm={schema.SPATIAL: x_um})


def _zero(consensus: pd.Series, options: Options) -> str:
    if options.clock == "nominal":
        return "frame 0 of each movie"
    known = len(consensus.index.intersection(list(LANDMARKS_H))) >= MIN_EVENTS
    return "division of AB (start of the 4-cell stage)" if known else "earliest shared birth"


def _notes(
    movies: Mapping[str, Movie], clocks: Mapping[str, Clock], consensus: pd.Series, plan: _Plan, options: Options
) -> dict[str, Any]:
    dropped: dict[str, int] = {}
    for movie in movies.values():
        for reason, count in movie.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    used = {name: clocks[name] for name in plan.embryos}
    return {
        "clock": options.clock,
        "time_zero": _zero(consensus, options),
        "clock_slope_h": {name: c.slope_h for name, c in used.items()},
        "clock_offset_h": {name: c.offset_h for name, c in used.items()},
        "clock_residual_h": {name: c.residual_h for name, c in used.items()},
        "consensus_births": len(consensus),
        "held_out": list(plan.held_out),
        "expression_source": options.expression,
        "assembled_note": (
            "Gene vectors are assembled by cell name from other embryos; the genes were never measured together."
        ),
        "dropped": dropped,
    }
