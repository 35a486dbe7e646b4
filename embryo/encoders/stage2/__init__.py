"""MaxToki, Stage 2: telling time, trained on a series of one's own, since the released weights are of Stage 1 only.

    >>> from embryo.encoders import stage2                                            # doctest: +SKIP
    >>> split = stage2.Split(val=(30.0,), test=(42.0,))                               # doctest: +SKIP
    >>> clock = stage2.train(encoder, adata, split, folder="clock")                   # doctest: +SKIP
    >>> hours = clock.score_time(before, after)                                       # doctest: +SKIP
    >>> print(stage2.compare(encoder, adata, split, stage2.Settings(), seeds=(0, 1, 2)))   # doctest: +SKIP

Time tokens are appended to the vocabulary (`grammar`); a regression head at ``<eoq>`` gives the hours between the last
cell of a context and a query (`network`); whole stages are held out, and no embryo is on both sides (`series`); every
number stands beside its floors (`floors`).
"""

from embryo.encoders.stage2.floors import MODEL, Comparison, compare
from embryo.encoders.stage2.model import Stage2, load
from embryo.encoders.stage2.series import Split
from embryo.encoders.stage2.training import Progress, Settings, train

__all__ = ["MODEL", "Comparison", "Progress", "Settings", "Split", "Stage2", "compare", "load", "train"]
