"""One body frame for all embryos: each is carried into it by one proper rigid motion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float, Int

from embryo.core import schema
from embryo.core.checks import phrases, positions
from embryo.core.errors import FrameError, Problem, SchemaError, StaleError
from embryo.core.frame import BODY, Rigid
from embryo.reconstruct import views
from embryo.reconstruct.registration import MIN_CELLS, Cloud, register
from embryo.reconstruct.rigid import Fit, principal, robust
from embryo.reconstruct.views import View

_TARGETS = 5  # aligned embryos that are tried for shared names
_LEAST_SHARED = 4  # different cells
_ALIKE = 0.7  # of the random residual: above it names do not mean the same cells (as in embryo.core.checks.frames)


def body_frame(
    adata: AnnData,
    *,
    reference: str | None = None,
    until_h: float | Mapping[str, float] | None = None,
    tolerance_h: float = 0.25,
    key_added: str = schema.ALIGNED,
    copy: bool = False,
) -> AnnData | None:
    """Carry every embryo into the common body frame by one proper rigid motion of its own.

    The reference lies on its own principal axes: origin at its centroid, longest axis first, right-handed, signs from
    the skewness of the cloud. Every other embryo is laid on an embryo that is already there, the nearest in time (the
    reference, where several are). Where cell names mean the same cells in both, by a robust least-squares fit of the
    cells that share a name at nearly the same time; otherwise by space and expression (`registration.register`), for
    which ``obsm["X_embed"]`` is used if there is one, else principal components of log1p expression. Names are trusted
    if ``uns["embryo"]["named"]`` says so, not if it is False, and otherwise if they explain where cells lie.

    Written are ``obsm[key_added]`` (µm), and in ``uns["embryo"]``: ``frame`` = "body", ``reference``, ``motions``
    (embryo -> rotation, translation) and ``residuals`` (embryo -> median_um, mirrored_um, pairs, method, to, mirrored).
    An embryo that a reflection would fit far better is not mirrored but laid down as well as a rotation can, with
    ``mirrored`` True and a high residual.

    Parameters
    ----------
    adata
        Cells with positions ``obsm["spatial"]`` in µm and times in hours; one embryo if ``obs["embryo"]`` is absent.
    reference
        Embryo that defines the frame; by default the one that shares most names with others, then has most rows.
    until_h
        Only cells up to this time are looked at, for all embryos or by embryo; the motion applies to all of its cells.
        Keeps the future of a held-out embryo out of its own alignment.
    tolerance_h
        Largest difference in time of two observations that count as the same cell, hours.
    key_added
        Slot of ``obsm`` to write.
    copy
        Whether to return an annotated copy and leave `adata` as it is.

    Raises
    ------
    SchemaError
        If positions or times are unusable, or an embryo is not known.
    FrameError
        Listing every embryo that cannot be aligned, with the reason.
    """
    seen = views.views(adata, until_h)
    first = _reference(seen, reference)
    placed = _Placement(adata, seen, first, tolerance_h).run()
    adata = adata.copy() if copy else adata
    codes, labels = views.embryo_codes(adata)
    x = np.asarray(positions.numbers(adata.obsm[schema.SPATIAL]))
    aligned = np.empty_like(x)
    for code, label in enumerate(labels):
        aligned[codes == code] = placed[label].fit.motion(x[codes == code])
    adata.obsm[key_added] = aligned
    adata.uns[schema.META] = {
        **schema.meta(adata),
        "frame": BODY,
        "reference": seen[first].name,
        "motions": {name: _arrays(placed[name].fit.motion) for name in labels},
        "residuals": {name: placed[name].record() for name in labels},
    }
    return adata if copy else None


def motion(adata: AnnData, embryo: str) -> Rigid:
    """Return the motion that carried an embryo from its raw frame into the body frame.

    Raises
    ------
    StaleError
        If the embryo was not aligned.
    """
    held = schema.meta(adata).get("motions", {})
    if embryo not in held:
        raise StaleError(
            Problem(f"no motion of embryo {embryo!r}{phrases.nearest(embryo, held)}", "one", "run body_frame first")
        )
    return Rigid(np.asarray(held[embryo]["rotation"]), np.asarray(held[embryo]["translation"]))


def to_raw(x: Float[np.ndarray, "cells dims"], moved: Rigid) -> Float[np.ndarray, "cells dims"]:
    """Return body-frame positions `x` in the raw frame that `moved` came from."""
    return moved.inverse()(x)


@dataclass(frozen=True)
class _Placed:
    """Where an embryo was laid, and how."""

    fit: Fit
    method: str
    to: str

    def record(self) -> dict[str, Any]:
        return {
            "median_um": self.fit.median_um,
            "mirrored_um": self.fit.mirrored_um,
            "pairs": self.fit.pairs,
            "method": self.method,
            "to": self.to,
            "mirrored": bool(self.fit.mirrored),
        }


class _Placement:
    """Lay embryo after embryo on those already in the frame."""

    def __init__(self, adata: AnnData, seen: Sequence[View], first: int, tolerance_h: float) -> None:
        self.adata, self.seen, self.first, self.tolerance_h = adata, seen, first, tolerance_h
        self.named = schema.meta(adata).get("named")
        low = np.array([v.t_h.min() for v in seen])
        high = np.array([v.t_h.max() for v in seen])
        self.gap = np.maximum(0, np.maximum(low[:, None] - high, low - high[:, None]))
        self.placed: dict[int, _Placed] = {}

    def run(self) -> dict[str, _Placed]:
        first = self.seen[self.first]
        self.placed[self.first] = _Placed(Fit(principal(first.x), 0.0, 0.0, len(first.rows)), "axes", first.name)
        left = sorted(set(range(len(self.seen))) - {self.first})
        problems: list[Problem] = []
        while left:
            here = list(self.placed)
            chosen = min(left, key=lambda i: self.gap[i, here].min())
            left.remove(chosen)
            try:
                self.placed[chosen] = self._place(chosen)
            except FrameError as error:
                problems += [_of(self.seen[chosen].name, p) for p in error.problems]
        if problems:
            raise FrameError(*problems, subject="body frame")
        return {self.seen[i].name: p for i, p in self.placed.items()}

    def _place(self, i: int) -> _Placed:
        targets = sorted(self.placed, key=lambda j: (self.placed[j].fit.mirrored, self.gap[i, j], j != self.first, j))
        if self.named is None or self.named:
            for j in targets[:_TARGETS]:
                fit = self._by_name(self.seen[i], self.seen[j])
                if fit is not None:
                    return self._on(j, fit, "names")
        return self._on(targets[0], self._by_expression(self.seen[i], self.seen[targets[0]]), "expression")

    def _on(self, j: int, fit: Fit, method: str) -> _Placed:
        whole = self.placed[j].fit.motion.after(fit.motion)
        return _Placed(Fit(whole, fit.median_um, fit.mirrored_um, fit.pairs), method, self.seen[j].name)

    def _by_name(self, a: View, b: View) -> Fit | None:
        i, j = shared(a, b, self.tolerance_h)
        if len(np.unique(a.cells[i])) < _LEAST_SHARED + (self.named is None):
            return None
        fit = robust(a.x[i], b.x[j])
        if fit is None or self.named:
            return fit
        spread = np.median(np.linalg.norm(b.x[j] - b.x[j].mean(axis=0), axis=1))
        return fit if min(fit.median_um, fit.mirrored_um) < _ALIKE * spread else None

    def _by_expression(self, a: View, b: View) -> Fit:
        at_a, at_b = _moment(a, b, self.tolerance_h)
        return register(self._cloud(a, at_a), self._cloud(b, at_b))

    def _cloud(self, view: View, at: np.ndarray) -> Cloud:
        return Cloud(view.x[at], self._features[view.rows[at]])

    @cached_property
    def _features(self) -> np.ndarray:
        rows = np.sort(np.concatenate([v.rows for v in self.seen]))
        found = views.features(self.adata, rows)
        every = np.full((self.adata.n_obs, found.shape[1]), np.nan)  # what is withheld stays unknown
        every[rows] = found
        return every


def shared(a: View, b: View, tolerance_h: float) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Return the rows of `a` whose cell is in `b` at nearly the same time, and the nearest such row of `b`."""
    order = np.lexsort((b.t_h, b.cells))
    span = max(float(np.ptp(np.concatenate([a.t_h, b.t_h]))), 1e-9) + 2 * tolerance_h + 1.0
    start = min(a.t_h.min(), b.t_h.min())
    key_b = b.cells[order] * span + (b.t_h[order] - start)
    key_a = a.cells * span + (a.t_h - start)
    right = np.searchsorted(key_b, key_a).clip(0, len(key_b) - 1)
    left = (right - 1).clip(0)
    nearest = np.where(np.abs(key_b[left] - key_a) <= np.abs(key_b[right] - key_a), left, right)
    j = order[nearest]
    good = (a.cells >= 0) & (b.cells[j] == a.cells) & (np.abs(b.t_h[j] - a.t_h) <= tolerance_h * (1 + 1e-9))
    return np.flatnonzero(good), j[good]


def _moment(a: View, b: View, tolerance_h: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both at a pair of times as near as can be (within the tolerance), where the smaller has most cells."""
    times_a, count_a = np.unique(a.t_h, return_counts=True)
    times_b, count_b = np.unique(b.t_h, return_counts=True)
    gap = np.abs(times_a[:, None] - times_b)
    fewest = np.minimum(count_a[:, None], count_b)
    score = np.where(gap <= max(gap.min(), tolerance_h), fewest - gap / (1 + gap.max()), -1.0)
    i, j = np.unravel_index(score.argmax(), gap.shape)
    window = 0.0 if fewest[i, j] >= MIN_CELLS else tolerance_h
    return np.abs(a.t_h - times_a[i]) <= window, np.abs(b.t_h - times_b[j]) <= window


def _reference(seen: Sequence[View], wanted: str | None) -> int:
    labels = [v.name for v in seen]
    if wanted is not None:
        if wanted not in labels:
            raise SchemaError(
                Problem(
                    f"reference {wanted!r}{phrases.nearest(wanted, labels)}",
                    f"one of {phrases.few(labels)}",
                    "name an embryo of the data",
                )
            )
        return labels.index(wanted)
    cells = [np.unique(v.cells[v.cells >= 0]) for v in seen]
    held, counts = np.unique(np.concatenate(cells), return_counts=True)
    others = dict(zip(held.tolist(), (counts - 1).tolist(), strict=True))
    score = [(sum(others[c] for c in named.tolist()), len(v.rows)) for named, v in zip(cells, seen, strict=True)]
    return max(range(len(seen)), key=lambda k: (score[k], -k))


def _arrays(moved: Rigid) -> dict[str, np.ndarray]:
    return {"rotation": moved.rotation, "translation": moved.translation}


def _of(embryo: str, problem: Problem) -> Problem:
    return Problem(f"embryo {embryo}: {problem.found}", problem.expected, problem.cure)
