"""What is judged: predictors by name and role, and the measured embryos that they are held against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from embryo.core import table
from embryo.core.edit import Edit
from embryo.core.errors import EmbryoError, Problem
from embryo.evaluate.perturbation.population import EndPopulation, Prediction


@dataclass(frozen=True)
class Predictor:
    """Predicts the end of an embryo that carries an edit.

    Parameters
    ----------
    name
        What its rows are called.
    role
        ours, floor or ceiling.
    predict
        Called with (edit, seed); a population alone is a prediction without control and doubt; None where it has none.
    random
        Whether seeds differ; else one seed is enough.
    tier
        A: conditional on measured perturbations; B: structured, from wild type; C: association only, which may rank but
        claims no size. Empty for floors and ceilings.
    doubts
        Asked after all predictions: sentences on why they are not to be believed.
    """

    name: str
    role: table.Role
    predict: Callable[[Edit, int], Prediction | EndPopulation | None]
    random: bool = False
    tier: str = ""
    doubts: Callable[[], Sequence[str]] = tuple

    def __call__(self, edit: Edit, seed: int) -> Prediction | None:
        """Return the prediction."""
        found = self.predict(edit, seed)
        return Prediction(found) if isinstance(found, EndPopulation) else found


@dataclass(frozen=True, eq=False)
class Trial:
    """Measured embryos at the end: the wild type, and those that carry the edits to be judged.

    Parameters
    ----------
    board
        Name.
    fates, panel
        Names of the fates and of the columns of g.
    unit
        A gene's own scale, of ``expm1(g)``.
    wild
        Measured wild type, of training embryos: what "no change" says.
    truth
        By label of the edit: the embryos that truly carry it; never seen by a predictor of ours.
    edits
        By label.
    training
        By label: measured perturbations that predictors may learn from.
    earlier
        By time in hours: the wild type at stages before the end.
    unit_name
        What an embryo is, in the plural, for sentences.
    """

    board: str
    fates: tuple[str, ...]
    panel: tuple[str, ...]
    unit: Float[np.ndarray, " genes"]
    wild: EndPopulation
    truth: Mapping[str, EndPopulation]
    edits: Mapping[str, Edit]
    training: Mapping[str, EndPopulation]
    earlier: Mapping[float, EndPopulation]
    unit_name: str = "embryos"

    def __post_init__(self) -> None:
        if not self.truth or set(self.truth) != set(self.edits):
            found = f"truth of {sorted(self.truth)} and edits {sorted(self.edits)}"
            raise EmbryoError(Problem(found, "one or more, of the same labels", "mend the board"), subject=self.board)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the edits to be judged."""
        return tuple(self.truth)

    def others(self, label: str) -> dict[str, EndPopulation]:
        """Return the measured perturbations other than `label` and of other genes."""
        gene = self.edits[label].gene if label in self.edits else None
        known = {k: p for k, p in self.truth.items() if k != label and self.edits[k].gene != gene}
        return {**known, **{k: p for k, p in self.training.items() if k != label}}
