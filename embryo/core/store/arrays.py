"""Trajectories and couplings as zarr v3 groups: open, chunked, checksummed, exact.

A trajectory is time-major, one frame per chunk, since it is written and looked at frame by frame::

    NAME.zarr/    attributes: format, version, units, frame {name, axes}, panel, provenance
        times_h   (times,)                 hours
        z         (times, cells, dims)     embedding
        g         (times, cells, genes)    log1p
        x         (times, cells, space)    µm
        log_mass  (times, cells)           -inf for a particle that stands for no cell; no other NaN or infinity
        names     (bytes,)                 the names of the cells, a JSON list in UTF-8

A coupling holds the three parts of its csr plan::

    NAME.zarr/    attributes: format, version, units, t0_h, t1_h, diagnostics
        data, indices (entries,), indptr (sources + 1,), sources (sources,), targets (targets,)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from scipy import sparse
from torch import Tensor

from embryo.core import trajectory as nouns
from embryo.core.axes import disagreements
from embryo.core.coupling import Coupling
from embryo.core.errors import Problem, SchemaError, StoreError
from embryo.core.frame import Frame
from embryo.core.store.groups import Arrays, Layout, read_group, write_group
from embryo.core.trajectory import Trajectory

_PARTS = ("times_h", "z", "g", "x", "log_mass")
TRAJECTORY = Layout(
    format="embryo-trajectory",
    version=1,
    arrays={name: ("f", nouns.AXES[name]) for name in _PARTS} | {"names": ("u", ("bytes",))},
    units={"time": "h", "space": "um", "g": "log1p"},
)
COUPLING = Layout(
    format="embryo-coupling",
    version=1,
    arrays={
        "data": ("f", ("entries",)),
        "indices": ("i", ("entries",)),
        "indptr": ("i", ("sources + 1",)),
        "sources": ("i", ("sources",)),
        "targets": ("i", ("targets",)),
    },
    units={"time": "h"},
)


def write_trajectory(trajectory: Trajectory, path: str | Path) -> None:
    """Write a trajectory.

    Parameters
    ----------
    trajectory
        Kept bit for bit, float32 and float64 alike.
    path
        Folder to write, whole or not at all; ``.zarr`` by habit.

    Raises
    ------
    StoreError
        If numbers are not finite (log_mass may be -inf) or of a type that numpy lacks, or the provenance does not
        fit JSON.
    """
    problems: list[Problem] = []
    arrays = {name: _numpy(name, getattr(trajectory, name), problems) for name in _PARTS}
    problems += not_finite(arrays)
    if problems:
        raise StoreError(*problems, subject=str(path))
    arrays["names"] = names(trajectory.cells)
    write_group(path, TRAJECTORY, arrays, about(trajectory.frame, trajectory.panel, trajectory.provenance))


def read_trajectory(path: str | Path) -> Trajectory:
    """Read what `write_trajectory` wrote, bit for bit.

    Raises
    ------
    StoreError
        Listing everything that is wrong: missing or damaged arrays, shapes that disagree, NaN, other units; or the
        folder is missing, foreign or of a newer version.
    """
    attributes, arrays, problems = read_group(path, TRAJECTORY)
    cells, panel, frame = described(arrays.pop("names", None), attributes, problems)
    problems += disagreeing(arrays, cells, panel) + not_finite(arrays)
    if problems:
        raise StoreError(*problems, subject=str(path))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    provenance = attributes.get("provenance", {})
    try:
        return Trajectory(**tensors, panel=panel, frame=frame, cells=cells, provenance=provenance)
    except SchemaError as error:
        raise StoreError(*error.problems, subject=str(path)) from error


def about(frame: Frame, panel: tuple[str, ...], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a stored trajectory."""
    return {"frame": {"name": frame.name, "axes": frame.axes}, "panel": panel, "provenance": provenance}


def names(cells: tuple[str, ...]) -> UInt8[np.ndarray, " bytes"]:
    """Return the names of cells as they are stored."""
    return np.frombuffer(json.dumps(cells).encode(), np.uint8)


def described(
    text: np.ndarray | None, attributes: Mapping[str, Any], problems: list[Problem]
) -> tuple[tuple[str, ...], tuple[str, ...], Frame]:
    """Return names of cells, panel and frame of a stored trajectory; what is wrong with them is added to `problems`."""
    cells = _strings("names", _json(text), problems) if text is not None else ()
    panel = _strings("panel", attributes.get("panel"), problems)
    return cells, panel, _frame(attributes.get("frame"), problems)


def disagreeing(arrays: Mapping[str, Any], cells: tuple[str, ...], panel: tuple[str, ...]) -> list[Problem]:
    """Return the axes of a stored trajectory on which its parts disagree."""
    lengths = {name: (len(entries),) for name, entries in (("panel", panel), ("cells", cells)) if entries}
    return disagreements({name: tuple(array.shape) for name, array in arrays.items()} | lengths, nouns.AXES)


def not_finite(arrays: Arrays) -> list[Problem]:
    """Return which arrays hold NaN or an infinity that means nothing."""
    problems = []
    for name, array in arrays.items():
        good = np.isfinite(array)
        if name == "log_mass":
            good |= array == -np.inf
        if not good.all():
            found = f"{int((~good).sum())} of {good.size} numbers of {name} NaN or infinite"
            problems.append(
                Problem(found, "finite numbers", "roll it out again with a smaller step, or write it again")
            )
    return problems


def write_coupling(coupling: Coupling, path: str | Path) -> None:
    """Write a coupling.

    Parameters
    ----------
    coupling
        Kept bit for bit, the order of its entries too.
    path
        Folder to write, whole or not at all; ``.zarr`` by habit.

    Raises
    ------
    StoreError
        If the diagnostics do not fit JSON.
    """
    plan = coupling.plan
    arrays = {"data": plan.data, "indices": plan.indices, "indptr": plan.indptr}
    arrays |= {"sources": coupling.sources, "targets": coupling.targets}
    times = {"t0_h": coupling.t0_h, "t1_h": coupling.t1_h}
    write_group(path, COUPLING, arrays, times | {"diagnostics": coupling.diagnostics})


def read_coupling(path: str | Path) -> Coupling:
    """Read what `write_coupling` wrote.

    Raises
    ------
    StoreError
        As `read_trajectory`.
    """
    attributes, arrays, problems = read_group(path, COUPLING)
    t0, t1 = (attributes.get(key) for key in ("t0_h", "t1_h"))
    if not (isinstance(t0, int | float) and isinstance(t1, int | float)):
        problems.append(Problem(f"times {t0} and {t1}", "t0_h and t1_h in hours", "write it again"))
        raise StoreError(*problems, subject=str(path))
    if problems:
        raise StoreError(*problems, subject=str(path))
    shape = (len(arrays["sources"]), len(arrays["targets"]))
    try:
        plan = sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        plan.check_format(full_check=True)
        diagnostics = attributes.get("diagnostics", {})
        return Coupling(float(t0), float(t1), plan, arrays["sources"], arrays["targets"], diagnostics)
    except ValueError as error:
        problem = Problem(f"a plan that is no csr matrix ({error})", f"one of shape {shape}", "write it again")
        raise StoreError(problem, subject=str(path)) from error
    except SchemaError as error:
        raise StoreError(*error.problems, subject=str(path)) from error


def _numpy(name: str, part: Tensor, problems: list[Problem]) -> np.ndarray:
    try:
        return np.asarray(part.detach().cpu().numpy())
    except TypeError:
        problems.append(Problem(f"{name} of {part.dtype}", "float32 or float64", f"convert {name} with .float() first"))
        return np.zeros(part.shape, np.float32)


def _json(text: np.ndarray) -> Any:
    try:
        return json.loads(text.tobytes())
    except ValueError:
        return None


def _strings(name: str, value: Any, problems: list[Problem]) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    problems.append(Problem(f"{name} that cannot be read", "a list of names", "write it again"))
    return ()


def _frame(value: Any, problems: list[Problem]) -> Frame:
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return Frame(value["name"], _strings("axes of the frame", value.get("axes"), problems))
    problems.append(Problem(f"frame {value!r}", "a name and the names of its axes", "write it again"))
    return Frame()
