"""Folders of evaluations: config, table, provenance and page, written alike; pages joined into one document."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd
import yaml

from embryo.config import Section
from embryo.core import provenance, store
from embryo.core.store.files import find
from embryo.pipeline import places

PAGE, _HEAD = "report.md", "head.md"
_MARKS = ("boards", "truth", "embeddings", "stage2")  # one of these folders is in every evaluation
_CONFIG, _TABLE, _HTML, _PROVENANCE = "config.yaml", "table.csv", "report.html", "provenance.json"


@runtime_checkable
class Found(Protocol):
    """What was found on one board."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def table(self) -> pd.DataFrame: ...

    @property
    def summary(self) -> str: ...


@runtime_checkable
class Kind(Protocol):
    """The module that writes the pages of one kind of evaluation."""

    HEAD: str

    def markdown(self, name: str, found: Any, made: Mapping[str, Any]) -> str: ...

    def html(self, name: str, found: Any, made: Mapping[str, Any], path: Path) -> None: ...


def judge(
    config: Any,
    out: Path,
    kind: Kind,
    judged: Callable[[Any, str], Found],
    *,
    said: Callable[[str, str], None] | None = None,
    require: Callable[[pd.DataFrame], None] | None = None,
) -> Path:
    """Judge every board of a config and write table, provenance and pages; returns the page's path.

    Parameters
    ----------
    config
        With ``boards``, ``name`` and ``seed``.
    out
        Folder for the results; made if absent.
    kind
        Writes the pages.
    judged
        Called with (board, commit of the code).
    said
        Called with (board, summary) when a board is done.
    require
        Called with the whole table before anything of it is written.

    Raises
    ------
    StoreError
        If the folder holds something else, such as a run.
    """
    commit = begin(out)
    found = []
    for board in config.boards:
        found.append(judged(board, commit))
        if said is not None:
            said(board.name, found[-1].summary)
    if require is not None:
        require(pd.concat([one.table for one in found], ignore_index=True))
    return finish(config, found, kind, out)


def begin(out: Path) -> str:
    """Return the commit of the code, where the folder of an evaluation is new or that of an earlier one.

    Raises
    ------
    StoreError
        If it holds something else, such as a run.
    """
    places.require(out, "an evaluation", _MARKS)
    return str(provenance.provenance(0, {}, {})["commit"])


def keep_config(config: Section, out: Path) -> None:
    """Leave the resolved config in the folder of an evaluation, once a board of it could be read."""
    (out / "boards").mkdir(parents=True, exist_ok=True)
    with store.atomic(out / _CONFIG) as partial:
        partial.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def finish(config: Any, found: Sequence[Found], kind: Kind, out: Path) -> Path:
    """Write table, provenance and pages of all boards; returns the page's path."""
    store.write_table(pd.concat([one.table for one in found], ignore_index=True), out / _TABLE)
    made = provenance.provenance(config.seed, config.model_dump(mode="json"), {b.name: b.digest for b in found})
    store.write_json(made, out / _PROVENANCE)
    kind.html(config.name, found, made, out / _HTML)
    return keep(out, kind.HEAD, kind.markdown(config.name, found, made))


def keep(folder: Path, head: str, page: str) -> Path:
    """Write the page of an evaluation, and what stands once above pages of its kind; returns the page's path."""
    for name, text in ((_HEAD, head), (PAGE, page)):
        with store.atomic(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return folder / PAGE


def join(folders: Sequence[Path]) -> str:
    """Return the pages of finished evaluations as one markdown text, such as ``docs/embeddings.md``.

    Raises
    ------
    StoreError
        If a folder holds no finished evaluation.
    """
    heads, pages = (
        [find(folder / name, "a finished evaluation").read_text(encoding="utf-8") for folder in folders]
        for name in (_HEAD, PAGE)
    )
    return "\n".join([*dict.fromkeys(heads), *pages])
