"""What the commands share: the application, its exit codes, one line for each fault, the progress bar."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError, writing

if TYPE_CHECKING:
    from rich.progress import Progress


FAILED, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="restorevar",
    help="Restore photographs from haze, rain, snow, low light and blur.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: Options of several commands.
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")]
Dtype = Annotated[str, typer.Option(metavar="auto|fp32|bf16|fp16", help="Precision of the arithmetic.")]

# Older typer takes this class from click, newer brings its own; both derive BadParameter from it.
UsageError: Any = typer.BadParameter.__mro__[1]


@contextmanager
def reporting() -> Iterator[None]:
    """Around every command: what the user can mend becomes one line on stderr and exit code 2."""
    try:
        yield
    except UserError as error:
        raise typer.Exit(fail(str(error), USAGE)) from None
    except KeyboardInterrupt:
        raise typer.Exit(fail("interrupted", INTERRUPTED)) from None


def fail(message: str, code: int) -> int:
    typer.echo(f"restorevar: error: {one_line(message)}", err=True)
    return code


def note(text: str) -> None:
    """Something to know, on stderr."""
    typer.echo(f"restorevar: {one_line(text)}", err=True)


def warn(text: str) -> None:
    """Something that was left out, on stderr."""
    note(f"warning: {text}")


def command_line() -> str:
    """What was typed, for files that tell where they come from."""
    return shlex.join(["restorevar", *sys.argv[1:]])


def one_line(text: str) -> str:
    """Printable, whatever characters a file name has."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def auto_or_number(option: str, text: str) -> Any:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--{option} is auto or a whole number, not {text!r}") from None


def open_log(path: Path | None) -> AbstractContextManager[IO[str] | None]:
    if path is None:
        return nullcontext()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")


def progress_bar() -> Progress:
    """A progress bar with the time left; lines printed meanwhile appear above it."""
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=120,  # windows may take many seconds each
        redirect_stdout=sys.stdout.isatty(),
    )


@contextmanager
def counting(step: str) -> Iterator[Callable[..., None]]:
    """(done, total, step=...) shows how far it is. The bar is for terminals only."""
    if not sys.stderr.isatty():
        yield lambda done, total, step=step: None
        return
    with progress_bar() as bar:
        task = bar.add_task(step, total=None)
        yield lambda done, total, step=step: bar.update(task, description=step, completed=done, total=total)
