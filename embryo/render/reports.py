"""The report: one HTML file that a person can read, print and send; nothing in it is fetched from elsewhere."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from embryo.core.errors import Problem
from embryo.core.store import atomic
from embryo.render.panel import RenderError
from embryo.render.tables import sheet

_TEMPLATES = Path(__file__).parent / "templates"
_MEDIA = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
}


@dataclass(frozen=True)
class Step:
    """One stage of the run: its name, what it did in one line, and how long it took in seconds."""

    stage: str
    what: str
    seconds: float | int


@dataclass(frozen=True)
class Table:
    """A table of results, its caption, and a note printed below it.

    A column ``role`` marks rows as ours, floor, ceiling and so on; ``low`` and ``high`` are printed as one interval.
    """

    caption: str
    frame: pd.DataFrame
    note: str = ""


@dataclass(frozen=True)
class Shot:
    """A picture or a film in a file, its caption, and a description for those who cannot see it."""

    path: Path
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class Card:
    """What must be known about a dataset, as text; blank lines part paragraphs."""

    title: str
    text: str


@dataclass(frozen=True)
class Report:
    """What a run found.

    Parameters
    ----------
    title
        Of the page.
    verdict
        Sentences on top: what the result is, also where it is that no floor was beaten.
    standing
        A short table on top, where there are too many sentences to read.
    done
        What was done, in order.
    tables, pictures, films
        The results; curves are pictures.
    cards
        Data cards.
    notes
        Warnings, such as what the machine lacks or which tier of truth the numbers belong to.
    said
        All sentences, by what they are about; folded, below the tables.
    provenance
        Seed, versions, checksums; ``config`` is shown as YAML.
    """

    title: str
    verdict: Sequence[str] = ()
    standing: Table | None = None
    done: Sequence[Step] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Shot] = ()
    films: Sequence[Shot] = ()
    cards: Sequence[Card] = ()
    notes: Sequence[str] = ()
    said: Mapping[str, Sequence[str]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def report(content: Report, path: Path) -> Path:
    """Write `content` as one self-contained HTML file.

    Pictures and films are inside the file; everything that is text is escaped; a policy in the page forbids the
    browser any request.

    Parameters
    ----------
    content
        What to show.
    path
        Where the file goes; its folder is made.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    RenderError
        Listing every picture or film that is absent or of an unknown kind.
    """
    _check([*content.pictures, *content.films])
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= {"duration": duration, "paragraphs": _paragraphs, "inline": _inline, "yaml": _yaml}
    engine.tests["video"] = lambda shot: Path(shot.path).suffix.lower() == ".mp4"
    page = engine.get_template("report.html").render(
        report=content,
        standing=content.standing and sheet(content.standing.frame),
        tables=[(table, sheet(table.frame)) for table in content.tables],
        facts={k: v for k, v in content.provenance.items() if not isinstance(v, Mapping) and k != "config"},
        groups={k: v for k, v in content.provenance.items() if isinstance(v, Mapping) and k != "config"},
        total_s=sum(step.seconds for step in content.done),
    )
    path = Path(path)
    with atomic(path) as draft:
        draft.write_text(page, encoding="utf-8")
    return path


def duration(seconds: float | int) -> str:
    """Return a duration for people: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _check(shots: Sequence[Shot]) -> None:
    problems = []
    for shot in shots:
        path = Path(shot.path)
        if path.suffix.lower() not in _MEDIA:
            kinds = ", ".join(sorted(_MEDIA))
            problems.append(Problem(f"{path.name}", f"a picture or film: {kinds}", "write it as PNG or MP4"))
        elif not path.is_file():
            problems.append(Problem(f"no file {path.name}", "a picture or film that was written", "draw it first"))
    if problems:
        raise RenderError(*problems, subject="report")


def _inline(path: Path) -> str:
    path = Path(path)
    return f"data:{_MEDIA[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _yaml(config: Any) -> str:
    if isinstance(config, str):
        return config
    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
