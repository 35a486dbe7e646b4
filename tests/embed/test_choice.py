import pytest

from embryo import embed
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
