"""Peak memory of embedding a file, against its number of cells: it should not grow with them.

    python benchmarks/memory.py --out docs/memory-of-embedding.md

Files of 25,000 to 400,000 cells by 2,000 genes (5% filled) are embedded by `embryo.embed.file`, each in a process of
its own. What grows is the names of the cells, which are held; expression and embedding are not. Linux only: peak memory
is VmHWM of the process, since ru_maxrss would count that of its parent.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from embryo import embed, encoders
from embryo.core import provenance, store

GENES, FOUND = 2000, 100


def write(path: Path, cells: int) -> None:
    """Write a file of cells with `FOUND` genes each."""
    rng = np.random.default_rng(0)
    columns = (np.arange(FOUND) * (GENES // FOUND) + rng.integers(0, GENES // FOUND, (cells, FOUND))).ravel()
    counts = sparse.csr_matrix(
        (rng.integers(1, 9, len(columns)).astype(np.float32), columns, np.arange(0, len(columns) + 1, FOUND)),
        shape=(cells, GENES),
    )
    names = [f"c{k}" for k in range(cells)], [f"GENE{k}" for k in range(GENES)]
    obs, var = (pd.DataFrame(index=index) for index in names)
    ad.AnnData(obs=obs, var=var, layers={"counts": counts}).write_h5ad(path)


def embedded(path: Path, out: Path) -> None:
    """Embed with a PCA fitted on 5,000 cells, and print peak memory (MB) and seconds."""
    with embed.opened(path) as source:
        encoder = encoders.build("pca", dims=20).fit(source.take(np.arange(5000)))
    start = time.perf_counter()
    embed.file(path, encoder, out)
    seconds = time.perf_counter() - start
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    print(int(peak[1]) / 1024 if peak else float("nan"), seconds)


def main() -> None:
    """Measure every size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    given = parser.parse_args()
    if given.file is not None:
        embedded(given.file, given.file.with_name("out.h5ad"))
        return
    made = provenance.provenance(0, {}, {})
    said = __doc__.split("\n\n", 2)[2].strip() if __doc__ else ""
    lines = [
        f"# Memory of embedding\n\nCommit {made['commit']}; {made['platform']}.\n\n{said}\n",
        "| cells | file, MB | peak memory, MB | seconds |\n|---|---|---|---|",
    ]
    for cells in (25_000, 100_000, 400_000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cells.h5ad"
            write(path, cells)
            words = [sys.executable, __file__, "--file", str(path)]
            memory, seconds = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
            megabytes = path.stat().st_size / 1e6
            lines.append(f"| {cells:,} | {megabytes:,.0f} | {float(memory):,.0f} | {float(seconds):.1f} |")
            print(lines[-1], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    if given.out is None:
        print(text)
        return
    with store.atomic(given.out) as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
