"""Speed, memory and cost of couplings, ours beside POT's.

    python benchmarks/couplings.py --out docs/speed-of-couplings.md [--largest 1000000]

Two clouds of 40 Gaussian islands in 50 dimensions; from one to the other the islands move and change their shares, so
that some mass has far to go. Balanced squared-Euclidean transport, uniform weights. Every row runs in a process of its
own: seconds of wall clock on all cores, and the growth of its peak memory over what it holds before it begins (Linux).
"Gap" is the share by which the plan costs more than the exact one where that was computed (network simplex of POT), and
else the bound that our certificate gives: prices that no pair undercuts prove a plan optimal. POT's Sinkhorn keeps its
entropy (0.05 of the mean cost), low rank is of rank 50. moscot and ott-jax are not measured: they bring jax, which this
environment does not hold. Times of a shared machine are noisy; ratios within a size were taken one after another.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ot

from embryo.core import provenance, store
from embryo.couple import large

DIMS, ISLANDS, ENTROPY, RANK = 50, 40, 0.05, 50
DENSE = 10_000  # cells beyond which dense costs are not tried


def clouds(cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two clouds, scaled so that the mean squared distance within an island is 1."""
    rng = np.random.default_rng(0)
    middle = 3 * rng.normal(size=(ISLANDS, DIMS))
    moved = middle + rng.normal(size=middle.shape)
    shares = rng.dirichlet(np.full(ISLANDS, 5.0))
    a = middle[rng.integers(ISLANDS, size=cells)] + rng.normal(size=(cells, DIMS))
    b = moved[rng.choice(ISLANDS, size=cells, p=shares)] + rng.normal(size=(cells, DIMS))
    return a / np.sqrt(2 * DIMS), b / np.sqrt(2 * DIMS)


def _dense(a: np.ndarray, b: np.ndarray, solve: Callable[..., np.ndarray]) -> dict[str, Any]:
    cost = ot.dist(a, b)
    plan = solve([], [], cost)
    return {"cost": float((plan * cost).sum() / plan.sum())}


def _low_rank(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    q, r, g = ot.lowrank_sinkhorn(a, b, rank=RANK, numItermax=200, warn=False)
    squares = (q.sum(1) @ (a**2).sum(1)) + (r.sum(1) @ (b**2).sum(1))
    return {"cost": float(squares - 2 * np.sum((a.T @ q / g) * (b.T @ r)))}


def _ours(a: np.ndarray, b: np.ndarray, **options: Any) -> dict[str, Any]:
    notes = large.plan(a, b, **options)[1]
    return {name: notes[name] for name in ("cost", "gap", "converged", "source_error", "target_error")}


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, Any]]] = {
    "POT emd": lambda a, b: _dense(a, b, lambda u, v, c: ot.emd(u, v, c, numItermax=10**7)),
    "POT sinkhorn": lambda a, b: _dense(a, b, lambda u, v, c: ot.sinkhorn(u, v, c, ENTROPY * c.mean(), warn=False)),
    "POT lowrank": _low_rank,
    "POT bsp": lambda a, b: {"cost": float(ot.solve_sample(a, b, method="bsp", n_projections=50).value)},
    "embryo": _ours,
    "embryo, relaxed": lambda a, b: _ours(a, b, tau=(1.0, 10.0)),
}


def measured(method: str, cells: int) -> None:
    """Run one method and print what it took as JSON."""

    def peak() -> float:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
        return int(found[1]) / 1024 if found else float("nan")

    METHODS[method](*clouds(400))  # imports and compilation are nobody's time
    a, b = clouds(cells)
    before, begin = peak(), time.perf_counter()
    found = METHODS[method](a, b)
    print(json.dumps(found | {"seconds": time.perf_counter() - begin, "mb": peak() - before}))


def rows(largest: int) -> list[str]:
    """Return the table, a row per size and method."""
    lines = ["| cells | method | seconds | peak memory, MB | cost | gap | |", "|---|---|---|---|---|---|---|"]
    for cells in (n for n in (1000, 3000, 10_000, 100_000, 1_000_000) if n <= largest):
        exact = None
        for method in METHODS:
            if cells > DENSE and method in ("POT emd", "POT sinkhorn"):
                lines.append(f"| {cells:,} | {method} | | | | | {cells**2 * 8 / 1e9:,.0f} GB of costs: not tried |")
                continue
            if cells > DENSE and not method.startswith("embryo"):
                continue
            words = [sys.executable, __file__, "--measure", method, "--largest", str(cells)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                lines.append(f"| {cells:,} | {method} | | | | | {done.stderr.strip().splitlines()[-1][:80]} |")
                continue
            found = json.loads(done.stdout)
            exact = found["cost"] if method == "POT emd" else exact
            balanced = "relaxed" not in method
            gap = found["cost"] / exact - 1 if exact and balanced else found.get("gap")
            said = f"{gap:.2%}" if gap is not None else ""
            said += " (bound)" if gap is not None and not (exact and balanced) else ""
            time_, memory = f"{found['seconds']:.1f}", f"{found['mb']:,.0f}"
            note = "" if found.get("converged", True) else "did not converge"
            lines.append(f"| {cells:,} | {method} | {time_} | {memory} | {found['cost']:.4g} | {said} | {note} |")
            print(lines[-1], file=sys.stderr)
    return lines


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--measure", choices=list(METHODS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measured(given.measure, given.largest)
        return
    made = provenance.provenance(0, {}, {})
    said = __doc__.split("\n\n", 2)[2].strip() if __doc__ else ""
    text = "\n".join(
        [f"# Speed of couplings\n\nCommit {made['commit']}; {made['platform']}.\n\n{said}\n", *rows(given.largest)]
    )
    print(text)
    if given.out is not None:
        with store.atomic(given.out) as partial:
            partial.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
