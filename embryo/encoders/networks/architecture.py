"""Networks of the transformers library out of a folder's ``config.json``: built here, filled by `checkpoint`.

Only the description is read, and of it only the architecture (`embryo.encoders.networks.families`); weights come
through `embryo.encoders.weights.checkpoint`, so that every key is accounted for, no code of a checkpoint runs and
nothing is fetched. transformers is an optional extra and is imported when such a model is opened.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from embryo.core.errors import ConfigError, EmbryoError, Problem, StoreError
from embryo.encoders.networks import families as known
from embryo.encoders.weights import checkpoint

CONFIG = "config.json"
WEIGHTS = ("config.json", "*.safetensors", "pytorch_model.bin")  # files whose checksums go into the provenance


def library() -> Any:
    """Return the transformers package; `ConfigError` where it is not installed."""
    try:
        import transformers  # noqa: PLC0415  an optional extra
    except ImportError as error:
        raise ConfigError(
            Problem("no transformers package", "the extra that has it", "pip install 'embryo[foundation]'")
        ) from error
    return transformers


def read_config(folder: Path, *families: str) -> Any:
    """Return the transformers configuration of the architecture that ``config.json`` describes.

    How attention is computed is said here, never by the file: it could name code to be fetched.

    Parameters
    ----------
    folder
        Folder of the model.
    families
        Values of ``model_type`` that the encoder can use, of `families.FAMILIES`.

    Raises
    ------
    StoreError
        If the file is missing or damaged, describes another kind of network, or one that cannot be: every key is named.
    """
    subject = f"{folder.name}/{CONFIG}"
    record = checkpoint.read_json(checkpoint.find(folder, CONFIG))
    family = record.get("model_type") if isinstance(record, Mapping) else None
    if family not in families:
        found = f"a network of type {family!r}"
        raise StoreError(
            Problem(found, " or ".join(families), "give the folder of this model, or name the encoder that it is for"),
            subject=subject,
        )
    said = known.described(family, record, subject=subject)
    for_model = library().AutoConfig.for_model
    try:
        config = for_model(family, **said, attn_implementation=known.ATTENTION[family])
        known.require_fitting(config, subject=subject)
    except EmbryoError:
        raise
    except Exception as error:  # the library's own validation errors share no public base
        raise _odd(folder, error) from error
    return config


def made(folder: Path, make: Callable[[], Any]) -> Any:
    """Return the network that `make` builds of a folder's configuration, its weights not drawn.

    It is built without memory first: one with more weights than the folder's files have bytes cannot be theirs.

    Raises
    ------
    StoreError
        If it cannot be built, or is larger than the files.
    """
    try:
        with unfilled(), torch.device("meta"):
            weights = sum(part.numel() for part in make().parameters())
        held = sum(path.stat().st_size for pattern in WEIGHTS[1:] for path in folder.glob(pattern))
        if weights > held > 0:
            found = f"a network of {weights:.3g} weights for files of {held:.3g} bytes"
            raise StoreError(Problem(found, "a config of these files", known.CURE), subject=f"{folder.name}/{CONFIG}")
        with unfilled():
            return make()
    except EmbryoError:
        raise
    except Exception as error:  # whatever a part of the library makes of numbers that it was not made for
        raise _odd(folder, error) from error


def unfilled() -> AbstractContextManager[Any]:
    """Return a context in which networks are made without drawing weights: they are read right after.

    Drawing takes 10 s for 100 million weights on one core, 200 times as long as making the network.
    """
    library()
    try:
        from transformers.initialization import no_init_weights  # noqa: PLC0415
    except ImportError:  # older versions: slower, not wrong
        return nullcontext()
    context: AbstractContextManager[Any] = no_init_weights()
    return context


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a generator with this seed inside, and leave the global one as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def save_random(network: Any, folder: Path, seed: int) -> Path:
    """Write ``config.json`` and ``model.safetensors`` in the layout of the library, marked as random."""
    folder.mkdir(parents=True, exist_ok=True)
    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(folder)
    once = dict(network.named_parameters())  # a tied head is not written again
    save_file(once, folder / checkpoint.WHOLE, metadata={"format": "pt"})
    checkpoint.mark_random(folder, seed)
    return folder


def _odd(folder: Path, error: Exception) -> StoreError:
    said = " ".join(str(error).split()) or type(error).__name__
    return StoreError(
        Problem(f"a config that transformers does not accept ({said[:200]})", "the release's config", known.CURE),
        subject=f"{folder.name}/{CONFIG}",
    )
