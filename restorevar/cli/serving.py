"""`restorevar serve`: the web page and the HTTP API."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .common import Device, Dtype, app, auto_or_number, one_line, reporting
from .ray_option import Ray, RayCommand

if TYPE_CHECKING:
    from ..serving.settings import Settings

#: Names of the own machine.
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")


@dataclass(frozen=True)
class _Place:
    host: str
    port: int

    @property
    def is_local(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@app.command(cls=RayCommand)
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR|HUB_ID", help="A shipped model, a folder, or a Hub id.")
    ] = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    tile: Annotated[
        str, typer.Option(metavar="auto|N", help="Side of the windows of large photos, in pixels.")
    ] = "auto",
    batch: Annotated[
        str, typer.Option(metavar="auto|N", help="Windows per pass of the model, those of several requests together.")
    ] = "auto",
    fidelity: Annotated[
        float | None, typer.Option(metavar="W", help="Detail taken from the input where a request does not say.")
    ] = None,
    speed: Annotated[
        str, typer.Option(metavar="auto|best|balanced|fast", help="Where a request does not say.")
    ] = "auto",
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            envvar="RESTOREVAR_API_KEY",
            show_envvar=True,
            help="Asked for in X-API-Key; may be repeated. Other users see the option in the list of processes.",
        ),
    ] = None,
    page: Annotated[
        bool | None,
        typer.Option("--page/--no-page", help="The web page; default: unless there are keys, which it lacks."),
    ] = None,
    jobs: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder for jobs (POST /v1/jobs); without it there are none.")
    ] = None,
    keep_hours: Annotated[
        float, typer.Option(min=0.001, help="Results of jobs stay this long after the job has ended.")
    ] = 24.0,
    jobs_room: Annotated[
        float, typer.Option(metavar="GIB", min=0.001, help="Room for the files of all jobs, results included.")
    ] = 20.0,
    queue: Annotated[int, typer.Option(min=1, help="Photos that may wait.")] = 32,
    at_once: Annotated[
        str, typer.Option(metavar="auto|N", help="Photos worked on at once, sharing the passes of the model.")
    ] = "auto",
    max_bytes: Annotated[int, typer.Option(min=1, help="Of one request, in MiB.")] = 64,
    max_pixels: Annotated[float, typer.Option(min=0.01, help="Of one photo, in millions.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, help="From taking a photo to its result.")] = 300.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name under which a proxy asks, beside those of this machine."),
    ] = None,
    drain: Annotated[float, typer.Option(min=1, help="Seconds to finish what was taken, when it is ended.")] = 60.0,
    ray: Ray = None,
    replicas: Annotated[
        str, typer.Option(metavar="N|MIN:MAX", help="With --ray: copies of the service; from, to, as many ask.")
    ] = "1",
) -> None:
    """Serve the web page and the HTTP API (described at /docs) on this machine.

    SIGINT or SIGTERM end it: what was taken is finished first. Exit code: 0 ended, 2 wrong usage.
    """
    with reporting():
        place = _Place(host, port)
        windows = {"tile": auto_or_number("tile", tile), "batch": auto_or_number("batch", batch)}
        keys = tuple(api_key or ())

        from ..serving.jobs import JobLimits
        from ..serving.limits import Limits
        from ..serving.settings import Settings

        limits = Limits(
            queue=queue,
            at_once=None if at_once == "auto" else auto_or_number("at-once", at_once),
            bytes=max_bytes << 20,
            pixels=round(max_pixels * 1_000_000),
            seconds=seconds,
        )
        settings = Settings(
            model=model,
            device=device,
            dtype=dtype,
            fidelity=fidelity,
            speed=speed,
            limits=limits,
            keys=keys,
            jobs=jobs,
            job_limits=JobLimits(store_bytes=round(jobs_room * 2**30), keep_hours=keep_hours),
            page=not keys if page is None else page,
            hosts=(*_LOCAL, *(allow_host or ())) if place.is_local or allow_host else None,
            drain=drain,
            **windows,
        )
        if ray is None:
            _run(settings, place)
        else:
            _run_on_ray(settings, place, ray, replicas)


def _warn_of_open_doors(settings: Settings, place: _Place) -> None:
    if not place.is_local and not settings.keys:
        _warn(f"everyone who reaches {place.host} may use the service; --api-key asks for a key")
    if settings.keys and settings.page:
        _warn("the page asks for no key; whoever reaches it may restore photos")


def _warn(message: str) -> None:
    typer.echo(f"restorevar: warning: {one_line(message)}", err=True)


def _run_on_ray(settings: Settings, place: _Place, address: str, replicas: str) -> None:
    from ..serving.ray import Replicas, run_on_ray

    least, _, most = replicas.partition(":")
    if not (least.isdecimal() and (most or least).isdecimal()):
        raise UserError(f"--replicas is a number, or two with a colon between, not {replicas!r}")
    copies = Replicas(int(least), int(most or least), address=address)
    shown = f"http://{place.host}:{place.port} has the API, described at /docs"
    run_on_ray(settings, copies, place.host, place.port, lambda: typer.echo(shown))


def _run(settings: Settings, place: _Place) -> None:
    from ..serving.settings import require_extra

    require_extra()
    from ..serving.running import listen, run

    with listen(place.host, place.port) as bound:  # before the model is loaded: it may be in vain
        engine = settings.engine()
        try:
            application = settings.app(engine)
            port = bound.getsockname()[1]
            shown = f"[{place.host}]" if ":" in place.host else place.host
            what = "the page, and the API described at /docs" if settings.page else "the API, described at /docs"
            _warn_of_open_doors(settings, place)
            typer.echo(f"{engine.restorer.name}: {engine.restorer.summary}")
            run(application, bound, settings.drain, lambda: typer.echo(f"http://{shown}:{port} has {what}"))
        finally:
            engine.close(0)
