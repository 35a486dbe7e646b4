"""Time series with a stage held out: predictors beside every floor, the noise ceiling, and intervals of the gain."""

from embryo.evaluate.time.floors import FLOORS
from embryo.evaluate.time.judge import Limits, judge, require_bounds
from embryo.evaluate.time.predictor import Predictor
from embryo.evaluate.time.series import Series

__all__ = ["FLOORS", "Limits", "Predictor", "Series", "judge", "require_bounds"]
