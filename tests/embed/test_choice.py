import pytest

from embryo import embed, encoders
from embryo.core.errors import ConfigError


def test_a_fitted_encoder_needs_no_weights(tmp_path):
    assert embed.encoder("pca", dims=7, seed=3).dims == 7
    with pytest.raises(ConfigError, match="weights for pca"):
        embed.encoder("pca", tmp_path)


def test_a_pretrained_encoder_says_where_its_weights_are_had():
    with pytest.raises(ConfigError, match="embryo encoders card geneformer says where"):
        embed.encoder("geneformer")


def test_an_unknown_encoder_is_told():
    with pytest.raises(ConfigError, match="did you mean 'geneformer'"):
        embed.encoder("genformer", dims=3)


def test_dims_reduce_a_pretrained_embedding(tmp_path):
    weights = encoders.model("scgpt").write_tiny(tmp_path, [f"GENE{k}" for k in range(30)])
    assert embed.encoder("scgpt", weights, dims=5).dims == 5
    assert embed.encoder("scgpt", weights).dims == 16
    with pytest.raises(ConfigError, match="precomputed without a file"):
        embed.encoder("precomputed")
