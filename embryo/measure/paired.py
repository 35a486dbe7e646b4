"""Control and edit cell by cell: what became of each."""

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Float

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.frame import BODY
from embryo.core.trajectory import Trajectory
from embryo.measure.arrays import arrays
from embryo.measure.composition import FateClassifier

# The keys that CellRank reads back as a Lineage (cellrank Lineage.from_adata): (cells, fates), and the fates' names.
FATE_PROBABILITIES, TERMINAL_STATES = schema.FATE_PROBABILITIES, schema.TERMINAL_STATES


def require_paired(control: Trajectory, edited: Trajectory) -> None:
    """Raise unless both trajectories follow the same cells at the same times in one frame.

    Raises
    ------
    FrameError
        If the frames differ.
    SchemaError
        If cells, times, gene panel or numbers of dimensions differ; all problems at once.
    """
    control.frame.require_same(edited.frame)
    problems = []
    if control.cells != edited.cells:
        shared = len(set(control.cells) & set(edited.cells))
        found = f"{len(control.cells)} cells in the control and {len(edited.cells)} in the edit, {shared} shared"
        cure = "roll both out from one start state and seed"
        problems.append(Problem(found, "the same cells in the same order", cure))
    if len(control) != len(edited) or not torch.equal(control.times_h, edited.times_h):
        found = f"times {_span(control)} in the control and {_span(edited)} in the edit"
        problems.append(Problem(found, "one time grid", "roll both out on the same grid"))
    for name, part in (("z", "an embedding"), ("g", "a gene panel"), ("x", "positions")):
        dims = [getattr(t, name).shape[-1] for t in (control, edited)]
        if dims[0] != dims[1]:
            found = f"{part} of {dims[0]} numbers per cell in the control and {dims[1]} in the edit"
            problems.append(Problem(found, "as many in both", "roll both out with one field from one start state"))
    if control.panel != edited.panel:
        found = f"gene panels {control.panel[:6]} and {edited.panel[:6]}"
        problems.append(Problem(found, "the same genes in the same order", "roll both out with one field"))
    if problems:
        raise SchemaError(*problems, subject="control and edit")


def _span(trajectory: Trajectory) -> str:
    times = trajectory.times_h
    return f"{float(times[0]):g} to {float(times[-1]):g} h ({len(times)})"


def displacement_um(control: Trajectory, edited: Trajectory) -> Float[np.ndarray, "times cells"]:
    """Distance in µm between each cell of the control and the same cell of the edit, at every stored time.

    Parameters
    ----------
    control, edited
        Roll-outs of the same cells on the same times, in one frame.

    Returns
    -------
    array
        NaN everywhere for data without space.

    Raises
    ------
    FrameError
        If the frames differ.
    SchemaError
        If cells, times or gene panel differ.
    """
    require_paired(control, edited)
    apart = (edited.x - control.x).detach().cpu().double().numpy()
    if apart.shape[-1] == 0:
        return np.full(apart.shape[:2], np.nan)
    return np.asarray(np.linalg.norm(apart, axis=-1))


def per_cell(control: Trajectory, edited: Trajectory, fate: FateClassifier, t_h: float | None = None) -> AnnData:
    """Return the edited embryo at one time, each cell beside its own control.

    Parameters
    ----------
    control, edited
        Roll-outs of the same cells on the same times, in one frame.
    fate
        Reads fates off z.
    t_h
        Which stored time (the nearest), h; the last by default.

    Returns
    -------
    AnnData
        One row per particle, one column per panel gene (numbered where the panel has no names).

        ======== ======================================= ========================================================
        slot     key                                     what
        ======== ======================================= ========================================================
        X                                                panel of the edit, log1p
        layers   ``delta_X``                             panel, edit minus control (CellOracle's key)
        obs      ``fate_control``, ``fate_edited``       fates
        obs      ``term_states_fwd``                     fates of the edit under CellRank's key
        obs      ``displacement_um``                     distance from the control cell, µm
        obs      ``mass_control``, ``mass_edited``       cells per particle
        obs      ``time``                                h
        obsm     ``spatial`` (``spatial_aligned``)       position in the edit, µm (second where the frame is the body)
        obsm     ``spatial_control``                     position in the control, µm
        obsm     ``X_embed``                             z of the edit
        obsm     ``lineages_fwd``                        fate probabilities of the edit, columns as the categories
        ======== ======================================= ========================================================

        Positions only for data with space.

    Raises
    ------
    FrameError
        If the frames differ.
    SchemaError
        If cells, times or gene panel differ.
    """
    require_paired(control, edited)
    k = len(control) - 1 if t_h is None else int((control.times_h - t_h).abs().argmin())
    z_control, x_control, mass_control = arrays(control.at(k))
    z, x, mass = arrays(edited.at(k))
    expression = edited.g[k].detach().cpu().double().numpy()
    obs = pd.DataFrame(index=pd.Index(edited.cells, name=schema.CELL))
    obs["fate_control"] = pd.Categorical(fate.predict(z_control), categories=fate.fates)
    obs["fate_edited"] = pd.Categorical(fate.predict(z), categories=fate.fates)
    obs[TERMINAL_STATES] = obs["fate_edited"]
    obs["displacement_um"] = displacement_um(control, edited)[k]
    obs["mass_control"], obs["mass_edited"] = mass_control, mass
    obs[schema.TIME] = float(control.times_h[k])
    genes = edited.panel or tuple(f"gene {i}" for i in range(expression.shape[1]))
    adata = AnnData(expression, obs=obs, var=pd.DataFrame(index=pd.Index(genes, name="gene", dtype=str)))
    adata.layers["delta_X"] = expression - control.g[k].detach().cpu().double().numpy()
    adata.obsm[schema.EMBED] = z
    adata.obsm[FATE_PROBABILITIES] = fate.proba(z)
    if x.shape[1]:
        adata.obsm[schema.SPATIAL] = x
        adata.obsm["spatial_control"] = x_control
        if edited.frame.name == BODY:
            adata.obsm[schema.ALIGNED] = x.copy()
    adata.uns[schema.META] = {"time_unit": "h", "space_unit": "um", "frame": edited.frame.name, "expression": "log1p"}
    return adata
