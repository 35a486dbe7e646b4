"""One perturbation, or many of one start: rolled out, measured, written."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from embryo import measure
from embryo import perturb as edits_of
from embryo.core import field as laws
from embryo.core import schema, store
from embryo.core.edit import CELL_OPERATIONS, Edit, Operation, label
from embryo.core.table import table as rows_of
from embryo.core.trajectory import Trajectory
from embryo.pipeline import places
from embryo.pipeline.perturbing import arms, effects, encoded, told, wildtype, yardsticks
from embryo.pipeline.perturbing.bench import FOLDER, Bench
from embryo.pipeline.perturbing.support import ABSTAIN
from embryo.pipeline.rollouts import Tick


@dataclass(frozen=True)
class Found:
    """What a perturbation showed.

    Parameters
    ----------
    label
        Of the edits.
    folder
        Where everything lies.
    table, divergence, autonomy, support, encoder
        As in the files of these names; the last is empty where the encoder could not be asked.
    sentences
        What a person reads first: tier, support, effects.
    tier
        A, B or C.
    abstains
        Whether more edited states than stated lie beyond the training data.
    """

    label: str
    folder: Path
    table: pd.DataFrame
    divergence: pd.DataFrame
    autonomy: pd.DataFrame
    support: pd.DataFrame
    encoder: pd.DataFrame
    sentences: tuple[str, ...]
    tier: str
    abstains: bool


def perturb(
    bench: Bench,
    edits: Sequence[Edit],
    out: Path | None = None,
    *,
    abstain_above: float = ABSTAIN,
    nulls: int = yardsticks.GENES,
    pictures: bool = True,
    tick: Tick | None = None,
) -> Found:
    """Roll a start out with edits beside its control, with every seed of the run, and write what they change.

    Parameters
    ----------
    bench
        Run and start.
    edits
        Held together.
    out
        Folder for the results; in the run folder by default.
    abstain_above
        Share of edited states beyond the training data above which the result is said not to be one.
    nulls
        Genes of like level that are edited the same way, for comparison.
    pictures
        Whether to draw and to write the page.
    tick
        Called with (what, done, of).

    Raises
    ------
    EditError
        With everything that start, times or law do not hold.
    """
    bench.check(edits)
    name = label(edits)
    folder = out or bench.run.path / FOLDER / places.slug(f"{bench.name} {' + '.join(e.words for e in edits)}")
    places.require(folder, "a perturbation", ["edits.json", "trajectories"])
    folder.mkdir(parents=True, exist_ok=True)
    pairs, direct, carrying = _rolled(bench, edits, folder, tick)
    genes = [e.gene for e in edits if e.operation not in CELL_OPERATIONS]
    effect = _table(bench, edits, pairs, nulls)
    reach = effects.supported(pairs, bench.support)
    tier = told.tier(bench.laws[0], edits)
    abstains = effects.share(reach, "edited") > abstain_above
    split = effects.autonomy(pairs, direct, carrying, genes, bench.fate, bench.support)
    answer, asked = _answers(bench, edits, pairs, nulls)
    if bench.run.config.fit.bootstrap:
        effect, split, answer = map(effects.over_embryos, (effect, split, answer))
    sure = (
        tier.sentence,
        *told.on_wild_type(bench.laws),
        *told.on_motion(bench.laws, asked=bench.run.config.fit.forces, growth=bench.growth),
        *told.on_time(bench.times_h, bench.trained_h),
        wildtype.sentence(effect, bench.wild[1]),
        told.on_support(reach, abstain_above),
    )
    sentences = (
        *sure,
        *told.on_intervals(bench),
        *told.on_effects(effect, split, bench, direct),
        *yardsticks.sentences(effect),
        *asked,
    )
    effect["tier"] = tier.letter
    first = effects.readable(effects.divergence(pairs, bench.fate), "name", posed=bench.posed)
    found = Found(name, folder, effect, first, split, reach, answer, sentences, tier.letter, abstains)
    _write(bench, edits, found, pairs)
    if pictures:
        told.page(bench, edits, found, pairs)
    return found


def _rolled(
    bench: Bench, edits: Sequence[Edit], folder: Path, tick: Tick | None
) -> tuple[list[tuple[Trajectory, Trajectory]], list[Trajectory], list[np.ndarray]]:
    """Return the arms of every seed, edited ones with neighbours held where the law can, and who carries the edit."""
    pairs: list[tuple[Trajectory, Trajectory]] = []
    direct, carrying = [], []
    for k, seed in enumerate(bench.seeds):
        edited, masks = _member(bench, k, edits)
        pairs.append(arms.paired(bench.controls[k], edited))
        frozen = laws.frozen(bench.laws[k], bench.controls[k])
        if frozen is not None and bench.growth == "mass" and not any(e.operation in CELL_OPERATIONS for e in edits):
            direct.append(_member(bench, k, edits, frozen)[0])
        carrying.append(masks)
        if tick is not None:
            tick("roll out", k + 1, len(bench.seeds))
        store.write_trajectory(edited, folder / f"trajectories/seed-{seed}.zarr")
    return pairs, direct, carrying


def _table(bench: Bench, edits: Sequence[Edit], pairs: effects.Arms, nulls: int) -> pd.DataFrame:
    """Return the differences of the arms, the yardsticks, and the measured wild type with the effect added."""
    one, two = zip(*pairs, strict=True)
    name, seed = label(edits), bench.run.config.seed
    effect = measure.difference(one, two, fate=bench.fate, repeats=bench.repeats, board=name, seed=seed)
    floors = yardsticks.yardsticks(bench, edits, two[0], name, nulls)
    added = effects.added(pairs, bench.measured, bench.fate, name, sorted(set(effect["time_h"])))
    wild = bench.beside.assign(board=name)
    found = effects.readable(pd.concat([effect, floors, added, wild], ignore_index=True), "metric", posed=bench.posed)
    found["beyond_repeats"] = found["beyond_repeats"].eq(other=True)
    return found


def _answers(bench: Bench, edits: Sequence[Edit], pairs: effects.Arms, nulls: int) -> tuple[pd.DataFrame, list[str]]:
    """Return what the encoder answers beside the law's effect, and what is to be said; nothing for edits of cells."""
    if not encoded.comparable(edits):
        return rows_of([]), []
    return encoded.answers(bench.asked, edits, yardsticks.matched(bench, edits, nulls), pairs, label(edits))


def _member(
    bench: Bench, k: int, edits: Sequence[Edit], law: laws.Field | None = None
) -> tuple[Trajectory, np.ndarray]:
    """Return the edited roll-out of one seed, and which particles of the start carry any edit."""
    donors = []
    for n, edit in enumerate(e for e in edits if e.operation is Operation.GRAFT):
        state, cells = bench.graft(str(edit.file))
        known = schema.CELL_TYPE in cells.obs
        types = tuple(cells.obs[schema.CELL_TYPE].astype(str)) if known else ("",) * cells.n_obs
        names = tuple(f"graft {n + 1}: {name}" for name in cells.obs_names)
        donors.append(arms.Donors(state, max(edit.t_on_h, bench.times_h[0]), names, types))
    rolled = bench.rolled(k, edits, donors, law)
    own = [edit for edit in edits if edit.operation is not Operation.GRAFT]
    masks = edits_of.carriers(own, bench.state, bench.context(bench.seeds[k])).any(dim=0).cpu().numpy()
    founders = rolled.provenance.get("founder")
    return rolled, masks if founders is None else masks[_founders_in_pair(bench, k, rolled)]


def _founders_in_pair(bench: Bench, k: int, rolled: Trajectory) -> np.ndarray:
    """Return the founder of every cell that either arm has, in the order of `arms.paired`."""
    control = bench.controls[k]
    pairs = [*zip(control.cells, control.provenance["founder"], strict=True)]
    pairs += zip(rolled.cells, rolled.provenance["founder"], strict=True)
    return np.array(list(dict(pairs).values()), dtype=np.int64)


def _write(bench: Bench, edits: Sequence[Edit], found: Found, pairs: effects.Arms) -> None:
    folder = found.folder
    record = {
        "format": "embryo-edits", "version": 1, "label": found.label, "edits": [e.to_json() for e in edits],
        "start": bench.name, "times_h": bench.times_h, "seeds": bench.seeds, "tier": found.tier,
        "abstains": found.abstains, "sentences": list(found.sentences),
        "provenance": bench.run.manifest.get("provenance", {}),
    }  # fmt: skip
    store.write_json(record, folder / "edits.json")
    for name in ("table", "divergence", "autonomy", "support", "encoder"):
        store.write_table(getattr(found, name), folder / f"{name}.csv")
    for seed, pair in zip(bench.seeds, pairs, strict=True):
        for arm, trajectory in zip(("control", "edited"), pair, strict=True):
            with store.atomic(folder / f"{arm}-seed-{seed}.h5ad") as partial:
                told.end(trajectory, bench.fate, found).write_h5ad(partial)


def each(  # noqa: PLR0913  two of them say how much work may be done at once
    path: Path,
    edits: Mapping[str, Sequence[Edit]],
    out: Path,
    *,
    start: Path | None = None,
    until_h: float | None = None,
    abstain_above: float = ABSTAIN,
    nulls: int = yardsticks.GENES,
    pictures: bool = False,
    jobs: int = 1,
    tick: Tick | None = None,
) -> pd.DataFrame:
    """Perturb one start with each of many edits; the wild type is rolled out once for all.

    Parameters
    ----------
    path, start, until_h
        As of `Bench.open`.
    edits
        Name to the edits that are held together.
    out
        Folder with one folder per name, and ``table.csv`` of them all.
    abstain_above, nulls, pictures
        As of `perturb`.
    jobs
        Processes; each opens the run once.
    tick
        Called with (what, done, of).

    Returns
    -------
    pd.DataFrame
        The tables of all edits, boards by their names.
    """
    places.require(out, "perturbations", ["table.csv", "*/trajectories"])
    bench = Bench.open(path, start, until_h=until_h)
    for records in edits.values():
        bench.check(records)
    bench.controls  # noqa: B018  rolled and kept before others look for them
    names = list(edits)
    how = (abstain_above, nulls, pictures)
    work = [(name, list(edits[name]), out / places.slug(name), *how) for name in names]
    if jobs == 1:
        tables = []
        for k, task in enumerate(work):
            tables.append(_one(bench, *task))
            if tick is not None:
                tick("perturb", k + 1, len(work))
    else:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _open, (path, start, until_h)) as pool:
            tables = list(pool.map(_opened, work))
    whole = pd.concat(tables, ignore_index=True)
    store.write_table(whole, out / "table.csv")
    return whole


_BENCH: list[Bench] = []


def _open(path: Path, start: Path | None, until_h: float | None) -> None:
    torch.set_num_threads(1)
    _BENCH[:] = [Bench.open(path, start, until_h=until_h)]


def _opened(task: tuple[str, list[Edit], Path, float, int, bool]) -> pd.DataFrame:
    return _one(_BENCH[0], *task)


def _one(bench: Bench, name: str, edits: list[Edit], out: Path, *how: float | int | bool) -> pd.DataFrame:
    above, nulls, pictures = how
    found = perturb(bench, edits, out, abstain_above=float(above), nulls=int(nulls), pictures=bool(pictures))
    return found.table.assign(board=name, abstains=found.abstains)
