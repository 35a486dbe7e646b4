"""A closed surface around a cloud of cells, and its size."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, QhullError, cKDTree

from embryo.core.errors import FrameError, Problem

_SPACINGS = 4.0  # first width tried by default, in nearest-neighbour distances
_GROWTH = 1.5
_COVERED = 0.98  # share of cells that the surface must hold
_FLAT = 1e-12  # volume of a tetrahedron, relative to the cube of its longest edge, that counts as none
_CORNERS = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])  # face opposite each corner, outward


@dataclass(frozen=True)
class Surface:
    """A closed triangle mesh, faces counter-clockwise seen from outside.

    Parameters
    ----------
    vertices
        Positions, µm; each is one of the cells.
    faces
        Rows of `vertices`.
    alpha_um
        Width of the alpha shape.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    alpha_um: float

    @property
    def volume_um3(self) -> float:
        """Enclosed volume by the divergence theorem, the sum of ``a . (b x c) / 6`` over faces."""
        a, b, c = self._corners()
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)

    @property
    def area_um2(self) -> float:
        """Area of all faces."""
        a, b, c = self._corners()
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    def _corners(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = self.vertices - self.vertices.mean(axis=0)
        return at[self.faces[:, 0]], at[self.faces[:, 1]], at[self.faces[:, 2]]


def surface(x: Float[np.ndarray, "cells 3"], *, alpha_um: float | None = None) -> Surface:
    """Return the outer surface of the alpha shape of a cloud (Edelsbrunner & Mücke, ACM Trans Graph 13:43, 1994).

    Of the Delaunay tetrahedra those with a circumscribed sphere of at most `alpha_um` are kept; holes inside are
    filled, so that a hollow body has one skin; of several pieces the largest counts. The surface runs through the
    outermost cell centres: it lies inside the true skin by about half a cell.

    Parameters
    ----------
    x
        Positions, µm.
    alpha_um
        Largest radius of a circumscribed sphere; infinite gives the convex hull. By default it grows from four
        nearest-neighbour distances until one piece holds 98 % of the cells.

    Raises
    ------
    FrameError
        If there are fewer than four cells, they lie in a plane, positions are not finite, or `alpha_um` keeps nothing.
    """
    x = np.asarray(x, dtype=np.float64)
    mesh = _delaunay(x, alpha_um)
    radius = _radii(x, mesh)
    if alpha_um is None:
        alpha_um, kept = _grown(x, mesh, radius)
    else:
        kept = _solid(mesh, radius <= alpha_um)
    if not kept.any():
        finite = radius[np.isfinite(radius)]
        raise FrameError(
            Problem(
                f"no tetrahedron of cells within alpha {alpha_um:g} µm",
                f"a width of at least {finite.min():.3g} µm",
                "give a larger alpha_um, or none",
            ),
            subject="surface",
        )
    faces = _boundary(mesh, kept)
    used, index = np.unique(faces, return_inverse=True)
    return Surface(x[used], index.reshape(faces.shape), float(alpha_um))


def _delaunay(x: np.ndarray, alpha_um: float | None) -> Delaunay:
    cure = "use more cells, or cells of a later time"
    problems = []
    if alpha_um is not None and not alpha_um > 0:
        problems.append(Problem(f"alpha {alpha_um} µm", "a width above 0", "give a larger alpha_um, or none"))
    if not np.isfinite(x).all():
        problems.append(Problem("NaN or infinite positions", "finite positions", "drop these cells"))
    elif len(x) < 4:
        problems.append(Problem(f"{len(x)} cells", "at least four", cure))
    if problems:
        raise FrameError(*problems, subject="surface")
    try:
        return Delaunay(x)
    except QhullError as error:
        problem = Problem(f"{len(x)} cells that lie in a plane", "cells that span a body", cure)
        raise FrameError(problem, subject="surface") from error


def _radii(x: np.ndarray, mesh: Delaunay) -> Float[np.ndarray, " tetrahedra"]:
    """Radius of the circumscribed spheres; infinite for flat tetrahedra."""
    a, b, c, d = (x[mesh.simplices[:, k]] for k in range(4))
    u, v, w = b - a, c - a, d - a
    six = np.einsum("ij,ij->i", u, np.cross(v, w))
    uu, vv, ww = ((p * p).sum(axis=1) for p in (u, v, w))
    top = uu[:, None] * np.cross(v, w) + vv[:, None] * np.cross(w, u) + ww[:, None] * np.cross(u, v)
    flat = np.abs(six) <= _FLAT * np.maximum(np.maximum(uu, vv), ww) ** 1.5
    return np.where(flat, np.inf, np.linalg.norm(top, axis=1) / (2 * np.abs(np.where(flat, 1.0, six))))


def _grown(x: np.ndarray, mesh: Delaunay, radius: np.ndarray) -> tuple[float, Bool[np.ndarray, " tetrahedra"]]:
    spacing, _ = cKDTree(x).query(x, k=2)
    alpha, whole = _SPACINGS * float(np.median(spacing[:, 1])), float(np.linalg.norm(np.ptp(x, axis=0)))
    while alpha < whole:
        kept = _solid(mesh, radius <= alpha)
        if len(np.unique(mesh.simplices[kept])) >= _COVERED * len(x):
            return alpha, kept
        alpha *= _GROWTH
    return float("inf"), np.ones(len(radius), dtype=bool)


def _solid(mesh: Delaunay, kept: np.ndarray) -> Bool[np.ndarray, " tetrahedra"]:
    """Fill what no path through the rejected tetrahedra joins to the outside, then keep the largest piece."""
    n = outside = len(kept)
    i, k = np.nonzero(mesh.neighbors >= -1)
    j = mesh.neighbors[i, k]
    j = np.where(j < 0, outside, j)
    piece = _pieces(n + 1, i, j, np.append(~kept, True))
    solid = np.asarray(kept | (piece[:n] != piece[outside]))
    if not solid.any():
        return solid
    piece = _pieces(n + 1, i, j, np.append(solid, False))[:n]
    volume = np.bincount(piece[solid], weights=_volumes(mesh)[solid])
    return np.asarray(solid & (piece == volume.argmax()))


def _pieces(n: int, i: np.ndarray, j: np.ndarray, among: np.ndarray) -> np.ndarray:
    joined = among[i] & among[j]
    graph = sparse.coo_array((np.ones(int(joined.sum())), (i[joined], j[joined])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


def _volumes(mesh: Delaunay) -> np.ndarray:
    a, b, c, d = (mesh.points[mesh.simplices[:, k]] for k in range(4))
    return np.asarray(np.abs(np.einsum("ij,ij->i", b - a, np.cross(c - a, d - a))) / 6)


def _boundary(mesh: Delaunay, kept: np.ndarray) -> Int[np.ndarray, "faces 3"]:
    """Faces between a kept tetrahedron and none, turned outward."""
    inside = np.append(kept, False)  # the last entry is the outside, neighbour -1
    i, k = np.nonzero(kept[:, None] & ~inside[mesh.neighbors])
    corners = mesh.simplices[i]
    faces = np.take_along_axis(corners, _CORNERS[k], axis=1)
    apex = mesh.points[corners[np.arange(len(i)), k]]
    a, b, c = (mesh.points[faces[:, m]] for m in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), apex - a) > 0
    faces[inward] = faces[inward][:, ::-1]
    return np.asarray(faces, dtype=np.int64)
