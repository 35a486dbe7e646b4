"""What is known about each encoder: species, gene ids, licences, where its weights are, what it can do, what it saw.

Facts stand in ``cards/*.json``, one file per encoder. What could not be verified is said in `Card.unverified`.
"""

import json
from functools import cache
from importlib.resources import files as package_files
from typing import Any, Literal

from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem
from embryo.encoders.facts.corpora import Corpus, Facts, Part

Capability = Literal["embed", "edit", "edit_tokens", "decode", "score_time"]
CAPABILITIES: dict[str, str] = {
    "embed": "embed cells",
    "edit": "edit genes before they are read",
    "edit_tokens": "its own in-silico perturbation",
    "decode": "back to genes, by a decoder fitted on training cells",
    "score_time": "score time",
}


class Size(Facts):
    """A published size.

    Parameters
    ----------
    name
        As published.
    parameters
        How many.
    exact
        Whether they were counted, or are what the name says.
    """

    name: str
    parameters: int
    exact: bool = False

    def memory_gb(self, bytes_each: int = 4) -> float:
        """Return what the weights take, in GB (1e9 bytes): 4 bytes each in float32, 2 in bfloat16."""
        return self.parameters * bytes_each / 1e9

    def __str__(self) -> str:
        large = self.parameters >= 1e9
        count = f"{self.parameters / 1e9:.3g} billion" if large else f"{self.parameters / 1e6:.4g} million"
        about = "" if self.exact else "about "
        memory = f"{_gb(self.memory_gb())} in float32, {_gb(self.memory_gb(2))} in bfloat16"
        return f"{self.name}: {about}{count} parameters, {memory}"


class Card(Facts):
    """What is known about an encoder.

    Parameters
    ----------
    name, title
        As in `embryo.encoders.names`, and in words.
    kind
        ``fitted`` on the training cells, ``pretrained`` elsewhere, or ``precomputed``.
    species, gene_ids
        What it reads.
    code_licence, weights_licence
        As published; a conflict is said.
    weights
        Where to get them. They are never fetched by this package.
    files
        What must lie in the folder of weights.
    capabilities
        Of `CAPABILITIES`.
    sizes
        As published.
    needs
        Beside the weights.
    corpus
        What it was trained on; None for what is fitted on the training cells.
    caveats, unverified
        What to know before believing a result, and what nobody here could check.
    """

    name: str
    title: str
    kind: Literal["fitted", "pretrained", "precomputed"]
    species: tuple[str, ...]
    gene_ids: Literal["ensembl", "symbol", "any"]
    code_licence: str
    weights_licence: str
    weights: str
    files: tuple[str, ...]
    capabilities: tuple[Capability, ...]
    sizes: tuple[Size, ...]
    needs: tuple[str, ...]
    corpus: Corpus | None
    caveats: tuple[str, ...]
    unverified: tuple[str, ...]


def names() -> tuple[str, ...]:
    """Return the names of all encoders that have a card, sorted."""
    return tuple(sorted(_records()))


def card(name: str) -> Card:
    """Return what is known about an encoder.

    Raises
    ------
    ConfigError
        If there is no such encoder; the nearest name is given.
    """
    if name not in _records():
        found = f"encoder {name!r}{phrases.nearest(name, names())}"
        raise ConfigError(Problem(found, f"one of {', '.join(names())}", "choose one of these (embryo encoders list)"))
    return _records()[name]


def listing() -> str:
    """Return every encoder in a few lines: what it reads, can do and needs, its licences, where its weights are."""
    return "\n\n".join(map(_entry, map(card, names())))


def text(name: str) -> str:
    """Return the card of an encoder in markdown."""
    c = card(name)
    lines = [
        f"# {c.name}",
        "",
        f"**{c.title}**",
        "",
        f"- Species: {', '.join(c.species)}; genes by {c.gene_ids}",
        f"- Licence: code {c.code_licence}; weights {c.weights_licence}",
        f"- Weights: {c.weights}",
        *([f"- Files: {', '.join(c.files)}"] if c.files else []),
        f"- Can: {', '.join(CAPABILITIES[k] for k in c.capabilities)}",
        f"- Needs: {'; '.join(c.needs)}",
        *(f"- Size: {size}" for size in c.sizes),
        f"- Trained on: {_corpus(c.corpus)}",
        *_section("Read before use:", c.caveats),
        *_section("Not verified:", c.unverified),
    ]
    return "\n".join(lines) + "\n"


@cache
def _records() -> dict[str, Card]:
    folder = package_files("embryo.encoders.facts") / "cards"
    texts = [path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name.endswith(".json")]
    return {c.name: c for c in (Card.model_validate(json.loads(text)) for text in texts)}


def _entry(c: Card) -> str:
    rows = {
        "reads": f"{', '.join(c.species)}; genes by {c.gene_ids}; {'; '.join(c.needs)}",
        "can": ", ".join(c.capabilities),
        "memory": _memory(c),
        "licence": f"code {c.code_licence}; weights {c.weights_licence}",
        "from": c.weights,
    }
    return "\n".join([f"{c.name} - {c.title}", *(f"  {key:<8}{words}" for key, words in rows.items())])


def _memory(c: Card) -> str:
    """Return what the weights take, from the smallest published size to the largest."""
    sizes = sorted(size.memory_gb() for size in c.sizes)
    ends = dict.fromkeys([sizes[0], sizes[-1]]) if sizes else {}
    return f"{' to '.join(map(_gb, ends))} of weights in float32, half in bfloat16" if sizes else "that of the data"


def _gb(gigabytes: float) -> str:
    return f"{gigabytes:.0f} GB" if gigabytes >= 10 else f"{gigabytes:.2g} GB"


def _corpus(corpus: Corpus | None) -> str:
    if corpus is None:
        return "the training cells of a run"
    if not corpus.known:
        return "unknown"
    more = "" if corpus.complete else "; and more"
    return f"{corpus.name} ({'; '.join(map(_part, corpus.parts))}{more})"


def _part(part: Part) -> str:
    stated: dict[str, Any] = {"stages": part.stages, "genotypes": part.genotypes}
    words = [f"{key} {', '.join(found)}" for key, found in stated.items() if found is not None]
    silent = [key for key, found in stated.items() if found is None]
    if silent:
        words.append(f"{' and '.join(silent)} not on record")
    return f"{part.organism}: {', '.join(([part.about] if part.about else []) + words)}"


def _section(title: str, items: tuple[str, ...]) -> list[str]:
    return ["", title, "", *(f"- {item}" for item in items)] if items else []
