"""Errors written for the person who meets them: what was found, what was expected, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input.

    Parameters
    ----------
    found
        What the input holds, with the number or name that shows it.
    expected
        What it should hold.
    cure
        What the person can do about it.
    """

    found: str
    expected: str
    cure: str

    def __str__(self) -> str:
        return f"found {self.found}; expected {self.expected}. To cure it: {self.cure}."


class EmbryoError(Exception):
    """Base of every error that embryo raises on purpose; the command line prints it without a traceback.

    Parameters
    ----------
    problems
        All problems of the input at once.
    subject
        What the problems are about: a file, a config, a dataset.
    """

    def __init__(self, *problems: Problem, subject: str = "") -> None:
        super().__init__(*problems)  # as args, so that a copy in another process is whole
        self.problems: Sequence[Problem] = problems
        self.subject = subject

    def __str__(self) -> str:
        head = f"{self.subject}: " if self.subject else ""
        if len(self.problems) == 1:
            return f"{head}{self.problems[0]}"
        lines = [f"{head}{len(self.problems)} problems"]
        lines += [f"  {i}. {problem}" for i, problem in enumerate(self.problems, 1)]
        return "\n".join(lines)


class SchemaError(EmbryoError):
    """The data do not keep the AnnData contract of `embryo.core.schema`."""


class FrameError(EmbryoError):
    """Positions in different frames were mixed, or a transform mirrors, scales or shears the body."""


class StaleError(EmbryoError):
    """A slot that this step needs was dropped by an edit, or was never written."""


class DivergedError(EmbryoError):
    """A fit or a roll-out left the finite numbers."""


class ConfigError(EmbryoError):
    """A config holds an unknown key or a value out of range."""


class DataError(EmbryoError):
    """A dataset is unknown, absent, or not the bytes that the registry names."""


class StoreError(EmbryoError):
    """A stored file is missing, damaged, or of a format this version does not read."""


class EditError(EmbryoError):
    """An edit names a gene, operation or window that the run cannot carry out."""
