"""The synthetic embryo: a mechanistic 3D embryo whose every cause is known.

Cells read three maternal gradients and a secreted signal, switch genes on and off, crawl, adhere, intercalate and
divide (`circuit`, `ligand`, `mechanics`, `development`); edits act on the generator itself (`interventions`), so that
the edited embryo is the truth that a prediction is held against; `measurement` is the experiment between the truth and
the data.

    >>> from embryo.core.edit import Edit
    >>> from embryo.datasets import synthetic
    >>> wild_type = synthetic.generate(n_embryos=3, seed=0)                         # doctest: +SKIP
    >>> truth = synthetic.generate(n_embryos=3, seed=0, edits=(Edit("tail"),))      # doctest: +SKIP
"""

from collections.abc import Sequence

import numpy as np
from anndata import AnnData

from embryo.core.edit import Edit
from embryo.core.errors import ConfigError, Problem
from embryo.datasets.synthetic.circuit import EDGES, FATES, INPUTS, PANEL, Circuit, fates
from embryo.datasets.synthetic.development import Embryo, Snapshot, simulate
from embryo.datasets.synthetic.ligand import Ligand
from embryo.datasets.synthetic.measurement import Measurement, observe
from embryo.datasets.synthetic.mechanics import Mechanics
from embryo.datasets.synthetic.params import DEFAULT, DURATION_H, Growth, Maternal, Params

__all__ = [
    "DURATION_H",
    "EDGES",
    "FATES",
    "INPUTS",
    "LIGAND",
    "PANEL",
    "TIMES_H",
    "Circuit",
    "Embryo",
    "Growth",
    "Ligand",
    "Maternal",
    "Measurement",
    "Mechanics",
    "Params",
    "Snapshot",
    "fates",
    "generate",
    "observe",
    "simulate",
]

LIGAND = "ligand"  # the panel gene that is secreted
TIMES_H = tuple(float(t) for t in np.arange(0, DURATION_H + 1, 2))


def generate(
    *,
    n_embryos: int,
    seed: int,
    edits: Sequence[Edit] = (),
    times_h: Sequence[float] = TIMES_H,
    params: Params = DEFAULT,
    measurement: Measurement | None = None,
) -> AnnData:
    """Simulate embryos and observe them.

    Embryo k of a seed has the same founders, doses and luck with and without edits: ``"wt-0"`` and
    ``"knockout tail-0"`` differ by the edit. How they are observed (pose, batch, counting) differs.

    Parameters
    ----------
    n_embryos
        How many; with destructive sampling, how many at each time.
    seed
        Of all of them; embryo k has its own.
    edits
        True edits; all embryos carry them.
    times_h
        When to look, multiples of the step.
    params, measurement
        The embryo's numbers and the experiment's dials.

    Returns
    -------
    AnnData
        As `observe` returns it.

    Raises
    ------
    EditError, ConfigError
        As `simulate` does.
    """
    measurement = measurement or Measurement()
    if n_embryos < 1:
        raise ConfigError(Problem(f"n_embryos = {n_embryos}", "at least one", "ask for more"), subject="generate")
    label = " + ".join(edit.label for edit in edits) or "wt"
    schedule = [(t,) for t in times_h] * n_embryos if measurement.destructive else [tuple(times_h)] * n_embryos
    seeds = np.random.SeedSequence(seed).generate_state(len(schedule))
    embryos = {
        f"{label}-{k}": simulate(params, seed=int(own), edits=edits, times_h=times)
        for k, (own, times) in enumerate(zip(seeds, schedule, strict=True))
    }
    return observe(embryos, measurement, seed=seed)
