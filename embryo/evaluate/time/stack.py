r"""Several predictors as one: a mixture of their clouds, with shares that the training series alone decides.

The energy distance of a mixture with shares w is w'Kw (`embryo.evaluate.time.inner`), a convex quadratic form on the
simplex, so what is best on the inner folds is found exactly, and a mixture is never further from the truth than its
parts are on average. What two or three folds say about *how* the errors of candidates agree is mostly chance; the part
of K off its diagonal is therefore shrunk towards 0,

.. math:: K_\rho = (1 - \rho) K + \rho\, \mathrm{diag}(K) + \nu I,

as in the shrinkage of portfolios (Ledoit & Wolf 2004) and of combined forecasts (Diebold & Pauly 1990). At rho = 1 each
share is proportional to one over the candidate's energy distance; nu, the noise of the truth, makes those equal that
cannot be told apart. rho is one half: with so few folds it cannot be chosen. Only floors, or only one candidate, take
part where that predicts every inner fold better. Folds weigh as one over their gap squared: those with the narrowest
gap are most like the question. Between two stages copies of one of them stand aside (their union takes part): which of
the two is nearer is a matter of luck that no other stage tells. Copies of one and the same stage take part once: after
the last stage "nearest" is "copy previous".

**Laws.** Inner folds have wider gaps than the question, so wide that a law cannot be told from them which the whole
series determines. One law for all times makes a claim that no interpolant makes and that the training stages can
refute: that a single field carries every stage into all the later ones. Where it does so to within `EXPLAINED` of the
spread, over two intervals or more, it takes the share `TRUST` between stages, and the stack the rest. This is the one
share that nothing held out decides: the misfit is measured on the stages that the law was fitted to, and both constants
were fixed with held-out stages of simulations and of the embryoid body in view. On those boards it is no blind test.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import nnls

from embryo.core.state import State
from embryo.evaluate.time import inner
from embryo.evaluate.time.candidates import Law
from embryo.evaluate.time.floors import COPIES
from embryo.evaluate.time.predictor import Predictor
from embryo.evaluate.time.series import Series

NAME = "embryo"
EXPLAINED, TRUST = 0.01, 0.9
SHRINKAGE = 0.5
UNDECIDED = ("McCann midpoint", "nearest")  # what is taken where nothing can be held out, the first that applies
_LEAST = 0.02  # smaller shares are left out
_MOST = 3000  # particles of a mixture


@dataclass(frozen=True)
class Choice:
    """What the inner folds decided.

    Parameters
    ----------
    shares
        Of the candidates that take part, largest first; they sum to 1.
    energies
        Mean energy distance on the inner folds of every candidate that applied, in units of training spreads.
    folds_h
        Times of the folds; empty where no stage could imitate the question.
    learned
        Share of candidates that are no floors.
    how
        Which kind of mixture predicted one fold best from the others.
    misfit
        Of the law that explains all training stages and was trusted for that; None without.
    """

    shares: dict[str, float]
    energies: dict[str, float]
    folds_h: tuple[float, ...]
    learned: float
    how: str
    misfit: float | None = None

    @property
    def sentence(self) -> str:
        """Say what was chosen and on what grounds."""
        parts = ", ".join(f"{share:.0%} {name}" for name, share in self.shares.items())
        grounds = self.how
        if self.energies:
            best = min(self.energies, key=lambda name: self.energies[name])
            held = ", ".join(f"{t:g}" for t in self.folds_h)
            grounds += (
                f", held out inside: {held} h; best single there {best} ({self.energies[best]:.3g} of the spread)"
            )
        if self.misfit is not None:
            off = f"misfit {self.misfit:.2g} of the spread, on the stages it was fitted to"
            grounds += f"; one law explains all training stages ({off})"
        return f"{parts} ({grounds})" + ("" if self.learned > 0 else "; nothing learned helped: this is a floor")


@dataclass
class Stack:
    """Mixes candidates; remembers what it chose for which series and time.

    Parameters
    ----------
    candidates
        Floors and models.
    seeds
        Seeds of random candidates on the inner folds, the same for every outer seed.
    """

    candidates: Sequence[Predictor]
    seeds: tuple[int, ...] = (0,)
    _chosen: dict[tuple[str, float], Choice] = field(default_factory=dict, repr=False)

    def choose(self, training: Series, t_h: float) -> Choice | None:
        """Return the shares for a question; None if no candidate applies."""
        key = (inner.digest(training), t_h)
        if key not in self._chosen:
            found = self._decide(training, t_h)
            if found is None:
                return None
            self._chosen[key] = self._trusting(found, training, t_h)
        return self._chosen[key]

    def _decide(self, training: Series, t_h: float) -> Choice | None:
        folds = inner.folds(training, t_h)
        judged = [inner.misses(fold, self.candidates, self.seeds) for fold in folds]
        everywhere = np.prod([applies for applies, _ in judged], axis=0) if judged else np.zeros(len(self.candidates))
        between = None not in training.flanks(t_h)
        again = self._again(training, t_h)
        aside = [(between and c.name in COPIES) or c.name in again for c in self.candidates]
        kept = np.flatnonzero(everywhere * np.logical_not(aside))
        if not len(kept):
            return self._undecided(training, t_h)
        own = [np.isin(np.flatnonzero(applies), kept) for applies, _ in judged]
        grams = np.stack([m.gram[np.ix_(k, k)] for k, (_, m) in zip(own, judged, strict=True)])
        evidence = Evidence(grams, *(np.array(v) for v in zip(*((m.noise, f.gap_h) for f, (_, m) in
                            zip(folds, judged, strict=True)), strict=True)))  # fmt: skip
        names = [self.candidates[int(k)].name for k in kept]
        floor = np.array([self.candidates[int(k)].role == "floor" for k in kept])
        how, w = mixed(evidence, floor)
        return Choice(
            shares={names[k]: float(w[k]) for k in np.argsort(-w) if w[k] > 0},
            energies=dict(zip(names, evidence.mean().diagonal().tolist(), strict=True)),
            folds_h=tuple(fold.t_h for fold in folds),
            learned=float(w[~floor].sum()),
            how=how,
        )

    def _again(self, training: Series, t_h: float) -> set[str]:
        """Return the copies that are the very stage which another one before them copies."""
        seen: list[State] = []
        again = set()
        for copy in (c for c in self.candidates if c.name in COPIES):
            stage = copy.predict(training, t_h, self.seeds[0])
            if any(stage is other for other in seen):
                again.add(copy.name)
            elif stage is not None:
                seen.append(stage)
        return again

    def _undecided(self, training: Series, t_h: float) -> Choice | None:
        """Take the floor that was named beforehand: a model that has shown nothing takes no part."""
        able = [c for c in self.candidates if c.predict(training, t_h, self.seeds[0]) is not None]
        if not able:
            return None
        order = {name: k for k, name in enumerate(UNDECIDED)}
        chosen = min(able, key=lambda c: (c.role != "floor", order.get(c.name, len(order))))
        how = "the floor named beforehand, since no stage of the training series can be held out to decide"
        return Choice({chosen.name: 1.0}, {}, (), float(chosen.role != "floor"), how)

    def _trusting(self, choice: Choice, training: Series, t_h: float) -> Choice:
        if len(training) < 3 or training.index(t_h) is not None or None in training.flanks(t_h):
            return choice
        for law in (c for c in self.candidates if isinstance(c, Law)):
            misfit = law.misfit(training, self.seeds[0])
            if misfit is not None and misfit <= EXPLAINED:
                rest = {name: (1 - TRUST) * share for name, share in choice.shares.items()}
                taken = {law.name: TRUST + rest.pop(law.name, 0.0)} | rest
                return replace(choice, shares=taken, learned=TRUST + (1 - TRUST) * choice.learned, misfit=misfit)
        return choice

    def predict(self, training: Series, t_h: float, seed: int) -> State | None:
        """Return the mixture; None if no candidate applies."""
        choice = self.choose(training, t_h)
        if choice is None:
            return None
        by_name = {c.name: c for c in self.candidates}
        parts = [(s, by_name[n].predict(training, t_h, seed)) for n, s in choice.shares.items()]
        return mixture([(share, p) for share, p in parts if p is not None], seed)


def stacked(candidates: Sequence[Predictor]) -> tuple[Predictor, Stack]:
    """Return the mixture of `candidates` as a predictor named "embryo", and the stack that says what it chose."""
    stack = Stack(candidates)
    return Predictor(NAME, "ours", stack.predict, random=True), stack


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the inner folds say of candidates: K, the noise and the gap of each fold."""

    grams: Float[np.ndarray, "folds candidates candidates"]
    noise: Float[np.ndarray, " folds"]
    gap_h: Float[np.ndarray, " folds"]

    def mean(self, without: int | None = None) -> Float[np.ndarray, "candidates candidates"]:
        """Return K averaged over folds, the narrow ones weighing more."""
        weight = self._weight(without)
        return np.asarray(np.tensordot(weight, self.grams, axes=1))

    def mean_noise(self, without: int | None = None) -> float:
        """Return the noise averaged in the same way."""
        return float(self._weight(without) @ self.noise)

    def _weight(self, without: int | None) -> Float[np.ndarray, " folds"]:
        weight = 1 / self.gap_h**2
        if without is not None:
            weight = np.where(np.arange(len(weight)) == without, 0, weight)
        return np.asarray(weight / weight.sum())


def mixed(evidence: Evidence, floor: np.ndarray) -> tuple[str, Float[np.ndarray, " candidates"]]:
    """Return how candidates are mixed, and their shares from all folds.

    All of them, unless the floors alone, or the single candidate that is best on the other folds, predict every fold
    better: two or three folds are few, and what wins only their mean wins by chance. With one fold there is nothing to
    compare.
    """
    everyone = np.arange(len(floor))
    ways: list[tuple[str, Int[np.ndarray, " kept"], float | None]] = [("a mixture", everyone, SHRINKAGE)]
    if floor.any():
        ways.append(("a mixture of floors", np.flatnonzero(floor), SHRINKAGE))
    ways.append(("the best single candidate", everyone, None))
    folds = range(len(evidence.grams))
    chosen = 0
    if len(folds) > 1:
        missed = np.array([[_missed(evidence, k, kept, rho) for k in folds] for _, kept, rho in ways])
        always = (missed < missed[0]).all(axis=1)
        weight = 1 / evidence.gap_h**2 / np.median(np.abs(np.diagonal(evidence.grams, axis1=1, axis2=2)), axis=1)
        chosen = int(np.where(always, missed @ weight, np.inf).argmin()) if always.any() else 0
    how, kept, rho = ways[chosen]
    return how, shares(evidence.mean(), evidence.mean_noise(), kept, rho)


def _missed(evidence: Evidence, fold: int, kept: Int[np.ndarray, " kept"], shrinkage: float | None) -> float:
    """Return the energy distance on a fold with the shares that the other folds give."""
    w = shares(evidence.mean(fold), evidence.mean_noise(fold), kept, shrinkage)
    return float(w @ evidence.grams[fold] @ w)


def shares(
    gram: Float[np.ndarray, "candidates candidates"],
    noise: float,
    kept: Int[np.ndarray, " kept"],
    shrinkage: float | None,
) -> Float[np.ndarray, " candidates"]:
    """Return the shares that minimise w'K_rho w on the simplex; small ones are left out.

    Parameters
    ----------
    gram
        K.
    noise
        nu.
    kept
        Who may take part.
    shrinkage
        rho; None for the best single one.
    """
    w, own = np.zeros(len(gram)), gram.diagonal()
    if shrinkage is None:
        w[kept[own[kept].argmin()]] = 1.0
        return w
    few = gram[np.ix_(kept, kept)]
    shrunk = (1 - shrinkage) * few + shrinkage * np.diag(own[kept].clip(min=0))
    values, vectors = np.linalg.eigh((shrunk + shrunk.T) / 2)
    found = simplex(np.sqrt(values.clip(min=0) + max(noise, 1e-12))[:, None] * vectors.T)
    w[kept] = np.where(found < min(_LEAST, found.max()), 0, found)
    return np.asarray(w / w.sum())


def simplex(root: Float[np.ndarray, "rows candidates"]) -> Float[np.ndarray, " candidates"]:
    """Return the w on the simplex that minimises ``|root w|^2``: the point of a convex hull nearest to 0.

    Exact, by non-negative least squares: of ``|root v|^2 + (sum v - 1)^2``, v is w up to scale (homogeneity).
    """
    scale = np.sqrt(np.mean(root**2))
    v, _ = nnls(np.vstack([root / scale, np.ones(root.shape[1])]), np.append(np.zeros(len(root)), 1.0))
    return np.asarray(v / v.sum())


def mixture(parts: Sequence[tuple[float, State]], seed: int) -> State:
    """Return one cloud of several: each counts as its share, and the number of cells is the mean of theirs by share.

    A cloud too large is thinned by drawing particles of every part in proportion to its share.
    """
    total = sum(share for share, _ in parts)
    number = sum(share / total * float(p.mass.double().sum()) for share, p in parts)
    crowded = sum(len(p) for _, p in parts) > _MOST
    draws = torch.Generator().manual_seed(seed)
    rows = []
    for share, p in parts:
        room = max(round(_MOST * share / total), 1)
        few = p[torch.randperm(len(p), generator=draws)[:room]] if crowded and len(p) > room else p
        more = float(np.log(share / total * number)) - few.log_mass.logsumexp(0)
        rows.append(State(few.z, few.g, few.x, few.log_mass + more))
    return State(*(torch.cat(part) for part in zip(*(r.parts() for r in rows), strict=True)))
