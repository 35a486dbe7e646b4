import json
import subprocess
import sys

import numpy as np
import pytest

from embryo import encoders
from embryo.core.errors import ConfigError, StaleError, StoreError
from embryo.core.store import read_tensors, write_tensors

FITTED = ("pca", "hvg")  # those that need no extra


def test_names_need_no_heavy_import():
    code = (
        "import sys, embryo.encoders as e; print(*e.names());"
        "sys.exit(any(m in sys.modules for m in ('sklearn', 'scanpy', 'torch', 'embryo.encoders.pca')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["pca", "hvg"]
    assert {"geneformer", "scgpt", "cellfm", "scprint2"} < set(done.stdout.split())


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("kind", ["counts", "relative"])
def test_round_trip_is_exact(cells, tmp_path, name, kind):
    adata = cells(kind=kind)
    encoder = encoders.build(name, dims=5, seed=3).fit(adata)
    path = encoders.save(encoder, tmp_path / "deep" / "encoder.safetensors")
    again = encoders.load(path)
    assert type(again) is type(encoder)
    assert again.record() == encoder.record()
    assert again.tensors().keys() == encoder.tensors().keys()
    for key, value in encoder.tensors().items():
        np.testing.assert_array_equal(again.tensors()[key], value)
    np.testing.assert_allclose(again.encode(adata), encoder.encode(adata), rtol=1e-12, atol=1e-12)
    assert [p.name for p in path.parent.iterdir()] == ["encoder.safetensors"]


def test_unknown_name_and_dims_are_reported_together():
    with pytest.raises(ConfigError) as error:
        encoders.build("pcaa", dims=0)
    assert "did you mean 'pca'?" in str(error.value)
    assert "0 dimensions" in str(error.value)


def test_an_unfitted_encoder_is_not_saved(tmp_path):
    with pytest.raises(StaleError, match="before fit"):
        encoders.save(encoders.build("pca", dims=2), tmp_path / "e")
    assert not list(tmp_path.iterdir())


def rewritten(path, **changes):
    """Write the file again, whole and with its checksum, but with another record."""
    tensors, meta = read_tensors(path)
    record = json.loads(meta["record"]) if isinstance(meta.get("record"), str) else {}
    if "record" in changes and callable(changes["record"]):
        changes["record"] = json.dumps(changes["record"](record))
    drop = changes.pop("drop", ())
    write_tensors(path, {k: v for k, v in tensors.items() if k not in drop}, meta | changes)


DAMAGE = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "cannot be read"),
    "text": (lambda path: path.write_text("dims: 4"), "cannot be read"),
    "a bit flipped": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "checksum"),
    "another kind": (lambda path: rewritten(path, kind="field"), "kind 'field'"),
    "another name": (lambda path: rewritten(path, name="unheard"), "encoder 'unheard'"),
    "no JSON": (lambda path: rewritten(path, record="{"), "incomplete"),
    "no genes": (
        lambda path: rewritten(path, record=lambda r: {k: v for k, v in r.items() if k != "genes"}),
        "incomplete",
    ),
    "a gene too few": (lambda path: rewritten(path, record=lambda r: r | {"genes": r["genes"][:-1]}), "incomplete"),
    "no mean": (lambda path: rewritten(path, drop=("mean",)), "incomplete"),
}


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_named(cells, tmp_path, name, how):
    path = encoders.save(encoders.build(name, dims=4).fit(cells()), tmp_path / "e.safetensors")
    damage, message = DAMAGE[how]
    damage(path)
    with pytest.raises(StoreError, match=message):
        encoders.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match="no such file"):
        encoders.load(tmp_path / "nothing.safetensors")


def test_a_pretrained_model_is_opened_not_built():
    with pytest.raises(ConfigError, match="open it with its folder of weights"):
        encoders.build("geneformer", dims=4)
    with pytest.raises(ConfigError, match="did you mean 'scgpt'"):
        encoders.open_dir("scGPT2", "nowhere")
