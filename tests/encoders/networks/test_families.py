"""What of a config is read, and what is not."""

from types import SimpleNamespace

import pytest

from embryo.core.errors import StoreError
from embryo.encoders.networks import families


def test_only_the_architecture_is_read():
    read = {"hidden_size": 8, "hidden_act": "gelu"}
    other = {"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}, "other": 1}
    assert families.described("bert", read | other, subject="c") == read


def test_rotary_positions_that_are_not_known_are_refused():
    record = {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "mscale": 3.0}}
    with pytest.raises(StoreError, match=r"rope_scaling\.mscale 3\.0"):
        families.described("llama", record, subject="config.json")
    assert families.described("llama", {"rope_scaling": None}, subject="c") == {"rope_scaling": None}


@pytest.mark.parametrize("family", families.FAMILIES)
def test_no_key_that_is_read_names_an_implementation(family):
    keys = families.FAMILIES[family].model_fields
    assert [key for key in keys if key.startswith("_") or "implementation" in key or "map" in key] == []
    assert families.ATTENTION[family] in ("sdpa", "eager")


def test_every_misfit_is_named_at_once():
    config = SimpleNamespace(
        num_attention_heads=4, hidden_size=32, num_key_value_heads=3, vocab_size=5, pad_token_id=5, num_hidden_layers=2,
        layer_types=["full_attention"], head_dim=7, rope_parameters={"rope_type": "default"},
    )  # fmt: skip
    with pytest.raises(StoreError) as error:
        families.require_fitting(config, subject="config.json")
    for key in ("num_key_value_heads 3", "pad_token_id 5", "1 layer_types", "7 dimensions of a head"):
        assert key in str(error.value)
