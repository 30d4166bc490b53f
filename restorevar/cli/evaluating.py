"""`restorevar evaluate`: how good a method is, in numbers that name their protocol."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .common import FAILED, Device, Dtype, app, counting, fail, note, one_line, reporting

if TYPE_CHECKING:
    from ..evaluation.methods import Classic, FolderMethod, Identity, ModelMethod
    from ..evaluation.pairs import Pair
    from ..evaluation.protocols import Protocol
    from ..evaluation.rows import Row
    from ..evaluation.scoring import Listener

PLACES, WHAT, PEER = "Pairs", "What is scored", "A peer that is run here (--save says where its outputs go)"


@app.command()
def evaluate(
    pairs: Annotated[
        Path | None, typer.Argument(metavar="PAIRS", help="Folder with <task>/input and <task>/target.")
    ] = None,
    input: Annotated[Path | None, typer.Option(metavar="DIR", help="Degraded images.", rich_help_panel=PLACES)] = None,
    target: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Their truths, under the same names.", rich_help_panel=PLACES)
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON list of pairs (data index).", rich_help_panel=PLACES)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Calls the data set so.", rich_help_panel=PLACES)
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="haze, rain, ... for all of it.", rich_help_panel=PLACES)
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR|HUB_ID", help="Default: compact.", rich_help_panel=WHAT)
    ] = None,
    outputs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Restored by any program.", rich_help_panel=WHAT)
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="input|dark-channel|clahe|lime|PEER",
            help="input: nothing done. Classic: dark-channel (haze only), clahe and lime (lowlight only). "
            "PEER: see `peer list`; run, or --outputs.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Calls the method so in the rows.", rich_help_panel=WHAT)
    ] = None,
    checkout: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Your checkout of its repository.", rich_help_panel=PEER)
    ] = None,
    peer_python: Annotated[
        str | None, typer.Option(metavar="PROGRAM", help="Interpreter of its environment.", rich_help_panel=PEER)
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="PATH", help="If not in the checkout.", rich_help_panel=PEER)
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Its options: `peer show`.", rich_help_panel=PEER)
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    fidelity: Annotated[
        list[float] | None, typer.Option(metavar="W", help="Repeatable: one table for each; default: the model's own.")
    ] = None,
    latent: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="A control: zeros, degraded or degraded-refined for the restored latent."),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(metavar="NAME", help="restorevar-512, restorevar-512-noref, native-rgb, native-y or saved-8bit."),
    ] = "saved-8bit",
    metrics: Annotated[
        str | None, typer.Option(metavar="psnr,ssim,...", help="Default: those of the protocol; help: list all.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a row per image; what it holds is not done again.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all rows as a table.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the restored images, as PNG.")] = None,
) -> None:
    """Scores of restored photos beside those of the degraded ones, per task. Needs the extra `eval`.

    Exit code: 0 all images scored, 1 some failed, 2 wrong usage.
    """
    with reporting():
        if metrics == "help":
            _list_metrics()
            return
        from ..data.manifest import check_place
        from ..evaluation.methods import CLASSICS
        from ..evaluation.metrics import find_metrics
        from ..evaluation.pairs import find_pairs
        from ..evaluation.protocols import find_protocol
        from ..evaluation.scoring import evaluate as score
        from ..evaluation.statistics import need_scipy
        from ..evaluation.summary import summarise, table, write_csv

        classic = CLASSICS.get(method or "") if outputs is None else None
        runs_peer = method not in (None, "input") and classic is None and outputs is None
        if model is not None and (outputs is not None or method is not None):
            raise UserError("give one of --model, --outputs and --method; a peer's --outputs may go with --method")
        if (fidelity or latent) and (outputs is not None or method is not None):
            raise UserError("--fidelity and --latent are of our models: they go with --model")
        if (checkout or peer_python or weights or set) and not runs_peer:
            raise UserError("--checkout, --peer-python, --weights and --set go with a --method PEER that is run here")
        need_scipy()
        kind = find_protocol(protocol)
        chosen = find_metrics(metrics.split(",") if metrics else kind.metrics, note)
        found = find_pairs(pairs, input=input, target=target, manifest=manifest, dataset=dataset, task=task)
        for file in filter(None, (json, csv)):
            check_place(file)
        typer.echo(kind.text)
        subjects: Sequence[ModelMethod | FolderMethod | Identity | Classic]
        if runs_peer:
            peer, found = _run_peer(str(method), found, kind, save, (checkout, peer_python, weights), set or [])
            subjects, save = [peer], None  # its outputs are there already
        elif classic is not None:
            subjects, found = [replace(classic)], _taken(classic, found)
        elif outputs is not None or method is not None:
            subjects = [_outputs(outputs, method)]
        else:
            subjects = _models(model or "compact", device, dtype, fidelity, latent)
        rows: list[Row] = []
        failures: list[str] = []
        place = _place(device) if any(m.library == "pyiqa" for m in chosen) else "cpu"
        for subject in subjects:
            if name is not None:  # a control stands behind the name of its model
                control = subject.settings.get("latent")
                subject.name = f"{name}, latent: {control}" if control else name
            typer.echo(one_line(f"{subject.name} {subject.sha256[:12]} {dict(subject.settings) or ''}".rstrip()))
            with listening(json, failures) as listener:
                scored = score(subject, found, kind, chosen, json, save, place, listener)
            for line in table(summarise(scored, chosen)):
                typer.echo(one_line(line))
            rows += scored
        if csv is not None:
            write_csv(rows, csv)
        raise typer.Exit(FAILED if failures else 0)


def _models(name: str, device: str, dtype: str, fidelity: list[float] | None, latent: str | None) -> list[ModelMethod]:
    """A model at several weights is several methods, loaded once."""
    from ..evaluation.methods import ModelMethod
    from ..pipeline import Restorer

    restorer = Restorer.from_pretrained(name, device, dtype)
    weights: list[float | None] = [*fidelity] if fidelity else [None]
    return [ModelMethod(restorer, weight, latent) for weight in weights]


def _taken(classic: Classic, pairs: list[Pair]) -> list[Pair]:
    """Those of its tasks. Raises UserError if there are none."""
    taken = [pair for pair in pairs if classic.takes(pair.task)]
    tasks = " and ".join(classic.tasks)
    if not taken:
        raise UserError(f"{classic.name} is for {tasks} only, which none of the images is said to suffer from (--task)")
    if len(taken) < len(pairs):
        note(f"{len(pairs) - len(taken)} of {len(pairs)} images are left out: {classic.name} is for {tasks} only")
    return taken


def _outputs(folder: Path | None, method: str | None) -> FolderMethod | Identity:
    """A folder of outputs, of a peer if it is one's; without a folder the degraded images themselves."""
    from ..evaluation.methods import FolderMethod, Identity

    if folder is None:
        return Identity()
    from ..evaluation.peers import find_peer
    from ..evaluation.peers.collecting import MARK, method_of

    if (folder / MARK).is_file():
        return method_of(folder)
    return FolderMethod(folder, None if method is None else find_peer(method).title)


def _run_peer(
    name: str,
    pairs: list[Pair],
    protocol: Protocol,
    save: Path | None,
    places: tuple[Path | None, str | None, Path | None],
    settings: list[str],
) -> tuple[FolderMethod, list[Pair]]:
    """Its outputs in SAVE/<peer>/<size>, and for which of the pairs: it may not know every task.

    What is there already is not made again: protocols that restore images of one size share its outputs.
    """
    from ..evaluation.peers import Setup, find_peer, run_peer

    peer = find_peer(name)
    if save is None:
        raise UserError(f"--method {name} needs --save DIR for its outputs, or --outputs DIR with them")
    out = save / peer.name / ("native" if protocol.side is None else f"{protocol.side}x{protocol.side}")
    options = peer.parse_options(settings)
    pairs = protocol.select(pairs)
    checkout, python, weights = places
    setup = Setup(checkout, python or sys.executable, weights)
    with counting("preparing") as count:
        done = run_peer(
            peer,
            pairs,
            setup,
            out,
            options,
            protocol.side,
            tell=note,
            progress=lambda step, done, total: count(done, total, step),
        )
    return done, [pair for pair in pairs if peer.takes(pair.task, options)]


def _list_metrics() -> None:
    from ..evaluation.metrics import METRICS

    for metric in METRICS.values():
        needs = "with truth" if metric.needs_reference else "without truth"
        typer.echo(f"{metric.name:<15}{needs:<15}{metric.better + ' is better':<19}{metric.implementation}")
    typer.echo("pyiqa:NAME     whatever else pyiqa has")


def _place(device: str) -> str:
    """Where the networks among the metrics compute."""
    from ..acceleration import pick_device

    return str(pick_device(device))


@contextmanager
def listening(log: Path | None = None, failures: list[str] | None = None) -> Iterator[Listener]:
    """Lines of what fails (kept in `failures`), a bar on terminals, and how much of it `log` had already."""
    from ..evaluation.scoring import Listener

    with counting("scoring") as count:
        again = 0

        def failed(text: str) -> None:
            if failures is not None:
                failures.append(text)
            fail(text, FAILED)

        def progress(done: int, of: int, row: Row | None, taken: bool) -> None:
            nonlocal again
            again += taken
            count(done, of, row.protocol if row else "scoring")
            if log is not None and done == of and again:
                note(f"{again} of {of} images are in {log} already and were not restored again")

        yield Listener(note=note, failed=failed, progress=progress)
