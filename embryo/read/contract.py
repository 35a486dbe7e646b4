"""From the names and units of a file to the AnnData contract: one conversion, once, everything else left as it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.checks import phrases, positions, times
from embryo.core.errors import Problem, SchemaError
from embryo.core.schema import SERIES, Needs
from embryo.datasets import stages
from embryo.read import conventions, expression, units
from embryo.read.keys import AXES, DEFAULT, Keys

_GROUPS = (schema.EMBRYO, schema.CELL, schema.PARENT, schema.CELL_TYPE, schema.SLICE, schema.PERTURBATION)


def adopt(adata: AnnData, keys: Keys = DEFAULT, *, needs: Needs = SERIES, subject: str = "AnnData") -> AnnData:
    """Return a copy of an AnnData in memory that keeps the contract of `embryo.core.schema`, in µm and hours.

    Parameters
    ----------
    adata
        Cells by genes under any names; not modified.
    keys
        Names and units where the conventions are not enough.
    needs
        What the next step needs.
    subject
        What the data are, for messages; the name of the embryo where the data name none.

    Returns
    -------
    AnnData
        ``obs``: time (h), embryo and, where known, cell, parent, cell_type, slice. ``obsm["spatial"]`` (µm, 2 or 3
        columns) where there are positions. ``layers["counts"]`` and X: raw counts where there are any (the former X is
        then ``layers["X_input"]``). ``uns["embryo"]``: units, frame, expression, and under ``read`` what was taken from
        where. ``raw`` is dropped. All else stays.

    Raises
    ------
    SchemaError
        With everything that is wrong, at once.
    """
    return convert(adata.copy(), keys, needs=needs, subject=subject)


def convert(adata: AnnData, keys: Keys, *, needs: Needs, subject: str) -> AnnData:
    """Bring an AnnData that nobody else holds into the contract in place and return it; see `adopt`."""
    held = list(adata.obs.columns)
    work = _Work(adata, keys, subject)
    work.groups()
    work.time()
    work.space()
    work.problems += expression.values(adata, keys, work.meta)
    work.problems += expression.genes(adata, keys)
    work.write_meta()
    _storable(adata.obs)
    _storable(adata.var)
    found = [*work.problems, *schema.check(adata, needs, held)]
    if found:
        raise SchemaError(*found, subject=subject)
    return adata


class _Work:
    """One conversion: the data, what is known about them, and the problems so far.

    Where a problem is found, something harmless is put in the slot, so that `schema.check` does not name it twice.
    """

    def __init__(self, adata: AnnData, keys: Keys, subject: str) -> None:
        self.adata, self.keys, self.subject = adata, keys, subject
        self.problems: list[Problem] = []
        self.ours = bool(schema.meta(adata).get("time_unit"))
        self.meta: dict[str, Any] = dict(schema.meta(adata))
        self.sources: dict[str, str] = {}

    def groups(self) -> None:
        """Put names of embryos, cells, mothers, types and sections into their columns."""
        obs = self.adata.obs
        for slot in _GROUPS:
            column = self._column(slot, getattr(self.keys, slot))
            if column is not None:
                obs[slot] = _words(obs[column])
                self.sources[slot] = column
        if schema.EMBRYO not in obs:
            obs[schema.EMBRYO] = pd.Categorical([Path(self.subject).stem] * len(obs))
            self.meta[schema.NAMELESS] = True
        elif self.keys.embryo is not None:
            self.meta.pop(schema.NAMELESS, None)

    def time(self) -> None:
        """Write ``obs["time"]`` in hours, or leave what stands there where its unit is not known."""
        column = self._column(schema.TIME, self.keys.time)
        if column is None:
            if self.keys.time is not None:
                self._settle_time(np.arange(float(self.adata.n_obs)))
            return
        held = self.adata.obs[column]
        values = times.numbers(held)
        if values is None:
            as_text = held.astype("string")
            numeric = pd.to_numeric(as_text, errors="coerce")
            if numeric.isna().sum() > as_text.isna().sum():
                return self._stages(column, as_text)
            values = numeric.to_numpy(dtype=float, na_value=np.nan)
        unit = self.keys.time_unit or self._stated("time_unit") or conventions.time_unit(column)
        if unit is None:
            self.adata.obs[schema.TIME] = values
            return None
        factor = units.hours(unit)
        if isinstance(factor, Problem):
            self.problems.append(factor)
            factor = 1.0
        self._settle_time(values * factor, column, unit)
        return None

    def space(self) -> None:
        """Write ``obsm["spatial"]`` in µm, or leave what stands there where its unit is not known."""
        x, source = self._positions()
        if x is None:
            return
        by_name = conventions.space_unit(source) if isinstance(source, tuple) else None
        unit = self.keys.space_unit or self._stated("space_unit") or by_name
        named = source if isinstance(source, str) else ", ".join(source)
        moved = named != schema.SPATIAL or self.keys.space_unit is not None or self.keys.flip_axis is not None
        if schema.ALIGNED in self.adata.obsm and (moved or self.meta.get("frame") is None):
            self.adata.obsm[f"{schema.ALIGNED}_input"] = self.adata.obsm[schema.ALIGNED]  # another's frame and unit
            del self.adata.obsm[schema.ALIGNED]
            self.meta["frame"] = "raw"
        if x.shape[1] == 3 and len(x) > 1 and np.all(x[:, 2] == x[0, 2]):
            x, named = x[:, :2], f"{named} without its constant z"
        if unit is not None:
            x = self._scaled(x, unit)
            self.meta["space_unit"] = "um"
            self.sources["space_unit"] = unit
        self.adata.obsm[schema.SPATIAL] = self._flipped(x)
        self.sources["space"] = named

    def write_meta(self) -> None:
        """Write units, frame and what was taken from where into ``uns``."""
        self.meta.setdefault("frame", "raw")
        if not self.ours:
            sizes = {name: getattr(self.keys, name) for name in ("pixel_um", "z_um", "flip_axis")}
            self.meta["read"] = self.sources | {name: str(v) for name, v in sizes.items() if v is not None}
        self.adata.uns[schema.META] = self.meta

    def _stages(self, column: str, words: pd.Series) -> None:
        """Read words such as E9.5 or 24hpf."""
        blank = (words.isna() | (words.str.strip() == "")).to_numpy(dtype=bool)
        values = stages.parse(words)
        mute = np.isnan(values) & ~blank
        if mute.any():
            kinds = words[mute].unique()
            self.problems.append(
                Problem(
                    f'{len(kinds)} values of obs["{column}"] that state no time ({phrases.few(map(repr, kinds))}) in '
                    f"{phrases.cells(mute, words.index)}",
                    "words such as E9.5, 24hpf, d3 or 90 min, or numbers and a unit (--time-unit, -s read.time_unit=h)",
                    "map each stage to a time in a new column and name it (--key time=..., config read.keys.time)",
                )
            )
            values = np.where(mute, 1e9 + np.arange(len(values)), values)
        unit = self.keys.time_unit
        if unit is not None and not mute.any():
            self._contradiction(column, words[~blank], values[~blank], unit)
        self._settle_time(values, column, "stated in each value")

    def _contradiction(self, column: str, words: pd.Series, values: np.ndarray, unit: str) -> None:
        factor = units.hours(unit)
        if isinstance(factor, Problem):
            self.problems.append(factor)
            return
        numbers = words.str.extract(r"(\d+(?:\.\d+)?)", expand=False).astype(float).to_numpy()
        if len(values) and not np.allclose(numbers * factor, values):
            k = int(np.argmax(np.abs(numbers * factor - values)))
            self.problems.append(
                Problem(
                    f'obs["{column}"] with {words.iloc[k]!r}, which is {values[k]:g} h, beside the unit {unit!r}',
                    "one unit",
                    "leave the unit out (--time-unit, config read.time_unit, -s read.time_unit=null), or give numbers",
                )
            )

    def _positions(self) -> tuple[np.ndarray | None, str | tuple[str, ...]]:
        adata, given = self.adata, self.keys.space
        if isinstance(given, str) and given in adata.obs and given not in adata.obsm:
            given = (given,)
        if isinstance(given, tuple):
            return self._from_columns(given), given
        if given is not None and given not in adata.obsm:
            listed = phrases.few([*adata.obsm, *adata.obs.columns], 12) or "(none)"
            self.problems.append(
                Problem(
                    f"no obsm[{given!r}] among {listed}{phrases.nearest(given, [*adata.obsm, *adata.obs.columns])}",
                    "a slot of obsm or columns of obs that hold positions",
                    "correct the name (--key space=spatial or --key space=x,y,z, config read.keys.space)",
                )
            )
            return None, ""
        slot = given or conventions.space_slot(adata)
        if slot is None:
            columns = conventions.space_columns(adata.obs.columns)
            return (self._from_columns(columns), columns) if columns else (None, "")
        x = positions.numbers(adata.obsm[slot])
        if x is None:
            adata.obsm[schema.SPATIAL] = adata.obsm[slot]  # schema.check says what is wrong with it
        return (x[:, :3] if x is not None and slot in conventions.SPACE_3D else x), slot

    def _from_columns(self, columns: tuple[str, ...]) -> np.ndarray | None:
        obs = self.adata.obs
        missing = [c for c in columns if c not in obs]
        words = [c for c in columns if c in obs and times.numbers(obs[c]) is None]
        if missing:
            found = f"no column {phrases.few(missing)} in obs ({phrases.few(obs.columns, 12) or 'none'})"
            cure = "correct the names (--key space=x,y,z, config read.keys.space)"
            self.problems.append(Problem(found, "columns that hold positions", cure))
        if words:
            shown = phrases.few(f"{c} ({obs[c].iloc[0]!r})" for c in words)
            self.problems.append(
                Problem(f"position columns without numbers: {shown}", "numbers", "correct the values, or name others")
            )
        if missing or words:
            return None
        return np.column_stack([obs[c].to_numpy(dtype=float, na_value=np.nan) for c in columns])

    def _scaled(self, x: np.ndarray, unit: str) -> np.ndarray:
        if x.shape[1] not in (2, 3):
            return x
        scale = units.micrometres(unit, x.shape[1], self.keys)
        if isinstance(scale, Problem):
            self.problems.append(scale)
            return x
        return np.asarray(x * np.array(scale))

    def _flipped(self, x: np.ndarray) -> np.ndarray:
        axis = self.keys.flip_axis
        if axis is None:
            return x
        k = AXES.index(axis)
        if k >= x.shape[1]:
            self.problems.append(
                Problem(
                    f"flip_axis {axis!r} for positions with {x.shape[1]} axes", "an axis that is there", "name x or y"
                )
            )
            return x
        return x * np.where(np.arange(x.shape[1]) == k, -1.0, 1.0)

    def _column(self, slot: str, given: str | None) -> str | None:
        """Return the column for a slot, the given one or one that the conventions know."""
        columns = self.adata.obs.columns
        if given is None:
            return conventions.find(columns, conventions.OBS[slot])
        if given in columns:
            return given
        self.problems.append(
            Problem(
                f"no column {given!r} in obs for {slot} (columns: {phrases.few(columns, 12) or 'none'})"
                f"{phrases.nearest(given, columns)}",
                f"the column that holds {slot}",
                f"correct the name (--key {slot}=..., config read.keys.{slot})",
            )
        )
        return None

    def _stated(self, name: str) -> str | None:
        """Return a unit that the file states in ``uns``."""
        uns: Mapping[str, Any] = self.adata.uns
        stated = self.meta.get(name, uns.get(name))
        return str(stated) if isinstance(stated, str | np.str_) and str(stated).strip() else None

    def _settle_time(self, hours: np.ndarray, column: str = "", unit: str = "") -> None:
        self.adata.obs[schema.TIME] = hours
        self.meta["time_unit"] = "h"
        if column:
            self.sources |= {"time": column, "time_unit": unit}


def _storable(frame: pd.DataFrame) -> None:
    """Turn columns of mixed or missing text into categories: no format holds them as they are."""
    for name in frame.select_dtypes(include="object").columns:
        frame[name] = frame[name].infer_objects()
        kind = pd.api.types.infer_dtype(frame[name], skipna=False)
        if kind not in ("string", "categorical"):
            missing = frame[name].isna()
            frame[name] = pd.Categorical(frame[name].map(str).where(~missing, None))


def _words(column: pd.Series) -> pd.Categorical:
    """Return a column as categories of text, in the order they have; "" where it holds nothing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        labels = [_word(c) for c in column.cat.categories]
        if len(set(labels)) == len(labels) and not column.isna().any():
            return pd.Categorical.from_codes(column.cat.codes.to_numpy(), categories=pd.Index(labels, dtype=object))
        column = column.astype(object)
    try:
        codes, held = pd.factorize(column)
    except TypeError:  # lists and the like
        codes, held = pd.factorize(column.astype(str))
    names = np.array([*(_word(h) for h in held), ""], dtype=object)
    return pd.Categorical(names[codes].tolist())


def _word(value: Any) -> str:
    """Return a name as text; numbers that are whole without a decimal point."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()
