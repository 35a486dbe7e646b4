"""Speed, memory and cost of couplings, ours beside POT's and moscot's.

    pip install --target FOLDER moscot      # brings jax: a folder that only the row of moscot looks into, last
    python benchmarks/couplings.py --out docs/speed-of-couplings.md --also FOLDER [--largest 1000000]

Two clouds of 40 Gaussian islands in 50 dimensions; from one to the other the islands move and change their shares, so
that some mass has far to go. Balanced squared-Euclidean transport, uniform weights. Every row runs in a process of its
own: seconds of wall clock on all cores, the growth of resident memory at its peak over what is held before, and the
peak of the whole process, libraries and the two clouds included (Linux). "Gap" is the share by which the plan costs
more than the exact one where that was computed (network simplex of POT), and else the bound that our certificate gives:
prices that no pair undercuts prove a plan optimal. The error is the largest relative one of a marginal. Relaxed
transport (penalties 1 and 10 on the marginals of sources and targets) is another problem: it costs less since it
carries less far, and what its marginals differ is growth. Sinkhorn's iterations keep their entropy (0.05 of the mean
cost; moscot's costs are computed in batches, never held), low rank is of rank 50, bsp has 50 projections. What would
take longer than `--patience` by its seconds at the size before, grown in proportion, is not tried, and stopped where it
takes longer still. Times of a shared machine are noisy; ratios within a size were taken one after another.
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
import pages
import pandas as pd
from anndata import AnnData

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
    return {"cost": float((plan * cost).sum() / plan.sum())} | _errors(plan.sum(1), plan.sum(0))


def _low_rank(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    q, r, g = ot.lowrank_sinkhorn(a, b, rank=RANK, numItermax=200, warn=False)
    squares = (q.sum(1) @ (a**2).sum(1)) + (r.sum(1) @ (b**2).sum(1))
    errors = _errors(q @ (r.sum(0) / g), r @ (q.sum(0) / g))
    return {"cost": float(squares - 2 * np.sum((a.T @ q / g) * (b.T @ r)))} | errors


def _moscot(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    from moscot.problems.generic import SinkhornProblem  # noqa: PLC0415  absent where only the others are measured

    z = np.vstack([a, b]).astype(np.float32)
    names = [str(k) for k in range(len(z))]
    obs = pd.DataFrame({"t": pd.Categorical(np.repeat([0, 1], [len(a), len(b)]))}, index=names)
    problem = SinkhornProblem(AnnData(z, obs=obs, obsm={"z": z})).prepare(key="t", joint_attr="z", policy="sequential")
    plan = problem.solve(epsilon=ENTROPY, batch_size=1024).solutions[0, 1]
    pull, push = (
        lambda y, way=way: np.asarray(way(y, scale_by_marginals=False), float) for way in (plan.pull, plan.push)
    )
    rows, columns = pull(np.ones(len(b))).ravel(), push(np.ones(len(a))).ravel()
    cost = rows @ (a**2).sum(1) + columns @ (b**2).sum(1) - 2 * np.sum(a * pull(b))
    return {"cost": float(cost / rows.sum()), "converged": bool(plan.converged)} | _errors(rows, columns)


def _errors(rows: np.ndarray, columns: np.ndarray) -> dict[str, float]:
    """Largest relative errors of the marginals, which should be even."""
    return {
        f"{side}_error": float(np.abs(mass * len(mass) - 1).max())
        for side, mass in (("source", rows), ("target", columns))
    }


def _ours(a: np.ndarray, b: np.ndarray, **options: Any) -> dict[str, Any]:
    notes = large.plan(a, b, on_progress=_told, **options)[1]
    return {name: notes[name] for name in ("cost", "gap", "converged", "source_error", "target_error")}


def _told(what: str, _: float) -> None:
    print(time.strftime("%H:%M:%S"), what, file=sys.stderr, flush=True)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, Any]]] = {
    "POT emd": lambda a, b: _dense(a, b, lambda u, v, c: ot.emd(u, v, c, numItermax=10**7)),
    "POT sinkhorn": lambda a, b: _dense(a, b, lambda u, v, c: ot.sinkhorn(u, v, c, ENTROPY * c.mean(), warn=False)),
    "POT lowrank": _low_rank,
    "POT bsp": lambda a, b: {"cost": float(ot.solve_sample(a, b, method="bsp", n_projections=50).value)},
    "moscot sinkhorn": _moscot,
    "embryo": _ours,
    "embryo, relaxed": lambda a, b: _ours(a, b, tau=(1.0, 10.0)),
}


def measured(method: str, cells: int) -> None:
    """Run one method and print what it took as JSON."""

    def mebibytes(of: str) -> float:
        return int(re.findall(rf"{of}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))[0]) / 1024

    METHODS[method](*clouds(400))  # imports and compilation are nobody's time
    a, b = clouds(cells)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak
    before, begin = mebibytes("VmRSS"), time.perf_counter()
    found = METHODS[method](a, b)
    seconds, peak = time.perf_counter() - begin, mebibytes("VmHWM")
    print(json.dumps(found | {"seconds": seconds, "mb": peak - before, "peak": peak}))


def tried(method: str, cells: int, also: str, patience: float) -> dict[str, Any]:
    """Measure in a process of its own; where that fails, say why."""
    words = [sys.executable, "-W", "ignore", __file__, "--measure", method, "--largest", str(cells), "--also", also]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=patience)
    except subprocess.TimeoutExpired:
        return {"why": f"stopped after {patience:.0f} s"}
    if done.returncode:
        return {"why": done.stderr.strip().splitlines()[-1][:80]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def shown(found: dict[str, Any], exact: float | None) -> str:
    """Return what was found as the cells of a row."""
    gap = found["cost"] / exact - 1 if exact else found.get("gap")
    said = "" if gap is None else f"{gap:.2%}" if exact else f"{gap:.2%} (bound)"
    errors = [found[f"{side}_error"] for side in ("source", "target") if f"{side}_error" in found]
    wrong = f"{max(errors):.1g}" if errors else ""
    note = "" if found.get("converged", True) else "did not converge"
    took = f"{found['seconds']:.1f} | {found['mb']:,.0f} | {found['peak']:,.0f}"
    return f"{took} | {found['cost']:.4g} | {said} | {wrong} | {note}"


def rows(largest: int, also: str, patience: float) -> list[str]:
    """Return the table, a row per size and method."""
    lines = ["| cells | method | seconds | growth, MB | peak, MB | cost | gap | error | |", "|---" * 9 + "|"]
    rates: dict[str, float] = {}  # seconds per cell at the size before
    for cells in (n for n in (1000, 3000, 10_000, 100_000, 1_000_000) if n <= largest):
        exact = None
        for method in METHODS:
            expected = rates.get(method, 0.0) * cells
            found: dict[str, Any]
            if cells > DENSE and method in ("POT emd", "POT sinkhorn"):
                found = {"why": f"{cells**2 * 8 / 1e9:,.0f} GB of costs: not tried"}
            elif np.isinf(expected):
                found = {"why": "as before"}
            elif expected > patience:
                found = {"why": f"{expected:,.0f} s or more: not tried"}
            else:
                found = tried(method, cells, also, patience)
            rates[method] = found.get("seconds", np.inf) / cells
            exact = found.get("cost") if method == "POT emd" else exact
            known = None if "relaxed" in method else exact
            text = f" | | | | | | {found['why']}" if "why" in found else shown(found, known)
            lines.append(f"| {cells:,} | {method} | {text} |")
            print(lines[-1], file=sys.stderr)
    return lines


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--also", default="", help="folder of packages to look into last, for moscot")
    parser.add_argument("--patience", type=float, default=600, help="seconds that a row may take")
    parser.add_argument("--measure", choices=list(METHODS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        sys.path.extend([given.also] if given.also and given.measure.startswith("moscot") else [])
        measured(given.measure, given.largest)
        return
    head = pages.head("Speed of couplings", __doc__)
    pages.written("\n".join([head, *rows(given.largest, given.also, given.patience)]) + "\n", given.out)


if __name__ == "__main__":
    main()
