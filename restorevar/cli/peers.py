"""`restorevar peer`: the compared methods, run in their own environments, their outputs brought back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import app, counting, note, one_line, reporting

peer_app = typer.Typer(help="The compared methods: run in their own environments, or brought back from there.")
app.add_typer(peer_app, name="peer")

Name = Annotated[str, typer.Argument(metavar="NAME", help="One of `restorevar peer list`.")]
Pairs = Annotated[Path | None, typer.Option(metavar="DIR", help="Images in <task>/input; targets are not needed.")]
Input = Annotated[Path | None, typer.Option(metavar="DIR", help="Images in a folder, with --task.")]
Manifest = Annotated[Path | None, typer.Option(metavar="FILE", help="Images of a manifest.")]
Task = Annotated[
    str | None, typer.Option(help="What all images suffer from, as the peer is told; default: as folders tell.")
]
Dataset = Annotated[str | None, typer.Option(help="Name of the data set; default: as folders tell.")]
Square = Annotated[
    int | None,
    typer.Option(min=16, help="Squash images to so many pixels a side; 512 for the protocols restorevar-512*."),
]
Options = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Option of the peer: `peer show`. Repeatable.")
]
Checkout = Annotated[Path | None, typer.Option(metavar="DIR", help="Your checkout of its repository.")]
Python = Annotated[str | None, typer.Option("--python", "--peer-python", help="Interpreter of its environment.")]
Weights = Annotated[Path | None, typer.Option(metavar="PATH", help="Where its weights are, if not in the checkout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another job in that place.")]


@peer_app.command("list")
def list_peers() -> None:
    """All peers, with their licences."""
    with reporting():
        from ..evaluation.peers import available_peers, find_peer

        typer.echo(f"{'name':<22}{'method':<13}licence")
        for name in available_peers():
            peer = find_peer(name)
            typer.echo(f"{name:<22}{peer.title:<13}{peer.facts.licence}")


@peer_app.command("show")
def show(name: Name) -> None:
    """What a peer needs, what it knows, what cannot be had from it."""
    with reporting():
        from ..evaluation.peers import find_peer

        peer = find_peer(name)
        facts = peer.facts
        options = ", ".join(f"{option}={value}" for option, value in peer.options.items())
        lines = {
            "method": facts.title,
            "source": f"{facts.source} {facts.commit[:12]}".strip(),
            "licence": facts.licence,
            "weights": facts.weights,
            "needs": facts.needs,
            "tasks": ", ".join(peer.texts) if peer.texts else "any: it is not told",
            "options": options or "none",
        }
        for title, text in (*lines.items(), *(("note", note) for note in facts.notes)):
            typer.echo(f"{title:<9}{text}")


@peer_app.command()
def prepare(
    name: Name,
    job: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make: images, lists and run.sh.")],
    pairs: Pairs = None,
    input: Input = None,
    manifest: Manifest = None,
    task: Task = None,
    dataset: Dataset = None,
    square: Square = None,
    set: Options = None,
    checkout: Checkout = None,
    python: Python = None,
    weights: Weights = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a folder for a peer, and run.sh to run it by hand, here or where the folder is brought to."""
    with reporting():
        from ..evaluation.pairs import find_pairs
        from ..evaluation.peers import find_peer
        from ..evaluation.peers.job import has_job
        from ..evaluation.peers.preparing import prepare as prepare_job
        from ..evaluation.peers.preparing import remove_job, write_script

        peer = find_peer(name)
        options = peer.parse_options(set or ())
        found = find_pairs(pairs, input=input, manifest=manifest, task=task, dataset=dataset)
        if overwrite and has_job(job):
            remove_job(job)
        with counting("preparing") as progress:
            made = prepare_job(peer, found, job, options, square, note, progress)
        script = write_script(peer, made, _setup(checkout, python or "python", weights))
        typer.echo(f"{len(made.items)} images for {peer.title} in {one_line(str(job))}. Now:")
        typer.echo(f"  sh {one_line(str(script))}")
        typer.echo(f"  restorevar peer collect {one_line(str(job))} --out DIR")


@peer_app.command()
def run(
    name: Name,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="For <dataset>/<image>.png.")],
    pairs: Pairs = None,
    input: Input = None,
    manifest: Manifest = None,
    task: Task = None,
    dataset: Dataset = None,
    square: Square = None,
    set: Options = None,
    checkout: Checkout = None,
    python: Python = None,
    weights: Weights = None,
    job: Annotated[Path | None, typer.Option(metavar="DIR", help="For what lies between; default: OUT.job.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Prepare, run and collect. An interrupted run goes on where it was."""
    with reporting():
        from ..evaluation.pairs import find_pairs
        from ..evaluation.peers import find_peer, run_peer

        peer = find_peer(name)
        options = peer.parse_options(set or ())
        found = find_pairs(pairs, input=input, manifest=manifest, task=task, dataset=dataset)
        setup = _setup(checkout, python, weights)
        with counting("preparing") as count:
            method = run_peer(
                peer,
                found,
                setup,
                out,
                options,
                square,
                job,
                overwrite,
                note,
                lambda step, done, total: count(done, total, step),
            )
        _tell_of(method, out)


@peer_app.command()
def collect(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="Folder of `peer prepare`, after run.sh.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="For <dataset>/<image>.png.")],
    outputs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What the peer wrote, if not JOB/out: brought from elsewhere.")
    ] = None,
    checkout: Checkout = None,
    weights: Weights = None,
) -> None:
    """Check the outputs, and bring them back to names and sizes of the inputs.

    With --checkout and --weights it is kept in rows of scores which code and weights made them.
    """
    with reporting():
        from ..evaluation.peers import find_peer
        from ..evaluation.peers.collecting import collect as collect_outputs
        from ..evaluation.peers.job import load_job

        made = load_job(job)
        peer = find_peer(made.peer)
        setup = None if checkout is None and weights is None else _setup(checkout, None, weights)
        with counting("collecting") as progress:
            method = collect_outputs(peer, made, out, outputs, setup, progress)
        _tell_of(method, out)


def _setup(checkout: Path | None, python: str | None, weights: Path | None) -> Any:
    from ..evaluation.peers import Setup

    return Setup(checkout, python or sys.executable, weights)


def _tell_of(method: Any, out: Path) -> None:
    from ..images import is_image_path

    number = sum(is_image_path(path) for path in out.rglob("*"))
    typer.echo(f"{number} outputs of {method.name} in {one_line(str(out))}")
