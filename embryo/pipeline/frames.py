"""New cells laid into the body frame of a run or of training stages, which they must not move."""

from dataclasses import replace

import anndata as ad
import numpy as np
from anndata import AnnData

from embryo import reconstruct
from embryo.core import schema
from embryo.core.errors import FrameError

_NAME = f"or name in obs['{schema.EMBRYO}'] the embryo of the run in whose raw positions they are"


def lay_on(train: AnnData, new: AnnData, *, named: bool = True) -> None:
    """Write ``obsm["spatial_aligned"]`` of `new` in the body frame of `train`.

    An embryo that `train` holds too moves as it did there; another one is laid on the embryo nearest in time.
    A name is proof of identity only where both are parts of one file or the file of `new` gives it.

    Parameters
    ----------
    train
        Cells in the body frame; not changed.
    new
        Cells with raw positions. Their pose is all that is fitted to them, by proper rotations.
    named
        Whether embryos of `new` are those of `train` that are called alike.

    Raises
    ------
    FrameError
        If an embryo that `train` does not hold has too few cells to tell how it lies, or cannot be laid otherwise.
    """
    if not schema.meta(train).get("posed", True):
        reconstruct.centred(new)
        return
    embryo = new.obs[schema.EMBRYO].astype(str).to_numpy()
    known = schema.meta(train).get("motions", {}) if named else {}
    x = np.asarray(new.obsm[schema.SPATIAL], dtype=float)
    aligned = np.empty_like(x)
    for name in np.unique(embryo):
        rows = embryo == name
        aligned[rows] = reconstruct.motion(train, name)(x[rows]) if name in known else 0.0
    others = ~np.isin(embryo, list(known))
    if others.any():
        aligned[others] = _laid(train, new[others])
    new.obsm[schema.ALIGNED] = aligned
    new.uns[schema.META] = {**schema.meta(new), "frame": schema.meta(train)["frame"]}


def _laid(train: AnnData, new: AnnData) -> np.ndarray:
    near = _nearest(train, float(new.obs[schema.TIME].iloc[0]))
    reference = f"{near.obs[schema.EMBRYO].iloc[0]} (body frame)"
    parts = []
    for part, x, embryo in ((near, schema.ALIGNED, reference), (new, schema.SPATIAL, None)):
        obs = part.obs.assign(**({schema.EMBRYO: embryo} if embryo else {})).astype({schema.EMBRYO: str})
        slots = {schema.SPATIAL: part.obsm[x], schema.EMBED: part.obsm[schema.EMBED]}
        parts.append(AnnData(obs=obs, obsm={slot: np.asarray(values) for slot, values in slots.items()}))
    both = ad.concat(parts, index_unique="-")
    both.uns[schema.META] = {k: v for k, v in schema.meta(train).items() if k == "named"}
    try:
        reconstruct.body_frame(both, reference=reference)
    except FrameError as error:
        named = [replace(p, cure=f"{p.cure}, {_NAME}") for p in error.problems]
        raise FrameError(*named, subject=error.subject) from error
    back = reconstruct.motion(both, reference).inverse()
    return np.asarray(back(np.asarray(both.obsm[schema.ALIGNED])[near.n_obs :]))


def _nearest(train: AnnData, t_h: float) -> AnnData:
    """Return the embryo with most cells at the time nearest to `t_h`, at that time."""
    t = train.obs[schema.TIME].to_numpy(float)
    near = t == t[np.abs(t - t_h).argmin()]
    embryo = train.obs[schema.EMBRYO].astype(str).to_numpy()
    names, counts = np.unique(embryo[near], return_counts=True)
    return train[near & (embryo == names[counts.argmax()])]
