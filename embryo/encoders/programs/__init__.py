"""Gene programs: sets from GMT files, a head over them, program read-outs and edits.

>>> from embryo.encoders import programs                                                    # doctest: +SKIP
>>> sets = programs.read("reactome.gmt")                                                    # doctest: +SKIP
>>> head = programs.Programs(dims=32, seed=0, sets=sets, source=geneformer).fit(train)      # doctest: +SKIP
>>> head.scores(adata)                                    # cells by programs               # doctest: +SKIP
>>> head.shift(adata, head.program_edits("Signaling by WNT", Operation.KNOCKOUT))           # doctest: +SKIP
"""

from embryo.encoders.programs.gmt import mask, read
from embryo.encoders.programs.head import Programs

__all__ = ["Programs", "mask", "read"]
