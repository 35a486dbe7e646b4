"""Scores of many models by group and seed: table rows, differences to the best floor, and what they allow to say."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Float

from embryo import measure
from embryo.core import table
from embryo.core.table import Better, Interval

RANDOM: Final = "random"  # role of a network that has learned nothing
PCA = "PCA ("  # how the rows of PCA begin


@dataclass(frozen=True)
class Metric:
    """What is judged.

    Parameters
    ----------
    name, unit
        Of the number.
    better
        Which way is better.
    least
        What it cannot fall below; intervals end there, those of differences do not.
    """

    name: str
    unit: str = "1"
    better: Better = "higher"
    least: float = -np.inf

    def bounded(self, found: Interval, role: table.Role) -> Interval:
        """Return an interval that ends where this can go no further; a difference has no such end."""
        return found if role == "difference" else found.within(self.least)


@dataclass
class Ledger:
    """Scores by metric, model, group and seed. A group is the unit of replication: an embryo, where there are several.

    Parameters
    ----------
    board, split
        What is judged, and how it was split.
    groups
        Names of the groups.
    seeds
        How many seeds.
    unit
        What a group is, in the plural, for sentences.
    """

    board: str
    split: str
    groups: tuple[str, ...]
    seeds: int
    unit: str = "embryos"
    roles: dict[str, table.Role] = field(default_factory=dict)
    _runs: dict[str, int] = field(default_factory=dict)
    _scores: dict[Metric, dict[str, Float[np.ndarray, "groups seeds"]]] = field(default_factory=dict)

    def add(self, metric: Metric, model: str, role: table.Role, place: tuple[str, int | None], value: float) -> None:
        """Add one score.

        Parameters
        ----------
        metric, model, role
            What is scored and how to read it.
        place
            Group, and number of the seed; None for a model without anything random in it, which scores the same with
            every seed.
        value
            The score.
        """
        group, seed = place
        self.roles[model] = role
        self._runs[model] = max(self._runs.get(model, 1), 1 if seed is None else seed + 1)
        blank = np.full((len(self.groups), self.seeds), np.nan)
        scores = self._scores.setdefault(metric, {}).setdefault(model, blank)
        scores[self.groups.index(group), slice(None) if seed is None else seed] = value

    def rows(self) -> list[dict[str, object]]:
        """Return one row per metric and model, floors beside every model, and the differences to the floors below.

        The interval is `embryo.measure.crossed_interval`, over groups and seeds.
        """
        rows = []
        for metric, scored in self._scores.items():
            for model, scores in scored.items():
                known = scores[~np.isnan(scores).any(axis=1)]
                row = self._row(metric, model, self.roles[model], measure.crossed_interval(scores))
                runs = self._runs[model]
                spread = float(known.mean(axis=0).std(ddof=1)) if runs > 1 and len(known) else np.nan
                rows.append(row | {"n_seeds": runs, "seed_sd": spread})
            rows += [
                self._row(metric, f"{model} minus {floor}", "difference", gain)
                | {"n_seeds": self.seeds, "seed_sd": np.nan, "verdict": words}
                for model, floor, gain, words in self._compared(metric)
            ]
        return rows

    def sentences(self) -> list[str]:
        """Say for every metric how every model stands against the best floor, and against PCA where it is another."""
        out = []
        for metric in self._scores:
            for model, _, gain, words in self._compared(metric):
                span = f"gain {gain.value:.3g}, 95% interval {gain.low:.3g} to {gain.high:.3g}, "
                span = span if gain.n > 1 else "no interval from one group, "
                out.append(f"{metric.name}: {model}: {words} ({span}{gain.n} {self.unit} x {self.seeds} seeds).")
        return out

    def _row(self, metric: Metric, model: str, role: table.Role, found: Interval) -> dict[str, object]:
        row = table.row(
            board=self.board, split=self.split, model=model, role=role, metric=metric.name, unit=metric.unit,
            values=metric.bounded(found, role),
        )  # fmt: skip
        return row | {"n_groups": found.n, "better": metric.better, "verdict": ""}

    def _compared(self, metric: Metric) -> Iterator[tuple[str, str, Interval, str]]:
        """Yield (model, floor, gain, verdict) of every model under test; a random network is a floor of pretrained."""
        for model in self._scores[metric]:
            role = self.roles[model]
            if role not in ("ours", RANDOM):
                continue
            floors = [f for f in self._scores[metric] if self._is_floor(f, role)]
            gains = {f: self._gain(metric, model, f) for f in floors}
            gains = {f: gain for f, gain in gains.items() if gain.n}
            if not gains:
                continue
            best = min(gains, key=lambda f: gains[f].value)
            pca = [f for f in gains if f.startswith(PCA) and f != best]
            for floor in (best, *pca):
                yield model, floor, gains[floor], f"{_head(gains[floor])} {floor}"

    def _is_floor(self, model: str, against: table.Role) -> bool:
        return self.roles[model] == "floor" or (self.roles[model] == RANDOM and against == "ours")

    def _gain(self, metric: Metric, model: str, floor: str) -> Interval:
        sign = 1 if metric.better == "higher" else -1
        scores = self._scores[metric]
        return measure.crossed_interval(sign * (scores[model] - scores[floor]))


def _head(gain: Interval) -> str:
    """Return what an interval of the gain allows to say; without an interval nothing is better."""
    if gain.low > 0:
        return "better than"
    return "worse than" if gain.high < 0 else "not better than"
