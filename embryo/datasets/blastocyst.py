"""Mouse blastocysts of Saiz et al.: nuclei of fixed embryos with CDX2, GATA6 and NANOG, wild type or edited."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import Problem, SchemaError
from embryo.datasets import contract
from embryo.datasets.registry import Dataset

ORGANISM = "Mus musculus"
PIXEL_UM = 0.28  # estimated; see the data card
_CHANNELS = {"CDX2": "CH2", "GATA6": "CH4", "NANOG": "CH5"}
_NEEDED = ("Embryo_ID", "X", "Y", "Z")
_IDENTITIES = ("Identity.hc", "Identity.km", "Identity.man", "Identity", "TE_ICM")  # the most careful first
_STAGES = (8, 16, 32, 64, 90, 120, 150)  # cell counts that part the stages; a stage holds its lower bound
_LATEST = 180.0  # cell count that stands for the stage above 150
_COUNT_0, _HOURS_0, _DOUBLING_H = 32.0, 78.0, 12.0  # 32 cells at E3.25; about E4.5 at 160 cells
_WILD_TYPE = {"wt", "+/+", "wildtype", "wild type", "any", "", "unknown"}
_LOST = {"ko": "knockout", "mko": "knockout", "-/-": "knockout", "hom": "knockout", "null": "knockout"}


def convert(files: Sequence[str | Path], dataset: Dataset | None = None, *, pixel_um: float = PIXEL_UM) -> AnnData:
    """Convert tables of segmented nuclei; every column is kept in obs, every genotype and treatment stays.

    Parameters
    ----------
    files
        One csv or several of this kind. Levels are read from columns named after the gene or its channel (CH2 CDX2,
        CH4 GATA6, CH5 NANOG), depth-corrected (``.ebLogCor``, a natural log) before raw (``.Avg``).
    dataset
        What the registry knows; not needed for files of your own.
    pixel_um
        Size of a pixel of X and Y in µm; Z is read as µm.

    Returns
    -------
    AnnData
        X: log1p of fluorescence, arbitrary units. obs: time (hours after fertilisation, of the stage), time_count (of
        the embryo), embryo, cell, cell_type, perturbation, and all columns of the file.

    Raises
    ------
    SchemaError
        Listing missing columns and unusable values of all files.
    """
    raw = pd.concat([contract.table(Path(f), _NEEDED, low_memory=False) for f in files], ignore_index=True)
    levels = {gene: found for gene in _CHANNELS if (found := _level(raw, gene)) is not None}
    subject = phrases.few(Path(f).name for f in files)
    if not levels:
        problem = Problem(
            f"no level among the columns {phrases.few(raw.columns, 40)}",
            "columns such as GATA6.ebLogCor or CH4.ebLogCor",
            "give the processed tables of the study",
        )
        raise SchemaError(problem, subject=subject)
    x_um = contract.numbers(raw, ["X", "Y", "Z"], subject=subject) * [pixel_um, pixel_um, 1.0]
    values = contract.numbers(pd.DataFrame({g: v for g, (v, _) in levels.items()}), list(levels), subject=subject)
    var = pd.DataFrame({"corrected": [corrected for _, corrected in levels.values()]}, index=list(levels))
    adata = AnnData(values.astype(np.float32), obs=_obs(raw), var=var, obsm={schema.SPATIAL: x_um.astype(np.float32)})
    notes = {
        "time_zero": "fertilisation",
        "time_note": "ordinal pseudo-time from the cell count: 78 h + 12 h x log2(count / 32), per stage",
        "pixel_um": pixel_um,
        "handedness": "not verifiable",
    }
    return contract.note(adata, organism=dataset.organism if dataset else ORGANISM, expression="relative", notes=notes)


def hours(count: np.ndarray) -> np.ndarray:
    """Return hours after fertilisation of an embryo of `count` cells: 78 + 12 log2(count / 32)."""
    with np.errstate(divide="ignore"):
        return _HOURS_0 + _DOUBLING_H * np.log2(np.asarray(count, dtype=float) / _COUNT_0)


def stage_count(count: np.ndarray) -> np.ndarray:
    """Return the cell count that stands for the stage of an embryo: the geometric middle of its bin."""
    edges = np.array((1, *_STAGES), dtype=float)
    middle = np.append(np.sqrt(edges[:-1] * edges[1:]), _LATEST)
    return middle[np.searchsorted(edges, np.asarray(count, dtype=float), side="right") - 1]


def _level(raw: pd.DataFrame, gene: str) -> tuple[pd.Series, bool] | None:
    """Return log1p fluorescence of a gene, and whether it is corrected for depth."""
    for name in (gene, _CHANNELS[gene]):
        if f"{name}.ebLogCor" in raw:
            log = pd.to_numeric(raw[f"{name}.ebLogCor"], errors="coerce")
            return pd.Series(np.logaddexp(0.0, log)), True  # log1p(exp(log))
    for name in (gene, f"{gene}.Avg", f"{_CHANNELS[gene]}.Avg"):
        if name in raw:
            return np.log1p(pd.to_numeric(raw[name], errors="coerce").clip(lower=0)), False
    return None


def _obs(raw: pd.DataFrame) -> pd.DataFrame:
    embryo = raw["Embryo_ID"].astype(str)
    per_embryo = embryo.map(embryo.value_counts()).astype(float)
    count = pd.to_numeric(raw["Cellcount"], errors="coerce") if "Cellcount" in raw else per_embryo
    cells = count.where(count >= 1, per_embryo).to_numpy(dtype=float)
    number = raw["Cell_ID"].astype(str) if "Cell_ID" in raw else embryo.groupby(embryo).cumcount().astype(str)
    again = pd.DataFrame({"e": embryo, "n": number}).groupby(["e", "n"]).cumcount()
    number = number.where(again == 0, number + "#" + (again + 1).astype(str))
    identity = next((raw[name] for name in _IDENTITIES if name in raw), pd.Series("unknown", index=raw.index))
    obs = pd.DataFrame(
        {
            schema.TIME: hours(stage_count(cells)),
            "time_count": hours(cells),
            schema.EMBRYO: embryo,
            schema.CELL: embryo + ":" + number,  # a number means another cell in every embryo
            schema.PARENT: "",
            schema.CELL_TYPE: identity.astype("string").fillna("unknown").astype(str),
            schema.PERTURBATION: _perturbation(raw),
        }
    )
    kept = raw.drop(columns=[c for c in raw.columns if c in obs.columns])
    words = kept.select_dtypes(exclude="number").columns
    kept[words] = kept[words].astype("string").fillna("")
    obs = pd.concat([obs, kept], axis=1)
    obs.index = pd.Index(obs[schema.CELL].to_numpy(), dtype=str)
    text = [c for c in obs.columns if not pd.api.types.is_numeric_dtype(obs[c])]
    return obs.astype(dict.fromkeys(text, str)).astype(dict.fromkeys(text, "category"))


def _perturbation(raw: pd.DataFrame) -> pd.Series:
    """Return the edit that each embryo carries, such as ``knockout Gata6``; ``""`` for wild type.

    Genes and genotypes stand in Gene1, Genotype1, Gene2, Genotype2. A heterozygote is ``Gata6 het``.
    """
    label = pd.Series("", index=raw.index, dtype=object)
    for k in (1, 2):
        if f"Genotype{k}" not in raw:
            continue
        genotype = raw[f"Genotype{k}"].astype("string").fillna("").str.strip()
        gene = raw[f"Gene{k}"].astype("string").fillna("").str.strip() if f"Gene{k}" in raw else "gene"
        edited = ~genotype.str.lower().isin(_WILD_TYPE)
        words = genotype.str.lower().map(_LOST)
        text = (words + " " + gene).where(words.notna(), gene + " " + genotype)
        joined = label + np.where((label != "") & edited, " + ", "") + text.where(edited, "").astype(object)
        label = joined.astype(object)
    return label.astype(str)
