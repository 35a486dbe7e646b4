"""Cells per second of every pretrained encoder at its published sizes, with random weights.

    python benchmarks/encoders.py --out docs/speed-of-encoders.md            # CPU
    python benchmarks/encoders.py --device cuda --out ...                    # a GPU, where there is one

Each row is one published size on the same cells: 2,000 genes found in each, or as many as the model reads. The
yardstick is the rate at which this machine multiplies large square matrices in the same precision, the best that was
measured in this run, beside every row; `of it` is the share of that rate that the forward pass reaches (floating-point
operations counted by `torch.utils.flop_counter`). Tokenising is timed apart. Times are the best of `--repeats`: the
machine is shared. C2S reads sentences of 200 genes, here one token each; a published tokenizer takes several.
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula, sdpa_flop_count

from embryo import encoders
from embryo.core import provenance, store
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained

GENES, FOUND = 4000, 2000
IN_PROCESS = [name for name in encoders.pretrained_names() if name not in ("teddy", "scprint2")]


@register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu)
def _cpu_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Count the CPU's attention kernel, which the counter does not know, as it counts those of GPUs."""
    return int(sdpa_flop_count(query, key, value))


def _product(a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> int:
    """Count a product of matrices; of a sparse one only its entries, where the counter would take it for dense."""
    return 2 * (a.shape[0] * a.shape[1] if a.layout is torch.strided else a._nnz()) * b.shape[1]


_product._get_raw = True  # type: ignore[attr-defined]  the counter's own mark: give tensors, not shapes


def cells(ids: str, n: int) -> ad.AnnData:
    """Return cells with `FOUND` of `GENES` genes each."""
    rng = np.random.default_rng(0)
    names = [f"ENSG{k:011d}" if ids == "ensembl" else f"GENE{k}" for k in range(GENES)]
    counts = np.zeros((n, GENES))
    for row in counts:
        row[rng.permutation(GENES)[:FOUND]] = 1 + rng.geometric(0.3, FOUND)
    about = {"embryo": {"expression": "counts", "organism": "Homo sapiens"}}
    obs, var = pd.DataFrame(index=[f"c{k}" for k in range(n)]), pd.DataFrame(index=names)
    return ad.AnnData(obs=obs, var=var, uns=about, layers={"counts": sparse.csr_matrix(counts)})


def published(name: str, size: Any, folder: Path, options: Options) -> Pretrained:
    """Return an encoder over `GENES` genes with a network of a published size in place of the tiny one."""
    encoder = encoders.open_dir(name, folder, options)
    module = import_module(type(encoder).__module__)
    network = module.build(size)
    encoder.network = network.requires_grad_(requires_grad=False).eval().to(options.device)
    if name == "geneformer":  # the published embedding stops one layer early, and so does the reader
        network.encoder.layer = network.encoder.layer[:-1]
    elif hasattr(encoder, "layer"):
        encoder.layer = _layers(network)
    if name in ("geneformer", "maxtoki"):
        encoder.limit = size["max_position_embeddings"]
    return encoder


def _layers(network: torch.nn.Module) -> int:
    """Return the length of the longest list of blocks in a network."""
    return max(len(part) for part in network.modules() if isinstance(part, torch.nn.ModuleList))


def rate(device: str, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Return the rate of multiplying square matrices, in FLOP/s: the best of several."""
    n = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, timed(lambda: a @ b, device)[0])
    return 2 * n**3 / best


def timed(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Return seconds and the result."""
    start = time.perf_counter()
    done = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, done


def measured(encoder: Pretrained, adata: ad.AnnData, repeats: int) -> dict[str, float]:
    """Return cells per second of tokenising and of the network, its FLOP rate, and that of multiplying matrices."""
    device = torch.device(encoder.options.device).type
    ((_, profiles),) = encoder.profiles(adata)
    seconds, tokens = timed(lambda: encoder.tokenize(profiles), device)
    batch = tokens.batch(np.arange(len(tokens)), pad=encoder.pad, pad_value=encoder.pad_value).to(device)
    with torch.no_grad(), encoder.options.precision():
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mm: _product}) as counter:
            encoder.forward(batch)
        best = min(timed(lambda: encoder.forward(batch), device)[0] for _ in range(repeats))
    dtype = torch.bfloat16 if encoder.options.precise == "bfloat16" else torch.float32
    return {
        "tokens per cell": batch.ids.shape[1],
        "tokenised, cells/s": len(tokens) / seconds,
        "embedded, cells/s": len(tokens) / best,
        "GFLOP per cell": counter.get_total_flops() / len(tokens) / 1e9,
        "GFLOP/s": counter.get_total_flops() / best / 1e9,
        "matrix rate, GFLOP/s": rate(device, dtype) / 1e9,
    }


def rows(names: list[str], options: Options, n: int, repeats: int, largest: float) -> Iterator[dict[str, Any]]:
    """Yield one row per encoder and published size with at most `largest` billion parameters."""
    for name in names:
        cls = encoders.model(name)
        adata = cells(cls.ids, n)
        with tempfile.TemporaryDirectory() as folder:
            tiny = cls.write_tiny(Path(folder) / name, list(adata.var_names), 0)
            for size, config in import_module(cls.__module__).sizes().items():
                encoder = published(name, config, tiny, options)
                millions = sum(p.numel() for p in encoder.network.parameters()) / 1e6
                if millions <= 1000 * largest:
                    about = {"encoder": name, "size": size, "million parameters": millions}
                    row = {**about, "precision": options.precise, **measured(encoder, adata, repeats)}
                    print(row, file=sys.stderr)
                    yield row
                del encoder
                gc.collect()


def page(table: pd.DataFrame, options: Options, best: float) -> str:
    """Return the table as markdown, with the commit and the machine it was made on."""
    made = provenance.provenance(0, {}, {})
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    cut = table.map(_short)
    head = "| " + " | ".join(cut.columns) + " |\n|" + "---|" * len(cut.columns)
    body = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in cut.to_numpy())
    said = __doc__.split("\n\n", 2)[2].strip() if __doc__ else ""
    return (
        f"# Speed of encoders\n\nRandom weights; commit {made['commit']}; {made['platform']}, {where}; "
        f"torch {made['packages'].get('torch')}; matrix rate {best:,.0f} GFLOP/s.\n\n{said}\n\n{head}\n{body}\n"
    )


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help="encoders; all by default")
    parser.add_argument("--out", type=Path, help="markdown page to write")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--largest", type=float, default=1.5, help="billion parameters at most")
    given = parser.parse_args()
    options = Options(device=given.device, dtype=given.dtype)
    table = pd.DataFrame(rows(given.names or IN_PROCESS, options, given.cells, given.repeats, given.largest))
    best = table.pop("matrix rate, GFLOP/s").max()
    table["of it"] = table["GFLOP/s"] / best
    text = page(table, options, best)
    if given.out is None:
        print(text)
        return
    with store.atomic(given.out) as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
