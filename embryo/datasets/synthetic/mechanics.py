"""Forces: how expression moves cells. Cells are points in a viscous medium, so that velocity is force.

For cell i with neighbours j at distance r along the unit vector u_ij, and s = r / r0,

    v_i = sum_j f_ij u_ij + chi m_i grad c / (|grad c| + c0) - k max(0, rho_i - R) e_rho
    f_ij = - k_rep max(0, 1 - s)                                          repulsion
           + k_adh (a0 + sum_k S_k a_ik a_jk) w(s)                        adhesion by shared cadherins
           + k_int (m_i + m_j)/2 (1 - 3 (u_ij . e_x)^2)/2 v(s)            intercalation along the egg's long axis

with a the cadherins, m the motility gene, w(s) a hump that is 0 at s <= 1 and beyond the reach, v(s) a bell that falls
to 0 at the reach. Like adheres to like (Steinberg 1963, Science 141:401; Foty and Steinberg 2005, Dev. Biol. 278:255).
Intercalation draws neighbours together across the axis and pushes them apart along it, which narrows and lengthens a
tissue (convergent extension; Keller 2002, Science 298:1950). The last term is the vitelline membrane: a soft tube of
radius R around the long axis. Every pair force obeys Newton's third law by construction, F = -B^T (f u) with B the
signed incidence matrix of the neighbour graph.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from embryo.datasets.synthetic.circuit import CADHERINS, INDEX

_MOTILITY = INDEX["motility"]
_GRADIENT_FLOOR_PER_UM = 0.001


@dataclass(frozen=True)
class Mechanics:
    """The strengths of the forces; forces are velocities in µm/h.

    Parameters
    ----------
    spacing_um
        r0: distance at which two cells neither push nor pull.
    reach
        Distance, in units of r0, beyond which cells do not touch.
    repulsion_um_per_h
        k_rep.
    adhesion_um_per_h
        k_adh: largest pull between two cells that share one cadherin fully.
    cadherin_strengths
        S_k of cad_a, cad_b, cad_c.
    unspecific_adhesion
        a0: adhesion without any cadherin, as a share of k_adh.
    intercalation_um_per_h
        k_int.
    chemotaxis_um_per_h
        chi: speed of a fully motile cell up a steep gradient.
    membrane_radius_um, membrane_stiffness_per_h
        R and k of the vitelline membrane.
    diffusivity_um2_per_h
        Random crawling of every cell.
    skin_um
        Extra reach of the neighbour list, which is made once per step of the circuit.
    """

    spacing_um: float = 10.0
    reach: float = 1.5
    repulsion_um_per_h: float = 120.0
    adhesion_um_per_h: float = 5.0
    cadherin_strengths: tuple[float, float, float] = (1.0, 1.5, 2.0)
    unspecific_adhesion: float = 0.1
    intercalation_um_per_h: float = 100.0
    chemotaxis_um_per_h: float = 4.0
    membrane_radius_um: float = 60.0
    membrane_stiffness_per_h: float = 4.0
    diffusivity_um2_per_h: float = 3.0
    skin_um: float = 1.0

    @property
    def stable_step_h(self) -> float:
        """Longest Euler step of the forces.

        A close packing of springs of stiffness K = k_rep / r0 relaxes at up to 8 K per hour (the zone-boundary mode of
        the fcc lattice) and Euler steps are stable below 2 / (8 K); this is four fifths of it.
        """
        return 0.2 * self.spacing_um / self.repulsion_um_per_h


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Pairs that touch.

    Parameters
    ----------
    first, second
        Row numbers of the two cells of each pair.
    incidence
        B: -1 at the first cell, +1 at the second, (pairs, cells).
    """

    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    incidence: csr_matrix


def neighbours(mechanics: Mechanics, x: Float[np.ndarray, "cells 3"]) -> Neighbours:
    """Find all pairs within the reach and a skin for those that come within it before the next search, by k-d tree."""
    within = mechanics.reach * mechanics.spacing_um + mechanics.skin_um
    pairs = cKDTree(x).query_pairs(within, output_type="ndarray")
    columns = pairs.astype(np.int32).ravel()
    signs = np.tile([-1.0, 1.0], len(pairs))
    pointers = np.arange(0, 2 * len(pairs) + 1, 2, dtype=np.int32)
    incidence = csr_matrix((signs, columns, pointers), shape=(len(pairs), len(x)))
    return Neighbours(pairs[:, 0], pairs[:, 1], incidence)


def bonds(
    mechanics: Mechanics, g: Float[np.ndarray, "cells genes"], near: Neighbours
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Return each pair's adhesion and intercalation strengths, µm/h; they depend on expression only."""
    cadherins = g[:, CADHERINS] * np.sqrt(mechanics.cadherin_strengths)
    shared = np.einsum("pk,pk->p", cadherins[near.first], cadherins[near.second])
    motile = g[:, _MOTILITY] / 2
    adhesion = mechanics.adhesion_um_per_h * (mechanics.unspecific_adhesion + shared)
    return adhesion, mechanics.intercalation_um_per_h * (motile[near.first] + motile[near.second])


def pair_velocity(
    mechanics: Mechanics,
    x: Float[np.ndarray, "cells 3"],
    near: Neighbours,
    strengths: tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]],
) -> Float[np.ndarray, "cells 3"]:
    """Return what the neighbours add to each cell's velocity, µm/h."""
    adhesion, intercalation = strengths
    apart = near.incidence @ x
    distance = np.sqrt(np.einsum("pd,pd->p", apart, apart)) + 1e-9
    s = distance / mechanics.spacing_um
    room = np.maximum(mechanics.reach - s, 0)
    beyond = s - 1
    pull = adhesion * np.maximum(beyond, 0) * room * (4 / (mechanics.reach - 1) ** 2)
    pull += mechanics.repulsion_um_per_h * np.minimum(beyond, 0)
    across = 0.5 - 1.5 * (apart[:, 0] / distance) ** 2
    pull += intercalation * across * (room / mechanics.reach) ** 2
    apart *= (pull / distance)[:, None]
    return np.asarray(-(near.incidence.T @ apart))


def single_velocity(
    mechanics: Mechanics,
    x: Float[np.ndarray, "cells 3"],
    g: Float[np.ndarray, "cells genes"],
    signal_gradient: Float[np.ndarray, "cells 3"],
) -> Float[np.ndarray, "cells 3"]:
    """Return what chemotaxis and the vitelline membrane add to each cell's velocity, µm/h."""
    steepness = np.linalg.norm(signal_gradient, axis=1, keepdims=True)
    speed = mechanics.chemotaxis_um_per_h * g[:, [_MOTILITY]]
    velocity = speed * signal_gradient / (steepness + _GRADIENT_FLOOR_PER_UM)
    radius = np.linalg.norm(x[:, 1:], axis=1)
    outside = np.maximum(radius - mechanics.membrane_radius_um, 0) / (radius + 1e-9)
    velocity[:, 1:] -= mechanics.membrane_stiffness_per_h * outside[:, None] * x[:, 1:]
    return np.asarray(velocity)
