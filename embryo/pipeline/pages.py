"""Pages of evaluations: kept beside their tables, and joined into one document."""

from collections.abc import Sequence
from pathlib import Path

from embryo.core import store
from embryo.core.store.files import find

PAGE, _HEAD = "report.md", "head.md"


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
