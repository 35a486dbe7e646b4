"""Stand-in for a model behind a bridge, and the pattern of a real one: copy it, and replace `describe` and `embed`.

It speaks version 1 of the protocol in ``docs/bridge.md`` and is started as ``python stand_in.py FOLDER``. It needs
numpy, scipy and h5py and nothing of embryo, so that it runs in the environment of the model. It is **no foundation
model**: its embedding is a random projection of log1p(1e4 counts / total), to test the bridge without one.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy import sparse

PROTOCOL = 1
WEIGHTS = "stand_in.json"  # of the stand-in: {"genes": [...], "dims": 8, "seed": 0}


def describe(request: dict[str, Any]) -> dict[str, Any]:
    """Return what the model reads and gives.

    A real program names its vocabulary (Ensembl ids), the width of its embedding for the request's ``pooling`` and
    ``layer``, its species, the number of layers that ``layer`` chooses among (None if it cannot), and versions of
    whatever the embedding depends on.
    """
    model = _weights(request)
    return {
        "genes": model["genes"],
        "dims": model["dims"],
        "species": ["Homo sapiens", "Mus musculus"],
        "layers": None,
        "versions": {"stand-in": "1", "numpy": np.__version__},
    }


def embed(counts: sparse.csr_matrix, total: np.ndarray, request: dict[str, Any]) -> np.ndarray:
    """Return one row per cell, float32, finite.

    ``counts`` are raw, over the genes of `describe`; a gene that was edited may have a fractional count. Normalise by
    ``total``, the library size before any edit, not by the row's sum, so that an edit moves its own gene only. A row
    must depend on its cell alone: not on the other cells, nor on their order. Whatever is drawn must be drawn anew for
    each cell from ``request["seed"]``. ``request`` also says ``weights`` (folder), ``device``, ``dtype``, ``layer`` and
    ``pooling``.
    """
    model = _weights(request)
    seed = (model["seed"], len(request["pooling"]))
    projection = np.random.default_rng(seed).normal(size=(counts.shape[1], model["dims"]))
    levels = np.log1p(counts.toarray() * (1e4 / total[:, None]))
    return np.asarray(levels @ projection / np.sqrt(counts.shape[1]), dtype=np.float32)


def main(folder: Path) -> None:
    """Answer the request in a folder."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    if request["protocol"] != PROTOCOL:
        sys.exit(f"this program speaks version {PROTOCOL} of the protocol, the request {request['protocol']}")
    reply = {key: request[key] for key in ("protocol", "model", "action", "layer", "pooling")}
    if request["action"] == "describe":
        reply |= describe(request)
    for part in request["parts"]:
        _answer(folder, part, request)
    (folder / "reply.json").write_text(json.dumps(reply), encoding="utf-8")  # last: it says that all is written


def _answer(folder: Path, part: dict[str, Any], request: dict[str, Any]) -> None:
    with h5py.File(folder / part["input"]) as file:
        x, obs = file["X"], file["obs"]
        counts = sparse.csr_matrix((x["data"][:], x["indices"][:], x["indptr"][:]), shape=tuple(x.attrs["shape"]))
        total, cells = obs["total_counts"][:], obs[obs.attrs["_index"]].asstr()[:].tolist()
    read = _checksum((counts.indptr, "<i8"), (counts.indices, "<i8"), (counts.data, "<f8"))
    if read != part["counts_sha256"] or cells != part["cells"]:
        sys.exit(f"{part['input']} is not what the request says")
    embedding = np.ascontiguousarray(embed(counts, total, request), dtype="<f4")
    np.savez(
        folder / part["output"],
        cells=np.array(cells, dtype=np.str_),
        embedding=embedding,
        counts_sha256=np.array(read),
        embedding_sha256=np.array(_checksum((embedding, "<f4"))),
    )


def _checksum(*parts: tuple[np.ndarray, str]) -> str:
    joined = b"".join(np.ascontiguousarray(part, dtype=kind).tobytes() for part, kind in parts)
    return hashlib.sha256(joined).hexdigest()


def _weights(request: dict[str, Any]) -> dict[str, Any]:
    model: dict[str, Any] = json.loads((Path(request["weights"]) / WEIGHTS).read_text(encoding="utf-8"))
    return model


if __name__ == "__main__":
    main(Path(sys.argv[1]))
