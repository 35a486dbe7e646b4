"""Edited embryos predicted and measured: predictors beside every floor and ceiling, edit by edit.

`judge` holds the predictors of a `Trial` (measured wild type and measured perturbations) against its truth. The unit
is the edit; see `draws` for intervals, `scoring` for the scores, `floors` for what costs nothing to say.
"""

from embryo.evaluate.perturbation.floors import floors, halves, same_law
from embryo.evaluate.perturbation.judge import judge
from embryo.evaluate.perturbation.population import EndPopulation, Prediction, pooled
from embryo.evaluate.perturbation.predictor import Predictor, Trial

__all__ = ["EndPopulation", "Prediction", "Predictor", "Trial", "floors", "halves", "judge", "pooled", "same_law"]
