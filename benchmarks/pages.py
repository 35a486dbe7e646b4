"""What the pages of all benchmarks share: a head with the commit, and how they are written."""

from pathlib import Path

from embryo.core import provenance, store


def head(title: str, doc: str | None, about: str = "") -> str:
    """Return the title, the commit and machine, and what the script's docstring says below its first two parts."""
    made = provenance.provenance(0, {}, {})
    said = doc.split("\n\n", 2)[2].strip() if doc else ""
    return f"# {title}\n\nCommit {made['commit']}; {made['platform']}{about}.\n\n{said}\n"


def written(text: str, out: Path | None) -> None:
    """Print a page, and write it whole where a file is named."""
    print(text)
    if out is not None:
        with store.atomic(out) as partial:
            partial.write_text(text, encoding="utf-8")
