"""The gene circuit: eighteen genes, four inputs, and the fates that the cells call.

One gene changes as a bistable switch network does,

    dg_a/dt = R_a sigma(sum_b W_ab g_b + sum_m E_am m_m + h_a) - lambda_a g_a

with sigma the logistic function, g in units of a gene's own saturated level (R = lambda = 1 per hour, so g lies between
0 and 1), m the three maternal gradients and the secreted signal. The form is that of the connectionist gene circuits of
the fly blastoderm (Mjolsness, Sharp and Reinitz 1991, J. Theor. Biol. 152:429).

=========== ================================== =======================================================================
gene        role                               edges (+ activates, - represses)
=========== ================================== =======================================================================
head        anterior gap gene                  +maternal_a +head -middle -tail
middle      middle gap gene                    +middle -head -tail -trunk
trunk       posterior gap gene                 +maternal_p +trunk -head -middle -tail
tail        terminal gap gene                  +maternal_p +tail -head -trunk
ventral     ventral switch                     +maternal_v +ventral -dorsal
dorsal      dorsal switch                      +dorsal -ventral
ligand      secreted by the organiser          +middle +ventral (both needed)
induced     answer of dorsal cells nearby      +signal +dorsal +induced -ventral
neural_a    selector of anterior neural fate   +dorsal +head -induced
neural_p    selector of posterior neural fate  +dorsal -head -induced
mesoderm    selector                           +ventral +trunk +tail -ligand
endoderm    selector                           +ventral +head
organiser   selector                           +ligand
cad_a       cadherin of neural and induced     +neural_a +neural_p +induced
cad_b       cadherin of mesoderm, organiser    +mesoderm +organiser
cad_c       cadherin of endoderm               +endoderm
motility    crawling and intercalation         +mesoderm +neural_p
growth      faster division                    +tail +trunk
=========== ================================== =======================================================================

The last five feed back on no gene: they act on form alone.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

PANEL = (
    "head",
    "middle",
    "trunk",
    "tail",
    "ventral",
    "dorsal",
    "ligand",
    "induced",
    "neural_a",
    "neural_p",
    "mesoderm",
    "endoderm",
    "organiser",
    "cad_a",
    "cad_b",
    "cad_c",
    "motility",
    "growth",
)
INDEX = {gene: i for i, gene in enumerate(PANEL)}
CADHERINS = [INDEX[gene] for gene in ("cad_a", "cad_b", "cad_c")]
INPUTS = ("maternal_a", "maternal_p", "maternal_v", "signal")

# target gene: its bias h, and the weight of each source
EDGES: dict[str, tuple[float, dict[str, float]]] = {
    "head": (-5.2, {"maternal_a": 13.0, "head": 8.0, "middle": -5.0, "tail": -4.0}),
    "middle": (-0.5, {"middle": 5.0, "head": -9.0, "tail": -9.0, "trunk": -8.0}),
    "trunk": (-4.3, {"maternal_p": 15.0, "trunk": 8.0, "head": -7.0, "middle": -3.0, "tail": -16.0}),
    "tail": (-5.4, {"maternal_p": 12.0, "tail": 9.0, "head": -3.0, "trunk": -2.0}),
    "ventral": (-3.9, {"maternal_v": 16.0, "ventral": 8.0, "dorsal": -4.0}),
    "dorsal": (1.0, {"ventral": -9.0, "dorsal": 3.0}),
    "ligand": (-10.5, {"middle": 7.0, "ventral": 7.0}),
    "induced": (-9.5, {"signal": 14.0, "dorsal": 6.0, "ventral": -9.0, "induced": 5.0}),
    "neural_a": (-11.0, {"dorsal": 7.0, "head": 8.0, "induced": -10.0}),
    "neural_p": (-4.0, {"dorsal": 8.0, "head": -10.0, "induced": -10.0}),
    "mesoderm": (-10.0, {"ventral": 7.0, "trunk": 6.0, "tail": 7.0, "ligand": -6.0}),
    "endoderm": (-11.0, {"ventral": 7.0, "head": 8.0}),
    "organiser": (-4.0, {"ligand": 8.0}),
    "cad_a": (-3.5, {"neural_a": 6.0, "neural_p": 6.0, "induced": 5.0}),
    "cad_b": (-3.5, {"mesoderm": 7.0, "organiser": 5.0}),
    "cad_c": (-3.5, {"endoderm": 7.0}),
    "motility": (-3.5, {"mesoderm": 7.0, "neural_p": 7.0}),
    "growth": (-4.0, {"tail": 7.0, "trunk": 2.0}),
}

FATES = (
    "neural-anterior",
    "neural-posterior",
    "mesoderm",
    "endoderm",
    "organiser",
    "induced",
    "undetermined",
)
_SELECTORS = [INDEX[g] for g in ("neural_a", "neural_p", "mesoderm", "endoderm", "organiser", "induced")]
_CALLED_FROM = 0.35


def _weights(sources: tuple[str, ...]) -> np.ndarray:
    return np.array([[EDGES[gene][1].get(source, 0.0) for source in sources] for gene in PANEL])


def _ones() -> np.ndarray:
    return np.ones(len(PANEL))


@dataclass(frozen=True, eq=False)
class Circuit:
    """The numbers of the circuit; row = target, in the order of `PANEL`.

    Parameters
    ----------
    weights
        W: effect of each panel gene.
    inputs
        E: effect of each of `INPUTS`.
    bias
        h.
    rate_per_h, decay_per_h
        R and lambda, 1/h.
    """

    weights: Float[np.ndarray, "genes genes"] = field(default_factory=lambda: _weights(PANEL))
    inputs: Float[np.ndarray, "genes inputs"] = field(default_factory=lambda: _weights(INPUTS))
    bias: Float[np.ndarray, " genes"] = field(default_factory=lambda: np.array([EDGES[gene][0] for gene in PANEL]))
    rate_per_h: Float[np.ndarray, " genes"] = field(default_factory=_ones)
    decay_per_h: Float[np.ndarray, " genes"] = field(default_factory=_ones)

    def production(
        self, g: Float[np.ndarray, "cells genes"], inputs: Float[np.ndarray, "cells inputs"]
    ) -> Float[np.ndarray, "cells genes"]:
        """Return R sigma(W g + E m + h) for each cell, per hour."""
        return np.asarray(self.rate_per_h * expit(g @ self.weights.T + inputs @ self.inputs.T + self.bias))


def fate_codes(g: Float[np.ndarray, "cells genes"]) -> Int[np.ndarray, " cells"]:
    """Return each cell's index into `FATES`: the strongest selector, "undetermined" where all are below 0.35."""
    levels = g[:, _SELECTORS]
    return np.asarray(np.where(levels.max(1) < _CALLED_FROM, len(_SELECTORS), levels.argmax(1)))


def fates(g: Float[np.ndarray, "cells genes"]) -> np.ndarray:
    """Return the name of each cell's fate, called from its true expression as `fate_codes` says."""
    return np.asarray(np.array(FATES)[fate_codes(g)])
