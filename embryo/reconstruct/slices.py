"""Physical sections -> one body: neighbouring slices are turned and shifted in their plane, then stacked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int

from embryo.core import schema
from embryo.core.checks import names, phrases, positions
from embryo.core.errors import FrameError, Problem, SchemaError
from embryo.core.frame import Rigid
from embryo.reconstruct import views
from embryo.reconstruct.registration import MIN_CELLS, Cloud, register
from embryo.reconstruct.rigid import Fit, principal


def stack(
    adata: AnnData, *, thickness_um: float, key_added: str = schema.SPATIAL, copy: bool = False
) -> AnnData | None:
    """Stack the sections of each embryo and time into three dimensions.

    From the section with most cells outwards, every section is laid on its neighbour by one proper rotation of the
    plane and one shift, found by space and expression (`registration.register`). The largest section lies on its own
    principal axes. z is the section's number times the thickness, counted from the first: sections that are missing in
    the numbering leave a gap. The body is right-handed if every section is seen from the side of growing numbers with
    x to the right and y up; images count y downwards.

    Written are ``obsm[key_added]`` (µm, three columns) and ``uns["embryo"]["slices"]``: per section its embryo, name,
    z_um, and the residuals median_um and mirrored_um of its fit (0 for the largest).

    Parameters
    ----------
    adata
        Cells with ``obsm["spatial"]`` in two dimensions, µm, and ``obs["slice"]``: numbers, names that end in numbers,
        or an ordered categorical.
    thickness_um
        Distance from one section to the next, µm.
    key_added
        Slot of ``obsm`` to write.
    copy
        Whether to return an annotated copy and leave `adata` as it is.

    Raises
    ------
    SchemaError
        If positions are not two-dimensional, sections have no order, or the thickness is not positive.
    FrameError
        Naming sections with too few cells, and sections that fit far better as mirror images (laid upside down).
    """
    x, order = _checked(adata, thickness_um)
    codes, labels = views.embryo_codes(adata)
    e = views.features(adata, np.arange(adata.n_obs))
    stacked = np.empty((adata.n_obs, 3))
    records: list[pd.DataFrame] = []
    problems: list[Problem] = []
    for label, rows in _bodies(adata, codes, labels):
        sections = _sections(adata, rows, order)
        problems += _too_small(label, sections)
        if problems:
            continue
        fits = _laid(sections, x, e)
        problems += _mirrored(label, sections, fits)
        first = sections[0].number
        for section, fit in zip(sections, fits, strict=True):
            z = np.full(len(section.rows), (section.number - first) * thickness_um)
            stacked[section.rows] = np.column_stack([fit.motion(x[section.rows]), z])
        records.append(_record(label, sections, fits, thickness_um))
    if problems:
        raise FrameError(*problems, subject="stack")
    adata = adata.copy() if copy else adata
    adata.obsm[key_added] = stacked
    table = pd.concat(records, ignore_index=True)
    slices = {"thickness_um": float(thickness_um), **{key: table[key].to_numpy() for key in table}}
    adata.uns[schema.META] = {**schema.meta(adata), "slices": slices}
    return adata if copy else None


@dataclass(frozen=True)
class _Section:
    """One section of one body."""

    name: str
    number: float
    rows: Int[np.ndarray, " rows"]


def _checked(adata: AnnData, thickness_um: float) -> tuple[Float[np.ndarray, "cells 2"], pd.Series]:
    slot, column = f'obsm["{schema.SPATIAL}"]', f'obs["{schema.SLICE}"]'
    problems = []
    if not (np.isfinite(thickness_um) and thickness_um > 0):
        problems.append(Problem(f"thickness {thickness_um} µm", "a distance above 0", "give that of the sections"))
    x = positions.numbers(adata.obsm[schema.SPATIAL]) if schema.SPATIAL in adata.obsm else None
    if x is None or x.shape[1] != 2:
        found = (
            f"no {slot}" if schema.SPATIAL not in adata.obsm else f"{slot} of shape {adata.obsm[schema.SPATIAL].shape}"
        )
        cure = "keep x and y of each section; a body that is three-dimensional already needs no stack"
        problems.append(Problem(found, "two columns, µm", cure))
    else:
        problems += positions.table(adata.obsm[schema.SPATIAL], slot, adata.obs_names)
    order = None
    if schema.SLICE not in adata.obs:
        problems.append(Problem(f"no {column}", "the section of every cell", "name the column that holds it"))
    else:
        problems += names.unnamed(adata.obs[schema.SLICE], column)
        order = _order(adata.obs[schema.SLICE])
        if order is None:
            held = phrases.few(pd.unique(adata.obs[schema.SLICE]))
            cure = "number the sections, or make the column an ordered categorical"
            problems.append(Problem(f"sections without an order: {held}", "numbers, or names that end in them", cure))
    if problems or x is None or order is None:
        raise SchemaError(*problems, subject="stack")
    return x, order


def _order(column: pd.Series) -> pd.Series | None:
    """Return the number of each section by its name; None where the names say nothing about their order."""
    held = pd.unique(column.dropna())
    if isinstance(column.dtype, pd.CategoricalDtype) and column.cat.ordered:
        ranks = {name: float(k) for k, name in enumerate(column.cat.categories)}
        return pd.Series({name: ranks[name] for name in held})
    numeric = pd.to_numeric(pd.Series(held, index=held), errors="coerce")
    if numeric.notna().all():
        return numeric.astype(float)
    parts = [re.fullmatch(r"(.*?)(\d+)", str(name)) for name in held]
    if all(parts) and len({part[1] for part in parts if part}) == 1:
        return pd.Series({name: float(part[2]) for name, part in zip(held, parts, strict=True) if part})
    return None


def _bodies(adata: AnnData, codes: np.ndarray, labels: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the rows of each embryo at each time."""
    times = np.zeros(adata.n_obs)
    if schema.TIME in adata.obs:
        times = adata.obs[schema.TIME].to_numpy(dtype=np.float64)
    for code, label in enumerate(labels):
        moments = np.unique(times[codes == code])
        for time in moments:
            name = label if len(moments) == 1 else f"{label} at {time:g} h"
            yield name, np.flatnonzero((codes == code) & (times == time))


def _sections(adata: AnnData, rows: np.ndarray, order: pd.Series) -> list[_Section]:
    column = adata.obs[schema.SLICE].iloc[rows].to_numpy()
    made = [_Section(str(name), float(order[name]), rows[column == name]) for name in pd.unique(column)]
    return sorted(made, key=lambda section: section.number)


def _laid(sections: list[_Section], x: np.ndarray, e: np.ndarray) -> list[Fit]:
    """Lay every section on its neighbour, from the largest outwards."""
    largest = max(range(len(sections)), key=lambda k: len(sections[k].rows))
    rows = sections[largest].rows
    fits = {largest: Fit(principal(x[rows]), 0.0, 0.0, len(rows))}
    for k in [*range(largest + 1, len(sections)), *range(largest - 1, -1, -1)]:
        neighbour = k - 1 if k > largest else k + 1
        mine, other = sections[k].rows, sections[neighbour].rows
        fit = register(Cloud(x[mine], e[mine]), Cloud(x[other], e[other]))
        whole: Rigid = fits[neighbour].motion.after(fit.motion)
        fits[k] = Fit(whole, fit.median_um, fit.mirrored_um, fit.pairs)
    return [fits[k] for k in range(len(sections))]


def _too_small(label: str, sections: list[_Section]) -> Iterator[Problem]:
    small = [section for section in sections if len(section.rows) < MIN_CELLS]
    if small:
        shown = phrases.few(f"{section.name} ({len(section.rows)})" for section in small)
        yield Problem(
            f"{len(small)} sections of {label} with few cells: {shown}",
            f"at least {MIN_CELLS} cells in each, so that it can be placed",
            "drop these sections or join them with their neighbours",
        )


def _mirrored(label: str, sections: list[_Section], fits: list[Fit]) -> Iterator[Problem]:
    """Yield the sections on the smaller side where a fit between neighbours wants a reflection."""
    largest = next(k for k, fit in enumerate(fits) if fit.median_um == fit.mirrored_um == 0)
    over = dict.fromkeys([largest], False)
    for k in [*range(largest + 1, len(fits)), *range(largest - 1, -1, -1)]:
        over[k] = over[k - 1 if k > largest else k + 1] ^ fits[k].mirrored
    odd = [k for k in over if over[k]]
    if len(odd) > len(fits) / 2:
        odd = [k for k in over if not over[k]]
    if odd:
        worst = max((fits[k] for k in over if fits[k].mirrored), key=lambda fit: fit.median_um - fit.mirrored_um)
        yield Problem(
            f"mirrored sections of {label}: {phrases.few(sections[k].name for k in sorted(odd))}; between neighbours a "
            f"reflection leaves {worst.mirrored_um:.3g} µm, the best rotation {worst.median_um:.3g} µm",
            "all sections seen from the same side",
            "flip one axis of these sections back (they were laid upside down), or drop them",
        )


def _record(label: str, sections: list[_Section], fits: list[Fit], thickness_um: float) -> pd.DataFrame:
    first = sections[0].number
    return pd.DataFrame(
        {
            "embryo": [label] * len(sections),
            "name": [section.name for section in sections],
            "z_um": [(section.number - first) * thickness_um for section in sections],
            "median_um": [fit.median_um for fit in fits],
            "mirrored_um": [fit.mirrored_um for fit in fits],
        }
    )
