"""The embedding of a file of any size: block by block, resumable, written beside everything that the file holds."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import torch
import zarr
from filelock import FileLock, Timeout
from jaxtyping import Float

from embryo.core import schema, store
from embryo.core.encoder import Encoder
from embryo.core.errors import ConfigError, Problem, StoreError
from embryo.embed.slots import about, storable
from embryo.embed.source import H5AD, ZARR, Source, opened

BLOCK = 2048  # cells in memory at a time
FITTED_ON = 50_000  # an encoder that learns from the cells of the file sees at most so many, drawn with its seed
_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_DICT = {"encoding-type": "dict", "encoding-version": "0.1.0"}


def file(
    path: str | Path,
    encoder: Any,
    out: str | Path,
    *,
    key_added: str = schema.EMBED,
    species: str | None = None,
    tick: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Embed the cells of a file and write a copy of it that holds the embedding.

    Memory grows with the block, not with the number of cells. Blocks that are done lie in a hidden folder beside `out`
    until all are; the same call goes on where an interrupted one stopped.

    Parameters
    ----------
    path
        h5ad or zarr with raw counts in ``layers["counts"]``, X or ``raw.X``; not modified.
    encoder
        A pretrained encoder, or one that is fitted here if it is not yet, on up to 50,000 cells of the file: for a
        look, not for a result on held-out embryos.
    out
        File of the same kind to write.
    key_added
        Slot of ``obsm``, float32, shape (cells, dims).
    species
        Of the data, where the file does not say.
    tick
        Called with (what, done, of).

    Returns
    -------
    dict
        Provenance of the embedding, as written to ``uns["embryo"]["embeddings"][key_added]``.

    Raises
    ------
    ConfigError
        If `out` is of another kind than `path`, or is `path`.
    StoreError, SchemaError
        If the file cannot be read, or the encoder cannot read its genes.
    """
    source_path, target = Path(path), Path(out)
    _require_target(source_path, target)
    with opened(source_path, species=species) as source, _alone(target) as work:
        encoder = _ready(encoder, source)
        signature = _signature(source_path, encoder, source.meta.get("organism"))
        record = _embed(source, encoder, work, signature, tick or (lambda *_: None))
        with store.atomic(target) as partial:
            _copy(source_path, partial)
            _write(partial, key_added, (source.n_obs, record["dims"]), _blocks(work, source.n_obs, signature), record)
        shutil.rmtree(work)
    return record


@contextmanager
def _alone(target: Path) -> Iterator[Path]:
    """Yield the folder of the blocks, which no other process works in meanwhile.

    Raises
    ------
    ConfigError
        If another one does.
    """
    work = target.with_name(f".{target.name}.embedding")
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        cure = "wait for it, or choose another --out"
        problem = Problem(f"another process that embeds into {target.name}", "one at a time", cure)
        raise ConfigError(problem, subject="embed") from error
    try:
        yield work
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _require_target(path: Path, target: Path) -> None:
    problems = []
    if path.suffix not in (H5AD, ZARR):
        problems.append(Problem(f"{path.name}", "an h5ad file or a zarr folder", "convert it first (embryo convert)"))
    elif target.suffix != path.suffix:
        problems.append(Problem(f"--out {target.name} for {path.name}", f"a name ending in {path.suffix}", "rename it"))
    if target.resolve() == path.resolve():
        problems.append(Problem("the input as output", "another file", "choose another --out"))
    if problems:
        raise ConfigError(*problems, subject="embed")


def _ready(encoder: Any, source: Source) -> Any:
    """Return the encoder, fitted on a sample of the file where it needs cells and has not seen any."""
    if not getattr(encoder, "unfitted", not encoder.genes):
        return encoder
    rng = np.random.default_rng(encoder.seed)
    chosen = np.sort(rng.permutation(source.n_obs)[:FITTED_ON])
    return encoder.fit(source.take(chosen))


def _signature(path: Path, encoder: Any, organism: str | None) -> str:
    """Return a digest of the file's state and of all that decides an embedding; blocks of another one are not used."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    state = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    how = {key: value for key, value in about(encoder).items() if key not in ("coverage", "dims")}
    options = getattr(encoder, "options", None)
    if options is not None and options.orthologs is not None:
        how["orthologs"] = hashlib.sha256(options.orthologs.read_bytes()).hexdigest()
    words = json.dumps([state, how, organism, type(encoder).__name__, repr(options)], sort_keys=True, default=str)
    digest = hashlib.sha256(words.encode())
    for name, part in sorted(_numbers(encoder).items()):
        digest.update(f"{name} {part.dtype} {part.shape}".encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _numbers(encoder: Any) -> dict[str, np.ndarray]:
    """Return the numbers that were fitted; those of a network are known by the checksums of its files."""
    if not hasattr(encoder, "network"):
        return dict(encoder.tensors())
    return {} if encoder.reduction is None else dict(zip(("mean", "components"), encoder.reduction, strict=True))


def _embed(
    source: Source, encoder: Encoder, work: Path, signature: str, tick: Callable[[str, int, int], None]
) -> dict[str, Any]:
    starts = range(0, source.n_obs, BLOCK)
    record: dict[str, Any] = {}
    for start in starts:
        stop = min(start + BLOCK, source.n_obs)
        part = _part(work, start)
        record = _done(part, signature)
        if not record:
            z = encoder.encode(source.take(slice(start, stop))).astype(np.float32)
            record = {**about(encoder), "dims": int(z.shape[1])}
            store.write_tensors(
                part, {"z": torch.from_numpy(z)}, {"signature": signature, "record": json.dumps(record)}
            )
        tick("embed", stop, source.n_obs)
    return record


def _done(part: Path, signature: str) -> dict[str, Any]:
    """Return the record of a block that is whole and was made with the same file and encoder; empty where it is not."""
    if not part.exists():
        return {}
    try:
        _, meta = store.read_tensors(part)
    except StoreError:
        return {}
    record: dict[str, Any] = json.loads(meta["record"]) if meta.get("signature") == signature else {}
    return record


def _blocks(work: Path, cells: int, signature: str) -> Iterator[Float[np.ndarray, "block dims"]]:
    """Yield the blocks of all cells, each as it was made with this file and encoder."""
    for start in range(0, cells, BLOCK):
        tensors, meta = store.read_tensors(_part(work, start))
        if meta.get("signature") != signature:
            problem = Problem("a block of another embedding", "one job at a time", "run the command again")
            raise StoreError(problem, subject=work.name)
        yield tensors["z"].numpy()


def _part(work: Path, start: int) -> Path:
    return work / f"{start:012d}.safetensors"


def _copy(path: Path, target: Path) -> None:
    if path.is_file():
        shutil.copyfile(path, target)
    else:
        shutil.copytree(path, target, copy_function=shutil.copyfile)
        for folder in (target, *(p for p in target.rglob("*") if p.is_dir())):
            folder.chmod(folder.stat().st_mode | 0o700)  # a copy of what may only be read is written to


def _write(
    path: Path,
    key: str,
    shape: tuple[int, int],
    blocks: Iterator[Float[np.ndarray, "block dims"]],
    record: dict[str, Any],
) -> None:
    """Add one slot of obsm and its provenance to a file in AnnData's layout."""
    is_h5 = path.suffix == H5AD
    root: Any = h5py.File(path, "r+") if is_h5 else zarr.open_group(path, mode="r+", use_consolidated=False)
    try:
        for name in ("obsm", "uns"):
            if name not in root:
                root.create_group(name).attrs.update(_DICT)
        if key in root["obsm"]:
            del root["obsm"][key]
        create = root["obsm"].create_dataset if is_h5 else root["obsm"].create_array
        slot = create(key, shape=shape, chunks=(min(BLOCK, shape[0]), shape[1]), dtype="float32")
        slot.attrs.update(_ARRAY)
        for k, z in enumerate(blocks):
            slot[k * BLOCK : k * BLOCK + len(z)] = z
        meta = ad.io.read_elem(root["uns"][schema.META]) if schema.META in root["uns"] else {}
        embeddings = {**meta.get("embeddings", {}), key: storable(record)}
        ad.io.write_elem(root["uns"], schema.META, {**meta, "embeddings": embeddings})
    finally:
        if is_h5:
            root.close()
    if not is_h5 and zarr.open_group(path, mode="r").metadata.consolidated_metadata is not None:
        with warnings.catch_warnings():  # what the input had, the output has; that version 3 does not name it is known
            warnings.simplefilter("ignore", UserWarning)
            zarr.consolidate_metadata(path)
