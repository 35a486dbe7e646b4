"""`embryo run`, its stages one at a time, and what reads and writes single files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from embryo.cli.console import Folder, Override, Page, Quiet, progress, resumable, say, write

Source = Annotated[
    Path | None,
    typer.Argument(help="YAML config, the cells (h5ad, zarr, csv), or a run folder; none: the embedded demo."),
]


def run(
    source: Source = None,
    folder: Folder = None,
    override: Override = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Run a whole job; an interrupted run goes on where it stopped."""
    _until(None, source, folder, override, quiet=quiet)


def couple(source: Source = None, folder: Folder = None, override: Override = None, *, quiet: Quiet = False) -> None:
    """Couple the times of a series: who becomes whom. Leaves a run folder that `fit` goes on from."""
    _until("couple", source, folder, override, quiet=quiet)


def fit(source: Source = None, folder: Folder = None, override: Override = None, *, quiet: Quiet = False) -> None:
    """Couple, and fit the law of motion with every seed. Leaves a run folder that `simulate` goes on from."""
    _until("fit", source, folder, override, quiet=quiet)


def simulate(
    source: Annotated[
        Path | None, typer.Argument(help="YAML config, cells (h5ad, zarr, csv), or a run folder with --start.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder, runs/NAME by default; with --start: new folder.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="section.key=value, repeatable; with --start: of simulate only."),
    ] = None,
    start: Annotated[Path | None, typer.Option(help="New cells to roll out with the fields of the run SOURCE.")] = None,
    until_h: Annotated[
        float | None, typer.Option(help="Only with --start: when to end, hours; before it: back.")
    ] = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Couple, fit and roll out; or, with --start, roll new cells out with the fields of a finished run."""
    if start is None:
        if until_h is not None:
            from embryo.core.errors import ConfigError, Problem  # noqa: PLC0415

            cure = "set split.end_h for the run's own embryos, or name new cells with --start"
            raise ConfigError(Problem("--until-h without --start", "both, or neither", cure), subject="simulate")
        _until("simulate", source, folder, override, quiet=quiet)
        return
    from embryo.pipeline import newcells  # noqa: PLC0415

    with resumable(), progress(quiet=quiet) as (tick, _):
        made = newcells.roll(
            source or Path(), start, folder, until_h=until_h, overrides=tuple(override or ()), tick=tick
        )
    say(made)


def _until(
    stage: str | None, source: Path | None, folder: Path | None, override: list[str] | None, *, quiet: bool
) -> None:
    from embryo import config as configs  # noqa: PLC0415  heavy imports wait until the command is known
    from embryo import pipeline  # noqa: PLC0415
    from embryo.pipeline import places  # noqa: PLC0415

    of_a_run = source is not None and (source / "run.json").is_file()
    resolved = configs.source(source / "config.yaml" if source and of_a_run else source, tuple(override or ()))
    target = folder or (source if source and of_a_run else places.of_run(resolved.name))
    with resumable(), progress(quiet=quiet) as (tick, said):
        done = pipeline.run(resolved, target, until=stage, tick=tick, said=said)
    say(pipeline.show(done.path))


def show(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Tell what is in a run folder."""
    from embryo import pipeline  # noqa: PLC0415

    say(pipeline.show(folder))


def tables(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    target: Page,
) -> None:
    """Write the tables of runs against truth, with the commit they were made at, as one page."""
    from embryo import pipeline  # noqa: PLC0415

    write(pipeline.tables(folders), target)


def check(
    file: Annotated[Path, typer.Argument(help="h5ad, zarr, SpatialData zarr, or csv of tracks.")],
    time_unit: Annotated[str | None, typer.Option(help="h, min, day, ...")] = None,
    space_unit: Annotated[str | None, typer.Option(help="um, mm, nm, px")] = None,
    key: Annotated[list[str] | None, typer.Option(help="slot=name, such as time=stage; repeatable.")] = None,
) -> None:
    """List every problem of a file with its cure, or say what was read."""
    say(str(_read(file, key, time_unit, space_unit)))
    say(f"{file.name}: no problems found")


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
    say(str(target))


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
    with resumable(), progress(quiet=quiet) as (tick, _):
        about = chosen.embed_file(file, section, target, seed=seed, key_added=key or schema.EMBED, tick=tick)
    say(chosen.sentence(about))
    say(str(target))


def _read(file: Path, key: list[str] | None, time_unit: str | None, space_unit: str | None) -> Any:
    from embryo import read  # noqa: PLC0415

    keys = dict(k.partition("=")[::2] for k in key or ())
    return read.auto(file, read.Keys.of({**keys, "time_unit": time_unit, "space_unit": space_unit}))
