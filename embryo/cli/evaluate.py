"""`embryo evaluate`: evaluations, always beside their floors."""

from pathlib import Path
from typing import Annotated

import typer

from embryo.cli.console import Folder, Override, Page, Quiet, progress, resumable, say, write

judge = typer.Typer(help="Evaluations, always beside their floors.", no_args_is_help=True)


@judge.command("embedding")
def evaluate_embedding(
    config: Annotated[Path, typer.Argument(help="YAML such as configs/evaluate/embedding-tal1.yaml.")],
    folder: Folder = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Judge embeddings beside HVG, PCA, random weights and the noise of counting; an interrupted job goes on."""
    from embryo.pipeline import embeddings, places  # noqa: PLC0415

    resolved = embeddings.load(config)
    with resumable(), progress(quiet=quiet) as (tick, said):
        page = embeddings.run(resolved, folder or places.of_run(resolved.name), tick=tick, said=said)
    say(str(page))


@judge.command("time")
def evaluate_time(
    config: Annotated[
        Path, typer.Argument(help="YAML such as configs/evaluate/time-snapshots.yaml, or the config of a run.")
    ],
    folder: Folder = None,
    override: Override = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Hold out each time point in turn: our model beside every floor and the ceiling; an interrupted job goes on."""
    from embryo.pipeline import places, times  # noqa: PLC0415

    resolved = times.load(config, tuple(override or ()))
    with resumable(), progress(quiet=quiet) as (tick, said):
        page = times.run(resolved, folder or places.of_run(resolved.name), tick=tick, said=said)
    say(str(page))


@judge.command("perturbation")
def evaluate_perturbation(
    config: Annotated[Path, typer.Argument(help="YAML such as configs/evaluate/perturbation-synthetic.yaml.")],
    folder: Folder = None,
    override: Override = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Judge predicted knock-outs against embryos that carry them, beside every floor; an interrupted job goes on."""
    from embryo.pipeline import knockouts, places  # noqa: PLC0415

    resolved = knockouts.load(config, tuple(override or ()))
    with resumable(), progress(quiet=quiet) as (tick, said):
        page = knockouts.run(resolved, folder or places.of_run(resolved.name), tick=tick, said=said)
    say(str(page))


@judge.command("clock")
def evaluate_clock(
    config: Annotated[Path, typer.Argument(help="YAML: read, weights, val, test, training.")],
    folder: Folder = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Teach MaxToki to tell time on your series, and judge it on whole stages that it never saw."""
    from embryo.pipeline import clock, places  # noqa: PLC0415

    resolved = clock.load(config)
    with resumable(), progress(quiet=quiet) as (tick, _):
        page = clock.run(resolved, folder or places.of_run(resolved.name), tick=tick)
    say(page.read_text(encoding="utf-8"))


@judge.command("page")
def evaluate_page(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Finished evaluations.")],
    target: Page,
) -> None:
    """Write finished evaluations, with the commit they were made at, as one page."""
    from embryo.pipeline import pages  # noqa: PLC0415

    write(pages.join(folders), target)
