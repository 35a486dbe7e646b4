"""Edits on a finished run: control and edit rolled forward beside each other, measured, told and drawn.

    >>> bench = perturbing.Bench.open(Path("runs/demo"), Path("embryo.h5ad"))
    >>> for gene in ("tail", "head"):
    ...     perturbing.perturb(bench, [Edit(gene)], Path("out") / gene)

All that the wild type costs is paid once per bench, and kept on disk for the next one: fields, controls, read-out of
fates, neighbours of the training states.
"""

from embryo.pipeline.perturbing.bench import Bench
from embryo.pipeline.perturbing.work import each, perturb

__all__ = ["Bench", "each", "perturb"]
