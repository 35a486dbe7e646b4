"""scPRINT-2 (Cantini lab) over a bridge: it pins versions of torch and others, and its code may be GPL-3.0.

Ensembl ids of 16 organisms, mouse among them; its corpus holds an atlas of mouse development. What the program beside
it does (as the code says): counts normalised by their sum, log2(1 + x), about 2,000 genes, cell tokens compressed; the
embedding is all compressed tokens side by side (``concat``) or the mean of the class tokens (``mean``).
"""

from typing import ClassVar, Literal

from embryo.encoders.bridge.bridged import Bridged
from embryo.encoders.inputs.tokens import Axes


class ScPRINT2(Bridged):
    """scPRINT-2 in the size that the folder of weights holds."""

    name: ClassVar[str] = "scprint2"
    axes: ClassVar[Axes] = Axes(
        "protein embedding (ESM3) and position in the genome",
        "log2(1 + counts / total)",
        "about 2,000 genes, the most variable or those found",
    )
    ids: ClassVar[Literal["ensembl", "symbol"]] = "ensembl"
    poolings: ClassVar[tuple[str, ...]] = ("concat", "mean")
    files: ClassVar[tuple[str, ...]] = ("*.ckpt", "*.json")
