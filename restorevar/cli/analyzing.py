"""`restorevar analyze`: what goes on inside the model. Pictures of photos, studies of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .common import Device, Dtype, app, command_line, counting, one_line, reporting, warn
from .evaluating import listening

if TYPE_CHECKING:
    from ..evaluation.analysis.findings import Findings
    from ..pipeline import Restorer

analyze_app = typer.Typer(help="Look inside the model: scales, tokens, refiner, what changed. Needs the extra `eval`.")
app.add_typer(analyze_app, name="analyze")

#: Pixels of the longer side, as `pipeline.TILE`: what the shipped model was made for.
_SIZE = 512

Model = Annotated[str, typer.Option(metavar="NAME|DIR|HUB_ID", help="A shipped model, a folder, or a Hub id.")]
Size = Annotated[int, typer.Option(min=64, help="Shrink photos until no side has more pixels.")]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N pairs of each task.")]
Figure = Annotated[Path | None, typer.Option("--out", "-o", metavar="FIG", help="The picture of one pair: png, jpg.")]
Picture = Annotated[Path, typer.Option("--out", "-o", metavar="FIG", help="The picture: png, jpg, webp.")]
Json = Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures.")]
Markdown = Annotated[Path | None, typer.Option(metavar="FILE", help="Write sentences and tables, charts beside it.")]
Fidelity = Annotated[
    float | None, typer.Option(metavar="W", help="Detail taken from the input, 0 to 1; default: the model's own.")
]
Degraded = Annotated[Path, typer.Argument(metavar="PHOTO", help="A degraded photo.")]
Pairs = Annotated[list[Path], typer.Argument(metavar="PAIRS...", help="As for `scales`: folders, or manifests.")]
PairOrPairs = Annotated[
    list[Path],
    typer.Argument(
        metavar="CLEAN DEGRADED | PAIRS...",
        help="Two photos; or folders of <task>/input and <task>/target, or manifests (.json), for a study.",
    ),
]


@analyze_app.command("scales")
def scales(
    paths: PairOrPairs,
    out: Figure = None,
    split: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=0, help="Swap N coarse, and N fine, scales; repeatable; default: every number."),
    ] = None,
    outputs: Annotated[bool, typer.Option(help="Also swap into the model's outputs, not only into the truth.")] = True,
    size: Size = _SIZE,
    limit: Limit = None,
    model: Model = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = None,
    markdown: Markdown = None,
) -> None:
    """Do the coarse scales carry the degradation (figures 2, 9, 13)? Swap scales between clean and degraded photo.

    Of two photos a picture; of folders the curves over all pairs, and whether they support the paper's claim.
    """
    with reporting():
        one = _is_one_pair(paths, out, markdown)
        _check_places(out, json, markdown)

        from ..evaluation.analysis import scale_figure, scale_study
        from ..evaluation.analysis.swaps import swap_scales
        from ..evaluation.analysis.views import latent_model, views_of_pair

        restorer = _restorer(model, device, dtype)
        if one:
            network, (clean, degraded) = latent_model(restorer), paths
            views = views_of_pair(restorer, clean, degraded, size)
            splits = scale_study.check_splits(len(network.config.scales), split)
            try:
                swaps = swap_scales(network, *views, splits, outputs, keep=True)
            except ValueError as error:
                raise UserError(f"{degraded}: {error}") from None
            record = scale_study.record_of_two(clean, degraded, swaps)
            _finish(scale_figure.picture(network, *views, swaps), out, record, json)
            _tell(scale_study.summary_of_pair(swaps))
            return
        with counting("studying") as progress:
            found = scale_study.study_scales(
                restorer,
                _pairs(paths),
                size=size,
                splits=split,
                outputs=outputs,
                limit=limit,
                command=command_line(),
                progress=progress,
            )
        _conclude(found, json, markdown)


@analyze_app.command("refiner")
def refiner(
    paths: PairOrPairs,
    out: Figure = None,
    size: Size = _SIZE,
    limit: Limit = None,
    model: Model = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = None,
    markdown: Markdown = None,
) -> None:
    """Does the refiner restore by itself (figure 14)? Feed it with the degraded photo's latent.

    Of two photos a picture; of folders a table of all pairs, and whether it supports the paper's claim.
    """
    with reporting():
        one = _is_one_pair(paths, out, markdown)
        _check_places(out, json, markdown)

        from dataclasses import asdict

        from ..evaluation.analysis import refiner as control
        from ..evaluation.analysis.views import latent_model, views_of_pair

        restorer = _restorer(model, device, dtype)
        if one:
            clean, degraded = paths
            views = views_of_pair(restorer, clean, degraded, size)
            result = control.control_refiner(latent_model(restorer), *views)
            figures = {name: asdict(outcome) for name, outcome in result.outcomes.items()}
            _finish(control.picture(*views, result), out, figures, json)
            _tell(f"{name}: {100 * o.removed:.0f} % removed, {o.psnr:.2f} dB" for name, o in result.outcomes.items())
            return
        with counting("studying") as progress:
            found = control.study_refiner(
                restorer, _pairs(paths), size=size, limit=limit, command=command_line(), progress=progress
            )
        _conclude(found, json, markdown)


@analyze_app.command("ddim")
def ddim(
    paths: Pairs,
    model: Annotated[str, typer.Option(metavar="DIR|HUB_ID", help="Trained with --set model.refiner.kind=diffusion.")],
    steps: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Repeatable; default: 1, 2, 4, 8, 16, 32 and 64.")
    ] = None,
    size: Size = _SIZE,
    limit: Limit = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = None,
    markdown: Markdown = None,
) -> None:
    """Quality against steps and time of a diffusion baseline (figure 10): a model with the diffusion refiner."""
    with reporting():
        _check_places(None, json, markdown)

        from ..evaluation.analysis.ddim import STEPS, study_ddim

        restorer = _restorer(model, device, dtype)
        with counting("studying") as progress:
            found = study_ddim(
                restorer,
                _pairs(paths),
                size=size,
                steps=steps or STEPS,
                limit=limit,
                command=command_line(),
                progress=progress,
            )
        _conclude(found, json, markdown)


@analyze_app.command("tokens")
def tokens(
    photo: Degraded,
    out: Picture,
    size: Size = _SIZE,
    model: Model = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = None,
) -> None:
    """Token maps, scale by scale, and how sure the model was of them: confidence and entropy."""
    with reporting():
        _check_places(out, json)

        from ..evaluation.analysis import tokens as maps
        from ..evaluation.analysis.views import latent_model, view_of

        restorer = _restorer(model, device, dtype)
        network, view = latent_model(restorer), view_of(restorer, photo, size)
        found = maps.token_maps(network, view)
        rows = maps.per_scale(found)
        _finish(maps.picture(network, view, found), out, rows, json)
        _tell(
            f"scale {row['scale']:>2}, {row['grid'][0]}x{row['grid'][1]}: confidence {100 * row['confidence']:.0f} %, "
            f"entropy {row['entropy']:.1f} bits, {100 * row['changed']:.0f} % of the tokens changed"
            for row in rows
        )


@analyze_app.command("change")
def change(
    photo: Degraded,
    out: Picture,
    fidelity: Fidelity = None,
    size: Size = _SIZE,
    model: Model = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = None,
) -> None:
    """What was changed, and by which part: the VQVAE's round trip alone, the prediction, the fidelity branch."""
    with reporting():
        _check_places(out, json)

        from ..evaluation.analysis import change as changes
        from ..evaluation.analysis.views import view_of

        restorer = _restorer(model, device, dtype, fidelity)
        found = changes.split_change(restorer, view_of(restorer, photo, size))
        levels = found.levels()
        _finish(changes.picture(found), out, levels, json)
        titles = {**changes.TITLES, "whole": "together"}
        _tell(f"{titles[name]}: {value:.1f} levels of 255, root mean square" for name, value in levels.items())


@analyze_app.command("generalisation")
def generalisation(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="Clean photos, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the degraded pairs.")],
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="haze, ...; haze+rain, ...; jpeg, noise, lowres, underwater, overexposed; repeatable; default: many."
        ),
    ] = None,
    strength: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="Range of strengths, within 0 to 1.")
    ] = (0.2, 0.9),
    seed: Annotated[int, typer.Option(help="The same seed gives the same pairs.")] = 0,
    max_side: Annotated[int | None, typer.Option(min=16, help="Shrink larger photos to this first.")] = None,
    fidelity: Fidelity = None,
    protocol: Annotated[str, typer.Option(metavar="NAME", help="As for `evaluate`.")] = "saved-8bit",
    rows: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a row per image; what it holds is not done again.")
    ] = None,
    model: Model = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = None,
    markdown: Markdown = None,
) -> None:
    """What of the degradations trained on, their mixtures, and ones never seen comes out better than it went in?

    For real photos: `restorevar evaluate --input DIR` with metrics that need no truth.
    """
    with reporting():
        _check_places(None, json, markdown, rows)

        from ..evaluation.analysis.generalisation import make_set, study_generalisation
        from ..evaluation.methods import ModelMethod
        from ..evaluation.protocols import find_protocol

        find_protocol(protocol)
        method = ModelMethod(_restorer(model, device, dtype, fidelity))
        pairs = make_set(photos, out, task or (), seed, strength, max_side)
        with listening(rows) as listener:
            found = study_generalisation(method, pairs, protocol, rows, command_line(), listener)
        _conclude(found, json, markdown)


@analyze_app.command("budget")
def budget(
    paths: Pairs,
    task: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this task; repeatable.")] = None,
    limit: Limit = None,
    worst: Annotated[int, typer.Option(metavar="N", min=1, help="Photos on each sheet of --out.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Sheets of the photos that gained least, a task each."),
    ] = None,
    fidelity: Fidelity = None,
    size: Size = _SIZE,
    model: Model = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = None,
    markdown: Markdown = None,
) -> None:
    """Where the decibels go, task by task: autoencoder, quantization, wrong tokens, refiner, branch, windows."""
    with reporting():
        _check_places(None, json, markdown, None if out is None else out / "worst.png")

        from ..evaluation.analysis.budget_study import study_budget
        from ..evaluation.analysis.drawing import save
        from ..evaluation.peers.job import slug

        restorer = _restorer(model, device, dtype, fidelity)
        with counting("accounting") as progress:
            found, sheets = study_budget(
                restorer,
                _pairs(paths),
                size=size,
                tasks=task or (),
                limit=limit,
                worst=worst,
                command=command_line(),
                progress=progress,
            )
        if out is not None:
            for name, sheet in sheets.items():
                save(sheet, out / f"worst-{slug(name)}.png")
        _conclude(found, json, markdown)


@analyze_app.command("realism")
def realism(
    real: Annotated[
        Path, typer.Argument(metavar="REAL", help="Real photos: subfolders haze, rain, snow, lowlight, blur.")
    ],
    photos: Annotated[Path, typer.Option(metavar="CLEAN", help="A folder of clean photos, as for `train --data`.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="A page of HTML. It has your photos in it.")
    ] = None,
    per_task: Annotated[
        int, typer.Option(metavar="N", help="So many synthetic photos of each kind, and at most so many real ones.")
    ] = 40,
    side: Annotated[int, typer.Option(metavar="PIXELS", help="Sides of the parts that are cut out.")] = _SIZE,
    seed: Annotated[int, typer.Option(help="The same seed gives the same cuts.")] = 0,
    json: Json = None,
    markdown: Markdown = None,
) -> None:
    """Are the photos that the training makes like real ones? Statistics of both, compared; needs no truth, no model.

    Coverage: how many real photos lie where the middle 90 % of the synthetic ones do.
    """
    with reporting():
        _check_places(None, out, json, markdown)

        from ..evaluation.analysis import realism as comparing

        if out is not None and out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"{out}: the page is HTML: name it .html")
        options = comparing.Options(real, photos, per_task, side, seed)
        with counting("measuring") as progress:
            kinds = comparing.study_realism(options, progress, warn)
        found = comparing.conclude(kinds, options, command_line())
        if out is not None:
            from ..data.manifest import write_text
            from ..evaluation.analysis.realism_page import page

            write_text(page(kinds, found).html(), out)
        _conclude(found, json, markdown)


# ------------------------------------------------------------------------------------------- what they have in common


def _restorer(model: str, device: str, dtype: str, fidelity: float | None = None) -> Restorer:
    from ..pipeline import Restorer

    return Restorer.from_pretrained(model, device, dtype, fidelity=fidelity)


def _is_one_pair(paths: Sequence[Path], out: Path | None, markdown: Path | None) -> bool:
    """Whether two photos are given, and not folders or manifests. Raises UserError for what goes with neither."""
    folders = [path.is_dir() or path.suffix.lower() == ".json" for path in paths]
    if all(folders):
        if out is not None:
            raise UserError("--out is the picture of one pair; a study writes --json and --markdown")
        return False
    if any(folders) or len(paths) != 2:
        raise UserError("give two photos, the clean one first, or folders of pairs")
    if out is None:
        raise UserError("of two photos a picture is made: say where with --out")
    if markdown is not None:
        raise UserError("--markdown goes with folders of pairs")
    return True


def _check_places(picture: Path | None, *files: Path | None) -> None:
    """Before long work. Raises UserError for what could not be written at its end."""
    from ..data.manifest import check_place
    from ..images import EXTENSIONS, FORMATS

    if picture is not None and picture.suffix.lower() not in EXTENSIONS:
        raise UserError(f"{picture}: a picture is one of {', '.join(FORMATS)}")
    for path in (picture, *files):
        if path is not None:
            check_place(path)


def _pairs(paths: Sequence[Path]) -> Any:
    from ..evaluation.analysis.sampling import pairs_in

    return pairs_in(paths)


def _finish(picture: Any, out: Path | None, figures: Any, json: Path | None) -> None:
    """Write the picture of one pair or photo and its figures."""
    from ..data.manifest import write_json
    from ..evaluation.analysis.drawing import save

    assert out is not None
    save(picture, out)
    if json is not None:
        write_json(figures, json)
    typer.echo(one_line(str(out)))


def _conclude(found: Findings, json: Path | None, markdown: Path | None) -> None:
    """Write a study and say what it says."""
    found.write(json, markdown)
    _tell([found.claim, found.rule, *(verdict.sentence for verdict in found.verdicts)])


def _tell(lines: Any) -> None:
    for line in lines:
        typer.echo(one_line(line.replace("**", "")))
