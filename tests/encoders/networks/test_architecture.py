"""Folders of people who mean harm, or whose config is damaged, for every family of networks that is read."""

import json
import socket
from pathlib import Path

import pytest
import torch

from embryo import encoders
from embryo.core.errors import StoreError
from embryo.encoders.networks import architecture, families
from embryo.encoders.options import Options

transformers = pytest.importorskip("transformers", reason="the extra `foundation` is not installed")
GENES = [f"ENSG{k:011d}" for k in range(12)]
OPTIONS = Options(dtype="float32")
HARM = {
    "attn_implementation": "kernels-community/flash-attn",
    "_attn_implementation": "kernels-community/flash-attn",
    "_attn_implementation_internal": "kernels-community/flash-attn",
    "experts_implementation": "someone/kernel",
    "_experts_implementation": "someone/kernel",
    "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoModelForCausalLM": "code.Model"},
    "custom_pipelines": {"x": {"impl": "code.Pipeline"}},
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "kernel_config": {"RMSNorm": "someone/kernel:RMSNorm"},
    "use_kernels": True,
    "per_layer_config": {"0": {"hidden_size": 8}},
    "name_or_path": "someone/model",
    "_name_or_path": "someone/model",
    "base_model_tp_plan": {"layers": "colwise"},
    "torch_dtype": "float16",
    "dtype": "no such type",
    "return_dict": False,
    "output_attentions": True,
    "use_return_dict": False,
    "chunk_size_feed_forward": -3,
    "id2label": [],
}


@pytest.fixture(params=["bert", "llama", "gemma2", "gpt_neox"])
def model(request, tmp_path) -> tuple[str, Path]:
    """Return the name of an encoder and a tiny folder of it, one for each family."""
    family = request.param
    name = {"bert": "geneformer", "llama": "maxtoki"}.get(family, "c2s")
    folder = tmp_path / "model"
    encoders.model(name).write_tiny(folder, GENES, **({"family": family} if name == "c2s" else {}))
    return name, folder


@pytest.fixture
def no_net(monkeypatch):
    def refuse(*_args, **_kwargs):
        pytest.fail("the network was touched")

    for what in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, what, refuse)
    for what in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, what, refuse)


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def embedded(name: str, folder: Path) -> tuple[torch.nn.Module, torch.Tensor]:
    encoder = encoders.open_dir(name, folder, OPTIONS)
    ids = torch.arange(4, 10)[None]
    with torch.inference_mode():
        body = getattr(encoder.network, "base_model", encoder.network)
        return encoder.network, body(input_ids=ids).last_hidden_state


def test_no_key_of_a_config_makes_the_library_fetch_or_run_anything(model, no_net, monkeypatch):
    name, folder = model
    _, before = embedded(name, folder)
    rewrite(folder, **HARM)
    asked = []
    real = transformers.AutoConfig.for_model
    monkeypatch.setattr(
        transformers.AutoConfig, "for_model", lambda *words, **keys: asked.append(keys) or real(*words, **keys)
    )
    network, after = embedded(name, folder)
    assert torch.equal(before, after)
    (keys,) = asked
    assert set(keys) & set(HARM) == {"attn_implementation"}
    assert keys["attn_implementation"] == network.config._attn_implementation  # what runs is what embryo asked for
    assert network.config._attn_implementation == ("eager" if network.config.model_type == "gemma2" else "sdpa")


ODD = [
    ("vocab_size", 0),
    ("vocab_size", -4),
    ("vocab_size", 10**12),
    ("vocab_size", "many"),
    ("vocab_size", None),
    ("hidden_size", 33),
    ("hidden_size", -32),
    ("hidden_size", 0),
    ("hidden_size", 1e99),
    ("hidden_size", [32]),
    ("num_attention_heads", 0),
    ("num_attention_heads", 5),
    ("num_hidden_layers", -1),
    ("num_hidden_layers", 10**9),
    ("num_hidden_layers", True),
    ("intermediate_size", 2**62),
    ("max_position_embeddings", -5),
    ("pad_token_id", 400),
    ("pad_token_id", -7),
    ("pad_token_id", "0"),
    ("initializer_range", "wide"),
    ("tie_word_embeddings", "yes"),
]


@pytest.mark.parametrize(("key", "value"), ODD, ids=[f"{key}={value}" for key, value in ODD])
def test_a_config_that_cannot_be_is_named_with_its_key(model, key, value):
    """Without ``head_dim``, beside which width and heads need not fit each other."""
    name, folder = model
    rewrite(folder, **{key: value})
    path = folder / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "head_dim"}))
    with pytest.raises(StoreError, match=rf"^model/config\.json: .*{key}"):
        encoders.open_dir(name, folder, OPTIONS)


OTHER = {
    "bert": [("hidden_act", "nope"), ("is_decoder", True), ("position_embedding_type", "relative_key")],
    "llama": [
        ("hidden_act", "nope"),
        ("hidden_act", 3),
        ("num_key_value_heads", 3),
        ("head_dim", 7),
        ("rms_norm_eps", -1.0),
        ("rope_theta", 0),
        ("rope_scaling", {"rope_type": "nope", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "linear", "factor": "x"}),
        ("rope_parameters", [1]),
    ],
    "gemma2": [
        ("hidden_activation", "nope"),
        ("num_key_value_heads", 3),
        ("layer_types", ["full_attention"]),
        ("layer_types", ["nope", "full_attention"]),
        ("sliding_window", -1),
        ("query_pre_attn_scalar", 0),
        ("attn_logit_softcapping", float("nan")),
    ],
    "gpt_neox": [("hidden_act", "nope"), ("rotary_pct", 7.0), ("layer_norm_eps", "tiny")],
}
EACH = [(family, key, value) for family, odd in OTHER.items() for key, value in odd]


@pytest.mark.parametrize(("family", "key", "value"), EACH, ids=[f"{f}-{k}={v}" for f, k, v in EACH])
def test_what_only_one_family_has_is_checked_too(tmp_path, family, key, value):
    name = {"bert": "geneformer", "llama": "maxtoki"}.get(family, "c2s")
    folder = tmp_path / "model"
    encoders.model(name).write_tiny(folder, GENES, **({"family": family} if name == "c2s" else {}))
    rewrite(folder, **{key: value})
    with pytest.raises(StoreError, match=rf"^model/config\.json: .*{key}"):
        encoders.open_dir(name, folder, OPTIONS)


def test_every_wrong_key_is_named_at_once(model):
    name, folder = model
    rewrite(folder, vocab_size=-1, hidden_size="x")
    with pytest.raises(StoreError) as error:
        encoders.open_dir(name, folder, OPTIONS)
    assert "vocab_size -1" in str(error.value)
    assert "hidden_size 'x'" in str(error.value)


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"model_type": ["bert"]}', '{"model_type": null}'])
def test_a_config_of_no_family_is_refused(model, text):
    name, folder = model
    (folder / "config.json").write_text(text)
    with pytest.raises(StoreError, match="a network of type"):
        encoders.open_dir(name, folder, OPTIONS)


def test_a_network_larger_than_its_files_is_refused_before_it_takes_memory(model):
    name, folder = model
    rewrite(folder, intermediate_size=1 << 17, num_hidden_layers=400)
    if json.loads((folder / "config.json").read_text())["model_type"] == "gemma2":
        rewrite(folder, layer_types=["full_attention"] * 400)
    with pytest.raises(StoreError, match=r"a network of .* weights for files of .* bytes"):
        encoders.open_dir(name, folder, OPTIONS)


def test_the_published_config_of_geneformer_is_read_as_it_stands(real_folder):
    folder = real_folder("foundation-vocabularies") / "geneformer_v1"
    config = architecture.read_config(folder, "bert")
    published = json.loads((folder / "config.json").read_text())
    kept = set(published) & set(families.Bert.model_fields)
    assert {"hidden_size", "vocab_size", "hidden_act", "attention_probs_dropout_prob"} <= kept
    assert all(getattr(config, key) == published[key] for key in kept)
