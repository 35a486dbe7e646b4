"""The encoder that a config section chooses, and a file embedded with it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from anndata import AnnData

from embryo import embed
from embryo.config import Embed, Fitted, Protect
from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, Problem, SchemaError
from embryo.encoders import precomputed as files
from embryo.encoders.facts import leaks
from embryo.encoders.facts.leaks import Protected
from embryo.encoders.options import Options


def encoder(e: Embed, *, dims: int, seed: int, organism: str | None) -> Any:
    """Return the encoder that a section names, not yet fitted, after its leak check.

    Parameters
    ----------
    e
        The section.
    dims
        Of a fitted encoder; a pretrained one follows the section.
    seed
        Of whatever is drawn.
    organism
        Of the data, where they say so.

    Raises
    ------
    EmbryoError
        If the encoder cannot be opened, or has seen what the section protects.
    """
    options = Options(
        dims=e.dims,
        decoder=e.decoder,
        layer=e.layer,
        pooling=e.pooling,
        device=e.device,
        dtype=e.dtype,
        seed=seed,
        batch_tokens=e.batch_tokens,
        min_coverage=e.min_coverage,
        species=e.species,
        orthologs=e.orthologs,
        variant=e.variant,
    )
    held_out = protected(e.protect, e.species or organism, subject="embed")
    return embed.encoder(
        e.encoder, e.weights, options, dims=dims, seed=seed, protected=held_out, allow_leaks=e.protect.allow
    )


def fitted(e: Embed, train: AnnData, *, seed: int, spare: int = 0) -> Any:
    """Return the encoder that a section names, fitted on training cells.

    Parameters
    ----------
    e
        The section.
    train
        Training cells.
    seed
        Of whatever is drawn.
    spare
        By how much the dimensions stay below what cells and genes allow.
    """
    if not train.n_vars:
        cure = "give columns of genes, or a precomputed embedding (embed.encoder=precomputed)"
        raise SchemaError(Problem("no genes in X", "expression to embed", cure), subject="embed")
    most = min(train.shape) - spare
    organism = schema.meta(train).get("organism")
    return encoder(e, dims=min(e.dims or most, most), seed=seed, organism=organism).fit(train)


def protected(p: Protect, organism: str | None, *, subject: str) -> Protected:
    """Return what no encoder may have seen.

    Parameters
    ----------
    p
        The section.
    organism
        Of the data, where the section names none.
    subject
        Of the config, for the error.

    Raises
    ------
    ConfigError
        If stages or genotypes are named, and no organism.
    """
    species = p.organism or organism
    if (p.stages or p.genotypes) and species is None:
        cure = "say whose stages and genotypes they are (protect.organism)"
        raise ConfigError(Problem("protected stages or genotypes of no organism", "an organism", cure), subject=subject)
    return Protected(species or "", tuple(p.stages), tuple(p.genotypes))


def precomputed(adata: AnnData, e: Embed) -> str:
    """Write an embedding that was computed elsewhere, from a file or a slot, and say in one line which.

    Its provenance is asked for what it was trained on; what was found goes into the provenance of the cells.

    Raises
    ------
    EmbryoError
        If it is absent, or is not of these cells as they are now, or has seen what the section protects.
    """
    organism = e.species or schema.meta(adata).get("organism")
    if e.weights is None:
        about = dict(schema.meta(adata).get("embeddings", {}).get(e.slot, {}))
        said = _leaks(about, e, organism)
        embed.latent(adata, e.slot)
        made = schema.meta(adata)["embeddings"]
        made[schema.EMBED] |= {key: about[key] for key in ("corpus",) if key in about} | {"leaks": said}
        return f"embedding taken from obsm[{e.slot!r}]; {said}"
    found = files.read(e.weights)
    said = _leaks(found.about, e, organism)
    embed.cells(adata, replace(found, about={**found.about, "leaks": said}))
    words = f"embedding of {found.dims} dimensions taken from {e.weights.name}, cells and counts as they were"
    return f"{words}; {said}"


def _leaks(about: Mapping[str, Any], e: Embed, organism: str | None) -> str:
    """Return what the provenance says of leaks; refuse an embedding that has seen what is protected."""
    held_out = protected(e.protect, organism, subject="embed")
    name, before = str(about.get("encoder", "precomputed")), str(about.get("leaks", ""))
    if before.startswith(leaks.LEAK) and held_out.named and not e.protect.allow:
        expected = f"none of what is protected: {phrases.few(held_out.named)}"
        raise ConfigError(
            Problem(f"a provenance that says {before!r}", expected, "choose another, or allow the leak"),
            subject=f"encoder {name}",
        )
    said = leaks.require_no_leak(name, leaks.corpus_on_record(about), held_out, allow=e.protect.allow)
    return f"{said}; said before: {before}" if before.startswith(leaks.LEAK) else said


def described(encoder: Any, n: int) -> str:
    """Say in one line what cells were embedded with; `n` cells of the fit."""
    about = embed.about(encoder)
    if about["weights"] == "fitted":
        return f"{encoder.name} with {encoder.dims} dimensions, fitted on {n:,} training cells"
    decoder = f"; {encoder.decoder.held_out}" if getattr(encoder, "decoder", None) else ""
    seen = f"; trained on {about['corpus']}; {about['leaks']}"
    return f"{encoder.name} ({about['weights']} weights, {encoder.dims} dimensions, {about['dtype']}){decoder}{seen}"


def sentence(about: Mapping[str, Any]) -> str:
    """Say in one line how an embedding was made, from its provenance."""
    words = [f"{about['encoder']}, {about['weights']} weights, {about['dims']} dimensions"]
    words += [f"{key} {about[key]}" for key in ("layer", "pooling", "dtype") if about.get(key) is not None]
    coverage = about.get("coverage", {})
    if coverage:
        words.append(f"{coverage['n_mapped_data']:,} of {coverage['n_data']:,} genes read")
    words += [f"{key}: {about[key]}" for key in ("corpus", "leaks") if about.get(key)]
    return "; ".join(words)


def embed_file(
    path: Path,
    e: Embed,
    out: Path,
    *,
    seed: int = 0,
    key_added: str = schema.EMBED,
    tick: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Embed the cells of a file of any size with the encoder of a section; see `embryo.embed.file`."""
    if "dims" not in e.model_fields_set and e.encoder not in get_args(Fitted):
        e = e.model_copy(update={"dims": None})  # whole, where nobody asked for fewer
    if "dtype" not in e.model_fields_set:
        e = e.model_copy(update={"dtype": "auto"})  # many cells and no edits: fast, and the provenance says so
    with embed.opened(path, species=e.species) as source:
        if not source.n_obs:
            raise SchemaError(Problem("0 cells", "at least one cell", "check the file"), subject=path.name)
        organism = source.meta.get("organism")
        most = max(min(source.n_obs, len(source.var)) - 1, 1)
    chosen = encoder(e, dims=min(e.dims or most, most), seed=seed, organism=organism)
    return embed.file(path, chosen, out, key_added=key_added, species=e.species, tick=tick)
