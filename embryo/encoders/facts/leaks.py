"""Leaks: whether an encoder was trained on what a run holds out.

A stage or genotype that is *protected* is one that the run must predict; a model whose corpus holds it has seen the
answer. What the record does not say cannot be checked: it is told in a sentence, for the provenance, and never passed
over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embryo.core import schema, stages
from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem
from embryo.encoders.facts import cards, corpora
from embryo.encoders.facts.corpora import Corpus, Part
from embryo.encoders.genes.genenames import scientific

_BIRTH_DAYS = {"Mus musculus": 19.0, "Rattus norvegicus": 22.0}  # P0, in days after conception, where E counts so
_TIME = r"([A-Za-z]*) *(\d+(?:\.\d+)?) *([A-Za-z]*)"
_RANGE = re.compile(rf"{_TIME} *(?:-|–|to) *{_TIME}")
_POSTNATAL = re.compile(r"P *(\d+(?:\.\d+)?)", re.IGNORECASE)
_WORD = re.compile(r"\w(?:[\w.-]*\w)?")
_ALTERED = re.compile(r"-(?:ko|kd|oe|null|het|hom|mutant|deficient|knock-?out|knock-?down)$")


@dataclass(frozen=True)
class Protected:
    """What a run holds out, so that no encoder may have seen it.

    Parameters
    ----------
    organism
        Scientific name, or one of `embryo.encoders.genes.genenames.ALIASES`.
    stages
        Such as ``E8.5``, ``E8-E9.5``, ``P0``, ``200-210 h``; both ends belong to a range.
    genotypes
        Each beginning with the gene that is altered, such as ``Tal1-/-``; or ``wild type``.
    """

    organism: str
    stages: tuple[str, ...] = ()
    genotypes: tuple[str, ...] = ()


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
    organism = scientific(protected.organism)
    named = [words for words in (protected.stages, protected.genotypes) if words]
    if corpus is None or not named:
        return []
    if not corpus.known:
        return [
            f"the training corpus is not known: it may hold {phrases.few(word for words in named for word in words)}"
        ]
    told = []
    for part, kind, asked, hits, unclear in _compared(corpus, protected):
        where = f"{part.organism}{f' ({part.about})' if part.about else ''}"
        if unclear is None:
            told.append(
                f"the {kind} of {where} in the training corpus are not on record: it may hold {phrases.few(asked)}"
            )
        elif unclear and not hits:
            told.append(f"{phrases.few(unclear)} of {where} cannot be compared with {phrases.few(asked)}")
    if not corpus.complete and organism not in {scientific(part.organism) for part in corpus.parts}:
        told.append(f"not all organisms of the training corpus are on record: it may hold {organism}")
    return told


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
    seen = [f"LEAK, allowed: {problem.found}" for problem in problems]
    return "; ".join([*seen, *unchecked(corpus, protected)]) or "nothing protected is in the training corpus"


_Compared = tuple[Part, str, tuple[str, ...], list[str], list[str] | None]


def _compared(corpus: Corpus | None, protected: Protected) -> Iterator[_Compared]:
    """Yield (part, what is compared, what is protected, what of it the part holds, what is unclear; None for all)."""
    organism = scientific(protected.organism)
    for part in corpus.parts if corpus is not None and corpus.known else ():
        if scientific(part.organism) != organism:
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


def _same(kind: str, held: str, asked: str, organism: str) -> bool | None:
    return _stages_meet(held, asked, organism) if kind == "stages" else _genotypes_meet(held, asked)


def _stages_meet(held: str, asked: str, organism: str) -> bool | None:
    """Whether two stages share a time; None where they cannot be compared."""
    if held.casefold().strip() == asked.casefold().strip():
        return True
    one, other = _span(held, organism), _span(asked, organism)
    if one is None or other is None:
        return None
    return max(one[0], other[0]) <= min(one[1], other[1]) + schema.SAME_TIME_H


def _span(label: str, organism: str) -> tuple[float, float] | None:
    """Return first and last hour of a stage."""
    match = _RANGE.fullmatch(label.strip())
    if match is None:
        time = _hours(label, organism)
        return None if time is None else (time, time)
    before, first, after, before_last, last, after_last = match.groups()
    ends = (f"{before}{first} {after or after_last}", f"{before_last or before}{last} {after_last or after}")
    start, stop = (_hours(end.strip(), organism) for end in ends)
    return None if start is None or stop is None else (min(start, stop), max(start, stop))


def _hours(label: str, organism: str) -> float | None:
    postnatal = _POSTNATAL.fullmatch(label.strip())
    if postnatal and organism in _BIRTH_DAYS:
        return (_BIRTH_DAYS[organism] + float(postnatal[1])) * 24
    return stages.hours(label)


def _genotypes_meet(held: str, asked: str) -> bool:
    """Whether the gene that the protected genotype begins with is a word of the other; or both are wild type."""
    if _is_wild(held) or _is_wild(asked):
        return _is_wild(held) and _is_wild(asked)
    words = _words(asked)
    return bool(words) and words[0] in _words(held)


def _words(genotype: str) -> list[str]:
    """Return genes and other words of a genotype: Nkx2-5 of ``Nkx2-5+/-``, Tal1 of ``Tal1-KO``."""
    return [_ALTERED.sub("", word) for word in _WORD.findall(genotype.casefold())]


def _is_wild(genotype: str) -> bool:
    return re.sub(r"[ _-]", "", genotype.casefold()) in {"wildtype", "wt"}
