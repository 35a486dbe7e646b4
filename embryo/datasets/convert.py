"""From a name to an AnnData that keeps the contract: locate the files, convert them, note where they came from."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from anndata import AnnData

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, DataError, Problem
from embryo.datasets.registry import Dataset, File, entry
from embryo.datasets.transfer import checksum, chosen, locate


def load(name: str, *, only: Sequence[str] | None = None, **params: Any) -> AnnData:
    """Load a dataset from the cache or the mirror; never uses the network.

    Parameters
    ----------
    name
        Name in the registry.
    only
        Patterns of file names, for datasets that are large; all files by default.
    params
        Passed to the converter of the dataset; see its module.

    Returns
    -------
    AnnData
        Slots as in `embryo.core.schema`; ``uns["embryo"]`` names the dataset, its citation and licence, and the sha256
        over the checksums of its files.

    Raises
    ------
    DataError
        If the dataset is unknown, absent or damaged, with the command that fetches it, or holds no cells.
    ConfigError
        For parameters that its converter does not know.
    SchemaError
        If the files are not of the layout that the converter knows.
    """
    dataset = entry(name)
    convert = _converter(dataset)
    _check(dataset, convert, params)
    files = chosen(dataset, only)
    root = locate(dataset, only=only).parent
    adata: AnnData = convert([root / file.path for file in files], dataset, **params)
    adata.uns[schema.META] |= {
        "dataset": dataset.name,
        "citation": dataset.citation,
        "licence": dataset.licence,
        "sha256": digest(root, files),
    }
    return adata


def card(name: str) -> str:
    """Return the data card of a dataset in markdown: what it is, its origin, licence, citation and caveats."""
    dataset = entry(name)
    size = "size not known before the fetch" if dataset.bytes is None else f"{dataset.bytes / 1e6:.1f} MB"
    known = sum(file.sha256 is not None for file in dataset.files)
    lines = [
        f"# {dataset.name}",
        "",
        f"**{dataset.title}** ({dataset.organism})",
        "",
        dataset.about,
        "",
        f"- Origin: {dataset.origin}",
        f"- Files: {len(dataset.files)}, {size}; checksums known for {known}",
        f"- Licence: {dataset.licence}",
        f"- Citation: {dataset.citation}",
        f"- Fetch: `embryo data fetch {dataset.name}`",
        "",
        "Read before use:",
        "",
        *(f"- {caveat}" for caveat in dataset.caveats),
    ]
    if dataset.unreachable:
        lines += ["", f"Not from the network as it is: {dataset.unreachable}."]
    return "\n".join(lines) + "\n"


def digest(root: Path, files: Sequence[File]) -> str:
    """Return one sha256 over the checksums and paths of files, in the order of their paths."""
    lines = sorted(f"{file.path} {checksum(root / file.path, root, file)}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _converter(dataset: Dataset) -> Callable[..., AnnData]:
    if not dataset.converter:
        cure = f"use the files themselves: embryo.datasets.locate({dataset.name!r}) returns their folder"
        problem = Problem(f"{len(dataset.files)} files that hold no cells", "a dataset of cells", cure)
        raise DataError(problem, subject=f"dataset {dataset.name}")
    module, function = dataset.converter.split(":")
    found: Callable[..., AnnData] = getattr(import_module(f"embryo.datasets.{module}"), function)
    return found


def _check(dataset: Dataset, convert: Callable[..., AnnData], params: dict[str, Any]) -> None:
    """Refuse parameters that the converter does not take; converters with ``**options`` refuse them themselves."""
    signature = inspect.signature(convert).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature):
        return
    known = [p.name for p in signature if p.kind is inspect.Parameter.KEYWORD_ONLY]
    problems = [
        Problem(
            f"unknown parameter {key!r}{phrases.nearest(key, known)}",
            f"one of: {', '.join(known)}" if known else "no parameters",
            "remove or rename it",
        )
        for key in params
        if key not in known
    ]
    if problems:
        raise ConfigError(*problems, subject=f"dataset {dataset.name}")
