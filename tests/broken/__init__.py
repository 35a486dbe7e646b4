"""Broken inputs: a name, how to write one, and what must be said about it. Used by the tests of `read` and of the CLI.

Everything starts from `make.whole`, which keeps the contract, and breaks one thing, or several where the name says so.
"""

from dataclasses import replace

from broken.files import FILES
from broken.make import Broken
from broken.slots import SPACE, TIME
from broken.values import EXPRESSION, NAMES

BROKEN_FILES: dict[str, Broken] = {
    name: replace(case, name=name) for name, case in (TIME | SPACE | EXPRESSION | NAMES | FILES).items()
}
