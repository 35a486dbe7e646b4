"""Region: a box or half-space along the axes of the body, in words such as ``ap<0.3`` or ``ap>0.2, z<=15``."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from embryo.core.errors import EditError, Problem

BODY_AXES = ("ap", "dv", "lr")  # fractions of the body's extent along the first, second and third axis of its frame
UM_AXES = ("x", "y", "z")  # the same axes in µm
_CONDITION = re.compile(r"\s*([a-z]+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Region:
    """Conditions that all hold.

    Parameters
    ----------
    conditions
        (axis, comparison, number). Axes ``ap``, ``dv``, ``lr`` count from 0 to 1 between the first and the last cell
        along the first, second and third axis of the body frame; ``x``, ``y``, ``z`` are the same axes in µm. The body
        frame knows no anatomy of its own: its first axis is the longest.
    """

    conditions: tuple[tuple[str, str, float], ...]

    @classmethod
    def of(cls, text: str) -> "Region":
        """Read a region from words: conditions parted by commas or ``and``.

        Raises
        ------
        EditError
            Listing every condition that is not one.
        """
        problems = list(cls.problems(text))
        if problems:
            raise EditError(*problems, subject="region")
        found = [_CONDITION.fullmatch(part) for part in _parts(text)]
        return cls(tuple((m[1].lower(), m[2], float(m[3])) for m in found if m))

    @staticmethod
    def problems(text: str) -> Iterator[Problem]:
        """List what is wrong with the words of a region."""
        axes = (*BODY_AXES, *UM_AXES)
        for part in _parts(text):
            match = _CONDITION.fullmatch(part)
            if match is None or match[1].lower() not in axes:
                expected = f"AXIS<NUMBER or AXIS>NUMBER, AXIS one of {', '.join(axes)}"
                yield Problem(f"region {part.strip()!r}", expected, "write it such as ap<0.3, z>10")

    def holds(
        self, x: Float[np.ndarray, "cells space"], among: Bool[np.ndarray, " cells"]
    ) -> Bool[np.ndarray, " cells"]:
        """Return which cells lie inside.

        Parameters
        ----------
        x
            Positions in the body frame, µm.
        among
            Cells that the extent of the body is measured on.

        Raises
        ------
        EditError
            If a condition names an axis that the positions do not have.
        """
        inside = np.ones(len(x), bool)
        for axis, comparison, number in self.conditions:
            k = (BODY_AXES if axis in BODY_AXES else UM_AXES).index(axis)
            if k >= x.shape[1]:
                found = f"a region along {axis} of cells with {x.shape[1]} coordinates"
                raise EditError(
                    Problem(found, "an axis that the cells have", "leave this condition out"), subject="region"
                )
            value = x[:, k]
            if axis in BODY_AXES and among.any():
                low, high = value[among].min(), value[among].max()
                value = (value - low) / max(high - low, np.finfo(float).tiny)
            inside &= _COMPARE[comparison](value, number)
        return inside


_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


def _parts(text: str) -> list[str]:
    return re.split(r",|&|\band\b", text)
