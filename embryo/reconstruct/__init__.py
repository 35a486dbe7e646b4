"""Slices to bodies, bodies to one frame, surfaces around them. Every alignment is a proper rotation (det +1)."""

from embryo.reconstruct.body import body_frame, motion, to_raw
from embryo.reconstruct.centring import centred
from embryo.reconstruct.rigid import rigid
from embryo.reconstruct.slices import stack
from embryo.reconstruct.surface import Surface, surface

__all__ = ["Surface", "body_frame", "centred", "motion", "rigid", "stack", "surface", "to_raw"]
