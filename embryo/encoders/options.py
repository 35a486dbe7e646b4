"""How a pretrained encoder is used: layer, pooling, device, precision, species."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from embryo.core.errors import ConfigError, Problem


@dataclass(frozen=True)
class Options:
    """How a pretrained encoder is used.

    Parameters
    ----------
    dims
        Principal components, of the cells of the fit, that the embedding is reduced to; whole by default.
    decoder
        What leads back to genes; see `embryo.encoders.decoding.decoder`.
    layer
        Index into the network's hidden states (0 is the input of the first layer, -1 the last); the model's own by
        default.
    pooling
        One of the model's `poolings`; its first by default.
    device, dtype
        Where and in which precision; ``auto`` is bfloat16 where the hardware multiplies it, else float32. Rounding in
        bfloat16 may be as large as what one gene's edit does: compare edited with unedited cells in float32.
    seed
        Of whatever is drawn for a cell.
    batch_tokens
        Tokens per batch, padding included.
    min_coverage
        Share of the data's genes that the model must read.
    species
        Of the data; by default what ``uns["embryo"]["organism"]`` says.
    orthologs
        Ortholog table (`embryo data fetch gene-orthologs`), needed where data and model are of two species.
    variant
        What a model with several forms needs to know; see its module.
    """

    dims: int | None = None
    decoder: Literal["ridge", "network"] = "ridge"
    layer: int | None = None
    pooling: str | None = None
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    seed: int = 0
    batch_tokens: int = 16_384
    min_coverage: float = 0.5
    species: str | None = None
    orthologs: Path | None = None
    variant: str | None = None

    def checked(self) -> "Options":
        """Return the options themselves; `ConfigError` where this machine has no such device."""
        try:
            torch.zeros(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            found = f"device {self.device!r} ({str(error).splitlines()[0][:120]})"
            problem = Problem(found, "a device of this machine, such as cpu", "choose another device")
            raise ConfigError(problem, subject="embed") from error
        return self

    def require_no_variant(self, name: str) -> None:
        """Raise `ConfigError` where a variant is asked of a model that has none."""
        if self.variant is not None:
            raise ConfigError(Problem(f"variant {self.variant!r}", "none", f"leave it out: {name} has one form"))

    @property
    def precise(self) -> str:
        """Precision that matrices are multiplied in, with ``auto`` resolved."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if _multiplies_bfloat16(torch.device(self.device).type) else "float32"

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context in which a network runs."""
        if self.precise == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)


def _multiplies_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return kind == "cpu" and any(getattr(torch.cpu, check, lambda: False)() for check in checks)
