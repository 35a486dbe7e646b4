"""An embedding that was computed elsewhere, tied to the cells and to the counts that it was computed from.

A file (npz or safetensors) or a slot of ``obsm``, keyed by cell id, with the SHA-256 of each cell's counts: cells in
another order, or some of them, are found; cells whose counts have changed since, by an edit too, are refused.
"""

import hashlib
import json
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float, UInt8
from scipy import sparse

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.edit import Edit
from embryo.core.errors import EditError, Problem, SchemaError, StaleError, StoreError
from embryo.core.store.files import atomic, check_format, find
from embryo.core.store.records import dumps, loads
from embryo.encoders.decoding.decoder import Decoder, fit_decoder
from embryo.encoders.inputs import normalise

FORMAT, VERSION = "embryo-precomputed", 1
_PARTS = ("cell_ids", "z", "sha256", "record")
_EXPECTED = f"an npz or safetensors file of format {FORMAT} with {', '.join(_PARTS)}"
_BLOCK = 2048
_DECODER = "decoder."


def checksums(adata: AnnData) -> UInt8[np.ndarray, "cells 32"]:
    """Return the SHA-256 of each cell's expression: of (hash of the gene's name, value) of every value that is not 0.

    Counts (``layers["counts"]``) where the data hold counts, else X. Neither the order of cells and genes, nor genes
    without a value, nor the type or the sparsity of the matrix matters.

    Parameters
    ----------
    adata
        Cells by genes; may be backed.

    Raises
    ------
    SchemaError
        If the kind of expression is not stated, or gene names are double.
    """
    normalise.positions(adata, [])  # refuses double gene names
    counts = normalise.kind(adata) == normalise.COUNTS and schema.COUNTS in adata.layers
    source: Any = adata.layers[schema.COUNTS] if counts else adata.X
    genes = np.array([_hash(str(gene)) for gene in adata.var_names], dtype=np.uint64)
    order = np.argsort(genes)
    out: np.ndarray = np.empty((adata.n_obs, 32), dtype=np.uint8)
    for start in range(0, adata.n_obs, _BLOCK):
        block = sparse.csr_array(source[start : start + _BLOCK], dtype=np.float64)[:, order]
        block.eliminate_zeros()
        block.sort_indices()
        for i in range(block.shape[0]):
            entries = slice(*block.indptr[i : i + 2])
            names = genes[order][block.indices[entries]].astype("<u8").tobytes()
            digest = hashlib.sha256(names + block.data[entries].astype("<f8").tobytes()).digest()
            out[start + i] = np.frombuffer(digest, dtype=np.uint8)
    return out


def write(
    path: str | Path,
    cell_ids: Sequence[str],
    z: Float[np.ndarray, "cells dims"],
    adata: AnnData,
    provenance: Mapping[str, Any],
) -> Path:
    """Write an embedding with what ties it to its cells; all or nothing.

    Parameters
    ----------
    path
        Ends in ``.npz`` or ``.safetensors``; replaced if it exists.
    cell_ids
        Name of the cell of each row of `z`, each among the ``obs_names`` of `adata`.
    z
        Finite.
    adata
        The data that were embedded.
    provenance
        How it was made: model, weights, layer, seed, ...; JSON-ready.

    Raises
    ------
    SchemaError
        If ids are double or not in `adata`, or z is not finite or has other rows.
    StoreError
        If the ending is another, or the place cannot be written.
    """
    made = Precomputed.of(cell_ids, z, adata, provenance)
    ids, record = np.array(made.cell_ids, dtype=np.str_), dumps(dict(provenance), subject="provenance")
    path = Path(path)
    header = {"format": FORMAT, "version": str(VERSION), "provenance": record}
    _require_ending(path)
    with atomic(path) as partial:
        if path.suffix == ".npz":
            with partial.open("wb") as file:
                np.savez(file, cell_ids=ids, z=made.z, sha256=made.sha256, record=np.array(json.dumps(header)))
        else:
            from safetensors.numpy import save_file  # noqa: PLC0415

            text = np.frombuffer(json.dumps(list(made.cell_ids)).encode(), dtype=np.uint8)
            save_file({"cell_ids": text, "z": made.z, "sha256": made.sha256}, partial, metadata=header)
    return path


def read(path: str | Path) -> "Precomputed":
    """Read what `write` wrote; nothing in it is run.

    Raises
    ------
    StoreError
        If the file is missing, damaged, pickled, or of another format or a newer version.
    """
    file = find(path, _EXPECTED)
    _require_ending(file)
    try:
        parts, header = _read_npz(file) if file.suffix == ".npz" else _read_safetensors(file)
    except _DAMAGE as error:
        problem = Problem(f"a file that cannot be read ({error})", _EXPECTED, "write it with precomputed.write")
        raise StoreError(problem, subject=str(path)) from error
    check_format(header, FORMAT, VERSION, subject=str(path))
    try:
        provenance = loads(header["provenance"])
        return Precomputed(tuple(map(str, parts["cell_ids"])), parts["z"], parts["sha256"], provenance)._checked()
    except (KeyError, ValueError, TypeError, SchemaError) as error:
        problem = Problem(f"parts that do not fit together ({error})", _EXPECTED, "write it again")
        raise StoreError(problem, subject=str(path)) from error


@dataclass(eq=False)
class Precomputed:
    """An encoder that looks up what was computed before.

    Parameters
    ----------
    cell_ids
        Names of the cells.
    z
        Their embedding, shape (cells, dims).
    sha256
        Checksum of each cell's expression when it was embedded, shape (cells, 32); see `checksums`.
    about
        How it was made.
    decoder
        Back to genes, once `fit` has seen training cells.
    """

    cell_ids: tuple[str, ...]
    z: np.ndarray
    sha256: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)
    decoder: Decoder | None = None
    seed: int = 0
    name: str = field(default="precomputed", init=False)

    @classmethod
    def of(
        cls,
        cell_ids: Sequence[str],
        z: Float[np.ndarray, "rows dims"],
        adata: AnnData,
        provenance: Mapping[str, Any] | None = None,
    ) -> "Precomputed":
        """Tie an embedding to the cells of `adata` as they are now; see `write`."""
        ids = tuple(map(str, cell_ids))
        where = adata.obs_names.astype(str).get_indexer(list(ids)) if adata.obs_names.is_unique else None
        problems = []
        if where is None:
            problems.append(Problem("cells of the same name in obs_names", "unique names", "make them unique"))
        elif (where < 0).any():
            found = phrases.few(name for name, row in zip(ids, where, strict=True) if row < 0)
            problems.append(Problem(f"{(where < 0).sum()} ids without a cell: {found}", "obs_names", "rename them"))
        if len(ids) != len(z):
            problems.append(Problem(f"{len(ids)} ids for {len(z)} rows", "one per row", "give every id"))
        if problems or where is None:
            raise SchemaError(*problems, subject="precomputed")
        chosen = adata[where]
        return cls(ids, np.ascontiguousarray(z), checksums(chosen), dict(provenance or {}))._checked()

    @classmethod
    def from_slot(cls, adata: AnnData, key: str) -> "Precomputed":
        """Take ``obsm[key]`` of `adata`, which must be of these very cells, as they are now.

        Raises
        ------
        SchemaError
            If there is no such slot, or it holds values that are not finite.
        """
        if key not in adata.obsm:
            found = f"no obsm[{key!r}] (obsm: {phrases.few(adata.obsm) or 'empty'}){phrases.nearest(key, adata.obsm)}"
            raise SchemaError(
                Problem(found, "an embedding there", "name the slot that holds it"), subject="precomputed"
            )
        held: Any = adata.obsm[key]
        z = np.asarray(held.toarray() if sparse.issparse(held) else held)
        z = z.astype(np.float32) if z.dtype.kind in "iu" else z
        return cls.of(list(map(str, adata.obs_names)), z, adata, {"slot": key})

    @property
    def dims(self) -> int:
        """Columns of z."""
        return int(self.z.shape[1])

    unfitted = False  # `encode` needs no fit

    @property
    def genes(self) -> tuple[str, ...]:
        """Genes that `decode` returns; empty before `fit`."""
        return self.decoder.genes if self.decoder is not None else ()

    def encode(self, adata: AnnData, edits: Sequence[Edit] = ()) -> Float[np.ndarray, "cells dims"]:
        """Look the cells of `adata` up; no edit reaches them.

        Raises
        ------
        SchemaError
            If cells have no embedding.
        StaleError
            If the counts of cells are not those that were embedded.
        """
        if edits:
            self.response([edit.gene for edit in edits])
        place = {name: row for row, name in enumerate(self.cell_ids)}
        rows = np.array([place.get(str(name), -1) for name in adata.obs_names], dtype=np.int64)
        if (rows < 0).any():
            found = f"{phrases.cells(rows < 0, adata.obs_names)} without a precomputed embedding"
            raise SchemaError(Problem(found, "every cell", "embed them as well, or drop them"), subject="precomputed")
        changed = (checksums(adata) != self.sha256[rows]).any(axis=1)
        if changed.any():
            found = f"other counts than those embedded in {phrases.cells(changed, adata.obs_names)}"
            cure = "embed these data again; an edit needs an encoder that can be run"
            raise StaleError(Problem(found, "the counts that were embedded", cure), subject="precomputed")
        return self.z[rows]

    def fit(self, adata: AnnData) -> "Precomputed":
        """Return it with a decoder fitted on the cells of `adata`; the embedding stays as it is."""
        groups = adata.obs[schema.EMBRYO].astype(str).to_numpy() if schema.EMBRYO in adata.obs else None
        genes, levels = tuple(map(str, adata.var_names)), normalise.log1p_normalised(adata)
        return replace(self, decoder=fit_decoder(self.encode(adata), levels, groups, genes=genes, seed=self.seed))

    def decode(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p expression of `genes`; its held-out error is in ``decoder.held_out``."""
        if self.decoder is None:
            problem = Problem("a precomputed embedding before fit", "a fitted decoder", "call fit on training cells")
            raise StaleError(problem, subject="precomputed")
        return self.decoder.predict(z)

    def response(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Raise `EditError`: no edit reaches numbers that were computed before it."""
        found = f"an edit of {phrases.few(genes) or 'genes'} on a precomputed embedding"
        cure = "embed with an encoder that can be run (pca, or a model with its weights)"
        raise EditError(Problem(found, "an encoder that can be run on edited cells", cure), subject="precomputed")

    def provenance(self) -> dict[str, Any]:
        """Return what is known of how it was made."""
        return {"encoder": self.name, "dims": self.dims, **self.about}

    def tensors(self) -> dict[str, np.ndarray]:
        """Return embedding, checksums and decoder."""
        decoder = {} if self.decoder is None else self.decoder.tensors()
        return {"z": self.z, "sha256": self.sha256} | {_DECODER + key: value for key, value in decoder.items()}

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor, JSON-ready."""
        return {
            "dims": self.dims, "seed": self.seed, "genes": list(self.genes), "cell_ids": list(self.cell_ids),
            "about": dict(self.about), "decoder": None if self.decoder is None else self.decoder.record(),
        }  # fmt: skip

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> "Precomputed":
        """Rebuild from `tensors` and `record`."""
        held = {k.removeprefix(_DECODER): v for k, v in tensors.items() if k.startswith(_DECODER)}
        decoder = None if record["decoder"] is None else Decoder.restore(held, record["decoder"])
        made = cls(tuple(record["cell_ids"]), tensors["z"], tensors["sha256"], record["about"], decoder)
        return replace(made, seed=record["seed"])._checked()

    def _checked(self) -> "Precomputed":
        problems = []
        n = len(self.cell_ids)
        if self.z.ndim != 2 or self.z.dtype.kind != "f" or not np.isfinite(self.z).all():
            found = f"z of shape {self.z.shape} and type {self.z.dtype}, or with entries that are not finite"
            problems.append(Problem(found, "finite numbers, cells by dims", "embed these cells again"))
        if len(set(self.cell_ids)) != n:
            double = [name for name, times in Counter(self.cell_ids).items() if times > 1]
            problems.append(Problem(f"ids given twice: {phrases.few(double)}", "each cell once", "drop the copies"))
        if not n == len(self.z) == len(self.sha256) or self.sha256.shape[1:] != (32,):
            found = f"{n} ids, {len(self.z)} rows of z and checksums of shape {self.sha256.shape}"
            problems.append(Problem(found, "one of each per cell", "write the embedding again"))
        if problems:
            raise SchemaError(*problems, subject="precomputed")
        return self


_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, struct.error, zipfile.BadZipFile, NotImplementedError)


def _read_npz(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
        missing = [part for part in _PARTS if part not in held]
        if missing:
            msg = f"no {', '.join(missing)} among {', '.join(held)}"
            raise ValueError(msg)
        return {part: held[part] for part in _PARTS[:3]}, json.loads(str(held["record"]))


def _read_safetensors(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(file, framework="numpy") as held:
            parts: dict[str, Any] = {part: held.get_tensor(part) for part in _PARTS[:3]}
            header = dict(held.metadata() or {})
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return parts | {"cell_ids": json.loads(parts["cell_ids"].tobytes())}, header


def _require_ending(path: Path) -> None:
    if path.suffix not in (".npz", ".safetensors"):
        problem = Problem(f"a file ending in {path.suffix!r}", ".npz or .safetensors", "rename it")
        raise StoreError(problem, subject=str(path))


def _hash(gene: str) -> int:
    return int.from_bytes(hashlib.blake2b(gene.encode(), digest_size=8).digest(), "little")
