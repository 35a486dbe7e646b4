"""Speed of roll-outs, against the rate at which this machine multiplies the same matrices.

    python benchmarks/rollouts.py --out docs/speed-of-rollouts.md

The law is a `FlowNetwork` of 20 + 32 + 3 columns, width 128, depth 3, float32 (the defaults of a run), integrated with
rk4. The yardstick is the chain of matrix products of the network alone, of the same shapes in the same blocks: no bias,
no activation, no solver. Everything runs on one thread and is timed in processor time, in turn, the best of each taken,
since the machine may be shared; floating-point operations are those of the products. "Of it" is the share of the
yardstick's rate in blocks of the same size, and of its best rate over all blocks (the stricter).
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pages
import torch
from torch import Tensor
from torchdiffeq import odeint

from embryo import simulate
from embryo.core import field as laws
from embryo.core.field import Field
from embryo.core.state import State
from embryo.fields.flow import FlowNetwork
from embryo.simulate.steps import grid

SHAPES = ((62, 128), (128, 128), (128, 128), (128, 56))
FLOP = 2 * sum(a * b for a, b in SHAPES)  # per cell and evaluation
STEP_H, STEPS = 0.1, 5
SPAN_H = STEP_H * STEPS


def network() -> FlowNetwork:
    """Return the law."""
    torch.manual_seed(0)
    return FlowNetwork(dims=20, genes=32, space=3).eval()


def start(cells: int) -> State:
    """Return as many random cells."""
    rng = torch.Generator().manual_seed(0)
    z, g, x = (torch.randn(cells, n, generator=rng) for n in (20, 32, 3))
    return State(z, g, x, torch.zeros(cells))


def seconds(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the best time of each task, taken in turn."""
    best = dict.fromkeys(tasks, float("inf"))
    with torch.no_grad():
        for _ in range(repeats):
            for name, task in tasks.items():
                begin = time.process_time()
                task()
                best[name] = min(best[name], time.process_time() - begin)
    return best


def products(cells: int, block: int, dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """Return the yardstick: the network's matrix products alone."""
    pairs = [(torch.randn(block, a).to(dtype), torch.randn(a, b).to(dtype)) for a, b in SHAPES]

    def run() -> None:
        for _ in range(0, cells, block):
            for x, w in pairs:
                x @ w

    return run


def by_torchdiffeq(law: Field, s: State, block: int) -> Callable[[], None]:
    """Return the same roll-out by torchdiffeq, in the same blocks, one call per kept time."""
    times = torch.tensor([0.0, SPAN_H])

    def rates(t: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return law(t, State(*parts)).parts()

    options = {"grid_constructor": lambda _f, _y, t: grid(t, STEP_H), "perturb": True}

    def run() -> None:
        for a in range(0, len(s), block):
            odeint(rates, s[a : a + block].parts(), times, method="rk4", options=options)

    return run


def blocks(cells: int, repeats: int) -> list[str]:
    """Return the table over block sizes."""
    s, rows, best = start(cells), [], 0.0
    for block in (256, 512, 1024, 2048, 4096, 16_384, cells):
        tasks: dict[str, Callable[[], object]] = {
            "products": products(cells, block),
            "ours": lambda b=block: simulate.forward(network(), s, [0.0, SPAN_H], step_h=STEP_H, block=b),  # type: ignore[misc]
            "plain": by_torchdiffeq(network(), s, block),
        }
        t = seconds(tasks, repeats)
        rate = {name: cells * FLOP * (1 if name == "products" else 4 * STEPS) / t[name] / 1e9 for name in t}
        best = max(best, rate["products"])
        rows.append((block, rate))
    lines = [
        f"## Blocks, {cells:,} cells\n",
        f"In GFLOP/s; one kept time, {STEPS} steps. Ours takes torchdiffeq's steps of the folded law",
        "(`FlowNetwork.fast`), and keeps and checks them; plain is torchdiffeq in the same blocks with the network",
        "itself, neither kept nor checked.\n",
        "| block | products | roll-out | of it, same block | of it, best block | plain torchdiffeq |",
        "|---|---|---|---|---|---|",
    ]
    for block, r in rows:
        same, of_best = r["ours"] / r["products"], r["ours"] / best
        rates = f"{r['products']:.0f} | {r['ours']:.0f} | {same:.2f} | {of_best:.2f} | {r['plain']:.0f}"
        lines.append(f"| {block:,} | {rates} |")
    return lines


def curve(repeats: int) -> list[str]:
    """Return the cost over numbers of cells: in memory, and recorded to disk in a process of its own."""
    lines = [
        "\n## Cost\n",
        "One step of rk4 per kept time. Recorded: 10 kept times in a process of its own; its peak memory is that above",
        "what it holds before it begins, the start included, and does not depend on how many times are kept.\n",
        "| cells | µs per cell and step | recorded, s | on disk before compression, MB | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    for cells in (1000, 10_000, 100_000, 1_000_000):
        s, law = start(cells), network()
        few = repeats if cells < 1_000_000 else 1
        t = seconds({"ours": lambda s=s, law=law: simulate.forward(law, s, [0.0, STEP_H], step_h=STEP_H)}, few)["ours"]  # type: ignore[misc]
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, __file__, "--record", str(cells), "--out", folder]
            took, peak = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
        size = 10 * cells * 56 * 4 / 1e6
        lines.append(f"| {cells:,} | {t / cells * 1e6:.2f} | {float(took):.1f} | {size:,.0f} | {float(peak):,.0f} |")
        print(lines[-1], file=sys.stderr)
    return lines


def recorded(cells: int, folder: Path) -> None:
    """Record a roll-out and print seconds and the growth of peak memory, MB (Linux)."""

    def peak() -> float:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
        return int(found[1]) / 1024 if found else float("nan")

    s = start(cells)
    simulate.record(network(), s[:500], [0.0, STEP_H], folder / "warm.zarr", step_h=STEP_H)
    before, begin = peak(), time.process_time()
    simulate.record(network(), s, [STEP_H * k for k in range(10)], folder / "x.zarr", step_h=STEP_H)
    print(time.process_time() - begin, peak() - before)


def precision(cells: int, repeats: int) -> list[str]:
    """Return what bfloat16 would bring: rate of one evaluation, and its error."""
    s, t, narrow = start(cells), torch.tensor(0.3), laws.fast(network().bfloat16())
    wide, low = laws.fast(network()), s.map(lambda part: part.bfloat16())
    took = seconds({"float32": lambda: wide(t, s), "bfloat16": lambda: narrow(t, low)}, repeats)
    with torch.no_grad():
        exact, rounded = (torch.cat([v.dz, v.dg, v.dx], dim=1).float() for v in (wide(t, s), narrow(t, low)))
    error = float((rounded - exact).norm() / exact.norm())
    rates = {name: cells * FLOP / took[name] / 1e9 for name in took}
    return [
        "\n## bfloat16\n",
        f"One evaluation of {cells:,} cells: float32 {rates['float32']:.0f} GFLOP/s, bfloat16 {rates['bfloat16']:.0f}"
        f" GFLOP/s; the velocities then differ by {error:.1%}. It is not offered: at this width it brings little.",
    ]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--record", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.record is not None:
        recorded(given.record, given.out)
        return
    about = f", {torch.get_num_threads()} threads; torch {torch.__version__}"
    lines = [pages.head("Speed of roll-outs", __doc__, about), *blocks(given.cells, given.repeats)]
    lines += [*curve(given.repeats), *precision(1024, 20 * given.repeats)]
    pages.written("\n".join(lines) + "\n", given.out)


if __name__ == "__main__":
    main()
