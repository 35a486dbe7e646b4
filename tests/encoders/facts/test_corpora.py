"""Records of training corpora."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from embryo.core.errors import StoreError
from embryo.encoders.facts import corpora
from embryo.encoders.facts.corpora import Corpus, Part


def test_a_folder_says_what_its_weights_saw(tmp_path: Path) -> None:
    assert corpora.read(tmp_path) is None
    text = '{"name": "mine", "parts": [{"organism": "Mus musculus", "genotypes": ["Tal1-/-"]}]}'
    (tmp_path / "corpus.json").write_text(text)
    assert corpora.read(tmp_path) == Corpus(name="mine", parts=(Part(organism="Mus musculus", genotypes=("Tal1-/-",)),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Invalid JSON"),
        ("[]", "expected keys known, name, cells, complete, parts"),
        ('{"parts": [{"organism": "Mus musculus", "stage": ["E8"]}]}', r"parts\.0\.stage"),
        ('{"parts": [{"stages": ["E8"]}], "cells": "many"}', "2 problems"),
        ('{"known": true}', "names its organisms in parts"),
    ],
)
def test_a_broken_record_is_told(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "corpus.json").write_text(text)
    with pytest.raises(StoreError, match=says):
        corpora.read(tmp_path)


def test_silence_is_not_emptiness() -> None:
    """A corpus without parts would pass every leak check, so it must say that it is unknown or incomplete."""
    with pytest.raises(ValidationError):
        Corpus()
    assert Corpus(known=False).parts == Corpus(complete=False).parts == ()
