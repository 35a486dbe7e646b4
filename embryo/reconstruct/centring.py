"""Bodies without a common pose: each is moved to its own centroid and left as it lies."""

import numpy as np
from anndata import AnnData

from embryo.core import schema
from embryo.core.checks import positions
from embryo.core.frame import BODY
from embryo.reconstruct import views


def centred(adata: AnnData) -> None:
    """Write ``obsm["spatial_aligned"]``: positions from the centroid of each embryo, µm, without turning it.

    For fixed embryos that lie as they fell. ``uns["embryo"]`` says ``posed`` False: the axes mean nothing.

    Parameters
    ----------
    adata
        Cells with positions ``obsm["spatial"]`` in µm; one embryo if ``obs["embryo"]`` is absent.

    Raises
    ------
    SchemaError
        If positions are unusable.
    """
    codes, labels = views.embryo_codes(adata)
    x = np.asarray(positions.numbers(adata.obsm[schema.SPATIAL]))
    middles = np.array([x[codes == k].mean(axis=0) for k in range(len(labels))])
    motions = {
        name: {"rotation": np.eye(x.shape[1]), "translation": -middle}
        for name, middle in zip(labels, middles, strict=True)
    }
    adata.obsm[schema.ALIGNED] = x - middles[codes]
    adata.uns[schema.META] = {**schema.meta(adata), "frame": BODY, "posed": False, "motions": motions}
