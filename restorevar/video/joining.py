"""Segments into one file, without encoding again, and everything else of the clip beside them.

Packets of all streams are put in by time as they are read, so memory stays constant.
"""

from __future__ import annotations

import heapq
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av import Packet
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Disposition, Stream
from av.video.stream import VideoStream

from ..errors import UserError
from .encoders import muxer
from .failures import naming_failures, reason
from .reading import Clip, open_container
from .segments import Segments

#: Kinds of streams, for people.
_WORDS = {
    "audio": "an audio stream",
    "subtitle": "subtitles",
    "data": "a data stream",
    "video": "a second video",
    "attachment": "an attachment",
}
#: What describes the source file itself.
_OF_THE_FILE = (
    "encoder",
    "handler_name",
    "vendor_id",
    "duration",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "software",
)


class _HeaderRefused(Exception):
    """The container does not take its streams, although it claimed to know their codecs."""

    def __init__(self, error: av.FFmpegError):
        self.error = error


@dataclass(frozen=True)
class _Timed:
    """A packet of the output, and when it is due, in seconds."""

    when: Fraction
    packet: Packet


def join(clip: Clip, segments: Segments, target: Path) -> list[str]:
    """Writes the result, whole or not at all. Returns what could not be copied, a line each. Raises UserError."""
    temporary = target.parent / f".restorevar-{uuid.uuid4().hex}.part"
    try:
        with naming_failures(target, "cannot be written"):
            notes = _write_what_can_be(clip, segments, temporary, target)
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return [f"{clip.path}: {note}" for note in notes]


def _write_what_can_be(clip: Clip, segments: Segments, path: Path, target: Path) -> list[str]:
    """All streams; where the container takes not all that it seemed to, sound alone, or else nothing beside."""
    for kinds in (("audio", "subtitle", "data", "attachment", "video"), ("audio",), ()):
        source = open_container(clip.path)
        try:
            return _write(clip, source, segments, path, target, kinds)
        except _HeaderRefused as refused:
            if not kinds:
                raise refused.error from None
        finally:
            source.close()
    raise AssertionError("the last try returns or raises")


def _write(
    clip: Clip, source: InputContainer, segments: Segments, path: Path, target: Path, kinds: tuple[str, ...]
) -> list[str]:
    kind = muxer(target)
    options = {"movflags": "+faststart"} if kind in ("mp4", "mov") else {}
    notes: list[str] = []
    first = av.open(f"file:{segments.media(0)}", "r")
    out = av.open(f"file:{path}", "w", format=kind, container_options=options)
    try:
        video, copies = _streams(clip, source, first.streams.video[0], out, kinds, notes)
        out.metadata.update(_told(source.metadata))
        chapters = source.chapters()
        if chapters:
            out.set_chapters(chapters)
        try:
            out.start_encoding()
        except av.FFmpegError as error:
            raise _HeaderRefused(error) from error
        parts = [_video_packets(clip, segments, video)]
        if copies:
            parts.append(_copied_packets(source, copies))
        for timed in heapq.merge(*parts, key=lambda timed: timed.when):
            out.mux_one(timed.packet)
        out.close()
    except BaseException:
        _abandon(out)
        raise
    finally:
        first.close()
    return notes


def _streams(
    clip: Clip,
    source: InputContainer,
    template: VideoStream,
    out: OutputContainer,
    kinds: tuple[str, ...],
    notes: list[str],
) -> tuple[Stream, dict[int, Stream]]:
    """The streams of the output, in the order of the source: the restored one; the copies by index in the source."""
    copies: dict[int, Stream] = {}
    video: Stream | None = None
    for stream in source.streams:
        if stream.index == clip.stream.index:
            video = _add_video(clip, template, out)
            new: Stream = video
        else:
            if stream.type == "data" and _is_made_anew(stream):
                continue
            try:
                new = _add_copy(stream, out, kinds, clip.path)
            except (av.FFmpegError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
                what = _WORDS.get(stream.type, f"a stream of {stream.type}")
                name = f" ({stream.name})" if getattr(stream, "name", None) else ""
                notes.append(f"{what}{name} cannot be copied into {out.format.name}: {reason(error)}")
                continue
            if new.type != "attachment":
                copies[stream.index] = new
        new.metadata.update(_told(stream.metadata))
        if new.type == stream.type:
            new.disposition = stream.disposition
    assert video is not None
    return video, copies


def _add_video(clip: Clip, template: VideoStream, out: OutputContainer) -> VideoStream:
    stream = out.add_stream_from_template(template, opaque=True)
    stream.time_base = clip.time_base
    context = stream.codec_context
    context.framerate = clip.rate
    if clip.aspect:
        context.sample_aspect_ratio = clip.aspect
    if clip.matrix:
        stream.set_display_matrix(clip.matrix)
    return stream


def _add_copy(stream: Stream, out: OutputContainer, kinds: tuple[str, ...], path: Path) -> Stream:
    if stream.type not in kinds:
        raise ValueError("it does not take it")
    if _is_cover(stream) and out.format.name not in ("mp4", "matroska"):
        raise ValueError("it holds no cover")
    if _is_cover(stream) and out.format.name == "matroska":  # where covers are attachments
        kind = "png" if stream.codec_context.name == "png" else "jpeg"
        return out.add_attachment(f"cover.{kind.replace('jpeg', 'jpg')}", f"image/{kind}", _cover(path, stream.index))
    if isinstance(stream, AttachmentStream):
        if out.format.name != "matroska":
            raise ValueError("it holds no attachments")
        return out.add_attachment(
            stream.metadata.get("filename", "attachment"), stream.mimetype or "application/octet-stream", stream.data
        )
    if stream.type == "data" and (out.format.name != "mpegts" or stream.name in (None, "bin_data")):
        raise ValueError("it holds no such data")
    return out.add_stream_from_template(stream, opaque=True)


def _is_cover(stream: Stream) -> bool:
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def _cover(path: Path, index: int) -> bytes:
    """The picture of a stream that is one."""
    container = open_container(path)
    try:
        return next(bytes(packet) for packet in container.demux(container.streams[index]) if packet.size)
    except StopIteration:
        raise ValueError("it is empty") from None
    finally:
        container.close()


def _told(metadata: dict[str, str]) -> dict[str, str]:
    """What people have written; not what the container or the old encoder say of themselves."""
    return {key: text for key, text in metadata.items() if key.lower() not in _OF_THE_FILE}


def _is_made_anew(stream: Stream) -> bool:
    """Chapters as a track of text, and timecodes: muxers write theirs from the chapters and from the metadata."""
    return stream.codec_context is None and stream.metadata.get("handler_name", "") in (
        "SubtitleHandler",
        "TimeCodeHandler",
        "Time Code Media Handler",
    )


def _video_packets(clip: Clip, segments: Segments, stream: Stream) -> Iterator[_Timed]:
    """The packets of all segments with the times of the clip."""
    count = segments.finished()
    delay = max(_delay(_ranks(segments, index)) for index in range(count))
    shown: list[int] = []  # the last times that were used up as decoding times
    step = max(1, round(1 / (clip.rate * clip.time_base)))
    for index in range(count):
        times = segments.times(index)
        if not shown:
            shown = [times[0][0] - step * back for back in range(delay, 0, -1)]
        ends = [pts for pts, _ in times[1:]] + [None]
        due = [*shown, *(pts for pts, _ in times)]
        with av.open(f"file:{segments.media(index)}", "r") as container:
            packets = (packet for packet in container.demux(video=0) if packet.size)
            ranks = _ranks(segments, index)
            for place, (packet, rank) in enumerate(zip(packets, ranks, strict=True)):
                pts, duration = times[rank]
                packet.stream = stream
                packet.time_base = clip.time_base
                # Decoding runs in the order of showing, behind it by what the encoder's order needs.
                packet.pts, packet.dts = pts, due[place]
                following = ends[rank]
                packet.duration = duration or (step if following is None else following - pts)
                yield _Timed(packet.dts * clip.time_base, packet)
        shown = due[len(times) :]


def _ranks(segments: Segments, index: int) -> list[int]:
    """For each packet of a segment, in its order: which of the segment's frames it holds."""
    with av.open(f"file:{segments.media(index)}", "r") as container:
        stored = [packet.pts for packet in container.demux(video=0) if packet.size]
    expected = len(segments.times(index))
    if len(stored) != expected or None in stored:
        raise UserError(f"{segments.media(index)}: is damaged; remove its folder to begin anew")
    place = {pts: rank for rank, pts in enumerate(sorted(stored))}
    return [place[pts] for pts in stored]


def _delay(ranks: list[int]) -> int:
    """By how many frames showing must lag behind decoding, so that no frame is shown before it is decoded."""
    return max(place - rank for place, rank in enumerate(ranks))


def _copied_packets(source: InputContainer, copies: dict[int, Stream]) -> Iterator[_Timed]:
    """The packets of the other streams. Where the file breaks off they end."""
    wanted = [source.streams[index] for index in copies]
    packets = source.demux(*wanted)
    latest = Fraction(0)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):
            return
        if packet is None:
            return
        if not packet.size:
            continue
        new = copies[packet.stream_index]
        moment = packet.dts if packet.dts is not None else packet.pts
        if moment is None:
            if not _is_cover(packet.stream):
                continue  # without a time it has no place
            moment = packet.pts = packet.dts = 0
        latest = max(latest, moment * packet.time_base)
        packet.stream = new
        yield _Timed(latest, packet)


def _abandon(out: OutputContainer) -> None:
    with suppress(av.FFmpegError, OSError, ValueError):
        out.close()
