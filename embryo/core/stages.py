"""Developmental time out of the words that file names and atlases use: ``E9.5``, ``24 hpf``, ``Theiler stage 13``."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float

_NUMBER = r"(\d+(?:\.\d+)?)"
_DAY_H = 24.0
_PATTERNS: tuple[tuple[re.Pattern[str], float], ...] = (
    (re.compile(rf"(?<![a-z\d])e{_NUMBER}(?![a-z\d])", re.IGNORECASE), _DAY_H),
    (re.compile(rf"embryonic[ _-]*day[ _-]*{_NUMBER}", re.IGNORECASE), _DAY_H),
    (re.compile(rf"(?<![a-z\d.]){_NUMBER}[ _-]*dp[cf](?![a-z])", re.IGNORECASE), _DAY_H),
    (re.compile(rf"(?<![a-z\d.]){_NUMBER}[ _-]*(?:hpf|h|hours?|hrs?)(?![a-z])", re.IGNORECASE), 1.0),
    (re.compile(rf"(?<![a-z\d.]){_NUMBER}[ _-]*(?:min|minutes?)(?![a-z])", re.IGNORECASE), 1 / 60),
    (re.compile(rf"(?<![a-z\d.]){_NUMBER}[ _-]*(?:d|days?)(?![a-z])", re.IGNORECASE), _DAY_H),
    (re.compile(rf"(?<![a-z\d])(?:day|d)[ _-]*{_NUMBER}(?![a-z\d])", re.IGNORECASE), _DAY_H),
)
_THEILER = re.compile(r"(?<![a-z\d])(?:theiler[ _-]*stage|ts)[ _-]*(\d+)(?![\d])", re.IGNORECASE)

# Days after conception of mouse Theiler stages (Theiler 1989; eMouseAtlas, typical age).
_THEILER_DAYS = {
    3: 2.0, 4: 3.0, 5: 4.0, 6: 4.5, 7: 5.0, 8: 6.0, 9: 6.5, 10: 7.0, 11: 7.5, 12: 8.0, 13: 8.5, 14: 9.0, 15: 9.5,
    16: 10.0, 17: 10.5, 18: 11.0, 19: 11.5, 20: 12.0, 21: 13.0, 22: 14.0, 23: 15.0, 24: 16.0, 25: 17.0, 26: 18.0,
}  # fmt: skip


def hours(text: str) -> float | None:
    """Return the time that a word or file name states, in hours; None if it states none.

    Mouse days (E, dpc) count from conception, zebrafish hours (hpf) from fertilisation.
    """
    stage = _THEILER.search(text)
    if stage and int(stage[1]) in _THEILER_DAYS:
        return _THEILER_DAYS[int(stage[1])] * _DAY_H
    for pattern, factor in _PATTERNS:
        match = pattern.search(text)
        if match:
            return float(match[1]) * factor
    return None


def parse(column: Iterable[object]) -> Float[np.ndarray, " cells"]:
    """Return the time of each entry of a column of words in hours; NaN where it states none."""
    values = pd.Series(column, dtype="string")
    known = {text: hours(text) for text in values.dropna().unique()}
    return np.array([np.nan if (t := known.get(v)) is None else t for v in values.fillna("")], dtype=np.float64)
