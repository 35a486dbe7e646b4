"""Predictors of ours that boards of knock-outs may name; a new one is registered by name with what builds it.

``network`` is the unstructured law of a run with the edit clamped on production; ``circuit`` a law whose genes obey a
gene circuit, fitted to wild-type snapshots without couplings (`embryo.fit.regulated`). What the circuit is told beside
the cells: which gene is secreted, which drives the cell cycle and, where genes may move cells, which make them stick
and crawl. Where a board gives no inputs it finds them as functions of the place in the body.
``circuit+residual`` adds to the production of that law penalised functions of place and time, which read no gene.
``conditional`` is a flow that learns from measured knock-outs and reads a vector of the lost gene, held out or not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor

from embryo import couple, fit, perturb, simulate
from embryo.config import Fit
from embryo.core import field as laws
from embryo.core import schema
from embryo.core.edit import Edit, Operation
from embryo.core.errors import ConfigError, Problem
from embryo.core.field import Field
from embryo.core.frame import BODY, Frame
from embryo.core.state import State
from embryo.datasets import synthetic
from embryo.evaluate.perturbation import EndPopulation, Prediction, Predictor
from embryo.fields.circuit import Held
from embryo.fields.conditional import Conditional
from embryo.fields.regulated import Regulated
from embryo.pipeline.knockoutboards import Known

Builder = Callable[[Known], Predictor | None]
_BUILDERS: dict[str, Builder] = {}
_CELLS = 500  # at the largest stage, in couplings; fewer at others, in proportion
_STEPS = 800
_COLUMNS = 3  # that say which gene was lost
_STEP_H = 0.25
_CELLS_OF_CIRCUIT = 1500  # of a stage
_STICKY, _MOTILE, _CYCLING = ("cad_a", "cad_b", "cad_c"), ("motility",), ("growth",)
_MOST = 1200  # particles of a roll-out


def register(name: str, builder: Builder) -> None:
    """Make a predictor known to boards under `name`; an earlier one of that name is replaced.

    Parameters
    ----------
    name
        As ``models`` of a board names it.
    builder
        Called once per board with what may be known; None where it cannot predict on that board. Fits are made within
        ``predict`` when a seed is first asked for, and kept by it.
    """
    _BUILDERS[name] = builder


def names() -> tuple[str, ...]:
    """Return the names that boards may use."""
    return tuple(_BUILDERS)


def build(models: Sequence[str], known: Known) -> list[Predictor]:
    """Return the predictors of a board.

    Raises
    ------
    ConfigError
        If a name is unknown.
    """
    problems = [
        Problem(f"model {m!r}", f"one of {', '.join(_BUILDERS)}", "correct it") for m in models if m not in _BUILDERS
    ]
    if problems:
        raise ConfigError(*problems, subject=f"board {known.board}")
    return [found for m in models if (found := _BUILDERS[m](known)) is not None]


def network(known: Known) -> Predictor | None:
    """Return the unstructured law of `embryo run` (transport, flow network) with the edit clamped on production."""
    return _of_law(known, "unstructured network", "C", _fitted, schema.EMBED)


def circuit(known: Known) -> Predictor | None:
    """Return a law whose genes obey a gene circuit; fates are read off the panel.

    Levels from counts are shrunk first: those that it is fitted to, that it starts from, and that fates are read off.
    """
    return _of_law(_shrunk(known), "gene circuit", "B", _regulated, schema.PANEL)


def _shrunk(known: Known) -> Known:
    """Return a board whose levels are shrunk where they come from counts; how is chosen on wild type."""
    if schema.PER_LEVEL not in known.train.obs:
        return known
    how = fit.Shrinkage.of(known.wild, [""] * known.wild.n_obs, seed=known.seed)
    train = known.train.copy()
    train.obsm[schema.MEASURED] = train.obsm[schema.PANEL]
    train.obsm[schema.PANEL] = how.panel(train, train.obs[schema.PERTURBATION].astype(str).tolist())
    return replace(known, train=train)


def with_residual(known: Known) -> Predictor | None:
    """Return the law of `circuit` with penalised functions of place and time in its production."""

    def fitted(own: Known, seed: int) -> Field:
        return _regulated(own, seed, residual=Fit().residual)

    return _of_law(_shrunk(known), "gene circuit + residual", "B", fitted, schema.PANEL)


def conditional(known: Known) -> Predictor | None:
    """Return a flow that reads what was done: an indicator of a knock-out and what wild type says of its gene.

    Fitted to couplings of wild type and of each training knock-out; edits of other genes are held out as a whole, and
    none is held in the roll-out: only the vector says what was lost. Knock-outs grow as their coupled numbers do, which
    are drawn like those of wild type. No prediction without training knock-outs, or of another operation.
    """
    if known.end_h <= known.start_h:
        return None
    carried = known.train.obs[schema.PERTURBATION].astype(str).to_numpy()
    lost = {label: label.removeprefix("knockout ") for label in dict.fromkeys(carried) if label}
    lost = {label: gene for label, gene in lost.items() if gene in known.panel}
    vectors = fit.gene_vectors(np.asarray(known.wild.obsm[schema.PANEL], dtype=float), _COLUMNS)
    none = torch.zeros(1 + vectors.shape[1])
    found: dict[int, tuple[Conditional, EndPopulation]] = {}

    def vector(gene: str) -> Tensor:
        return torch.as_tensor([1.0, *vectors[known.panel.index(gene)]], dtype=torch.float32)

    def fitted(seed: int) -> Conditional:
        data = [_pairs(known, seed), *(_pairs(known, seed, known.train[carried == label]) for label in lost)]
        conditions = [none, *map(vector, lost.values())]
        return fit.conditional(data, conditions, fit.Training(steps=_STEPS, seed=seed))

    def predict(edit: Edit, seed: int) -> Prediction | None:
        if not lost or edit.gene not in known.panel or edit.operation is not Operation.KNOCKOUT:
            return None
        if seed not in found:
            law = fitted(seed)
            found[seed] = law, roll(known, law, (), seed)
        law, control = found[seed]
        return Prediction(roll(known, law.given(vector(edit.gene)), (), seed), control=control)

    return Predictor("conditional flow", "ours", predict, random=True, tier="A")


def _of_law(known: Known, name: str, tier: str, fitted: Callable[[Known, int], Field], read: str) -> Predictor | None:
    """Return the roll-outs of a law that is fitted once per seed, when first asked for."""
    if known.end_h <= known.start_h:
        return None
    found: dict[int, Field] = {}
    controls: dict[int, EndPopulation] = {}

    def predict(edit: Edit, seed: int) -> Prediction | None:
        if edit.gene not in known.panel:
            return None
        if seed not in found:
            found[seed] = fitted(known, seed)
            controls[seed] = roll(known, found[seed], (), seed, read=read)
        return Prediction(roll(known, found[seed], (edit,), seed, read=read), control=controls[seed])

    return Predictor(name, "ours", predict, random=True, tier=tier, doubts=lambda: doubts(name, found))


def doubts(name: str, found: Mapping[int, Field]) -> list[str]:
    """Return which genes of the laws of how many seeds wild type refutes."""
    wrong = [gene for law in found.values() for gene in laws.refuted(law) or ()]
    if not wrong:
        return []
    listed = ", ".join(f"{gene} ({wrong.count(gene)} of {len(found)} seeds)" for gene in dict.fromkeys(wrong))
    return [f"{name}: FLAGGED: wild type refutes the fitted law of {listed}; what passes through them is not claimed."]


def _fitted(known: Known, seed: int) -> Field:
    law: Field = fit.regress(_pairs(known, seed), fit.Training(steps=_STEPS, seed=seed))
    return law


def _regulated(known: Known, seed: int, residual: float | None = None) -> Field:
    ligands = tuple(g for g in (synthetic.LIGAND,) if g in known.panel)
    how, forces = fit.Settings(cells=_CELLS_OF_CIRCUIT), fit.Forces(_STICKY, _MOTILE) if known.forces else None
    wiring = fit.Wiring(
        ligands, held=_held(known), residual=residual, settings=how, forces=forces,
        cycling=_CYCLING, prior=_prior(known), hard=known.hard_prior,
    )  # fmt: skip
    training = fit.Training(steps=_STEPS, width=64, seed=seed)
    carried = known.train.obs[schema.PERTURBATION].astype(str).to_numpy()
    trained = {label: known.train[carried == label] for label in dict.fromkeys(carried) if label}
    law: Field = fit.regulated(known.wild, _pairs(known, seed), training, wiring, known.response, trained=trained)
    return law


def _prior(known: Known) -> tuple[tuple[str, str], ...]:
    """Return the edges of a prior, under the names that the circuit gives its sources."""
    if known.prior is None:
        return ()
    names = {name: f"input {k + 1}" for k, name in enumerate(synthetic.INPUTS)} | {"signal": synthetic.LIGAND}
    return tuple((names.get(s, s), t) for s, t in zip(known.prior["source"], known.prior["target"], strict=True))


def _held(known: Known) -> Held | None:
    """Return the measured inputs as each cell holds and loses them; None where they are unknown."""
    if known.inputs_at is None:
        return None
    there, hour = np.zeros((1, 3)), 1.0
    early, late = (known.inputs_at(there, known.start_h + h)[0] for h in (0.0, hour))
    names = [f"input {k + 1}" for k in range(len(early))]
    return Held(names, (-hour / np.log(late / early)).tolist(), known.start_h)


def _begun(known: Known, law: Field, start: State) -> Field:
    """Bind a law to its start; one that holds inputs gets those of a wild type of mean dose."""
    if known.inputs_at is None or not isinstance(law, Regulated):
        return laws.begun(law, start, known.start_h)
    return law.begun(start, known.start_h, torch.as_tensor(known.inputs_at(start.x.numpy(), known.start_h)).to(start.x))


def _pairs(known: Known, seed: int, cells: AnnData | None = None) -> fit.Pairs:
    """Couple the stages of wild type, or of other cells drawn in the same numbers."""
    wild, rng = known.wild if cells is None else cells, np.random.default_rng(seed)
    t = wild.obs[schema.TIME].to_numpy(float)
    share = _CELLS / max(known.numbers.values())
    rows = [(np.flatnonzero(t == u), max(20, round(share * known.numbers[float(u)]))) for u in np.unique(t)]
    some = np.sort(np.concatenate([rng.choice(r, min(len(r), n), replace=False) for r, n in rows]))
    pooled = wild[some].copy()
    pooled.obs[schema.EMBRYO] = "wild"  # stages are coupled as one: an embryo is drawn from anew at every stage
    how = couple.Transport(max_cells=_CELLS + 1, counts_grow=True)
    return fit.pairs(pooled, couple.series(pooled, method="transport", transport=how, seed=seed))


def roll(
    known: Known, law: Field, edits: Sequence[Edit], seed: int, *, decay_per_h: float = 1.0, read: str = schema.EMBED
) -> EndPopulation:
    """Roll wild-type cells of the start to the end with edits held on the law.

    Parameters
    ----------
    known
        The board.
    law
        Fitted law of motion.
    edits
        None for the control.
    seed
        Draws the cells and the mosaic.
    decay_per_h
        Of panel products, where the law does not know its own production.
    read
        What fates are read off: ``X_embed`` or ``X_panel``.
    """
    cells, start = known.start(seed, _MOST)
    types = tuple(["" for _ in range(len(start))])
    context = perturb.Context(known.panel, known.response, decay_per_h, types, seed)
    bound = _begun(known, law, start)
    field, begin = perturb.apply(bound, start, edits, context, t0_h=known.start_h)
    span = [known.start_h, known.end_h]
    if isinstance(law, Regulated) and law.forces is not None:  # cells push by their number: few large ones do not
        rolled = simulate.particles(field, begin, span, seed=seed, step_h=_STEP_H, panel=known.panel, frame=Frame(BODY))
    else:
        rolled = simulate.forward(field, begin, span, step_h=_STEP_H, panel=known.panel, frame=Frame(BODY))
    end = rolled.at(-1)
    seen = (end.z if read == schema.EMBED else end.g).numpy().astype(float)
    return EndPopulation.of_state(end, known.fates_of(read, seen), str(cells.obs[schema.EMBRYO].iloc[0]))


register("network", network)
register("circuit", circuit)
register("circuit+residual", with_residual)
register("conditional", conditional)
