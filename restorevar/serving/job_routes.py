"""`/v1/jobs`: many files or large ones, restored while nobody holds a connection open.

    POST /v1/jobs            files, or zip archives of files -> the job's id, at once
    GET /v1/jobs/{id}        how far it is; a link for each result
    GET /v1/jobs/{id}/files/{number}, /result     the results
    DELETE /v1/jobs/{id}     called off, or its results removed

The id is a secret: whoever knows it may ask. Where there are keys, it must come with the one that made the job, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, File, Form, HTTPException, Request, Response, UploadFile
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from ..errors import UserError
from ..images import NotAnImage
from ..images.failures import silence, translating
from ..images.opening import identify, refuse_unsuitable
from . import jobs
from .archives import ZipLimits, is_archive, is_zip, members, pack
from .engine import Engine
from .job_metrics import JobCollector
from .job_runner import JobRunner
from .jobs import Arrival, Job, JobFile, JobOptions, JobStore, NoRoom, UnknownJob
from .names import distinct, result_name, shown_name
from .problems import responses
from .restore_routes import Format, Speed
from .sending import read_pieces, send, send_file
from .tickets import Closed
from .transcoding import MEDIA_TYPES


class FileStatus(BaseModel):
    """How far one file of a job is."""

    number: int
    name: str
    state: jobs.FileState
    progress: float = Field(ge=0, le=1)
    bytes: int = Field(description="of what was sent")
    error: str | None = Field(description="why it failed")
    result: str | None = Field(description="where the result is to be had")
    result_bytes: int | None
    format: str | None
    seconds: float | None = Field(description="that the restoration took")
    width: int | None
    height: int | None
    untouched: bool | None = Field(description="whether it came back as it was, for there was nothing to restore")
    diagnosis: dict[str, Any] | None = Field(description="what the photo suffered from")
    settings: dict[str, Any] | None = Field(description="what the result depends on, beside model and photo")


class JobStatus(BaseModel):
    """How far a job is. `done` once every file has ended and one of them is restored, `failed` if none is."""

    id: str
    state: jobs.State
    progress: float = Field(ge=0, le=1)
    created: datetime
    finished: datetime | None
    expires: datetime | None = Field(description="when the results are removed")
    files: list[FileStatus]
    result: str | None = Field(description="where all results are to be had: an image, or a zip archive of several")


#: Causes that are told when none of the files is an image.
SHOWN = 5

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_IMAGES = dict.fromkeys(MEDIA_TYPES.values(), _BINARY)
_UNKNOWN = "there is no such job"
_ANY = {
    "s401": "a key is needed: X-API-Key, or Authorization: Bearer",
    "s404": _UNKNOWN,
    "s422": "id: String should match pattern '^[0-9a-f]{32}$'",
}

JobId = Annotated[str, InPath(pattern="^[0-9a-f]{32}$", description="as the job was answered with")]


def job_routes(
    engine: Engine, store: JobStore, owner: Callable[[Request], str] = lambda request: "", seconds: float = 3600.0
) -> APIRouter:
    """The routes. What works the jobs off starts and ends with the application that includes them; so ends the store.

    `owner` tells from a request whose it is, by its key say; jobs of one are unknown to the others.
    `seconds` that one file may take.
    """
    runner = JobRunner(engine, store, seconds)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        metrics = getattr(app.state, "metrics", None)
        if metrics is not None:
            metrics.registry.register(JobCollector(store))
        runner.start()
        try:
            yield
        finally:
            await to_thread.run_sync(runner.close)
            store.close()

    router = APIRouter(prefix="/v1/jobs", tags=["jobs"], lifespan=lifespan)

    def find(id: str, request: Request) -> Job:
        try:
            return store.job(id, owner(request))
        except UnknownJob:
            raise HTTPException(404, _UNKNOWN) from None

    @router.post(
        "",
        status_code=202,
        responses=responses(
            s400="There was an error parsing the body",
            s401=_ANY["s401"],
            s408="the request was not sent within 300 seconds",
            s413="a job has 500 files at most",
            s415="notes.txt: is not an image of a known format (PNG, JPEG, WEBP, TIFF, BMP, AVIF)",
            s422="photos.zip: holds a file whose name leads out of the archive",
            s429="too many files are waiting; try again later",
            s503="the service is about to end and takes nothing more",
            s507="there is no room for more jobs; try again when older ones have expired",
        ),
    )
    def create(
        request: Request,
        response: Response,
        files: Annotated[list[UploadFile], File(description="images, or zip archives of images")],
        fidelity: Annotated[
            float | None, Form(ge=0, le=1, allow_inf_nan=False, description="detail taken from the input")
        ] = None,
        strength: Annotated[
            float | None, Form(ge=0, le=1, allow_inf_nan=False, description="how much of the change is made")
        ] = None,
        speed: Annotated[Speed | None, Form(description="how much of the model is run")] = None,
        if_needed: Annotated[bool, Form(description="images that suffer from nothing come back as they are")] = False,
        format: Annotated[Format | None, Form(description="of the results; without it those of the images")] = None,
        quality: Annotated[
            int | None, Form(ge=1, le=100, description="of JPEG, WebP and AVIF; without it as the images")
        ] = None,
    ) -> JobStatus:
        """Takes images, or zip archives of images, and answers at once; ask for the job by its id."""
        if not engine.is_open:
            raise Closed
        options = JobOptions(fidelity, strength, speed, if_needed, format, quality)
        check_options(engine, options)
        try:
            store.check_open()
            with store.arriving(owner(request), options) as arrival:
                for file in files:
                    _take_in(file, arrival, store, engine.limits.pixels)
                _refuse_without_image(arrival)
        except NoRoom as error:
            raise HTTPException(507, str(error)) from None
        runner.wake()
        job = store.job(arrival.id, owner(request))
        response.headers["Location"] = f"{router.prefix}/{job.id}"
        return _status(job, runner)

    @router.get("/{id}", responses=responses(**_ANY))
    def status(id: JobId, request: Request) -> JobStatus:
        """How far the job is, file by file."""
        return _status(find(id, request), runner)

    @router.get(
        "/{id}/files/{number}",
        response_class=Response,
        responses={
            200: {"content": _IMAGES, "description": "The restored image."},
            **responses(**_ANY, s409="the file is running", s410="the job is expired"),
        },
    )
    def one_result(id: JobId, number: Annotated[int, InPath(ge=0, le=100_000)], request: Request) -> StreamingResponse:
        """A restored image, in the format of what was sent."""
        job = find(id, request)
        if number >= len(job.files):
            raise HTTPException(404, "there is no such file in the job")
        _refuse_ended(job)
        return _send_image(store, job, job.files[number])

    @router.get(
        "/{id}/result",
        response_class=Response,
        responses={
            200: {"content": {**_IMAGES, "application/zip": _BINARY}, "description": "An image, or a zip archive."},
            **responses(**_ANY, s409="the job is running", s410="the job is cancelled"),
        },
    )
    def result(id: JobId, request: Request) -> StreamingResponse:
        """All that was restored: the image if one was sent, else a zip archive, named as what was sent."""
        job = find(id, request)
        _refuse_ended(job)
        if job.state != "done":
            raise HTTPException(409, f"the job is {job.state}")
        if len(job.files) == 1:
            return _send_image(store, job, job.files[0])
        done = [file for file in job.files if file.state == "done"]
        names = distinct([result_name(file.name, file.format or "") for file in done])
        paths = [store.result(job, file.number) for file in done]
        return send(pack(zip(names, paths, strict=True)), "application/zip", "restored.zip")

    @router.delete("/{id}", status_code=204, response_class=Response, responses=responses(**_ANY))
    def drop(id: JobId, request: Request) -> Response:
        """Calls the job off, or removes its results. Again is no fault."""
        find(id, request)
        store.drop(id, owner(request))
        runner.cancel(id)
        return Response(status_code=204)

    return router


# ------------------------------------------------------------------------------------------------------ coming in


def check_options(engine: Engine, options: JobOptions) -> None:
    """Before files are taken for them: raises UserError for what the model cannot do."""
    engine.restorer.at(fidelity=options.fidelity, strength=options.strength, speed=options.speed)
    if options.if_needed and engine.diagnose is None:
        raise UserError("if_needed needs the diagnosis, which this service does not have")


def _take_in(upload: UploadFile, arrival: Arrival, store: JobStore, pixels: int) -> None:
    """A file, or the files of an archive; by its content, whatever its name."""
    head = upload.file.read(512)
    upload.file.seek(0)
    name = upload.filename or ""
    if not is_zip(head):
        arrival.add(name, read_pieces(upload.file), lambda path: check_image(path, pixels))
        return
    limits = store.limits
    allowed = ZipLimits(limits.files - len(arrival.files), limits.file_bytes, limits.job_bytes)
    try:
        for member, pieces in members(upload.file, allowed):
            arrival.add(member, pieces, lambda path: check_image(path, pixels), tree=True)
    except UserError as error:
        raise type(error)(f"{shown_name(name)}: {error}") from None


def check_image(path: Path, pixels: int) -> None:
    """Raises UserError unless the header is that of an image that can be restored; nothing is decoded."""
    with path.open("rb") as stream, silence(), translating("is damaged or not supported"):
        if is_archive(stream.read(512)):
            raise UserError("is an archive of a kind that is not taken; send images, or a zip archive")
        refuse_unsuitable(identify(stream), stream, pixels)


def _refuse_without_image(arrival: Arrival) -> None:
    causes = [f"{name}: {error}" for name, _, error in arrival.files if error]
    if causes and len(causes) == len(arrival.files):
        more = len(causes) - SHOWN
        raise NotAnImage("; ".join(causes[:SHOWN]) + (f"; and {more} more" if more > 0 else ""))


# ----------------------------------------------------------------------------------------------------- going out


def _refuse_ended(job: Job) -> None:
    if job.state in ("cancelled", "expired"):
        raise HTTPException(410, f"the job is {job.state}")


def _send_image(store: JobStore, job: Job, file: JobFile) -> StreamingResponse:
    if file.state != "done" or file.format is None:
        raise HTTPException(409, f"the file is {file.state}" + (f": {file.error}" if file.error else ""))
    try:
        stream = store.result(job, file.number).open("rb")  # now: it may be removed while it is sent
    except FileNotFoundError:
        raise HTTPException(410, "the result is gone") from None
    name = distinct([result_name(file.name, file.format)])[0].rsplit("/", 1)[-1]
    return send_file(stream, MEDIA_TYPES[file.format], name)


def _status(job: Job, runner: JobRunner) -> JobStatus:
    files = [_file_status(job, file, runner) for file in job.files]
    return JobStatus(
        id=job.id,
        state=job.state,
        progress=1.0 if job.finished else round(sum(file.progress for file in files) / max(1, len(files)), 4),
        created=datetime.fromtimestamp(job.created, timezone.utc),
        finished=_time(job.finished),
        expires=_time(job.expires),
        files=files,
        result=f"/v1/jobs/{job.id}/result" if job.state == "done" else None,
    )


def _file_status(job: Job, file: JobFile, runner: JobRunner) -> FileStatus:
    told = ("width", "height", "untouched", "diagnosis", "settings")
    there = file.state == "done" and job.state in ("running", "done")
    return FileStatus(
        number=file.number,
        name=file.name,
        state=file.state,
        progress=runner.share(job.id, file.number) if file.state in ("queued", "running") else 1.0,
        bytes=file.bytes,
        error=file.error,
        result=f"/v1/jobs/{job.id}/files/{file.number}" if there else None,
        result_bytes=file.result_bytes,
        format=file.format,
        seconds=file.seconds,
        **{name: file.notes.get(name) for name in told},
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
