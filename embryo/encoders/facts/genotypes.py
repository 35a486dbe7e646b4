"""Whether two genotypes alter the same gene, as far as words tell."""

import re
from dataclasses import dataclass

_DASH = re.compile("[\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH}\N{MINUS SIGN}]")
_PAIR = r"[-+]/[-+]"  # the two alleles of a gene
_WILD_PAIR, _ANY_PAIR = re.compile(r"\+/\+"), re.compile(rf"[ (]*{_PAIR}\)?|[ (]*-/(?=\s|$)")
_WORD = re.compile(r"\w(?:[\w.-]*\w)?")
_MARK = "allele"  # stands for a pair of alleles among the words
_SEPARATOR = re.compile(r"[._-]")
_ALTERED = re.compile(  # what follows a symbol, after a digit or a separator: ko of Tal1ko, but not tm1 of Ifitm1
    r"(?:(?<=\d)[._-]?|[._-]|^)(?:d?ko|kd|ki|oe|null|het|hom|mut|mutants?|deficient|knock-?(?:out|down|in)s?|fl|flox|floxed"
    r"|del|delta|deleted|deletion|\N{GREEK SMALL LETTER DELTA}|(?:tm|em|gt)\d\w*)$"
)
_WILD = frozenset({"wt", "wild", "wildtype"})
_TALK = """
a allele alleles alone also an and animal animals as at both by cell cells conditional control controls deficient
deleted deletion dko double down embryo embryos expression for from full function gain gene genes genotype genotypes
het hets heterozygous heterozygote heterozygotes hom homs homozygous homozygote homozygotes in inactivation is kd ki
knock knockdown knockdowns knockin knockins knocked knockout knockouts ko kos lacking less litter littermate
littermates loss mice mouse mutant mutants mutated mutation mutations no null nulls of on or out over overexpressed
overexpression oe sample samples single the tko triple type with without
"""
_SAID = frozenset(_TALK.split()) | {_MARK}  # words that say what was done, of which none is a gene
_OTHER = re.compile(r"[ep]?\d+(?:\.\d+)?[a-z]?|c57bl\w*|129\w*")  # a number, a stage, a strain of mice
_SHORT = 3  # letters that a symbol has at least, to be looked for within another word


@dataclass(frozen=True)
class Genotype:
    """What the words of a genotype say.

    Parameters
    ----------
    genes
        Gene-like words, without their separators and without what follows a symbol, such as ``ko``; both ways where
        something was taken off.
    wild
        Whether the wild type is named.
    clear
        Whether every word was understood, and something is named.
    """

    genes: frozenset[str]
    wild: bool
    clear: bool

    @classmethod
    def of(cls, text: str, *, begins_with_gene: bool) -> "Genotype":
        """Read a genotype such as ``Tal1-/-``, ``homozygous Tal1 knock-out``, ``Tal1tm1/tm1``, ``wild type``.

        Parameters
        ----------
        text
            The genotype.
        begins_with_gene
            Whether the first word that says nothing else is a gene, whatever it looks like. Otherwise a word without a
            digit is taken for a gene only where its alleles follow: ``Shh-/-``.
        """
        plain = _DASH.sub("-", text.casefold())
        words = _WORD.findall(_ANY_PAIR.sub(f" {_MARK} ", plain))
        genes: set[str] = set()
        clear = True
        for word, after in zip(words, [*words[1:], ""], strict=False):
            bare = _ALTERED.sub("", word)
            if not bare or _OTHER.fullmatch(bare) or _joined(word) in _SAID | _WILD:
                continue
            told = bare != word or any(c.isdigit() for c in bare) or after == _MARK or (begins_with_gene and not genes)
            clear &= told
            genes |= {_joined(word), _joined(bare)}
        wild = any(_joined(word) in _WILD for word in words) or _WILD_PAIR.search(plain) is not None
        return cls(frozenset(genes), wild, clear and (bool(genes) or wild))


def meet(held: str, asked: str) -> bool | None:
    """Whether a corpus that holds one genotype holds the other; None where the words do not tell.

    They meet where they share a gene, or both are the wild type. They do not where all words of both are understood
    and name other genes; synonyms of a gene are not known here.

    Parameters
    ----------
    held
        Of the corpus.
    asked
        What is protected; it begins with its gene.
    """
    if held.casefold().split() == asked.casefold().split():
        return True
    one, other = Genotype.of(held, begins_with_gene=False), Genotype.of(asked, begins_with_gene=True)
    if one.genes & other.genes:
        return True
    if one.wild and other.wild:
        return None if one.genes or other.genes else True
    if not (one.clear and other.clear) or any(_within(a, b) for a in one.genes for b in other.genes):
        return None
    return False


def _joined(word: str) -> str:
    return _SEPARATOR.sub("", word)


def _within(one: str, other: str) -> bool:
    """Whether a symbol stands within another word, and is not merely the head of a longer number."""
    short, long = sorted((one, other), key=len)
    return len(short) >= _SHORT and re.search(rf"{re.escape(short)}(?!\d)", long) is not None
