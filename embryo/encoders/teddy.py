"""TEDDY (Merck, arXiv 2503.03485) over a bridge: its class needs a `transformers` that cannot be installed beside ours.

The names of its tensors could not be checked on a published file, so that there is no reader of our own. Human and
mouse, Ensembl ids. What the program beside it does (as the model's card says): counts to 1e4, each gene over its
median, the 2,048 highest, ranks as values from 1 to -1; then the mean over tokens, or the first token.
"""

from typing import ClassVar, Literal

from embryo.encoders.bridge.bridged import Bridged
from embryo.encoders.inputs.tokens import Axes


class Teddy(Bridged):
    """TEDDY-G or TEDDY-X, whichever the folder of weights holds."""

    name: ClassVar[str] = "teddy"
    axes: ClassVar[Axes] = Axes(
        "identity",
        "rank of expression over the gene's median, from 1 to -1",
        "order by rank; truncate to 2048",
    )
    ids: ClassVar[Literal["ensembl", "symbol"]] = "ensembl"
    poolings: ClassVar[tuple[str, ...]] = ("mean", "cls")
    files: ClassVar[tuple[str, ...]] = ("*.safetensors", "*.json", "*.txt")
