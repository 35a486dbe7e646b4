"""Leaks: whether an encoder was trained on what a run holds out.

A stage or genotype that is *protected* is one that the run must predict; a model whose corpus holds it has seen the
answer. What the record does not say cannot be checked: it is told in a sentence, for the provenance, and never passed
over.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embryo.core import schema, stages
from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem
from embryo.encoders.facts import cards, corpora, genotypes
from embryo.encoders.facts.corpora import Corpus, Part
from embryo.encoders.genes.genenames import certain, scientific

LEAK = "LEAK, allowed"
_BIRTH_DAYS = {"Mus musculus": 19.0, "Rattus norvegicus": 22.0}  # P0, in days after conception, where E counts so
_NUMBER = r"(\d+(?:\.\d+)?)"
_BEFORE = r"(E|P|TS|Theiler[ _-]*stage|embryonic[ _-]*day|days?|d|)"
_AFTER = r"(dp[cf]|hpf|h|hrs?|hours?|d|days?|min|minutes?|)"
_TIME = rf"{_BEFORE}[ _-]*{_NUMBER}[ _-]*{_AFTER}"
_ONE = re.compile(_TIME, re.IGNORECASE)
_RANGE = re.compile(rf"{_TIME} *(?:-|–|to) *{_TIME}", re.IGNORECASE)


@dataclass(frozen=True)
class Protected:
    """What a run holds out, so that no encoder may have seen it.

    Parameters
    ----------
    organism
        Scientific name in any case, or one of `embryo.encoders.genes.genenames.ALIASES`. Of another name nobody can
        say what it means: it is told.
    stages
        Such as ``E8.5``, ``E8-E9.5``, ``P0``, ``200-210 h``; ``200-210``, hours where there is no unit. Both ends
        belong to a range.
    genotypes
        Each beginning with the gene that is altered, such as ``Tal1-/-``; or ``wild type``.
    """

    organism: str
    stages: tuple[str, ...] = ()
    genotypes: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """All that is protected."""
        return (*self.stages, *self.genotypes)


def corpus_of(name: str, folder: str | Path | None = None) -> Corpus | None:
    """Return the corpus of an encoder: what the ``corpus.json`` of its folder says, else its card.

    None for what is fitted on the training cells of a run.

    Raises
    ------
    ConfigError
        If there is no such encoder.
    StoreError
        If ``corpus.json`` cannot be read.
    """
    said = corpora.read(folder) if folder is not None else None
    return said or cards.card(name).corpus


def corpus_on_record(about: Mapping[str, Any]) -> Corpus | None:
    """Return the corpus behind an embedding, as far as its provenance says.

    None where the weights were random. A published encoder's is that of its card, unless the provenance calls it
    otherwise; what was fitted, or made in an unknown way, may have seen anything.

    Parameters
    ----------
    about
        Provenance, of which ``encoder``, ``weights`` and ``corpus`` are looked at: the name of the corpus, or the
        corpus in the form of ``corpus.json``.

    Raises
    ------
    StoreError
        If the corpus is stated in another form.
    """
    said = about.get("corpus")
    if about.get("weights") == "random":
        return None
    if isinstance(said, Mapping):
        return corpora.parse(said)
    corpus = cards.card(about["encoder"]).corpus if about.get("encoder") in cards.names() else None
    return corpus if corpus is not None and said in (None, corpus.name) else Corpus(known=False)


def leaks(corpus: Corpus | None, protected: Protected) -> list[Problem]:
    """Return one problem for each part of a corpus that holds what is protected; none for no corpus."""
    return [
        Problem(
            f"{kind} {phrases.few(hits)} of {part.organism} in the training corpus"
            + (f" ({part.about})" if part.about else ""),
            f"none of the protected {kind}: {phrases.few(asked)}",
            "choose an encoder that has not seen them, protect less, or allow the leak: the provenance will say so",
        )
        for part, kind, asked, hits, _ in _compared(corpus, protected)
        if hits
    ]


def unchecked(corpus: Corpus | None, protected: Protected) -> list[str]:
    """Return one sentence for each thing that the record of a corpus leaves open; none for no corpus."""
    if corpus is None:
        return []
    if not corpus.known:
        may = f": it may hold {phrases.few(protected.named)}" if protected.named else ""
        return [f"leaks cannot be checked: the training corpus is not known{may}"]
    if not protected.named:
        return []
    told = _strangers(corpus, protected)
    for part, kind, asked, hits, unclear in _compared(corpus, protected):
        where = f"{part.organism}{f' ({part.about})' if part.about else ''}"
        if unclear is None:
            told.append(
                f"the {kind} of {where} in the training corpus are not on record: it may hold {phrases.few(asked)}"
            )
        elif unclear and not hits:
            told.append(f"{phrases.few(unclear)} of {where} cannot be compared with {phrases.few(asked)}")
    organism = certain(protected.organism)
    if not corpus.complete and organism and organism not in {certain(part.organism) for part in corpus.parts}:
        told.append(f"not all organisms of the training corpus are on record: it may hold {organism}")
    return told


def _strangers(corpus: Corpus, protected: Protected) -> list[str]:
    """Return a sentence for each pair of organisms of which nobody can say whether they are the same."""
    organism = certain(protected.organism)
    names = dict.fromkeys(part.organism for part in corpus.parts if organism is None or certain(part.organism) is None)
    same = [name for name in names if _plain(name) != _plain(protected.organism)]
    unclear = [f"leaks cannot be checked: {name!r} and {protected.organism!r} may be one organism" for name in same]
    if organism is None and not corpus.complete:
        unclear.append(f"leaks cannot be checked: {protected.organism!r} is no species that is known")
    return unclear


def require_no_leak(name: str, corpus: Corpus | None, protected: Protected, *, allow: bool = False) -> str:
    """Return what the provenance says about leaks; refuse an encoder that has seen what is protected.

    Parameters
    ----------
    name
        Of the encoder.
    corpus
        See `corpus_of`; None where it was trained on nothing but the run's own cells, or has random weights.
    protected
        What the run holds out.
    allow
        Whether a leak is let through; the sentence says so.

    Raises
    ------
    ConfigError
        With every leak, unless `allow`.
    """
    problems = leaks(corpus, protected)
    if problems and not allow:
        raise ConfigError(*problems, subject=f"encoder {name}")
    seen = [f"{LEAK}: {problem.found}" for problem in problems]
    nothing = "nothing protected is in the training corpus" if protected.named else "nothing was protected"
    return "; ".join([*seen, *unchecked(corpus, protected)]) or nothing


_Compared = tuple[Part, str, tuple[str, ...], list[str], list[str] | None]


def _compared(corpus: Corpus | None, protected: Protected) -> Iterator[_Compared]:
    """Yield (part, what is compared, what is protected, what of it the part holds, what is unclear; None for all)."""
    organism = _plain(protected.organism)
    for part in corpus.parts if corpus is not None and corpus.known else ():
        if _plain(part.organism) != organism:
            continue
        for kind, held, asked in (
            ("stages", part.stages, protected.stages),
            ("genotypes", part.genotypes, protected.genotypes),
        ):
            if not asked:
                continue
            if held is None:
                yield part, kind, asked, [], None
                continue
            same = [(label, _same(kind, label, word, organism)) for label in held for word in asked]
            hits = list(dict.fromkeys(label for label, answer in same if answer))
            yield part, kind, asked, hits, list(dict.fromkeys(label for label, answer in same if answer is None))


def _plain(organism: str) -> str:
    return certain(organism) or scientific(organism).casefold()


def _same(kind: str, held: str, asked: str, organism: str) -> bool | None:
    return _stages_meet(held, asked, organism) if kind == "stages" else genotypes.meet(held, asked)


def _stages_meet(held: str, asked: str, organism: str) -> bool | None:
    """Whether two stages share a time; None where they cannot be compared."""
    if held.casefold().strip() == asked.casefold().strip():
        return True
    one, other = _span(held, organism), _span(asked, organism)
    if one is None or other is None:
        return None
    return max(one[0], other[0]) <= min(one[1], other[1]) + schema.SAME_TIME_H


def _span(label: str, organism: str) -> tuple[float, float] | None:
    """Return first and last hour of a stage; None for words that say more than a time, or nothing that is known."""
    match = _RANGE.fullmatch(label.strip()) or _ONE.fullmatch(label.strip())
    if match is None:
        return None
    ends = [match.groups()[:3], match.groups()[-3:]]
    units = [(before, after) for before, _, after in ends]
    units = [own if any(own) else other for own, other in zip(units, reversed(units), strict=True)]  # 200-210 h, E8-9.5
    start, stop = (_hours(unit[0], end[1], unit[1], organism) for unit, end in zip(units, ends, strict=True))
    return None if start is None or stop is None else (min(start, stop), max(start, stop))


def _hours(before: str, number: str, after: str, organism: str) -> float | None:
    """Return the time of a number with its unit; hours where there is none."""
    if before.casefold() == "p":
        return (_BIRTH_DAYS[organism] + float(number)) * 24 if organism in _BIRTH_DAYS and not after else None
    return stages.hours(f"{before}{number} {after}") if before or after else float(number)
