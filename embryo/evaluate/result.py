"""What an evaluation takes and gives: roll-outs, scores by held-out embryo, and a table with its sentences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from embryo.core import table
from embryo.core.table import Better
from embryo.core.trajectory import Trajectory

OURS = "embryo"


@dataclass(frozen=True)
class Rollout:
    """One held-out embryo rolled forward with one fitted field.

    Parameters
    ----------
    embryo
        Name of the embryo.
    seed
        Seed of the fit.
    rows
        Rows of the start cells in the data, one per particle.
    trajectory
        From the start on, in the body frame.
    """

    embryo: str
    seed: int
    rows: Int[np.ndarray, " cells"]
    trajectory: Trajectory


@dataclass(frozen=True)
class Result:
    """A tidy table and the sentences that it supports."""

    table: pd.DataFrame
    sentences: tuple[str, ...] = ()


@dataclass
class Scores:
    """Scores of every model on one board, held-out embryo by held-out embryo.

    The unit of replication is the embryo, not the cell and not the seed: intervals are over embryos, and the spread
    over seeds of our own model stands beside them.

    Parameters
    ----------
    board, unit, better
        What is judged, in which unit, and which way is better.
    metric
        Name of the score.
    least
        What it cannot fall below; intervals end there, those of differences do not.
    """

    board: str
    metric: str
    unit: str
    better: Better = "lower"
    least: float = -np.inf
    _scores: dict[tuple[str, table.Role], dict[str, dict[str, list[float]]]] = field(default_factory=dict)

    def add(self, model: str, role: table.Role, split: str, embryo: str, value: float) -> None:
        """Add one score; several of one embryo (seeds, repeats) are averaged before embryos are compared."""
        self._scores.setdefault((model, role), {}).setdefault(split, {}).setdefault(embryo, []).append(value)

    def per_embryo(self, model: str, split: str) -> dict[str, float]:
        """Return the mean score of each held-out embryo."""
        found = [v for (name, _), v in self._scores.items() if name == model]
        return {e: float(np.mean(v)) for scores in found for e, v in scores.get(split, {}).items()}

    def rows(self) -> list[dict[str, object]]:
        """Return one row per split and model: what belongs together stands together, in the order it was added."""
        splits = dict.fromkeys(split for scored in self._scores.values() for split in scored)
        return [
            self._row(model, role, split, scored[split])
            for split in splits
            for (model, role), scored in self._scores.items()
            if split in scored
        ]

    def _row(
        self, model: str, role: table.Role, split: str, embryos: Mapping[str, Sequence[float]]
    ) -> dict[str, object]:
        ours = role == "ours"
        kind = {"board": self.board, "split": split, "metric": self.metric, "unit": self.unit}
        means = [float(np.mean(v)) for v in embryos.values()]
        mean = table.interval(means).within(self.least)
        return table.row(**kind, model=model, role=role, values=mean) | {
            "n_seeds": max(map(len, embryos.values())) if ours else 1,
            "n_embryos": len(embryos),
            "seed_sd": _seed_spread(embryos) if ours else np.nan,
        }

    def sentences(self) -> list[str]:
        """Say for every split and model of ours how it stands against the best floor, paired by embryo."""
        several = len({name for name, role in self._scores if role == "ours"}) > 1
        out = []
        for split, name, floor, ours, best in self._compared():
            words = table.verdict(ours, best, floor_name=f"“{floor}”", better=self.better)
            whose = f", {name}" if several else ""
            out.append(f"{self.metric}, {split}{whose}: {words.replace('seeds', 'embryos')}.")
        return out

    def differences(self) -> list[dict[str, object]]:
        """Return one row per split and model of ours: its gain over the best floor, positive is better."""
        rows = []
        for split, name, floor, ours, best in self._compared():
            gain, words = table.gained(ours, best, floor_name=floor, better=self.better)
            kind = {"board": self.board, "split": split, "metric": self.metric, "unit": self.unit}
            more = {"n_embryos": len(ours), "seed_sd": np.nan, "better": self.better, "verdict": words}
            rows.append(table.row(**kind, model=f"{name} minus {floor}", role="difference", values=gain) | more)
        return rows

    def _compared(self) -> Iterator[tuple[str, str, str, list[float], list[float]]]:
        """Yield (split, model, best floor, scores of both by embryo) of every model of ours."""
        models = [name for name, role in self._scores if role == "ours"]
        for split in dict.fromkeys(split for name in models for split in self._scores[name, "ours"]):
            for name in models:
                ours = self.per_embryo(name, split)
                floor, best = self.best_floor(split, ours)
                if ours and floor is not None:
                    yield split, name, floor, [ours[e] for e in best], list(best.values())

    def best_floor(self, split: str, ours: Mapping[str, float]) -> tuple[str | None, dict[str, float]]:
        """Return the floor that is best on average over the embryos that both have, with its scores; None without."""
        best: tuple[str | None, dict[str, float]] = None, {}
        sign = 1 if self.better == "lower" else -1
        for name in [name for name, role in self._scores if role == "floor"]:
            values = {e: v for e, v in self.per_embryo(name, split).items() if e in ours}
            if values and (
                best[0] is None or sign * np.mean(list(values.values())) < sign * np.mean(list(best[1].values()))
            ):
                best = name, values
        return best


def _seed_spread(embryos: Mapping[str, Sequence[float]]) -> float:
    """Return the standard deviation over seeds of the mean over embryos; NaN with one seed."""
    lengths = {len(v) for v in embryos.values()}
    if len(lengths) != 1 or lengths == {1}:
        return float("nan")
    means: Float[np.ndarray, " seeds"] = np.mean([list(v) for v in embryos.values()], axis=0)
    return float(np.std(means, ddof=1))
