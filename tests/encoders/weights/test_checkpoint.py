import hashlib
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from embryo.core.errors import StoreError
from embryo.encoders.weights import checkpoint


class Payload:
    """What a malicious checkpoint holds: reading it would call a function."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


def state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1, dtype=torch.bfloat16)}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "shards"])
def test_a_folder_is_read_in_every_published_form(tmp_path, name):
    if name == "model.safetensors":
        save_file(state(), tmp_path / name)
    elif name == "pytorch_model.bin":
        torch.save(state(), tmp_path / name)
    else:
        parts = {f"model-0000{k}-of-00002.safetensors": {key: part} for k, (key, part) in enumerate(state().items(), 1)}
        for shard, held in parts.items():
            save_file(held, tmp_path / shard)
        index = {"weight_map": {key: shard for shard, held in parts.items() for key in held}}
        (tmp_path / checkpoint.INDEX).write_text(json.dumps(index))
    read = checkpoint.read_weights(tmp_path)
    assert read.keys() == state().keys()
    assert all(torch.equal(read[key], part) and read[key].dtype == part.dtype for key, part in state().items())


@pytest.mark.parametrize("legacy", [True, False])
def test_a_payload_is_refused_and_not_run(tmp_path, capfd, legacy):
    path = tmp_path / "model.bin"
    torch.save({"a": Payload()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(StoreError, match="which only code in the file could make"):
        checkpoint.read_weights(path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(StoreError, match="expected a checkpoint of tensors"):
        checkpoint.read_torch(tmp_path / "plain.pt")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt"])
@pytest.mark.parametrize("keep", [0, 1, 7, 60, -9])
def test_a_cut_file_is_refused(tmp_path, name, keep):
    path = tmp_path / name
    save_file(state(), path) if name.endswith("safetensors") else torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match="To cure it: download the file again"):
        checkpoint.read_weights(path)


def test_what_is_missing_is_named_with_what_is_there(tmp_path):
    (tmp_path / "readme.md").write_text("x")
    with pytest.raises(StoreError, match=r"none of model.safetensors, .*\(there: readme.md\)"):
        checkpoint.read_weights(tmp_path)
    with pytest.raises(StoreError, match="no such file"):
        checkpoint.read_weights(tmp_path / "gone.pt")
    (tmp_path / checkpoint.INDEX).write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(StoreError, match=r"shards missing: gone\.safetensors"):
        checkpoint.read_weights(tmp_path)


@pytest.mark.parametrize("places", [None, [], ["a.safetensors"], {}, 3, "a.safetensors"])
def test_an_index_without_a_map_is_refused(tmp_path, places):
    for record in ({"weight_map": places}, places):
        (tmp_path / checkpoint.INDEX).write_text(json.dumps(record))
        with pytest.raises(StoreError, match=r"^model\.safetensors\.index\.json: "):
            checkpoint.read_weights(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *(3, None, ["s.safetensors"], {}, "", ".", "..", "../s.safetensors", "..\\s.safetensors", "/s.safetensors"),
        *("sub/s.safetensors", "C:s.safetensors", "s\0.safetensors"),
    ],
)
def test_a_shard_is_a_file_beside_its_index(tmp_path, name):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        save_file(state(), place / "s.safetensors")
    (folder / checkpoint.INDEX).write_text(json.dumps({"weight_map": {"b": name}}))
    with pytest.raises(StoreError, match="shards that are no file names"):
        checkpoint.read_weights(folder)


def test_a_marker_that_holds_no_mapping_is_refused(tmp_path):
    (tmp_path / checkpoint.MARKER).write_text("[1]")
    with pytest.raises(StoreError, match="a list"):
        checkpoint.Weights.of(tmp_path, [])


def test_every_misfit_is_listed_at_once():
    network = nn.Linear(3, 2)
    wrong = {"weight": torch.zeros(2, 4), "head.weight": torch.zeros(1), "decoder.x": torch.zeros(1)}
    with pytest.raises(StoreError) as error:
        checkpoint.load_into(network, wrong, ignore=[r"decoder\..*"], subject="model.pt")
    text = str(error.value)
    assert "1 weights missing: bias" in text
    assert "1 weights that the network does not have: head.weight" in text
    assert "weight (2, 4) for (2, 3)" in text
    before = network.weight.clone()
    assert torch.equal(network.weight, before)
    checkpoint.load_into(network, {"weight": torch.ones(2, 3), "bias": torch.ones(2)})
    assert network.weight.tolist() == [[1.0] * 3] * 2


def test_a_dictionary_that_is_off_by_one_is_refused():
    checkpoint.require_rows(5, 5, subject="vocab.json")
    with pytest.raises(StoreError, match="a dictionary of 5 tokens for an embedding of 6 rows"):
        checkpoint.require_rows(5, 6, subject="vocab.json")


def test_random_weights_are_marked_and_every_file_has_its_checksum(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"abc")
    assert checkpoint.Weights.of(tmp_path, [path]).kind == "pretrained"
    checkpoint.mark_random(tmp_path, 4)
    weights = checkpoint.Weights.of(tmp_path, [path])
    assert weights.record() == {
        "weights": "random",
        "sha256": {"model.pt": hashlib.sha256(b"abc").hexdigest()},
        "weights_seed": 4,
    }


@pytest.mark.parametrize(("text", "found"), [("{", "not JSON"), ("\xff", "not JSON")])
def test_text_that_is_no_json_is_named(tmp_path, text, found):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(StoreError, match=found):
        checkpoint.read_json(tmp_path / "a.json")


@pytest.mark.parametrize(("text", "found"), [("a: [", "not YAML"), ("- 1", "a list")])
def test_yaml_that_is_no_mapping_is_named(tmp_path, text, found):
    (tmp_path / "a.yml").write_text(text)
    with pytest.raises(StoreError, match=found):
        checkpoint.read_yaml(tmp_path / "a.yml")


def test_weights_that_are_not_finite_are_named():
    with pytest.raises(StoreError, match="1 weights with NaN or infinite entries: weight"):
        checkpoint.load_into(nn.Linear(3, 2), {"weight": torch.full((2, 3), torch.nan), "bias": torch.ones(2)})


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        ("<!DOCTYPE html>", "a web page"),
    ],
)
def test_what_was_downloaded_in_place_of_weights_is_said(tmp_path, name, text, found):
    (tmp_path / name).write_text(text)
    with pytest.raises(StoreError, match=f"found {found}"):
        checkpoint.read_weights(tmp_path / name)
