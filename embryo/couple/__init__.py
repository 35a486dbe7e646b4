"""Consecutive times -> Couplings: who becomes whom, from tracks where there are any, else by optimal transport."""

from embryo.couple.alignment import placed
from embryo.couple.consecutive import series
from embryo.couple.lineage import tracks
from embryo.couple.options import Niche, Solver, Transport
from embryo.couple.report import summary
from embryo.couple.unpaired import transport

__all__ = ["Niche", "Solver", "Transport", "placed", "series", "summary", "tracks", "transport"]
