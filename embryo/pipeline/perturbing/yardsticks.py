"""What one would see or say without the model: matched random genes, the edit alone, a delay of development.

No truth is at hand, so these are not judged: they say which part of an effect any edit, any reading of the edited gene
itself, or a late embryo would show as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from embryo import measure
from embryo.core.edit import GENE_OPERATIONS, Edit
from embryo.core.table import row, table
from embryo.core.trajectory import Trajectory
from embryo.pipeline.perturbing import arms
from embryo.pipeline.perturbing.bench import Bench

RANDOM, SHIFT, DELAY = "matched random genes", "the edit alone", "developmental delay"
GENES = 3  # drawn to match an edited gene, by default
_ROUNDING = 1e-9  # shares that differ by less are the same


def yardsticks(bench: Bench, edits: Sequence[Edit], edited: Trajectory, board: str, genes: int = GENES) -> pd.DataFrame:
    """Return rows of role ``floor`` like those of `measure.difference`, of the first seed of the run and its `edited`.

    ``matched random genes``
        The same operations on other genes of the panel, those nearest in mean level over the control's roll-out; mean
        over them, low and high their least and greatest. `n_seeds` counts genes.
    ``the edit alone``
        Levels of the edited genes as in the edited arm, everything else as in the control; the embedding moved by
        their response (linear shift).
    ``developmental delay``
        The control one stored step earlier.
    """
    control = bench.controls[0]
    of_genes = [edit for edit in edits if edit.operation in GENE_OPERATIONS]
    frames = []
    if of_genes and len(of_genes) == len(edits):
        others = [bench.rolled(0, swapped) for swapped in matched(bench, of_genes, genes)]
        effects = [_differences(bench, control, other, board) for other in others]
        frames += [_pooled(effects, board)] if effects else []
        shifted = shift(bench, of_genes, edited)
        frames.append(_as_floor(_differences(bench, control, shifted, board), SHIFT))
    frames.append(_as_floor(_differences(bench, control, delayed(control), board), DELAY))
    return pd.concat(frames, ignore_index=True)


def matched(bench: Bench, edits: Sequence[Edit], many: int) -> list[list[Edit]]:
    """Return the edits again and again, each time of the unedited genes that are next nearest in level to theirs."""
    panel = bench.controls[0].panel
    level = bench.controls[0].g.double().mean(dim=(0, 1)).numpy()
    free = [k for k, name in enumerate(panel) if name not in {edit.gene for edit in edits}]
    out = []
    for rank in range(min(many, len(free))):
        used: dict[str, str] = {}
        for gene in dict.fromkeys(edit.gene for edit in edits):
            own = level[panel.index(gene)] if gene in panel else 0.0
            left = [panel[k] for k in sorted(free, key=_apart(level, own)) if panel[k] not in used.values()]
            used[gene] = left[min(rank, len(left) - 1)] if left else gene
        out.append([replace(edit, gene=used[edit.gene], program=None) for edit in edits])
    return out


def _apart(level: np.ndarray, own: float) -> Callable[[int], float]:
    return lambda k: abs(float(level[k]) - own)


def shift(bench: Bench, edits: Sequence[Edit], edited: Trajectory) -> Trajectory:
    """Return the control with the edited genes as in the edited arm, and the embedding moved by their response."""
    control, other = arms.paired(bench.controls[0], edited)
    columns = [control.panel.index(edit.gene) for edit in edits if edit.gene in control.panel]
    g = control.g.clone()
    g[:, :, columns] = other.g[:, :, columns]
    response = torch.as_tensor(np.asarray(bench.context(0).response)).to(control.z)
    return replace(control, g=g, z=control.z + (g - control.g) @ response)


def delayed(control: Trajectory) -> Trajectory:
    """Return the roll-out one stored step late."""
    z, g, x, log_mass = (
        torch.cat([part[:1], part[:-1]]) for part in (control.z, control.g, control.x, control.log_mass)
    )
    return replace(control, z=z, g=g, x=x, log_mass=log_mass)


def _differences(bench: Bench, control: Trajectory, other: Trajectory, board: str) -> pd.DataFrame:
    one, two = arms.paired(control, other)
    found = measure.difference([one], [two], fate=bench.fate, board=board, seed=bench.run.config.seed)
    return found[found["role"] == "difference"]


def _as_floor(found: pd.DataFrame, model: str) -> pd.DataFrame:
    return found.assign(model=model, role="floor", beyond_repeats=False)


def _pooled(effects: Sequence[pd.DataFrame], board: str) -> pd.DataFrame:
    """Return the mean over genes, with the least and the greatest as low and high."""
    rows = []
    for (split, t_h, metric, unit), group in pd.concat(effects).groupby(
        ["split", "time_h", "metric", "unit"], sort=False
    ):
        values = group["value"].to_numpy()
        about = {"board": board, "split": str(split), "metric": str(metric), "unit": str(unit)}
        record = row(model=RANDOM, role="floor", values=values, **about)
        ends = {"low": values.min(), "high": values.max(), "time_h": t_h, "beyond_repeats": False}
        rows.append(record | ends)
    return table(rows)


def sentences(effect: pd.DataFrame) -> list[str]:
    """Return how the shift of fates stands to that of the yardsticks at the end; nothing without any."""
    last = effect[(effect["metric"] == "bray_curtis[fates]") & (effect["time_h"] == effect["time_h"].max())]
    own = last.loc[last["role"] == "difference", "value"]
    floors = last[last["role"] == "floor"].set_index("model")
    if RANDOM not in floors.index or own.empty:
        return []
    shifts = (own.iloc[0], floors.loc[RANDOM, "low"], floors.loc[RANDOM, "high"], floors.loc[DELAY, "value"])
    mine, low, high, late = (0.0 if abs(value) < _ROUNDING else float(value) for value in shifts)
    than = "more than" if mine > high + _ROUNDING else "no more than"
    many = int(floors.loc[RANDOM, "n_seeds"])
    among = "one gene of like level" if many == 1 else f"{many} genes of like level"
    return [
        f"Fates shift by {mine:.2g} (Bray-Curtis), {than} the same edit of {among} does "
        f"({low:.2g} to {high:.2g}); a delay by one stored step shifts them by {late:.2g}."
    ]
