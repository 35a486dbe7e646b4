"""simulate: Field + State -> Trajectory, the embryo rolled forward (or back) in time.

Growth is carried as mass (`forward`, and `record` for roll-outs of any size) or as cells that divide and die
(`particles`); both agree in distribution.
"""

from embryo.simulate.branching import particles
from embryo.simulate.rollout import forward, record
from embryo.simulate.steps import Method

__all__ = ["Method", "forward", "particles", "record"]
