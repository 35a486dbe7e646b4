"""simulate: Field + State -> Trajectory, the embryo rolled forward (or back) in time."""

from embryo.simulate.rollout import Method, forward

__all__ = ["Method", "forward"]
