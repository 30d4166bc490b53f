"""Small videos for tests, with all that belongs to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

#: Primaries, transfer, matrix, range: BT.709, limited.
BT709 = (1, 1, 1, 1)
TICKS = Fraction(1, 12800)


@dataclass(frozen=True)
class Made:
    """What a test compares with."""

    path: Path
    times: list[Fraction]


def make_video(
    path: Path,
    frames: int = 12,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: str | None = None,
    subtitles: Sequence[tuple[int, int, str]] = (),
    attachment: bytes | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    tags: tuple[int, int, int, int] = BT709,
    steps: Sequence[int] = (1, 2, 1),
    time_base: Fraction = TICKS,
    chapters: bool = False,
    options: Mapping[str, str] | None = None,
) -> Made:
    """A pattern that wanders. `steps`: how many 25ths of a second frames last, in turn; `size`: height, width."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(25), options=dict(options or {}))
        context = stream.codec_context
        context.height, context.width, context.pix_fmt, context.time_base = *size, pix_fmt, time_base
        stream.time_base = time_base
        if aspect:
            context.sample_aspect_ratio = aspect
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        if rotation:
            stream.set_display_rotation(rotation)
        container.metadata["title"] = "A clip"
        sound: Any = container.add_stream(audio, rate=48000) if audio else None
        if sound:
            sound.codec_context.layout = "mono"
            sound.metadata["language"] = "deu"
        text: Any = container.add_mux_stream("subrip", time_base=Fraction(1, 1000)) if subtitles else None
        if text:
            text.metadata["language"] = "fra"
        if attachment is not None:
            container.add_attachment("font.ttf", "font/ttf", attachment)
        if chapters:
            container.set_chapters([chapter(1, 0, 200, "one"), chapter(2, 200, 400, "two")])
        times = []
        pts, step = 0, int(Fraction(1, 25) / time_base)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, size), "rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=tags[2], dst_color_range=tags[3])
            frame.pts, frame.time_base = pts, time_base
            frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = tags
            container.mux(stream.encode(frame))
            times.append(pts * time_base)
            pts += step * steps[index % len(steps)]
        if sound:
            for index in range(16):
                wave = np.sin(np.arange(1024) * 0.05 + index)[None].astype(np.float32) * 0.3
                samples = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
                samples.sample_rate, samples.pts, samples.time_base = 48000, index * 1024, Fraction(1, 48000)
                container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
        container.mux(stream.encode(None))
        for start, duration, words in subtitles:
            packet = av.Packet(words.encode())
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = duration
            container.mux(packet)
    return Made(path, times)


def picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] uint8: smooth waves, moved by a pixel a frame."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / 15 + index / 15
    waves = [128 + 70 * np.sin(x * (1 + c / 3) + c) * np.cos(y + c) for c in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def chapter(number: int, start: int, end: int, title: str) -> Any:
    return {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title}}


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times_of(path: Path) -> list[Fraction]:
    """When each frame is shown, in seconds."""
    return [frame.pts * frame.time_base for frame in decoded(path)]


def packets_of(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [bytes(packet) for packet in container.demux(*streams) if packet.size] if streams else []


def rgb_of(path: Path) -> np.ndarray:
    """[frames, H, W, 3] uint8."""
    return np.stack([frame.to_ndarray(format="rgb24") for frame in decoded(path)])
