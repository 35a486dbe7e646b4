"""Many edits of one start: what they share, and how they scale with cores.

    python benchmarks/edits.py --out docs/speed-of-edits.md [--edits 100]

A run of the synthetic embryo whose genes obey a circuit (`fit.structure: circuit`, two seeds), its held-out embryo the
start; every edit is a knock-out, knock-down or over-expression of one panel gene, rolled out with every seed, measured
and written, without pictures and without genes of like level. "One by one" starts `embryo perturb` anew for every edit
and keeps no control: five of them are timed. "Together" is `embryo perturb --each --jobs N`: the run is opened once a
process, its wild type rolled once for all. Wall clock and, of the process and its children, processor time; the machine
may be shared, so that the ratio of processor times is the steadier one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pages

from embryo import config as configs
from embryo import pipeline
from embryo.core.edit import Edit, Operation
from embryo.datasets.synthetic import PANEL

ALONE = 5  # edits that are timed one by one
RUN = ("fit.structure=circuit", "seeds=2", "fit.steps=300", "fit.width=64", "couple.max_cells=500")
DOSES = (
    (Operation.KNOCKOUT, 0.0), (Operation.KNOCKDOWN, 0.25), (Operation.KNOCKDOWN, 0.5), (Operation.KNOCKDOWN, 0.75),
    (Operation.OVEREXPRESS, 1.0), (Operation.OVEREXPRESS, 2.0),
)  # fmt: skip


def edits(many: int) -> list[Edit]:
    """Return as many different edits of single genes."""
    found = [Edit(gene, operation, dose) for operation, dose in DOSES for gene in PANEL]
    if many > len(found):
        sys.exit(f"at most {len(found)} edits")
    return found[:many]


def timed(words: list[str]) -> tuple[float, float]:
    """Run the command; return seconds of wall clock and of all its processors."""
    before, begin = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "embryo.cli", *words, "--quiet"], check=True, capture_output=True)
    after, took = os.times(), time.perf_counter() - begin
    return took, sum(after[2:4]) - sum(before[2:4])


def one_by_one(run: Path, records: list[Edit], folder: Path) -> tuple[float, float]:
    """Return the seconds that an edit takes which shares nothing."""
    walls, cpus = [], []
    for k, edit in enumerate(records[:ALONE]):
        shutil.rmtree(run / "perturbations", ignore_errors=True)
        file = folder / "one.json"
        file.write_text(json.dumps([edit.to_json()]), encoding="utf-8")
        out = folder / f"alone-{k}"
        wall, cpu = timed(["perturb", str(run), "--edits", str(file), "--each", "--nulls", "0", "--out", str(out)])
        walls.append(wall)
        cpus.append(cpu)
    return sum(walls) / len(walls), sum(cpus) / len(cpus)


def together(run: Path, records: list[Edit], folder: Path, jobs: int) -> tuple[float, float]:
    """Return the seconds that all edits take which share the wild type."""
    shutil.rmtree(run / "perturbations", ignore_errors=True)
    file = folder / "all.json"
    file.write_text(json.dumps([e.to_json() for e in records]), encoding="utf-8")
    words = ["perturb", str(run), "--edits", str(file), "--each", "--jobs", str(jobs), "--nulls", "0"]
    return timed([*words, "--out", str(folder / f"jobs-{jobs}")])


def table(many: int) -> list[str]:
    """Return the rows."""
    records = edits(many)
    lines = [
        "| edits | how | seconds | seconds an edit | processor seconds an edit | times one by one |",
        "|---" * 6 + "|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = pipeline.run(configs.load(None, RUN), folder / "run", until="fit").path
        wall, cpu = one_by_one(run, records, folder)
        lines.append(f"| {ALONE} | one by one | {wall * ALONE:.1f} | {wall:.2f} | {cpu:.2f} | 1 |")
        for jobs in sorted({1, len(os.sched_getaffinity(0))}):
            took, used = together(run, records, folder, jobs)
            each = took / len(records)
            how = f"together, {jobs} process{'es' if jobs > 1 else ''}"
            lines.append(
                f"| {len(records)} | {how} | {took:.1f} | {each:.2f} | {used / len(records):.2f} | {wall / each:.1f} |"
            )
            print(lines[-1], file=sys.stderr)
    return lines


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    parser.add_argument("--edits", type=int, default=100)
    given = parser.parse_args()
    head = pages.head("Speed of edits", __doc__, f", {len(os.sched_getaffinity(0))} processors")
    pages.written("\n".join([head, *table(given.edits)]) + "\n", given.out)


if __name__ == "__main__":
    main()
