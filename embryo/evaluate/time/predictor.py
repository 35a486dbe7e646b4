"""What every model under test and every floor is: a name, a role, and a function from stages to a state."""

from collections.abc import Callable
from dataclasses import dataclass

from embryo.core import table
from embryo.core.state import State
from embryo.evaluate.time.series import Series


@dataclass(frozen=True)
class Predictor:
    """Predicts a stage that it has not seen.

    Parameters
    ----------
    name
        What its rows are called.
    role
        ours, floor or ceiling.
    predict
        Called with (training series, hours, seed); None where it does not apply, such as without a later stage. Rows of
        the state are particles, its masses sum to cells per embryo where counts grow, else to any number above 0.
    random
        Whether seeds differ; else one seed is enough.
    """

    name: str
    role: table.Role
    predict: Callable[[Series, float, int], State | None]
    random: bool = False
