"""Datasets: a registry of real embryos with their origin and checksums, one converter each, and a synthetic embryo.

Nothing here uses the network except `fetch`.

    >>> import embryo as eb
    >>> eb.datasets.fetch("celegans-epic")                       # doctest: +SKIP
    >>> adata = eb.datasets.load("celegans-epic", embryos=5)     # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from embryo.datasets.registry import Dataset, File, entry, names
from embryo.datasets.transfer import cache_dir, fetch, locate

if TYPE_CHECKING:
    from embryo.datasets import blastocyst, celegans, cellxgene, clock, lineage, mosta, stages, synthetic
    from embryo.datasets.convert import card, load

_SUBMODULES = ("blastocyst", "celegans", "cellxgene", "clock", "lineage", "mosta", "stages", "synthetic")
_FUNCTIONS = ("card", "load")

__all__ = [
    "Dataset",
    "File",
    "blastocyst",
    "cache_dir",
    "card",
    "celegans",
    "cellxgene",
    "clock",
    "entry",
    "fetch",
    "lineage",
    "load",
    "locate",
    "mosta",
    "names",
    "stages",
    "synthetic",
]


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module("embryo.datasets.convert"), name)
    if name in _SUBMODULES:
        return import_module(f"embryo.datasets.{name}")
    msg = f"module 'embryo.datasets' has no attribute {name!r}"
    raise AttributeError(msg)
