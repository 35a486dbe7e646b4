"""The bridge against a STAND-IN process that speaks its protocol, and misbehaves in every way on demand.

No foundation model runs here: TEDDY and scPRINT-2 cannot be installed beside this package. What the stand-in computes
is computed again here, by itself, from the counts.
"""

import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from embryo import encoders
from embryo.core.edit import Edit, Operation
from embryo.core.errors import ConfigError, EditError, SchemaError, StoreError
from embryo.encoders.bridge import exchange
from embryo.encoders.bridge import link as bridge
from embryo.encoders.bridge.bridged import Bridged
from embryo.encoders.inputs import counting
from embryo.encoders.inputs.tokens import Profiles
from embryo.encoders.options import Options
from embryo.encoders.scprint2 import ScPRINT2
from embryo.encoders.teddy import Teddy

# A wrapper around the stand-in: it patches one thing, then behaves.
MISBEHAVING = """
import json, os, subprocess, sys, time
from pathlib import Path
import numpy as np
import stand_in
folder = Path(sys.argv[1])
request = json.loads((folder / "request.json").read_text())
seen = {"request": request, "env": dict(os.environ), "folder": str(folder)}
(Path(__file__).parent / "seen.json").write_text(json.dumps(seen))
def part(change):
    stand_in.main(folder)
    path = folder / "part-00000.npz"
    if path.exists():
        with np.load(path) as held:
            arrays = dict(held)
        arrays.update(change(arrays))
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
def reply(**change):
    stand_in.main(folder)
    path = folder / "reply.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
embed = request["action"] == "embed"
"""


@pytest.fixture(params=["teddy", "scprint2"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def adata(human_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    return human_cells("ensembl")


@pytest.fixture
def folder(tmp_path: Path, adata: ad.AnnData, request: pytest.FixtureRequest) -> Path:
    which = request.getfixturevalue("name") if "name" in request.fixturenames else "teddy"
    return encoders.model(which).write_tiny(tmp_path / which, list(adata.var_names), seed=5)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders of these tests lie here, so that one that is left behind is seen."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def opened(folder: Path, name: str = "teddy", **options: object) -> Bridged:
    return encoders.open_dir(name, folder, Options(variant=str(folder / "bridge.json"), dtype="float32", **options))


def misbehave(folder: Path, body: str, **change: object) -> None:
    (folder / "wrapper.py").write_text(MISBEHAVING + body, encoding="utf-8")
    say(folder, command=[sys.executable, "wrapper.py"], **change)


def say(folder: Path, **change: object) -> None:
    path = folder / "bridge.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")


def by_hand(counts: np.ndarray, total: np.ndarray, pooling: str, seed: int = 5) -> np.ndarray:
    projection = np.random.default_rng((seed, len(pooling))).normal(size=(counts.shape[1], 8))
    return np.log1p(1e4 * counts / total[:, None]) @ projection / np.sqrt(counts.shape[1])


def test_embeddings_are_those_of_the_counts(name: str, folder: Path, adata: ad.AnnData, scratch: Path) -> None:
    encoder = opened(folder, name)
    assert isinstance(encoder, {"teddy": Teddy, "scprint2": ScPRINT2}[name])
    counts = adata.layers["counts"].toarray()
    z = encoder.encode(adata)
    np.testing.assert_allclose(z, by_hand(counts, counts.sum(axis=1), encoder.poolings[0]), rtol=1e-5, atol=1e-6)
    other = opened(folder, name, pooling=encoder.poolings[1]).encode(adata)
    np.testing.assert_allclose(other, by_hand(counts, counts.sum(axis=1), encoder.poolings[1]), rtol=1e-5, atol=1e-6)
    about = encoder.provenance()
    assert (about["weights"], about["encoder"]) == ("none: a stand-in, no foundation model", name)
    program = hashlib.sha256((folder / "bridge.json").read_bytes()).hexdigest()
    assert about["bridge"] == {"protocol": 1, "sha256": program, "versions": about["bridge"]["versions"]}
    assert about["bridge"]["versions"]["numpy"] == np.__version__
    assert list(scratch.iterdir()) == []


def test_parts_and_order_do_not_matter_and_the_program_starts_once(
    folder: Path, adata: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = opened(folder)
    whole = encoder.encode(adata)
    starts = []
    run = bridge._run
    monkeypatch.setattr(bridge, "_run", lambda *words: starts.append(words) or run(*words))
    blocks = counting.blocks
    monkeypatch.setattr(counting, "blocks", lambda adata: blocks(adata, size=5))
    np.testing.assert_allclose(encoder.encode(adata), whole, atol=1e-6)
    assert len(starts) == 1
    turned = np.random.default_rng(0).permutation(adata.n_obs)
    np.testing.assert_allclose(encoder.encode(adata[turned].copy()), whole[turned], atol=1e-6)


def test_edited_counts_are_what_is_written(folder: Path, adata: ad.AnnData) -> None:
    misbehave(folder, "stand_in.main(folder)\n" + _KEEP)
    encoder = opened(folder)
    gene_map = encoder.map_genes(adata)
    ((_, cells),) = encoder.profiles(adata, gene_map)
    edits = [Edit(adata.var_names[0]), Edit(adata.var_names[3], Operation.OVEREXPRESS, 1.5)]
    z = encoder.encode_tokens(encoder.tokenize(encoder.edit(cells, edits, gene_map)))
    counts = adata.layers["counts"].toarray()
    total = counts.sum(axis=1)
    counts[:, 0] = 0
    counts[:, 3] = np.expm1(np.log1p(1e4 * counts[:, 3] / total) + 1.5) * total / 1e4
    written = ad.read_h5ad(folder / "kept.h5ad")
    order = np.argsort(written.obs[exchange.TOTAL].to_numpy())  # cells are sent in batches of like length
    np.testing.assert_array_equal(written.obs[exchange.TOTAL].to_numpy()[order], np.sort(total))
    np.testing.assert_allclose(written.X.toarray()[order], counts[np.argsort(total)], rtol=1e-6)
    np.testing.assert_allclose(z, by_hand(counts, total, "mean"), rtol=1e-4, atol=1e-5)
    absent = encoder.edit(cells, [Edit(adata.var_names[-1])], gene_map)
    before, after = (encoder.encode_tokens(encoder.tokenize(c)) for c in (cells, absent))
    np.testing.assert_array_equal(after, before)


_KEEP = """
if embed:
    import shutil
    shutil.copy(folder / "part-00000.h5ad", Path(__file__).parent / "kept.h5ad")
"""


def test_the_request_says_all_and_the_other_interpreter_is_its_own(
    folder: Path, adata: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "of-this-interpreter")
    misbehave(folder, "stand_in.main(folder)")
    encoder = opened(folder, seed=7)
    encoder.encode(adata)
    seen = json.loads((folder / "seen.json").read_text())
    request = seen["request"]
    (part,) = request.pop("parts")
    assert request == {
        "protocol": 1,
        "model": "teddy",
        "action": "embed",
        "weights": str(folder.resolve()),
        "pooling": "mean",
        "layer": None,
        "device": "cpu",
        "dtype": "float32",
        "seed": 7,
    }
    assert (part["input"], part["output"], len(part["cells"])) == ("part-00000.h5ad", "part-00000.npz", 12)
    assert part["counts_sha256"] == exchange.counts_checksum(sparse.csr_array(adata.layers["counts"]))
    assert "PYTHONPATH" not in seen["env"]
    assert not Path(seen["folder"]).exists()


def test_a_decoder_is_fitted_as_for_every_encoder(folder: Path, adata: ad.AnnData) -> None:
    fitted = opened(folder).fit(adata)
    assert fitted.decode(fitted.encode(adata)).shape == adata.shape
    gene = str(adata.var_names[0])
    assert np.abs(fitted.response([gene])).max() > 0
    reduced = opened(folder, dims=3).fit(adata)
    assert reduced.encode(adata).shape == (adata.n_obs, 3)


def test_mouse_data_are_read_as_mouse(tmp_path: Path, adata: ad.AnnData) -> None:
    mouse = adata.copy()
    mouse.var_names = [gene.replace("ENSG", "ENSMUSG") for gene in adata.var_names]
    mouse.uns["embryo"]["organism"] = "mouse"
    genes = [*adata.var_names, *mouse.var_names]
    encoder = opened(encoders.model("teddy").write_tiny(tmp_path / "both", genes))
    assert encoder.map_genes(mouse).target_of.tolist() == list(range(30, 60))
    del mouse.uns["embryo"]["organism"]
    assert encoder.map_genes(mouse).coverage.species == "Mus musculus"


# ---------------------------------------------------------------- what is refused


def test_no_program_is_run_for_lying_in_a_folder(folder: Path) -> None:
    misbehave(folder, "stand_in.main(folder)")
    with pytest.raises(ConfigError, match=r"no bridge.json named, though one lies in teddy"):
        encoders.open_dir("teddy", folder)
    assert not (folder / "seen.json").exists()


def test_choices_that_the_model_has_not_are_refused(folder: Path, adata: ad.AnnData) -> None:
    with pytest.raises(ConfigError, match="pooling 'max'"):
        opened(folder, pooling="max")
    with pytest.raises(ConfigError, match="a program that offers layers"):
        opened(folder, layer=1)
    misbehave(folder, "reply(layers=4)")
    assert opened(folder, layer=-1).encode(adata).shape == (12, 8)
    with pytest.raises(ConfigError, match="layer 9 of a network with 4"):
        opened(folder, layer=9)
    encoder = opened(folder)
    with pytest.raises(EditError, match="teddy tokens"):
        encoder.edit_tokens(encoder.tokenize(next(encoder.profiles(adata))[1]), [], encoder.map_genes(adata))
    with pytest.raises(SchemaError, match="without gene embeddings"):
        next(encoder.gene_embeddings(adata, [str(adata.var_names[0])]))


BRIDGES = {
    "version": ({"protocol": 2}, "protocol 2; expected protocol 1"),
    "model": ({"model": "scprint2"}, "model 'scprint2'; expected model 'teddy'"),
    "command": ({"command": []}, "command: List should have at least 1 item"),
    "shell": ({"command": "python serve.py"}, "command: Input should be a valid array"),
    "time": ({"timeout_s": 0}, "timeout_s: Input should be greater than 0"),
    "key": ({"comand": ["x"]}, "comand: Extra inputs"),
    "program": ({"command": ["no-such-program-anywhere"]}, "a program that does not start"),
}


@pytest.mark.parametrize("case", BRIDGES)
def test_a_wrong_bridge_is_said(folder: Path, case: str) -> None:
    change, says = BRIDGES[case]
    say(folder, **change)
    with pytest.raises(StoreError, match=says):
        opened(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[" * 100_000, b"3"])
def test_a_bridge_that_is_no_json_is_said(folder: Path, content: bytes) -> None:
    (folder / "bridge.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"bridge\.json"):
        opened(folder)
    (folder / "bridge.json").unlink()
    with pytest.raises(StoreError, match=r"bridge\.json"):
        opened(folder)


DESCRIBED = {
    "version": ("reply(protocol=2)", "protocol 2 in reply.json; expected protocol 1"),
    "version as text": ("reply(protocol='1')", "protocol: Input should be a valid integer"),
    "model": ("reply(model='geneformer')", "model 'geneformer' in reply.json"),
    "pooling": ("reply(pooling='cls')", "pooling 'cls' in reply.json; expected pooling 'mean'"),
    "no genes": ("reply(genes=[])", "genes: List should have at least 1 item"),
    "double genes": ("reply(genes=['a', 'a', 'b'])", "1 genes more than once"),
    "nameless": ("reply(genes=['', 'b'])", "genes without a name"),
    "dims": ("reply(dims=0)", "dims: Input should be greater"),
    "old program": ("stand_in.PROTOCOL = 0; stand_in.main(folder)", "this program speaks version 0"),
    "crash": ("raise RuntimeError('out of cheese')", r"code 1; it wrote: (.|\n)*out of cheese"),
    "silent": ("pass", "no reply.json; it wrote nothing"),
    "killed": ("os.kill(os.getpid(), 9)", "ended with code -9"),
    "garbage": ("(folder / 'reply.json').write_bytes(b'\\xff{{{')", "Invalid JSON"),
    "huge": ("(folder / 'reply.json').write_text('[' * 10**6)", "Invalid JSON"),
}


@pytest.mark.parametrize("case", DESCRIBED)
def test_a_wrong_description_is_said(folder: Path, scratch: Path, case: str) -> None:
    body, says = DESCRIBED[case]
    misbehave(folder, body)
    with pytest.raises(StoreError, match=says) as caught:
        opened(folder)
    assert caught.value.subject == "bridge to teddy"
    assert list(scratch.iterdir()) == []


EMBEDDED = {
    "nan": ("part(lambda a: {'embedding': a['embedding'] * np.nan})", ["not finite (0-0, 0-1,", "does not have its"]),
    "shape": ("part(lambda a: {'embedding': a['embedding'][:, :3]})", ["shape (12, 3)"]),
    "short": (
        "part(lambda a: {'embedding': a['embedding'][:3], 'cells': a['cells'][:3]})",
        ["9 cells missing", "(3, 8)"],
    ),
    "others": ("part(lambda a: {'cells': np.array([f'x{k}' for k in range(12)])})", ["12 that were not sent (x0"]),
    "order": ("part(lambda a: {'cells': a['cells'][::-1]})", ["cells in another order"]),
    "type": ("part(lambda a: {'embedding': a['embedding'].astype(float)})", ["type float64"]),
    "counts": ("part(lambda a: {'counts_sha256': np.array('0' * 64)})", ["counts with another checksum"]),
    "damage": ("part(lambda a: {'embedding': a['embedding'] + np.float32(1)})", ["does not have its checksum"]),
    "nothing": ("part(lambda a: {'embedding': None})", ["KeyError"]),
    "objects": ("part(lambda a: {'embedding': np.array([print, 1], dtype=object)})", ["cannot be read (ValueError"]),
    "no file": ("stand_in.main(folder); embed and (folder / 'part-00000.npz').unlink()", ["no part-00000.npz"]),
    "npy": ("stand_in.main(folder); np.save(open(folder / 'part-00000.npz', 'wb'), np.ones(3))", ["is no npz file"]),
    "cut": (
        "stand_in.main(folder); p = folder / 'part-00000.npz'; d = p.read_bytes() if embed else b''; "
        "p.write_bytes(d[:60] + bytes(40) + d[100:])",
        ["cannot be read"],
    ),
    "crash": ("stand_in.main(folder); sys.exit('no memory left' if embed else 0)", ["it wrote: no memory left"]),
    "action": ("reply(action='describe')", ["action 'describe' in reply.json"]),
}


@pytest.mark.parametrize("case", EMBEDDED)
def test_a_wrong_embedding_is_said(folder: Path, adata: ad.AnnData, scratch: Path, case: str) -> None:
    body, says = EMBEDDED[case]
    misbehave(folder, body)
    counts = sparse.csr_array(adata.layers["counts"])
    cells = Profiles(counts, np.asarray(counts.sum(axis=1)).ravel(), np.zeros(12, dtype=np.uint64))
    settings = bridge.Settings(str(folder), "mean", None, "cpu", "float32", 0)
    link = bridge.Link(bridge.read_bridge(folder / "bridge.json", "teddy"), folder, settings)
    with pytest.raises(StoreError) as caught:
        link.embed([cells], list(adata.var_names), 8)
    assert all(what in str(caught.value) for what in says), str(caught.value)
    assert list(scratch.iterdir()) == []


CHILD = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(Path(__file__).parent / "child").write_text(str(child.pid))
print("waiting", file=sys.stderr, flush=True)
"""


def test_a_hanging_program_and_what_it_started_are_ended(folder: Path, scratch: Path) -> None:
    misbehave(folder, CHILD + "time.sleep(600)", timeout_s=5.0)
    start = time.monotonic()
    with pytest.raises(StoreError, match="no answer in 5 s; it wrote: waiting"):
        opened(folder)
    assert time.monotonic() - start < 60
    assert _ended(int((folder / "child").read_text()))
    assert list(scratch.iterdir()) == []
    misbehave(folder, CHILD + "stand_in.main(folder)", timeout_s=300.0)  # one that outlives its program
    opened(folder)
    assert _ended(int((folder / "child").read_text()))


def _ended(pid: int) -> bool:
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_long_and_odd_messages_are_shown_by_their_end(folder: Path) -> None:
    misbehave(folder, "sys.stderr.buffer.write(b'x' * 10**6 + b'\\x1b[31m\\xff the end'); sys.exit(3)")
    with pytest.raises(StoreError, match=r"code 3; it wrote: x+") as caught:
        opened(folder)
    assert "the end" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 2500


def test_an_error_on_the_way_in_leaves_nothing(folder: Path, adata: ad.AnnData, scratch: Path) -> None:
    encoder = opened(folder)
    broken = adata.copy()
    counts = broken.layers["counts"].toarray()
    counts[4] = 0
    broken.layers["counts"] = counts
    with pytest.raises(SchemaError, match="without a count"):
        encoder.encode(broken)
    assert list(scratch.iterdir()) == []


def test_the_stand_in_refuses_cells_that_are_not_those_of_the_request(folder: Path, adata: ad.AnnData) -> None:
    encoder = opened(folder)
    ((_, cells),) = encoder.profiles(adata)
    part = exchange.write_part(folder, 0, cells, encoder.targets)
    for change, says in (({"counts_sha256": "0"}, "not what the request says"), ({}, "")):
        request = {"protocol": 1, "model": "teddy", "action": "embed", **vars(encoder.link.settings)}
        request["parts"] = [replace(part, **change).record()]
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        code = bridge._run([sys.executable, "stand_in.py", str(folder)], folder, folder / "log", 60.0)
        assert (code != 0) == bool(says)
        assert says in (folder / "log").read_text()


def test_a_folder_may_be_moved(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "elsewhere")
    assert opened(folder.parent / "elsewhere").dims == 8
