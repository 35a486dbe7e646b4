"""Developmental time out of the words that file names and atlases use; see `embryo.core.stages`."""

from embryo.core.stages import hours, parse

__all__ = ["hours", "parse"]
