"""Consecutive times -> Couplings: who becomes whom, from tracks where there are any, else by optimal transport."""

from embryo.couple.consecutive import series
from embryo.couple.lineage import tracks
from embryo.couple.options import Solver, Transport
from embryo.couple.unpaired import transport

__all__ = ["Solver", "Transport", "series", "tracks", "transport"]
