"""What crosses a bridge: cells as h5ad, embeddings as npz, each with the checksum of what it was made of."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float
from scipy import sparse

from embryo.core.checks import phrases
from embryo.core.errors import Problem
from embryo.encoders.inputs.tokens import Profiles

TOTAL = "total_counts"  # column of obs
_KEYS = ("cells", "embedding", "counts_sha256", "embedding_sha256")
_CURE = "correct the program so that it speaks the protocol of docs/bridge.md"
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Part:
    """Some cells of a request.

    Parameters
    ----------
    input, output
        Names of the files.
    cells
        Ids, unique in the request.
    counts_sha256
        See `counts_checksum`.
    """

    input: str
    output: str
    cells: list[str]
    counts_sha256: str

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """Embeddings of a part, and what is wrong with them."""

    embedding: Float[np.ndarray, "cells dims"]
    problems: Sequence[Problem] = ()


def counts_checksum(counts: sparse.csr_array) -> str:
    """Return the SHA-256 over indptr (int64), indices (int64, ascending in a row) and data (float64), little-endian."""
    parts = ((counts.indptr, "<i8"), (counts.indices, "<i8"), (counts.data, "<f8"))
    return sha256(b"".join(np.ascontiguousarray(part, dtype=kind).tobytes() for part, kind in parts)).hexdigest()


def embedding_checksum(embedding: Float[np.ndarray, "cells dims"]) -> str:
    """Return the SHA-256 over the rows, float32, little-endian."""
    return sha256(np.ascontiguousarray(embedding, dtype="<f4").tobytes()).hexdigest()


def write_part(folder: Path, number: int, cells: Profiles, genes: Sequence[str]) -> Part:
    """Write cells as ``part-NUMBER.h5ad``.

    X holds the counts over `genes` (CSR, float64; fractional where a gene was edited), ``obs["total_counts"]`` the
    library size over all genes measured, before any edit.
    """
    name, ids = f"part-{number:05d}", [f"{number}-{k}" for k in range(len(cells))]
    counts = cells.counts.copy()
    counts.sort_indices()
    obs = pd.DataFrame({TOTAL: cells.total}, index=pd.Index(ids, dtype=object))
    var = pd.DataFrame(index=pd.Index(list(genes), dtype=object))
    AnnData(sparse.csr_matrix(counts), obs=obs, var=var).write_h5ad(folder / f"{name}.h5ad")
    return Part(f"{name}.h5ad", f"{name}.npz", ids, counts_checksum(counts))


def read_part(folder: Path, part: Part, dims: int) -> Answer:
    """Read ``part-NUMBER.npz`` and compare it with what was asked; nothing in it can run."""
    path, nothing = folder / part.output, np.zeros((len(part.cells), dims), np.float32)
    if not path.is_file():
        return Answer(nothing, [Problem(f"no {part.output}", "one per part", _CURE)])
    try:
        if not zipfile.is_zipfile(path):
            return Answer(nothing, [Problem(f"{part.output}, which is no npz file", "an npz file", _CURE)])
        with np.load(path, allow_pickle=False) as held:
            found = {key: held[key] for key in _KEYS}
    except _UNREADABLE as error:
        said = f"{part.output}, which cannot be read ({type(error).__name__}: {str(error)[:200]})"
        return Answer(nothing, [Problem(said, f"an npz file with {', '.join(_KEYS)}", _CURE)])
    problems = [Problem(f"{what} in {part.output}", wanted, _CURE) for what, wanted in _compared(found, part, dims)]
    return Answer(nothing if problems else np.asarray(found["embedding"], dtype=np.float32), problems)


def _compared(found: dict[str, np.ndarray], part: Part, dims: int) -> list[tuple[str, str]]:
    """Return what was found and expected wherever they differ."""
    z, ids, out = found["embedding"], [str(cell) for cell in found["cells"].ravel()], []
    if ids != part.cells:
        missing, other = sorted(set(part.cells) - set(ids)), sorted(set(ids) - set(part.cells))
        what = (
            f"{len(missing)} cells missing ({phrases.few(missing)})" if missing else "cells in another order or twice"
        )
        what += f", {len(other)} that were not sent ({phrases.few(other)})" if other else ""
        out.append((what, "the cells of the request, in their order"))
    if str(found["counts_sha256"]) != part.counts_sha256:
        out.append(("counts with another checksum than those sent", "an embedding of these counts"))
    if z.dtype != np.float32 or z.shape != (len(part.cells), dims):
        out.append((f"an embedding of shape {z.shape} and type {z.dtype}", f"{(len(part.cells), dims)} float32"))
        return out
    if str(found["embedding_sha256"]) != embedding_checksum(z):
        out.append(("an embedding that does not have its checksum", "the bytes that were written"))
    bad = ~np.isfinite(z).all(axis=1)
    if bad.any():
        names = phrases.few(np.array(part.cells)[bad].tolist())
        out.append((f"{int(bad.sum())} cells with values that are not finite ({names})", "finite values"))
    return out
