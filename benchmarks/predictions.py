"""Knock-outs predicted from wild type alone, of every held-out embryo of a run, as one page.

    python benchmarks/predictions.py runs/blastocyst GATA6 NANOG CDX2 --inner DP EPI PRE DN --page page.md

Every start is written to a file of its own and edited as `embryo perturb RUN --start FILE --knockout GENE` does. The
unit of every interval is the embryo: seeds of the fit are averaged first.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from embryo import read
from embryo.core import schema, store
from embryo.core.edit import Edit
from embryo.core.state import State
from embryo.core.table import interval
from embryo.core.trajectory import Trajectory
from embryo.measure.moment import moment
from embryo.pipeline import perturbing, rollouts
from embryo.pipeline.folder import RunFolder
from embryo.pipeline.perturbing import wildtype
from embryo.pipeline.perturbing.bench import Bench

ALL, INNER = "all cells", "inner cells"
LEAST = 0.01  # fractions that are below it everywhere are not listed


def starts(run: RunFolder, out: Path) -> Iterator[tuple[str, Path]]:
    """Write the cells of every held-out start, from its start on, as they were read."""
    genes, placed = (ad.read_h5ad(run.path / name) for name in ("genes.h5ad", "cells.h5ad"))
    for embryo in rollouts.targets(placed):
        t0 = rollouts.times_h(placed, run.config, embryo)[0]
        own = (placed.obs[schema.EMBRYO].astype(str) == embryo).to_numpy()
        own &= placed.obs[schema.TIME].to_numpy(float) >= t0 - schema.SAME_TIME_H
        file = out / f"{embryo}.h5ad"
        read.write(genes[own].copy(), file)
        yield embryo, file


def told(state: State, bench: Bench, rows: np.ndarray | None) -> dict[str, float]:
    """Return fate fractions and mean levels, those of chosen rows too."""
    found = {f"fraction of {k}": float(v) for k, v in moment(state, bench.fate).share.items()}
    g, mass = state.g.double().numpy(), state.mass.double().numpy()
    for name, chosen in ((ALL, np.ones(len(g), bool)), (INNER, rows)):
        if chosen is not None and chosen.any():
            levels = np.average(g[chosen], axis=0, weights=mass[chosen])
            found |= {f"{gene}, {name}": float(v) for gene, v in zip(bench.panel, levels, strict=True)}
    return found


def rolled(arms: Sequence[Trajectory], bench: Bench, times_h: Sequence[float], inner: Sequence[str]) -> pd.DataFrame:
    """Return what an arm is at some times, seeds averaged."""
    known = bench.new.obs[schema.CELL_TYPE].astype(str).isin(inner).to_numpy() if inner else None
    stored = arms[0].times_h.double().numpy()
    rows = []
    for t in times_h:
        k = int(np.abs(stored - t).argmin())
        seeds = [told(arm.at(k), bench, known) for arm in arms]
        rows.append(pd.DataFrame(seeds).fillna(0.0).mean().rename(t))
    return pd.DataFrame(rows)


def one(run: RunFolder, file: Path, genes: Sequence[str], inner: Sequence[str], out: Path) -> dict[str, pd.DataFrame]:
    """Edit one start with every gene; return what every arm is, what was measured, and the yardstick."""
    bench = Bench.open(run.path, file)
    wild, _ = bench.wild
    times = [t for t, states in wild.items() if len(states) > 1 and t <= bench.times_h[-1] + schema.SAME_TIME_H]
    times = [times[k] for k in np.unique(np.linspace(0, len(times) - 1, 4).round().astype(int))]
    found = {"control": rolled(bench.controls, bench, times, inner)}
    seen = {t: [told(s, bench, None) for s in wild[t]] for t in times}
    found["measured"] = pd.DataFrame({t: pd.DataFrame(rows).fillna(0.0).mean() for t, rows in seen.items()}).T
    for gene in genes:
        made = perturbing.perturb(bench, [Edit(gene)], out / f"{file.stem} {gene}".replace(" ", "-"), pictures=False)
        arms = [store.read_trajectory(made.folder / f"trajectories/seed-{seed}.zarr") for seed in bench.seeds]
        found[gene] = rolled(arms, bench, times, inner)
        found[f"{gene} said"] = pd.DataFrame({"said": made.sentences})
        yard = made.table[made.table["model"].isin([wildtype.CONTROL, wildtype.STILL, wildtype.ONE])]
        found["yardstick"] = yard.pivot_table(index=["metric", "time_h"], columns="model", values="value")
    return found


def cell(values: Sequence[float]) -> str:
    """Return a mean and its interval over embryos."""
    i = interval(np.asarray(values, float))
    return f"{i.value:.3g}" if np.isnan(i.low) else f"{i.value:.3g} [{i.low:.3g}, {i.high:.3g}]"


def page(found: dict[str, dict[str, pd.DataFrame]], genes: Sequence[str], run: RunFolder) -> Iterator[str]:
    """Return the lines of the page."""
    every = list(found.values())
    times = list(every[0]["control"].index)
    head = f"commit {run.manifest.get('provenance', {}).get('commit', 'unknown')}"
    yield f"## {run.config.name}\n"
    yield f"{len(every)} held-out embryos, {run.config.seeds} seeds, {head}. Intervals: 95 %, over embryos.\n"
    yield "### The control beside measured wild type\n"
    yield "| distance | time, h | control | no change | one wild-type embryo |\n|---|---|---|---|---|"
    for key in every[0]["yardstick"].index:
        line = [cell([e["yardstick"].loc[key, m] for e in every]) for m in (wildtype.CONTROL, wildtype.STILL)]
        alone = f"{every[0]['yardstick'].loc[key, wildtype.ONE]:.3g}"
        yield f"| {key[0]} ({wildtype.METRICS[key[0]]}) | {key[1]:.4g} | {line[0]} | {line[1]} | {alone} |"
    yield ruled([f"{t:.4g} h {arm}" for t in times for arm in ("control", "measured")])
    for name in listed(every, ["control", "measured"], genes):
        own = [cell(at(every, "control", t, name)) for t in times]
        seen = [f"{at(every, 'measured', t, name)[0]:.3g}" for t in times]
        yield f"| {name} | " + " | ".join(f"{a} | {b}" for a, b in zip(own, seen, strict=True)) + " |"
    for gene in genes:
        yield f"\n### Knock-out of {gene}: edited less control\n"
        yield ruled([f"{t:.4g} h" for t in times])
        for name in listed(every, ["control", gene], genes):
            change = [np.subtract(at(every, gene, t, name), at(every, "control", t, name)) for t in times]
            yield f"| {name} | " + " | ".join(map(cell, change)) + " |"
        first = next(iter(found))
        yield f"\nWhat `embryo perturb` says of {first}:\n"
        yield from (f"- {said}" for said in found[first][f"{gene} said"]["said"])


def ruled(names: Sequence[str]) -> str:
    """Return the head of a table whose first column has no name."""
    return "\n| | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|"


def at(every: Sequence[dict[str, pd.DataFrame]], arm: str, t: float, name: str) -> list[float]:
    """Return a quantity of an arm, embryo by embryo; a fate that is not there is 0."""
    return [float(e[arm].get(name, pd.Series(dtype=float)).get(t, 0.0)) for e in every]


def listed(every: Sequence[dict[str, pd.DataFrame]], arms: Sequence[str], genes: Sequence[str]) -> list[str]:
    """Return what is worth a line: fates that occur; levels of a small panel, or of the genes edited."""
    names = dict.fromkeys(c for e in every for arm in arms for c in e[arm].columns)
    fates = [n for n in names if n.startswith("fraction")]
    often = [
        n for n in fates if max(float(e[arm].get(n, pd.Series([0.0])).max()) for e in every for arm in arms) > LEAST
    ]
    levels = [n for n in names if n not in fates and (arms[-1] != "measured" or n.endswith(ALL))]
    few = len(levels) <= 12
    return [*often, *(n for n in levels if few or n.partition(",")[0] in genes)]


def main() -> None:
    """Predict, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("genes", nargs="+")
    parser.add_argument("--inner", nargs="*", default=[], help="cell types whose levels are told by themselves")
    parser.add_argument("--most", type=int, default=100, help="starts")
    parser.add_argument("--page", type=Path, required=True)
    args = parser.parse_args()
    run = RunFolder.open(args.run)
    out = run.path / "predictions"
    out.mkdir(exist_ok=True)
    found = {}
    for k, (embryo, file) in enumerate(starts(run, out)):
        if k < args.most:
            found[embryo] = one(run, file, args.genes, args.inner, out)
    with store.atomic(args.page) as partial:
        partial.write_text("\n".join(page(found, args.genes, run)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
