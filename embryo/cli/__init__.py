"""Command line: parse, call one function, print where the result lies."""

import sys
from typing import Annotated

import typer

import embryo
from embryo.cli import data, evaluate, perturb, work
from embryo.cli.console import err, out

app = typer.Typer(
    help="Virtual-embryo trajectory simulator: single cells over time -> altered 3D morphogenesis, floors beside it.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_STAGES = (work.embed, work.couple, work.fit, work.simulate)
for command in (work.run, work.show, work.tables, work.check, work.convert, *_STAGES, perturb.perturb):
    app.command()(command)
app.add_typer(data.datasets_app, name="data")
app.add_typer(data.encoders_app, name="encoders")
app.add_typer(evaluate.judge, name="evaluate")


@app.callback()
def options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Print the version when asked for it."""
    if version:
        out.print(embryo.__version__, highlight=False)
        raise typer.Exit


def main() -> None:
    """Entry point: errors that embryo raises on purpose are printed for the person, without a traceback."""
    from embryo.core.errors import EmbryoError  # noqa: PLC0415

    try:
        app()
    except EmbryoError as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
