"""Cards: complete, and in agreement with the encoders themselves."""

from importlib import import_module
from importlib.util import find_spec

import pytest

from embryo import encoders
from embryo.core.errors import ConfigError
from embryo.encoders.facts import cards
from embryo.encoders.pretrained import Pretrained


def test_every_encoder_has_a_card() -> None:
    assert set(cards.names()) == {*encoders.names(), "precomputed"}
    with pytest.raises(ConfigError, match="did you mean 'geneformer'"):
        cards.card("genformer")


@pytest.mark.parametrize("name", cards.names())
def test_a_card_is_complete(name: str) -> None:
    card = cards.card(name)
    assert card.name == name
    assert all((card.title, card.species, card.code_licence, card.weights_licence, card.weights, card.needs))
    assert card.caveats
    assert "embed" in card.capabilities
    assert (card.kind == "pretrained") == bool(card.sizes) == ("https://" in card.weights)
    assert (card.corpus is None) == (card.kind == "fitted")
    text = cards.text(name)
    for part in (card.title, card.weights, card.code_licence, card.weights_licence, *card.caveats, *card.unverified):
        assert part in text


@pytest.mark.parametrize("name", encoders.pretrained_names())
def test_a_card_agrees_with_its_encoder(name: str) -> None:
    module, attribute = encoders._PRETRAINED[name].split(":")
    if find_spec(module) is None:
        pytest.skip(f"{module} is not there yet")
    kind, card = getattr(import_module(module), attribute), cards.card(name)
    assert kind.name == name
    assert kind.ids == card.gene_ids
    assert kind.species in card.species
    assert (kind.edit_tokens is not Pretrained.edit_tokens) == ("edit_tokens" in card.capabilities)


def bert(vocabulary: int, positions: int, layers: int, width: int, feed: int) -> int:
    """Parameters of BERT with a language-model head tied to its embedding (Devlin et al. 2019)."""
    norm = 2 * width
    embedding = (vocabulary + positions + 2) * width + norm
    attention = 4 * (width * width + width) + norm
    forward = 2 * width * feed + feed + width + norm
    return embedding + layers * (attention + forward) + width * width + width + norm + vocabulary


def test_counted_sizes_follow_from_the_architecture() -> None:
    counted = {size.name: size.parameters for size in cards.card("geneformer").sizes if size.exact}
    for name, shape in {
        "V1-10M": (25_426, 2048, 6, 256, 512),
        "V1 with 12 layers": (25_426, 2048, 12, 512, 1024),
        "V2-104M": (20_275, 4096, 12, 768, 3072),
        "V2-316M": (20_275, 4096, 18, 1152, 4608),
    }.items():
        assert counted[name] == pytest.approx(bert(*shape), rel=1e-3), name


def test_memory_is_parameters_times_bytes() -> None:
    size = cards.Size(name="V2-104M", parameters=104_390_000, exact=True)
    assert (size.memory_gb(), size.memory_gb(2)) == pytest.approx((0.41756, 0.20878))
    assert str(size) == "V2-104M: 104.4 million parameters, 0.42 GB in float32, 0.21 GB in bfloat16"
    assert str(cards.Size(name="27B", parameters=27_200_000_000)) == (
        "27B: about 27.2 billion parameters, 109 GB in float32, 54 GB in bfloat16"
    )


def test_licences_that_forbid_are_said() -> None:
    for name in ("cellfm", "scfoundation"):
        text = cards.text(name)
        assert "NC" in text or "on-commercial" in text
    for name in ("scprint2", "c2s"):
        assert "conflict" in cards.text(name)
    assert "no time tokens" in cards.text("maxtoki")


def test_the_listing_says_of_every_encoder_what_a_user_asks() -> None:
    entries = cards.listing().split("\n\n")
    assert [entry.split(" - ")[0] for entry in entries] == list(cards.names())
    for entry, name in zip(entries, cards.names(), strict=True):
        c = cards.card(name)
        assert [line.split()[0] for line in entry.splitlines()[1:]] == ["reads", "can", "memory", "licence", "from"]
        assert c.weights in entry
        assert c.code_licence in entry
        assert ", ".join(c.capabilities) in entry
    assert "0.041 GB to 1.3 GB of weights in float32" in cards.listing()
