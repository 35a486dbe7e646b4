"""What a model was trained on: organisms, stages, genotypes, as far as it is on record."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from embryo.core import store
from embryo.core.errors import Problem, StoreError

FILE = "corpus.json"  # in a folder of weights: what these very weights were trained on


class Facts(BaseModel):
    """Frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(Facts):
    """One organism's share of a corpus.

    Parameters
    ----------
    organism
        Scientific name.
    stages
        Developmental stages, such as ``E8.5``, ``E8-P0``, ``200-210 h``, hours where there is no unit; None where they
        are not on record.
    genotypes
        Each beginning with its gene, such as ``Tal1-/-``, or ``wild type``; None where they are not on record.
    about
        In words.
    """

    organism: str
    stages: tuple[str, ...] | None = None
    genotypes: tuple[str, ...] | None = None
    about: str = ""


class Corpus(Facts):
    """A training corpus.

    Parameters
    ----------
    known
        Whether anything is on record.
    name
        What it is called, or made of.
    cells
        How many; None where unknown.
    complete
        Whether `parts` name every organism in it.
    parts
        By organism; an organism may have several.
    """

    known: bool = True
    name: str = ""
    cells: int | None = None
    complete: bool = True
    parts: tuple[Part, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> "Corpus":
        if self.known and self.complete and not self.parts:
            msg = "a known and complete corpus names its organisms in parts"
            raise ValueError(msg)
        return self


def read(folder: str | Path) -> Corpus | None:
    """Return what the ``corpus.json`` of a folder of weights says; None where there is none.

    Raises
    ------
    StoreError
        If it is damaged or of another form, naming every key that is wrong.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        return Corpus.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoreError(*problems(error), subject=FILE) from error
    except OSError as error:
        raise StoreError(Problem(f"{error.strerror}", "a readable file", "check the folder"), subject=FILE) from error


def parse(record: Mapping[str, Any]) -> Corpus:
    """Return a corpus that was written as JSON; `StoreError` where it is of another form."""
    try:
        return Corpus.model_validate_json(json.dumps(store.to_plain(record)))
    except ValidationError as error:
        raise StoreError(*problems(error), subject="corpus") from error


def problems(error: ValidationError) -> list[Problem]:
    """Return what is wrong with a record of a corpus."""
    expected = f"keys {', '.join(Corpus.model_fields)}; in each of parts {', '.join(Part.model_fields)}"
    told = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
    return [Problem(f"{key}: {said}" if key else said, expected, "correct it") for key, said in told]
