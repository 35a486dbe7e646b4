"""Gene counts -> cell embedding z and gene panel g. Annotating verbs: each writes one slot.

- `cells`, `latent`, `panel`: slots of an AnnData in memory.
- `file`: the embedding of a file of any size, in blocks.
- `encoder`: one by its name, with its weights, orthologs and leak check.
"""

from embryo.embed.choice import encoder
from embryo.embed.files import file
from embryo.embed.slots import about, cells, latent, panel
from embryo.embed.source import opened

__all__ = ["about", "cells", "encoder", "file", "latent", "opened", "panel"]
