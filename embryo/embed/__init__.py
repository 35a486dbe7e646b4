"""Gene counts -> cell embedding z and gene panel g. Annotating verbs: each writes one slot.

- `cells`, `latent`, `panel`: slots of an AnnData in memory.
- `file`: the embedding of a file of any size, in blocks.
- `steady`: genes that a panel's levels may be held against.
- `encoder`: one by its name, with its weights, orthologs and leak check.
"""

from embryo.embed.choice import encoder
from embryo.embed.files import file
from embryo.embed.slots import about, cells, latent, panel
from embryo.embed.source import opened
from embryo.embed.steady import steady

__all__ = ["about", "cells", "encoder", "file", "latent", "opened", "panel", "steady"]
