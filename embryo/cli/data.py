"""`embryo data` and `embryo encoders`: what is registered, and what to know of it."""

from pathlib import Path
from typing import Annotated

import typer

from embryo.cli.console import Quiet, say

datasets_app = typer.Typer(
    help="Registered datasets: real embryos with their origin and checksums.", no_args_is_help=True
)
encoders_app = typer.Typer(help="Encoders: what each reads, needs and can do.", no_args_is_help=True)


@datasets_app.command("list")
def data_list() -> None:
    """List the registered datasets."""
    from embryo import datasets  # noqa: PLC0415

    for name in datasets.names():
        entry = datasets.entry(name)
        say(f"{name:<24} {entry.licence:<18} {entry.title}")


@datasets_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name of `embryo data list`.")],
    mirror: Annotated[
        Path | None, typer.Option(help="Local folder with the same files; else EMBRYO_DATA_MIRROR.")
    ] = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Fetch a dataset from its public origin or a mirror, and check every checksum."""
    from embryo import datasets  # noqa: PLC0415

    say(str(datasets.fetch(name, mirror=mirror, progress=not quiet)))


@datasets_app.command("card")
def data_card(name: Annotated[str, typer.Argument(help="A name of `embryo data list`.")]) -> None:
    """Print a dataset's card: what it is, licence, citation, caveats."""
    from embryo import datasets  # noqa: PLC0415

    say(datasets.card(name))


@encoders_app.command("list")
def encoders_list() -> None:
    """List the encoders: species, genes, licences, what each can do, memory."""
    from embryo.encoders.facts import cards  # noqa: PLC0415

    say(cards.listing())
    say("\nWhat to know before use: embryo encoders card NAME")


@encoders_app.command("card")
def encoders_card(name: Annotated[str, typer.Argument(help="A name of `embryo encoders list`.")]) -> None:
    """Print an encoder's card: genes, licences, where its weights are, what it was trained on, caveats."""
    from embryo.encoders.facts import cards  # noqa: PLC0415

    say(cards.text(name))
