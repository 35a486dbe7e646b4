"""What costs nothing to say of an edit, and what no prediction can be expected to beat."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from sklearn.linear_model import Ridge

from embryo.core.edit import Edit, Operation
from embryo.evaluate.perturbation.population import EndPopulation, Prediction, pooled
from embryo.evaluate.perturbation.predictor import Predictor, Trial
from embryo.evaluate.perturbation.views import bray_curtis

NO_CHANGE = "no change"
_NEAREST = 3  # genes from which a matched one is drawn
_RIDGE = 1.0

Predict = Callable[[Edit, int], Prediction | EndPopulation | None]


def floors(trial: Trial) -> tuple[Predictor, ...]:
    """Return the floors of a trial; those that need other measured perturbations predict nothing where there are none.

    ======================================= =======================================================================
    no change                               the measured wild type
    train mean                              the mean training cell (wild type and training perturbations)
    mean of the other perturbations         all measured perturbations of other genes, pooled
    linear shift                            wild type, every cell moved along its regression on the edited gene
    effects by ridge on wild-type profiles  effects of other genes, by the gene's correlations in the wild type
    developmental delay                     the stage of the wild type that is nearest to other perturbations
    matched random gene                     the measured perturbation of a gene of like level
    ======================================= =======================================================================
    """
    made: tuple[tuple[str, Predict, bool], ...] = (
        (NO_CHANGE, lambda _edit, _seed: trial.wild, False),
        ("train mean", lambda _edit, _seed: _mean_cell(trial), False),
        ("mean of the other perturbations", lambda edit, _: _others(trial, edit), False),
        ("linear shift", lambda edit, _: linear_shift(trial, edit), False),
        ("effects by ridge on wild-type profiles", lambda edit, _: _ridge(trial, edit), False),
        ("developmental delay", lambda edit, _: _delayed(trial, edit), False),
        ("matched random gene", lambda edit, seed: _matched(trial, edit, seed), True),
    )
    return tuple(Predictor(name, "floor", predict, random) for name, predict, random in made)


def halves(trial: Trial) -> Predictor:
    """Return the ceiling: one half of the embryos that carry the edit, scored against the other half."""

    def predict(edit: Edit, seed: int) -> Prediction | None:
        truth = trial.truth[edit.label]
        names = np.random.default_rng(seed).permutation(np.array(truth.embryos, dtype=object))
        half = [str(name) for name in names[: len(names) // 2]]
        return Prediction(truth.only(half), seen=tuple(half)) if half else None

    return Predictor("half of the truth against the other", "ceiling", predict, random=True)


def same_law(truth: Mapping[str, EndPopulation]) -> Predictor:
    """Return the ceiling where the true law is known: other embryos of it, one for each seed."""

    def predict(edit: Edit, seed: int) -> EndPopulation | None:
        if edit.label not in truth:
            return None
        names = truth[edit.label].embryos
        return truth[edit.label].only([names[seed % len(names)]])

    return Predictor("true law, other embryos", "ceiling", predict, random=True)


def _mean_cell(trial: Trial) -> EndPopulation:
    """Return training cells with their own fates and places, all in the mean state."""
    every = pooled([trial.wild, *trial.training.values()])
    w = every.balanced
    parts = {name: np.tile(w @ getattr(every, name), (len(w), 1)) for name in ("z", "g")}
    parts["g"] = np.tile(np.log1p(w @ np.expm1(every.g)), (len(w), 1))
    return replace(every, **parts)


def _others(trial: Trial, edit: Edit) -> EndPopulation | None:
    others = trial.others(edit.label)
    return pooled(list(others.values())) if others else None


def linear_shift(trial: Trial, edit: Edit) -> EndPopulation:
    """Return the wild type with every cell moved along its regression on the edited gene, by what the edit takes off.

    Over the cells of the wild type, genes (levels) and z are regressed on the gene alone; the fate of a moved cell is
    that of the nearest wild-type cell in z. Association only.
    """
    wild = trial.wild
    if edit.gene not in trial.panel:
        return wild
    a = trial.panel.index(edit.gene)
    w, level = wild.balanced, np.expm1(np.clip(wild.g, 0, None))
    taken = {
        Operation.KNOCKOUT: -level[:, a],
        Operation.KNOCKDOWN: -(1 - edit.dose) * level[:, a],
        Operation.OVEREXPRESS: np.full(len(w), np.expm1(edit.dose)),
        Operation.CLAMP: np.expm1(edit.dose) - level[:, a],
    }[edit.operation]
    off = level[:, a] - w @ level[:, a]
    variance = float(w @ off**2)
    if variance < 1e-12:
        return wild
    slopes = [(w * off) @ (values - w @ values) / variance for values in (level, wild.z)]
    g = np.log1p(np.clip(level + taken[:, None] * slopes[0], 0, None))
    z = wild.z + taken[:, None] * slopes[1]
    return replace(wild, g=g, z=z, fate=nearest_fates(wild, z))


def nearest_fates(wild: EndPopulation, z: np.ndarray) -> np.ndarray:
    """Return the fate of the nearest wild-type cell in z."""
    from scipy.spatial import cKDTree  # noqa: PLC0415

    return np.asarray(wild.fate[cKDTree(wild.z).query(z)[1]])


def _ridge(trial: Trial, edit: Edit) -> EndPopulation | None:
    """Predict shares, mean levels and mean z from other edits by ridge on the gene's wild-type correlations."""
    others = {k: p for k, p in trial.others(edit.label).items() if k in trial.edits}
    if len(others) < 2 or edit.gene not in trial.panel:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        profiles = np.nan_to_num(np.corrcoef(trial.wild.g.T))
    genes = [trial.edits[k].gene for k in others]
    if any(gene not in trial.panel for gene in genes):
        return None
    x = np.stack([profiles[trial.panel.index(gene)] for gene in genes])
    base = _summary(trial, trial.wild)
    y = np.stack([_summary(trial, p) - base for p in others.values()])
    delta = Ridge(alpha=_RIDGE).fit(x, y).predict(profiles[[trial.panel.index(edit.gene)]])[0]
    return _shifted(trial, base, delta)


def _summary(trial: Trial, population: EndPopulation) -> np.ndarray:
    w = population.balanced
    shares = [w[population.fate.astype(str) == f].sum() for f in trial.fates]
    number = np.log(population.mass.sum() / len(population.embryos))
    return np.concatenate([shares, w @ np.log(np.expm1(population.g) + 1e-2), w @ population.z, [number]])


def _shifted(trial: Trial, base: np.ndarray, delta: np.ndarray) -> EndPopulation:
    wild, fates, genes = trial.wild, len(trial.fates), len(trial.panel)
    shares = np.clip(base[:fates] + delta[:fates], 0, None)
    ratio = shares / shares.sum() / np.maximum(base[:fates], 1e-9) * np.exp(delta[-1])
    code = np.array([trial.fates.index(f) for f in wild.fate.astype(str)])
    level = np.expm1(np.clip(wild.g, 0, None)) * np.exp(delta[fates : fates + genes])
    return replace(wild, mass=wild.mass * ratio[code], g=np.log1p(level), z=wild.z + delta[fates + genes : -1])


def _delayed(trial: Trial, edit: Edit) -> EndPopulation | None:
    """Return the stage of the wild type nearest to the training perturbations, to the other ones where none is given.

    The edit's own truth has no say in the choice.
    """
    known = {k: p for k, p in trial.training.items() if k != edit.label} or trial.others(edit.label)
    if not known or not trial.earlier:
        return None
    stages = {**trial.earlier, np.inf: trial.wild}

    def shares(population: EndPopulation) -> np.ndarray:
        w = population.balanced
        return np.array([w[population.fate.astype(str) == f].sum() for f in trial.fates])

    wanted = [shares(p) for p in known.values()]
    off = {t: np.mean([bray_curtis(shares(p), w) for w in wanted]) for t, p in stages.items()}
    return stages[min(off, key=lambda t: off[t])]


def _matched(trial: Trial, edit: Edit, seed: int) -> EndPopulation | None:
    """Return the measured perturbation of one of the genes whose wild-type level is nearest to the edited one's."""
    others = {k: p for k, p in trial.others(edit.label).items() if k in trial.edits}
    others = {k: p for k, p in others.items() if trial.edits[k].gene in trial.panel}
    if not others or edit.gene not in trial.panel:
        return None
    level = trial.wild.balanced @ trial.wild.g
    own = level[trial.panel.index(edit.gene)]
    near = sorted(others, key=lambda k: abs(level[trial.panel.index(trial.edits[k].gene)] - own))[:_NEAREST]
    return others[str(np.random.default_rng(seed).choice(near))]
