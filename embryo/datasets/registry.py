"""What is known about each dataset: where it comes from, its licence, its files and their checksums. Facts only."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files as package_files
from typing import Any
from urllib.parse import quote

from embryo.core.checks import phrases
from embryo.core.errors import DataError, Problem

CELLXGENE = "cellxgene:"  # prefix of a dataset version of CELLxGENE Discover, "cellxgene:ID"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class File:
    """One file of a dataset.

    Parameters
    ----------
    path
        Where it lies below a mirror or the cache, with forward slashes.
    url
        Its public address; None where the file cannot be had from the network as it is.
    sha256
        Its checksum; None where it is not known before the first fetch.
    bytes
        Its size; None where unknown.
    facts
        What is known about this file: for an EPIC movie, its reporter gene.
    """

    path: str
    url: str | None
    sha256: str | None = None
    bytes: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """File name without folders."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Dataset:
    """One dataset of the registry.

    Parameters
    ----------
    name
        The name that users type.
    title, organism, about, licence, citation
        For the data card.
    origin
        Where it comes from, in words: repository and commit, or the page that offers it.
    files
        All files; they lie in one folder.
    converter
        ``module:function`` below `embryo.datasets` that turns the files into an AnnData; empty where they hold no cells
        but what a model reads, so that they are located, not loaded.
    caveats
        What a user must know before believing a result.
    unreachable
        Why files without an address cannot be fetched, and the cure; empty if all have one.
    """

    name: str
    title: str
    organism: str
    about: str
    licence: str
    citation: str
    origin: str
    files: tuple[File, ...]
    converter: str
    caveats: tuple[str, ...] = ()
    unreachable: str = ""

    @property
    def folder(self) -> str:
        """Folder below a mirror or the cache that holds the files."""
        return self.files[0].path.split("/", 1)[0]

    @property
    def bytes(self) -> int | None:
        """Size of all files; None if any is unknown."""
        sizes = [f.bytes for f in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


def names() -> list[str]:
    """Return the names of all registered datasets, sorted.

    Any dataset version of CELLxGENE Discover can be named as well, as ``cellxgene:ID``.
    """
    return sorted(_records())


def entry(name: str) -> Dataset:
    """Return what the registry knows about a dataset.

    Parameters
    ----------
    name
        One of `names`, or ``cellxgene:ID`` with the id of a dataset version of CELLxGENE Discover.

    Raises
    ------
    DataError
        If there is no such dataset; the nearest names are given.
    """
    if name.startswith(CELLXGENE):
        return _cellxgene(name)
    record = _records().get(name)
    if record is None:
        raise DataError(
            Problem(
                f"no dataset {name!r}{phrases.nearest(name, names())}",
                f"one of: {', '.join(names())}, or {CELLXGENE}ID",
                "choose one of these (embryo data list)",
            )
        )
    return _dataset(name, record)


@cache
def _records() -> dict[str, dict[str, Any]]:
    folder = package_files("embryo.datasets") / "entries"
    found = {p.name.removesuffix(".json"): p for p in folder.iterdir() if p.name.endswith(".json")}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items()}


def _dataset(name: str, record: dict[str, Any]) -> Dataset:
    files = tuple(
        File(
            path=f"{record['folder']}/{f['path']}",
            url=_url(record | f),
            sha256=f.get("sha256"),
            bytes=f.get("bytes"),
            facts=f.get("facts", {}),
        )
        for f in record["files"]
    )
    words = {key: record[key] for key in ("title", "organism", "about", "licence", "citation")}
    return Dataset(
        name=name,
        origin=_address(record)[1],
        files=files,
        converter=record.get("converter", ""),
        caveats=tuple(record.get("caveats", ())),
        unreachable=record.get("unreachable", ""),
        **words,
    )


def _url(record: dict[str, Any]) -> str | None:
    """Return the address of a file; its own repository and commit count before those of the dataset."""
    base = _address(record)[0]
    return base + quote(record["origin"]) if base and record.get("origin") else None


def _address(record: dict[str, Any]) -> tuple[str, str]:
    """Return the address that file paths are appended to, and the origin in words."""
    if "repository" not in record:
        return record.get("address", ""), record["page"]
    repository, commit = record["repository"], record["commit"]
    raw = f"https://raw.githubusercontent.com/{repository}/{commit}/"
    return raw, f"https://github.com/{repository} at commit {commit}"


def _cellxgene(name: str) -> Dataset:
    identifier = name.removeprefix(CELLXGENE).lower()
    if not _UUID.fullmatch(identifier):
        raise DataError(
            Problem(
                f"{name!r}, which holds no dataset version id",
                f"{CELLXGENE} and an id such as 01234567-89ab-cdef-0123-456789abcdef",
                "copy the id from the h5ad download address that CELLxGENE Discover shows for the dataset",
            )
        )
    url = f"https://datasets.cellxgene.cziscience.com/{identifier}.h5ad"
    return Dataset(
        name=f"{CELLXGENE}{identifier}",
        title="Dataset version of CELLxGENE Discover",
        organism="as the file says",
        about="An h5ad atlas in the CELLxGENE layout, named by its dataset version id.",
        licence="CC BY 4.0 (the licence of CELLxGENE Discover; cite the authors of the collection)",
        citation="the publication of the collection; CZI Cell Science Program et al., Nucleic Acids Res 53:D886 (2025)",
        origin="https://cellxgene.cziscience.com/",
        files=(File(path=f"cellxgene/{identifier}.h5ad", url=url),),
        converter="cellxgene:convert",
        caveats=("The checksum is not known in advance: it is recorded at the first fetch and checked afterwards.",),
    )
