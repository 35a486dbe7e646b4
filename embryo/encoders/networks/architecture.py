"""Networks of the transformers library out of a folder's ``config.json``: built here, filled by `checkpoint`.

Only the description is read; weights come through `embryo.encoders.weights.checkpoint`, so that every key is accounted
for and no code of a checkpoint runs. transformers is an optional extra and is imported when such a model is opened.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from embryo.core.errors import ConfigError, Problem, StoreError
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
    """Return the transformers configuration that ``config.json`` describes.

    Parameters
    ----------
    folder
        Folder of the model.
    families
        Values of ``model_type`` that the encoder can use, such as ``bert``.

    Raises
    ------
    StoreError
        If the file is missing or damaged, or describes another kind of network.
    """
    record = checkpoint.read_json(checkpoint.find(folder, CONFIG))
    family = record.get("model_type") if isinstance(record, Mapping) else None
    if family not in families:
        found = f"a network of type {family!r}"
        raise StoreError(
            Problem(found, " or ".join(families), "give the folder of this model, or name the encoder that it is for"),
            subject=f"{folder.name}/{CONFIG}",
        )
    try:
        return library().AutoConfig.for_model(**record)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _odd(folder, error) from error
    except Exception as error:  # the library's own validation errors share no public base
        if "validation" not in type(error).__name__.lower():
            raise
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
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return StoreError(
        Problem(f"a config that transformers does not accept ({first[:200]})", "the release's config", "download it"),
        subject=f"{folder.name}/{CONFIG}",
    )
