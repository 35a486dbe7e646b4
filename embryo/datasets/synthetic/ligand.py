"""The secreted signal: screened diffusion from the cells' present positions, as `embryo.blocks.diffusion` solves it."""

from embryo.blocks.diffusion import Medium as Ligand
from embryo.blocks.diffusion import screened as signal

__all__ = ["Ligand", "signal"]
