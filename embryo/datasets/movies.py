"""Tracked movies: csv files in the layout of AceTree and EPIC, one embryo each, one row per nucleus and frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int

from embryo.core.checks import phrases
from embryo.core.errors import EmbryoError, Problem, SchemaError
from embryo.datasets import contract, lineage

_NEEDED = ("cell", "time", "x", "y", "z")
_ALIASES = {
    "cell name": "cell",
    "cell_name": "cell",
    "cellname": "cell",
    "name": "cell",
    "frame": "time",
    "t": "time",
    "time point": "time",
    "timepoint": "time",
}
_REPORTER = "blot"  # background-corrected reporter
_LOST = 0.5  # share of rows without a usable position or frame above which the file is refused


@dataclass(frozen=True)
class Microscope:
    """How pixels, planes and frames become µm and hours.

    Parameters
    ----------
    pixel_um
        Size of a pixel in x and y, µm.
    plane_um
        Distance of planes in z, µm.
    frame_min
        Nominal time between frames, minutes.
    """

    pixel_um: float = 0.09
    plane_um: float = 1.0
    frame_min: float = 1.0

    def __post_init__(self) -> None:
        problems = [
            Problem(f"{name} = {value}", "a size above 0", "give the number that the microscope was set to")
            for name, value in vars(self).items()
            if not (np.isfinite(value) and value > 0)
        ]
        if problems:
            raise SchemaError(*problems, subject="tracks")


@dataclass(frozen=True)
class Movie:
    """One tracked embryo, one row per nucleus and frame.

    Parameters
    ----------
    name
        Name of the embryo.
    cells
        Names of its tracks.
    code
        Which track each row belongs to.
    frame
        Frame of each row.
    x_um
        Position, µm, in the frame of the microscope.
    level
        Background-corrected reporter; NaN where it was not measured.
    dropped
        How many rows were left out or renamed, by reason.
    """

    name: str
    cells: tuple[str, ...]
    code: Int[np.ndarray, " rows"]
    frame: Float[np.ndarray, " rows"]
    x_um: Float32[np.ndarray, "rows 3"]
    level: Float32[np.ndarray, " rows"]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.code)

    def spans(self) -> pd.DataFrame:
        """Return the first and last frame of each track, indexed by cell."""
        rows = pd.DataFrame({"cell": self.code, "frame": self.frame}).groupby("cell").frame.agg(["min", "max"])
        rows.index = pd.Index([self.cells[k] for k in rows.index])
        return rows.set_axis(["first", "last"], axis=1)


def read(files: Sequence[Path], microscope: Microscope | None = None) -> list[Movie]:
    """Read tracked movies.

    Needed columns are cell, time (frame), x, y (pixels) and z (planes); ``blot`` is used where it stands. Rows
    without a finite position or frame, polar bodies and rows that stand twice are left out; a second nucleus of the
    same name at the same time is kept as ``NAME#2``. All of that is counted in `Movie.dropped`.

    Parameters
    ----------
    files
        One csv per embryo; its name without the ending becomes the name of the embryo.
    microscope
        Sizes; those of EPIC by default.

    Raises
    ------
    SchemaError
        Listing the problems of all files: no table, missing columns, no usable rows, two files of one name.
    """
    microscope = microscope or Microscope()
    movies, errors = [], _twice(files)
    for path in files:
        try:
            movies.append(_read(path, microscope))
        except EmbryoError as error:
            errors.append(error)
    contract.collect(errors)
    if not movies:
        raise SchemaError(Problem("no files", "at least one csv of tracks", "give files or a folder that holds them"))
    return movies


def _twice(files: Sequence[Path]) -> list[EmbryoError]:
    stems = [path.stem for path in files]
    problems = [
        Problem(f"{stems.count(stem)} files named {stem}", "one file per embryo", "rename or leave out the copies")
        for stem in sorted({s for s in stems if stems.count(s) > 1})
    ]
    return [SchemaError(*problems)] if problems else []


def _read(path: Path, microscope: Microscope) -> Movie:
    raw = contract.table(path, (), low_memory=False)
    raw.columns = [_ALIASES.get(c, c) for c in raw.columns.astype(str).str.strip().str.lower()]
    raw = raw.loc[:, ~raw.columns.duplicated()]
    if "cell" not in raw and "celltime" in raw:
        raw["cell"] = raw["celltime"].astype(str).str.rsplit(":", n=1).str[0]
    missing = [name for name in _NEEDED if name not in raw]
    if missing:
        found = f"no column {', '.join(missing)} among {phrases.few(raw.columns, 20)}"
        cure = "export the tracks with a header such as cell,time,x,y,z,blot"
        raise SchemaError(Problem(found, f"columns {', '.join(_NEEDED)}", cure), subject=path.name)
    numeric = raw.reindex(columns=["time", "x", "y", "z", _REPORTER]).apply(pd.to_numeric, errors="coerce")
    values = numeric.to_numpy(dtype=np.float64)
    first, names = pd.factorize(raw["cell"])  # names are worked on once each, not once per row
    known = pd.Index(names).astype(str).str.strip()
    usable = np.isfinite(values[:, :4]).all(axis=1) & (first >= 0)
    usable[usable] = known.to_numpy()[first[usable]] != ""
    if usable.mean() < 1 - _LOST:
        found = f"{(~usable).sum()} of {len(raw)} rows without a cell name, a frame or a finite position"
        cure = "check the columns cell, time, x, y, z of this file"
        raise SchemaError(Problem(found, "numbers in nearly every row", cure), subject=path.name)
    dropped = {"rows without name, frame or position": int((~usable).sum())}
    return _movie(path.stem, known.take(first[usable]), values[usable], dropped, microscope)


def _movie(embryo: str, name: pd.Index, values: np.ndarray, dropped: dict[str, int], microscope: Microscope) -> Movie:
    code, cells = pd.factorize(name, sort=True)
    bodies = np.array([lineage.polar(c) for c in cells], dtype=bool)[code]
    rows = pd.DataFrame(values, columns=["frame", "x", "y", "z", "level"]).assign(code=code)
    same = rows.duplicated(["code", "frame", "x", "y", "z"]).to_numpy()
    kept = ~(same | bodies)
    rows, name = rows[kept].reset_index(drop=True), name[kept]
    again = rows.groupby(["code", "frame"]).cumcount().to_numpy()
    if again.any():
        name = pd.Index(np.where(again > 0, name + "#" + (again + 1).astype(str), name))
    code, cells = pd.factorize(name, sort=True)
    level = rows.level.to_numpy()
    return Movie(
        name=embryo,
        cells=tuple(map(str, cells)),
        code=code.astype(np.int32),
        frame=rows.frame.to_numpy(),
        x_um=(
            rows[["x", "y", "z"]].to_numpy() * [microscope.pixel_um, microscope.pixel_um, microscope.plane_um]
        ).astype(np.float32),
        level=np.where(np.isfinite(level), level, np.nan).astype(np.float32),
        dropped=dropped
        | {
            "polar body rows": int(bodies.sum()),
            "repeated rows": int(same.sum()),
            "second nuclei of one name, renamed": int((again > 0).sum()),
        },
    )
