"""simulate: Field + State -> Trajectory, the embryo rolled forward (or back) in time.

Growth is carried as mass (`forward`, and `record` for roll-outs of any size) or as cells that divide and die
(`particles`); both agree in distribution where the law reads each cell alone and daughters start at one place.
Roll-outs of several fields or seeds are summarised by `ensemble`; what becomes of each cell is read by `fates`, and
which genes told it by `drivers`.
"""

from embryo.simulate.branching import particles
from embryo.simulate.ensembles import Ensemble, ensemble
from embryo.simulate.fate import Fates, drivers, fates
from embryo.simulate.rollout import forward, record
from embryo.simulate.steps import Method

__all__ = ["Ensemble", "Fates", "Method", "drivers", "ensemble", "fates", "forward", "particles", "record"]
