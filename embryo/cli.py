"""Command line: parse, call one function, print where the result lies."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

import embryo

app = typer.Typer(
    help="Virtual-embryo trajectory simulator: single cells over time -> altered 3D morphogenesis, floors beside it.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Registered datasets: real embryos with their origin and checksums.", no_args_is_help=True)
app.add_typer(data, name="data")
models = typer.Typer(help="Encoders: what each reads, needs and can do.", no_args_is_help=True)
app.add_typer(models, name="encoders")
judge = typer.Typer(help="Evaluations, always beside their floors.", no_args_is_help=True)
app.add_typer(judge, name="evaluate")

out = Console()
err = Console(stderr=True)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@app.callback()
def options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Print the version when asked for it."""
    if version:
        out.print(embryo.__version__, highlight=False)
        raise typer.Exit


@app.command()
def run(
    config: Annotated[Path | None, typer.Argument(help="YAML config; without one the embedded demo runs.")] = None,
    folder: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; runs/NAME by default.")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", "-s", help="section.key=value, repeatable.")] = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Run a whole job; an interrupted run goes on where it stopped."""
    from embryo import config as configs  # noqa: PLC0415  heavy imports wait until the command is known
    from embryo import pipeline  # noqa: PLC0415

    resolved = configs.load(config, tuple(override or ()))
    target = folder or Path("runs") / resolved.name
    try:
        with _progress(quiet=quiet) as (tick, said):
            done = pipeline.run(resolved, target, tick=tick, said=said)
    except KeyboardInterrupt:
        _interrupted()
    out.print(pipeline.show(done.path), soft_wrap=True, markup=False, highlight=False)


@app.command()
def show(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Tell what is in a run folder."""
    from embryo import pipeline  # noqa: PLC0415

    out.print(pipeline.show(folder), soft_wrap=True, markup=False, highlight=False)


@app.command()
def tables(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="Markdown page to write.")],
) -> None:
    """Write the tables of runs against truth, with the commit they were made at, as one page."""
    from embryo import pipeline  # noqa: PLC0415
    from embryo.core import store  # noqa: PLC0415

    text = pipeline.tables(folders)
    with store.atomic(target) as partial:
        partial.write_text(text, encoding="utf-8")
    out.print(str(target), markup=False, highlight=False)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="h5ad, zarr, SpatialData zarr, or csv of tracks.")],
    time_unit: Annotated[str | None, typer.Option(help="h, min, day, ...")] = None,
    space_unit: Annotated[str | None, typer.Option(help="um, mm, nm, px")] = None,
    key: Annotated[list[str] | None, typer.Option(help="slot=name, such as time=stage; repeatable.")] = None,
) -> None:
    """List every problem of a file with its cure, or say what was read."""
    out.print(str(_read(file, key, time_unit, space_unit)), markup=False, highlight=False)
    out.print(f"{file.name}: no problems found", markup=False, highlight=False)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="What to read.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="h5ad or zarr to write.")],
    time_unit: Annotated[str | None, typer.Option(help="h, min, day, ...")] = None,
    space_unit: Annotated[str | None, typer.Option(help="um, mm, nm, px")] = None,
    key: Annotated[list[str] | None, typer.Option(help="slot=name, repeatable.")] = None,
) -> None:
    """Read a file, check it, and write it in µm and hours with the slots that embryo uses."""
    from embryo import read  # noqa: PLC0415

    read.write(_read(file, key, time_unit, space_unit), target)
    out.print(str(target), markup=False, highlight=False)


@app.command()
def embed(  # noqa: PLR0913  one option each
    file: Annotated[Path, typer.Argument(help="h5ad or zarr with raw counts; not modified.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="File of the same kind to write.")],
    encoder: Annotated[str, typer.Option(help="A name of `embryo encoders list`.")] = "pca",
    weights: Annotated[Path | None, typer.Option(help="Folder of a pretrained encoder that you downloaded.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="key=value of the embed section, such as pooling=cls.")
    ] = None,
    key: Annotated[str, typer.Option(help="Slot of obsm to write; that of `embryo run` by default.")] = "",
    seed: Annotated[int, typer.Option(help="Of whatever is drawn.")] = 0,
    *,
    quiet: Quiet = False,
) -> None:
    """Embed the cells of a file of any size; an interrupted embedding goes on where it stopped."""
    from embryo import config as configs  # noqa: PLC0415
    from embryo.core import schema  # noqa: PLC0415
    from embryo.pipeline import chosen  # noqa: PLC0415

    given = [f"encoder={encoder}", *([f"weights={weights}"] if weights else []), *(override or ())]
    section = configs.load(None, tuple(f"embed.{words}" for words in given)).embed
    try:
        with _progress(quiet=quiet) as (tick, _):
            about = chosen.embed_file(file, section, target, seed=seed, key_added=key or schema.EMBED, tick=tick)
    except KeyboardInterrupt:
        _interrupted()
    out.print(chosen.sentence(about), soft_wrap=True, markup=False, highlight=False)
    out.print(str(target), soft_wrap=True, markup=False, highlight=False)


@models.command("list")
def encoders_list() -> None:
    """List the encoders: species, genes, licences, what each can do, memory."""
    from embryo.encoders.facts import cards  # noqa: PLC0415

    out.print(cards.listing(), soft_wrap=True, markup=False, highlight=False)
    out.print("\nWhat to know before use: embryo encoders card NAME", markup=False, highlight=False)


@models.command("card")
def encoders_card(name: Annotated[str, typer.Argument(help="A name of `embryo encoders list`.")]) -> None:
    """Print an encoder's card: genes, licences, where its weights are, what it was trained on, caveats."""
    from embryo.encoders.facts import cards  # noqa: PLC0415

    out.print(cards.text(name), soft_wrap=True, markup=False, highlight=False)


@judge.command("embedding")
def evaluate_embedding(
    config: Annotated[Path, typer.Argument(help="YAML such as configs/evaluate/embedding-tal1.yaml.")],
    folder: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; runs/NAME by default.")] = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Judge embeddings beside HVG, PCA, random weights and the noise of counting; an interrupted job goes on."""
    from embryo.pipeline import embeddings  # noqa: PLC0415

    resolved = embeddings.load(config)
    try:
        with _progress(quiet=quiet) as (tick, said):
            page = embeddings.run(resolved, folder or Path("runs") / resolved.name, tick=tick, said=said)
    except KeyboardInterrupt:
        _interrupted()
    out.print(str(page), soft_wrap=True, markup=False, highlight=False)


@judge.command("clock")
def evaluate_clock(
    config: Annotated[Path, typer.Argument(help="YAML: read, weights, val, test, training.")],
    folder: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; runs/NAME by default.")] = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Teach MaxToki to tell time on your series, and judge it on whole stages that it never saw."""
    from embryo.pipeline import clock  # noqa: PLC0415

    resolved = clock.load(config)
    try:
        with _progress(quiet=quiet) as (tick, _):
            page = clock.run(resolved, folder or Path("runs") / resolved.name, tick=tick)
    except KeyboardInterrupt:
        _interrupted()
    out.print(page.read_text(encoding="utf-8"), soft_wrap=True, markup=False, highlight=False)


@judge.command("page")
def evaluate_page(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Finished evaluations of embeddings.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="Markdown page to write.")],
) -> None:
    """Write finished evaluations, with the commit they were made at, as one page."""
    from embryo.core import store  # noqa: PLC0415
    from embryo.pipeline import embeddings  # noqa: PLC0415

    text = embeddings.page(folders)
    with store.atomic(target) as partial:
        partial.write_text(text, encoding="utf-8")
    out.print(str(target), soft_wrap=True, markup=False, highlight=False)


@data.command("list")
def data_list() -> None:
    """List the registered datasets."""
    from embryo import datasets  # noqa: PLC0415

    for name in datasets.names():
        entry = datasets.entry(name)
        out.print(f"{name:<24} {entry.licence:<18} {entry.title}", soft_wrap=True, markup=False, highlight=False)


@data.command("fetch")
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

    out.print(
        str(datasets.fetch(name, mirror=mirror, progress=not quiet)), soft_wrap=True, markup=False, highlight=False
    )


@data.command("card")
def data_card(name: Annotated[str, typer.Argument(help="A name of `embryo data list`.")]) -> None:
    """Print a dataset's card: what it is, licence, citation, caveats."""
    from embryo import datasets  # noqa: PLC0415

    out.print(datasets.card(name), soft_wrap=True, markup=False, highlight=False)


def _read(file: Path, key: list[str] | None, time_unit: str | None, space_unit: str | None) -> Any:
    from embryo import read  # noqa: PLC0415

    keys = dict(k.partition("=")[::2] for k in key or ())
    return read.auto(file, read.Keys.of({**keys, "time_unit": time_unit, "space_unit": space_unit}))


def _interrupted() -> NoReturn:
    err.print("Interrupted. The same command goes on where it stopped.", highlight=False)
    raise typer.Exit(130) from None


@contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Callable[[str, int, int], None], Callable[[str, str], None]]]:
    """Show a bar per long stage and a line per finished one; nothing with --quiet or where nobody watches."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=quiet, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tick(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, visible=done < total)

        def said(stage: str, summary: str) -> None:
            if not quiet:
                err.print(f"[bold]{stage}[/bold] ", end="")
                err.print(summary, markup=False, highlight=False, soft_wrap=True)

        yield tick, said


def main() -> None:
    """Entry point: errors that embryo raises on purpose are printed for the person, without a traceback."""
    from embryo.core.errors import EmbryoError  # noqa: PLC0415

    try:
        app()
    except EmbryoError as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
