"""What an alignment may look at: the rows of each embryo, up to the hour from which its future is withheld."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int

from embryo.core import schema
from embryo.core.checks import names, phrases, positions, times
from embryo.core.errors import FrameError, Problem, SchemaError

_DIMS = 20  # components of expression where the data hold no embedding


@dataclass(frozen=True)
class View:
    """The usable rows of one embryo.

    Parameters
    ----------
    name
        Embryo.
    rows
        Row numbers in the AnnData.
    x
        Positions as given, µm.
    t_h
        Times, hours.
    cells
        Number of each row's cell name, equal across embryos; -1 where it has none.
    """

    name: str
    rows: Int[np.ndarray, " rows"]
    x: Float[np.ndarray, "rows dims"]
    t_h: Float[np.ndarray, " rows"]
    cells: Int[np.ndarray, " rows"]


def views(adata: AnnData, until_h: float | Mapping[str, float] | None) -> list[View]:
    """Return one view per embryo, sorted by name.

    Raises
    ------
    SchemaError
        If positions or times are absent or unusable, or `until_h` names an unknown embryo or leaves nothing of one.
    """
    x, t = _positions_and_times(adata)
    embryos, labels = embryo_codes(adata)
    limits = _limits(until_h, labels)
    cells = np.full(adata.n_obs, -1)
    if schema.CELL in adata.obs:
        column = adata.obs[schema.CELL]
        cells = np.where(names.blank(column), -1, pd.factorize(column)[0])
    made, problems = [], []
    for code in sorted(range(len(labels)), key=lambda k: labels[k]):
        rows = np.flatnonzero((embryos == code) & (t <= limits.get(labels[code], np.inf)))
        if not len(rows):
            first = t[embryos == code].min()
            problems.append(
                Problem(
                    f"no cell of embryo {labels[code]} up to {limits[labels[code]]} h (its first is at {first:g} h)",
                    "a start from which the embryo can be aligned",
                    "choose a later until_h",
                )
            )
        made.append(View(labels[code], rows, x[rows], t[rows], cells[rows]))
    if problems:
        raise SchemaError(*problems, subject="alignment")
    return made


def embryo_codes(adata: AnnData) -> tuple[Int[np.ndarray, " cells"], list[str]]:
    """Return the number of each row's embryo and the names; one embryo where ``obs["embryo"]`` is absent.

    Raises
    ------
    SchemaError
        If rows have no embryo, or a name cannot be a key of a store.
    """
    if schema.EMBRYO not in adata.obs:
        return np.zeros(adata.n_obs, dtype=np.int64), ["embryo"]
    column = adata.obs[schema.EMBRYO]
    problems = list(names.unnamed(column, f'obs["{schema.EMBRYO}"]'))
    codes, held = pd.factorize(column)
    labels = [str(label) for label in held]
    if slashed := [label for label in labels if "/" in label]:
        problems.append(
            Problem(f"embryos with / in their names: {phrases.few(slashed)}", "names without it", "rename them")
        )
    if problems:
        raise SchemaError(*problems, subject="alignment")
    return np.asarray(codes), labels


def features(adata: AnnData, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows features"]:
    """Return the expression features of `rows`: the embedding where there is one, else principal components of log1p.

    Only `rows` are read, so that what is withheld cannot enter.

    Raises
    ------
    FrameError
        If there is no expression to align by.
    """
    if schema.EMBED in adata.obsm:
        return np.asarray(adata.obsm[schema.EMBED][rows], dtype=np.float64)
    if adata.X is None or not adata.n_vars:
        raise FrameError(
            Problem(
                "no expression, and no shared cell names that tell where cells lie",
                "something that tells one side of the body from the other",
                "name cells across embryos (obs['cell']), or give expression",
            ),
            subject="alignment",
        )
    from embryo.encoders.pca import PCA  # noqa: PLC0415  loads scikit-learn, which named embryos do not need

    chosen = adata[rows].copy()
    return np.asarray(PCA(min(_DIMS, *chosen.shape)).fit(chosen).encode(chosen))


def _positions_and_times(adata: AnnData) -> tuple[np.ndarray, np.ndarray]:
    slot = f'obsm["{schema.SPATIAL}"]'
    problems = []
    if schema.SPATIAL not in adata.obsm:
        problems.append(Problem(f"no {slot}", "positions in µm", "read the data with their positions"))
    else:
        problems += positions.problems(adata.obsm[schema.SPATIAL], slot, adata.obs_names)
    hours = times.numbers(adata.obs[schema.TIME]) if schema.TIME in adata.obs else None
    if hours is None or not np.isfinite(hours).all():
        found = f'no usable obs["{schema.TIME}"]'
        problems.append(Problem(found, "hours of every cell", "read the data with their times"))
    if problems:
        raise SchemaError(*problems, subject="alignment")
    return np.asarray(positions.numbers(adata.obsm[schema.SPATIAL])), np.asarray(hours, dtype=np.float64)


def _limits(until_h: float | Mapping[str, float] | None, labels: list[str]) -> dict[str, float]:
    if until_h is None:
        return {}
    if not isinstance(until_h, Mapping):
        return dict.fromkeys(labels, float(until_h))
    unknown = [name for name in until_h if name not in labels]
    if unknown:
        raise SchemaError(
            *(
                Problem(f"until_h of embryo {n!r}{phrases.nearest(n, labels)}", "an embryo of the data", "correct it")
                for n in unknown
            )
        )
    return {name: float(limit) for name, limit in until_h.items()}
