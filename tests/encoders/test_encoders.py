import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from embryo import encoders
from embryo.core.errors import ConfigError, StaleError, StoreError


def test_names_need_no_heavy_import():
    code = (
        "import sys, embryo.encoders as e; print(*e.names());"
        "sys.exit(any(m in sys.modules for m in ('sklearn', 'scanpy', 'torch', 'embryo.encoders.pca')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["pca", "hvg"]


@pytest.mark.parametrize("name", encoders.names())
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


def test_a_failed_save_leaves_the_old_file(cells, tmp_path, monkeypatch):
    encoder = encoders.build("pca", dims=2).fit(cells())
    path = encoders.save(encoder, tmp_path / "e.safetensors")
    before = path.read_bytes()

    def broken(tensors, part, metadata):
        part.write_bytes(b"half")
        raise OSError(28, "disk full")

    monkeypatch.setattr("safetensors.numpy.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        encoders.save(encoder, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["e.safetensors"]


def damage(path, how):  # noqa: C901  one case per line
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as store:
        metadata = dict(store.metadata())
    record = json.loads(metadata["record"])
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "text":
        path.write_text("dims: 4")
    elif how == "empty":
        path.write_bytes(b"")
    else:
        if how == "no metadata":
            metadata = None
        elif how == "version":
            metadata["version"] = "99"
        elif how == "name":
            metadata["name"] = "unheard"
        elif how == "record":
            metadata["record"] = "{"
        elif how == "no genes":
            metadata["record"] = json.dumps({k: v for k, v in record.items() if k != "genes"})
        elif how == "other shape":
            metadata["record"] = json.dumps(record | {"genes": record["genes"][:-1]})
        elif how == "no tensor":
            del tensors["mean"]
        save_file(tensors, path, metadata=metadata)


@pytest.mark.parametrize("name", encoders.names())
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "cannot read"),
        ("text", "cannot read"),
        ("empty", "cannot read"),
        ("no metadata", "format None"),
        ("version", "version 99"),
        ("name", "encoder 'unheard'"),
        ("record", "incomplete"),
        ("no genes", "incomplete"),
        ("other shape", "incomplete"),
        ("no tensor", "incomplete"),
    ],
)
def test_a_damaged_file_is_named(cells, tmp_path, name, how, message):
    path = encoders.save(encoders.build(name, dims=4).fit(cells()), tmp_path / "e.safetensors")
    damage(path, how)
    with pytest.raises(StoreError, match=message):
        encoders.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match="no such file"):
        encoders.load(tmp_path / "nothing.safetensors")
