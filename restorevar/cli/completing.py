"""`restorevar completion`: what a shell offers when the tab key is pressed. No torch here.

The shell asks `restorevar` itself, through an environment variable (typer's protocol). Commands and options are known
from the commands; values are read from the metavars that `--help` shows ("best|balanced|fast"), so that both always
say the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from ..errors import UserError
from .common import app, reporting

VARIABLE = "_RESTOREVAR_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell")
#: Of `--task`; those of restorevar.data.degradations, which imports torch.
TASKS = ("haze", "rain", "snow", "lowlight", "blur", "clean")

_WORD = re.compile(r"[a-z][a-z0-9_-]*")


@app.command()
def completion(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish|powershell", help="Whose script.")]) -> None:
    """Print the script that lets a shell complete commands, options, models.

    bash: restorevar completion bash >> ~/.bashrc. zsh: the same into ~/.zshrc, after compinit. fish: restorevar
    completion fish > ~/.config/fish/completions/restorevar.fish. Docker: docs/docker.md.
    """
    with reporting():
        from typer.completion import get_completion_script

        if shell not in SHELLS:
            raise UserError(f"no completion for {shell!r}: one of {', '.join(SHELLS)}")
        typer.echo(get_completion_script(prog_name="restorevar", complete_var=VARIABLE, shell=shell))


def is_asked() -> bool:
    """Whether a shell asks for words, not a user for work."""
    return VARIABLE in os.environ


def teach(command: Any) -> None:
    """Give every parameter of a command, and of those below it, the words that it takes."""
    from typer.completion import completion_init

    completion_init()  # the shells, as typer speaks to them
    for parameter in _parameters(command):
        words = _words_of(parameter)
        if words is not None:
            parameter.shell_complete = _offer(words)


def _parameters(command: Any) -> Iterator[Any]:
    yield from command.params
    for below in getattr(command, "commands", {}).values():
        yield from _parameters(below)


def _words_of(parameter: Any) -> Callable[[], list[str]] | None:
    """What makes the words of a parameter; None leaves it to typer, and typer to the shell: files."""
    metavar = parameter.metavar or ""
    if "HUB_ID" in metavar:
        extra = [word for word in metavar.split("|") if _WORD.fullmatch(word)]
        return lambda: [*_models(), *extra]
    if parameter.name == "task":
        return lambda: list(TASKS)
    words = [word for word in metavar.split("|") if _WORD.fullmatch(word)]
    return (lambda: words) if len(words) > 1 or ("|" in metavar and words) else None


def _models() -> list[str]:
    from ..checkpoints.finding import available_models
    from ..checkpoints.hub import cached_models

    return list(dict.fromkeys([*available_models(), *(model.repository for model in cached_models())]))


def _offer(words: Callable[[], list[str]]) -> Callable[[Any, str], list[Any]]:
    """In the place of `Parameter.shell_complete`. What it gives is read for `value`, `type` and `help`."""

    def complete(context: Any, incomplete: str) -> list[Any]:
        return [SimpleNamespace(value=w, type="plain", help=None) for w in words() if w.startswith(incomplete)]

    return complete
