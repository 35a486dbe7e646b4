"""What every command shares: consoles, progress, how an interruption is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Folder = Annotated[Path | None, typer.Option("--out", "-o", help="Folder; runs/NAME by default.")]
Override = Annotated[list[str] | None, typer.Option("--set", "-s", help="section.key=value, repeatable.")]
Page = Annotated[Path, typer.Option("--out", "-o", help="Markdown page to write.")]
Tick = Callable[[str, int, int], None]
Said = Callable[[str, str], None]


def say(text: str) -> None:
    """Print a result as it is: no markup, no wrapping."""
    out.print(text, soft_wrap=True, markup=False, highlight=False)


def write(text: str, target: Path) -> None:
    """Write a page, whole or not at all, and say where it lies."""
    from embryo.core import store  # noqa: PLC0415

    with store.atomic(target) as partial:
        partial.write_text(text, encoding="utf-8")
    say(str(target))


@contextmanager
def resumable() -> Iterator[None]:
    """Tell an interruption in one line: the same command goes on where it stopped."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("Interrupted. The same command goes on where it stopped.", highlight=False)
        raise typer.Exit(130) from None


@contextmanager
def progress(*, quiet: bool) -> Iterator[tuple[Tick, Said]]:
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
