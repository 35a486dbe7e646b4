"""What a ``config.json`` may say of a network of the transformers library, key by key and with bounds.

The library takes whatever a config holds: the name of a kernel that it would fetch and run, classes of the checkpoint's
own code, quantisation, switches of its output. Here only the numbers and names that make up an architecture are read;
every other key is dropped before the library sees it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embryo.core.errors import Problem, StoreError

CURE = "take the config of the release that the weights are of"

Activation: TypeAlias = Literal[
    "gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish", "tanh"
]
Width: TypeAlias = Annotated[int, Field(ge=1, le=1 << 17)]
Heads: TypeAlias = Annotated[int, Field(ge=1, le=1 << 10)]
Many: TypeAlias = Annotated[int, Field(ge=1, le=1 << 24)]
Token: TypeAlias = Annotated[int, Field(ge=0)]
Small: TypeAlias = Annotated[float, Field(gt=0, le=1)]
Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class Rope(_Part):
    """Rotary positions; a key that is not known here would place the tokens elsewhere, so that it is refused."""

    model_config = ConfigDict(extra="forbid")
    rope_type: Literal["default", "linear", "dynamic", "yarn", "llama3", "longrope"] | None = None
    type: Literal["default", "linear", "dynamic", "yarn", "llama3", "longrope"] | None = None
    rope_theta: Positive | None = None
    partial_rotary_factor: Small | None = None
    factor: Annotated[float, Field(ge=1)] | None = None
    original_max_position_embeddings: Many | None = None
    attention_factor: Positive | None = None
    beta_fast: Positive | None = None
    beta_slow: Positive | None = None
    low_freq_factor: Positive | None = None
    high_freq_factor: Positive | None = None
    short_factor: list[Positive] | None = None
    long_factor: list[Positive] | None = None


class Family(_Part):
    """What all families have."""

    vocab_size: Many | None = None
    hidden_size: Width | None = None
    num_hidden_layers: Annotated[int, Field(ge=1, le=512)] | None = None
    num_attention_heads: Heads | None = None
    intermediate_size: Width | None = None
    max_position_embeddings: Many | None = None
    initializer_range: Small | None = None
    tie_word_embeddings: bool | None = None
    pad_token_id: Token | None = None
    bos_token_id: Token | None = None
    eos_token_id: Token | list[Token] | None = None


class Bert(Family):
    """An encoder; the switches that would make another network of it are refused."""

    hidden_act: Activation | None = None
    hidden_dropout_prob: Share | None = None
    attention_probs_dropout_prob: Share | None = None
    type_vocab_size: Width | None = None
    layer_norm_eps: Small | None = None
    is_decoder: Literal[False] | None = None
    add_cross_attention: Literal[False] | None = None
    position_embedding_type: Literal["absolute"] | None = None


class _Rotary(Family):
    rope_theta: Positive | None = None
    rope_scaling: Rope | None = None
    rope_parameters: Rope | None = None
    attention_bias: bool | None = None
    attention_dropout: Share | None = None


class Llama(_Rotary):
    """A causal network."""

    hidden_act: Activation | None = None
    num_key_value_heads: Heads | None = None
    head_dim: Width | None = None
    mlp_bias: bool | None = None
    rms_norm_eps: Small | None = None


class Gemma2(_Rotary):
    """A causal network, every second layer of which sees a window."""

    hidden_activation: Activation | None = None
    hidden_act: Activation | None = None
    num_key_value_heads: Heads | None = None
    head_dim: Width | None = None
    rms_norm_eps: Small | None = None
    query_pre_attn_scalar: Width | None = None
    sliding_window: Many | None = None
    layer_types: list[Literal["sliding_attention", "full_attention"]] | None = None
    final_logit_softcapping: Positive | None = None
    attn_logit_softcapping: Positive | None = None
    use_bidirectional_attention: Literal[False] | None = None


class NeoX(_Rotary):
    """A causal network (Pythia)."""

    hidden_act: Activation | None = None
    hidden_dropout: Share | None = None
    layer_norm_eps: Small | None = None
    use_parallel_residual: bool | None = None
    rotary_pct: Small | None = None
    rotary_emb_base: Positive | None = None
    partial_rotary_factor: Small | None = None


FAMILIES: Mapping[str, type[Family]] = {"bert": Bert, "llama": Llama, "gemma2": Gemma2, "gpt_neox": NeoX}
ATTENTION: Mapping[str, Literal["sdpa", "eager"]] = {  # Gemma 2 bounds its logits, which sdpa cannot
    "bert": "sdpa",
    "llama": "sdpa",
    "gemma2": "eager",
    "gpt_neox": "sdpa",
}


def described(family: str, record: Mapping[str, Any], *, subject: str) -> dict[str, Any]:
    """Return what a config says of its architecture, and nothing else of it.

    Parameters
    ----------
    family
        A key of `FAMILIES`.
    record
        The config as it was read.
    subject
        The file, for messages.

    Raises
    ------
    StoreError
        Naming every key whose value no such network can have.
    """
    try:
        said = FAMILIES[family].model_validate(dict(record))
    except ValidationError as error:
        problems = [
            Problem(f"{'.'.join(map(str, e['loc']))} {_short(e['input'])}", _expected(e["msg"]), CURE)
            for e in error.errors()
        ]
        raise StoreError(*problems, subject=subject) from error
    width, heads = said.hidden_size, said.num_attention_heads
    if width and heads and width % heads and getattr(said, "head_dim", None) is None:
        found = f"hidden_size {width} for num_attention_heads {heads}"
        raise StoreError(Problem(found, "a multiple", CURE), subject=subject)
    return said.model_dump(mode="json", exclude_unset=True)


def require_fitting(config: Any, *, subject: str) -> None:
    """Raise `StoreError` unless the numbers of a configuration fit each other; all misfits at once."""
    heads, width = config.num_attention_heads, config.hidden_size
    per_head = getattr(config, "head_dim", None)
    grouped = getattr(config, "num_key_value_heads", None) or heads
    layers = getattr(config, "layer_types", None)
    rope = getattr(config, "rope_parameters", None) or {}
    turned = int((per_head or width // heads) * (rope.get("partial_rotary_factor") or 1.0))
    misfits = (
        (heads % grouped, f"num_attention_heads {heads} for num_key_value_heads {grouped}", "a multiple"),
        (
            (config.pad_token_id or 0) >= config.vocab_size,
            f"pad_token_id {config.pad_token_id} for vocab_size {config.vocab_size}",
            "a token of the vocabulary",
        ),
        (
            layers is not None and len(layers) != config.num_hidden_layers,
            f"{len(layers or ())} layer_types for num_hidden_layers {config.num_hidden_layers}",
            "one per layer",
        ),
        (
            bool(rope) and (turned < 2 or turned % 2),
            f"{turned} dimensions of a head (head_dim, or hidden_size / num_attention_heads) with rotary positions",
            "an even number",
        ),
    )
    problems = [Problem(found, expected, CURE) for wrong, found, expected in misfits if wrong]
    if problems:
        raise StoreError(*problems, subject=subject)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _expected(message: str) -> str:
    return message.removeprefix("Input should be ")
