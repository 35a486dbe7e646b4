"""What is fitted and may enter the stack: rolled fields, and interpolants that have parameters.

Fields are rolled from the stage before the question (P1) or from the first stage (P2). One fit serves both, and every
question that leaves it the same stages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
import torch

from embryo import fit
from embryo.core.errors import DivergedError
from embryo.core.field import Field
from embryo.core.state import State
from embryo.evaluate.time import bodies, floors, inner, pairs
from embryo.evaluate.time.predictor import Predictor
from embryo.evaluate.time.series import Series

Pairing = Callable[[State, State], pairs.Pairs]
Fitter = Callable[[Series, int], Field]
_STEPS = 12  # of a roll-out, per interval
_POINTS = 2000  # of an interpolant
NEIGHBOURS = "flow matching with neighbours"
_NEIGHBOURLY = fit.Training(steps=500, batch=256, width=64)


@dataclass
class Fields:
    """Fields by what they were fitted on: a fit is made once."""

    made: dict[tuple[str, str, int], Field] = field(default_factory=dict)

    def get(self, name: str, fitter: Fitter, training: Series, seed: int) -> Field | None:
        """Fit, or return what was fitted; None where one stage is too few."""
        if len(training) < 2:
            return None
        key = (name, inner.digest(training), seed)
        if key not in self.made:
            self.made[key] = fitter(training, seed)
        return self.made[key]


@dataclass(frozen=True)
class Law(Predictor):
    """A predictor that claims one law for all times, which the training stages alone can refute.

    Parameters
    ----------
    misfit
        Called with (training series, seed): mean energy distance between its roll-outs and the stages it was fitted on,
        in units of their spread; None where there is no fit.
    """

    misfit: Callable[[Series, int], float | None] = lambda _series, _seed: None


def rolled(name: str, fitter: Fitter, fields: Fields) -> tuple[Predictor, Predictor]:
    """Return a fitted field as two predictors: from the stage before (P1) and from the first stage (P2).

    A law that runs away to infinity on its way makes no prediction; one that does so on an inner fold takes no part.
    """

    def roll(training: Series, t_h: float, seed: int, start: int | None) -> State | None:
        law = None if start is None else fields.get(name, fitter, training, seed)
        if start is None or law is None:
            return None
        try:
            return bodies.carried(law, training, start, t_h, _STEPS)
        except DivergedError:
            return None

    def near(training: Series, t_h: float, seed: int) -> State | None:
        return roll(training, t_h, seed, training.flanks(t_h)[0])

    def far(training: Series, t_h: float, seed: int) -> State | None:
        return roll(training, t_h, seed, 0 if training.flanks(t_h)[0] else None)

    return (
        Predictor(f"{name}, from the stage before", "ours", near, random=True),
        Predictor(f"{name}, from the first stage", "ours", far, random=True),
    )


def lawful(name: str, options: fit.Matching, fields: Fields) -> tuple[Law, Predictor]:
    """Return a law without time as two predictors, the first of which says how well it explains its own stages."""
    near, far = rolled(name, matched(options), fields)

    def misfit(training: Series, seed: int) -> float | None:
        law = fields.get(name, matched(options), training, seed)
        if law is None:
            return None
        ruler = inner.Ruler.of(training)
        missed = []
        for k, (t_h, truth) in enumerate(zip(training.times_h, training.states, strict=True)):
            for start in sorted({0, k - 1}) if k else ():
                seen = bodies.carried(law, training, start, t_h, _STEPS * (k - start))
                missed.append(float(ruler.gram([seen], truth, seed)[0, 0]))
        return float(np.mean(missed))

    return Law(near.name, near.role, near.predict, near.random, misfit), far


def matched(options: fit.Matching) -> Fitter:
    """Fit by matching stages, without couplings."""
    return lambda training, seed: fit.match(training.times_h, training.states, replace(options, seed=seed))


def regressed(options: fit.Training) -> Fitter:
    """Fit by flow matching on unbalanced couplings of consecutive stages."""
    return lambda training, seed: fit.regress(_coupled(training), replace(options, seed=seed))


def neighbourly(options: fit.Training) -> Fitter:
    """Fit a law that reads neighbours and turns with the body, on the same couplings."""
    return lambda training, seed: bodies.neighbourly(training, replace(options, seed=seed))


def _coupled(training: Series) -> fit.Pairs:
    """Return the pairs of all intervals."""
    first = np.cumsum([0, *(len(s) for s in training.states)])
    columns: list[tuple[np.ndarray, ...]] = []
    for k, (i, j, weight, descendants) in enumerate(bodies.plans(training)):
        hours = training.times_h[k + 1] - training.times_h[k]
        one = np.ones(len(i))
        growth = np.log(descendants) / hours
        columns.append((first[k] + i, first[k + 1] + j, weight, training.times_h[k] * one, hours * one, growth))
    source, target, *rest = (np.concatenate(c) for c in zip(*columns, strict=True))
    together = State(*(torch.cat(part) for part in zip(*(s.parts() for s in training.states), strict=True)))
    numbers = (torch.as_tensor(r, dtype=torch.float32) for r in rest)
    return fit.Pairs(together, torch.as_tensor(source), torch.as_tensor(target), *numbers)


def interpolant(name: str, pairing: Pairing, pace: float | None) -> Predictor:
    """Return points between coupled cells of the two stages around the question.

    Parameters
    ----------
    name
        What it is called.
    pairing
        Who is coupled with whom, and how much.
    pace
        Cells are on their way at their own pace: their share of the path is drawn from the Beta distribution with mean
        s whose two parameters sum to twice this; 1 spreads them evenly at s = 1/2, less lets most wait or arrive. None
        puts all at s.
    """

    def predict(training: Series, t_h: float, seed: int) -> State | None:
        k0, k1 = training.flanks(t_h)
        if k0 is None or k1 is None:
            return None
        a, b = training.states[k0], training.states[k1]
        i, j, weight = pairing(a, b)
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(i), _POINTS, p=weight / weight.sum())
        s = (t_h - training.times_h[k0]) / (training.times_h[k1] - training.times_h[k0])
        own = np.full(_POINTS, s) if pace is None else rng.beta(2 * pace * s, 2 * pace * (1 - s), _POINTS)
        along = torch.as_tensor(own[:, None], dtype=torch.float32)
        a, b = a[torch.as_tensor(i[chosen])], b[torch.as_tensor(j[chosen])]
        z, g, x = (p + along * (q - p) for p, q in zip(a.parts()[:3], b.parts()[:3], strict=True))
        each = float(np.log(floors.number(training, t_h) / _POINTS))
        return State(z, g, x, torch.full((_POINTS,), each))

    return Predictor(name, "ours", predict, random=True)


def _once(pairing: Pairing) -> Pairing:
    """Solve a plan once for all seeds."""
    return lru_cache(maxsize=32)(pairing)


def learned(fields: Fields | None = None, *, neighbours: bool = False) -> tuple[Predictor, ...]:
    """Return all candidates that are no floors, sharing their fits.

    Parameters
    ----------
    fields
        Fits made before.
    neighbours
        Whether a law that reads neighbours is one of them; it needs positions in two or three dimensions.
    """
    made = fields or Fields()
    social = rolled(NEIGHBOURS, neighbourly(_NEIGHBOURLY), made) if neighbours else ()
    return (
        *lawful("matching", fit.Matching(), made),
        *rolled("matching in time", matched(fit.Matching(time=True, action=0.05, length=0.1)), made),
        *rolled("flow matching", regressed(fit.Training(steps=1000, batch=256, width=64)), made),
        *social,
        interpolant("nearly free growth", _once(partial(pairs.unbalanced, tau=0.1)), None),
        interpolant("entropic midpoint", _once(partial(pairs.unbalanced, epsilon=0.1, tau=float("inf"))), None),
        interpolant("McCann at own pace", _once(pairs.balanced), 1.0),
        interpolant("unbalanced at own pace", _once(pairs.unbalanced), 1.0),
    )
