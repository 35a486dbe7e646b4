"""simulate: Field + State -> Trajectory, the embryo rolled forward (or back) in time."""

from embryo.simulate.rollout import forward, record
from embryo.simulate.steps import Method

__all__ = ["Method", "forward", "record"]
