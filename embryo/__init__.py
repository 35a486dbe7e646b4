"""Virtual-embryo trajectory simulator.

The words in the order of the data's way; each is imported when it is first used, so that ``import embryo`` is fast::

    import embryo as eb

    adata = eb.read.auto("embryo.h5ad")             # checked AnnData in µm and hours
    eb.embed.cells(adata, "pca")                    # obsm["X_embed"]
    eb.reconstruct.body_frame(adata)                # obsm["spatial_aligned"]
    couplings = eb.couple.series(adata)             # who becomes whom
    field = eb.fit.flow(adata, couplings)           # law of motion
    control = eb.simulate.forward(field, start, times_h)
    edited = eb.simulate.forward(eb.perturb.apply(field, edits), start, times_h)
    fate = eb.measure.fates(z, labels)              # reads fates off embeddings
    table = eb.measure.difference([control], [edited], fate=fate)  # numbers with units
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embryo import (
        couple,
        datasets,
        embed,
        encoders,
        evaluate,
        fields,
        fit,
        measure,
        perturb,
        pipeline,
        read,
        reconstruct,
        render,
        simulate,
    )

# Threads of a numeric library that spin while they wait slow each other down tenfold on a busy machine; this must be
# said before the library is loaded, and a user's own setting wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# numba starts a thread for each processor and makes torch use as many: what a user asks of one holds for the other.
if os.environ.get("OMP_NUM_THREADS", "").isdigit():
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

__version__ = "0.1.0"

__all__ = [
    "couple",
    "datasets",
    "embed",
    "encoders",
    "evaluate",
    "fields",
    "fit",
    "measure",
    "perturb",
    "pipeline",
    "read",
    "reconstruct",
    "render",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"embryo.{name}")
    msg = f"module 'embryo' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
