"""Time series with a stage held out: predictors beside every floor, the noise ceiling, and intervals of the gain."""

from embryo.evaluate.time.predictor import Predictor
from embryo.evaluate.time.series import Series

__all__ = ["Predictor", "Series"]
