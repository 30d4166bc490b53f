"""Videos: what belongs to them is kept, interrupted ones go on, memory is bounded, bad files cost a line."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

pytest.importorskip("av")

import av
from clips import decoded, make_video, packets_of, rgb_of, times_of

from restorevar import checkpoints
from restorevar.batch import Writing, plan_jobs
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.models import RestoreVAR
from restorevar.models.config import debug
from restorevar.pipeline import Restorer
from restorevar.video import VideoOptions, is_video_path
from restorevar.video.encoders import choose_encoding
from restorevar.video.reading import Frame
from restorevar.video.restoring import Pace, read_ahead, restore_video

SHORT = VideoOptions(segment=5)  # several segments even of a small clip


class Unchanged(Restorer):
    """Gives photos back as they are, at once."""

    def restore_photo(self, photo, progress=None, watch=None):
        return photo


@pytest.fixture
def restorer(tiny: RestoreVAR) -> Restorer:
    return Restorer(tiny, device="cpu")


@pytest.fixture
def same(tiny: RestoreVAR) -> Restorer:
    """Changes nothing: what a video loses then, it loses on its way through our hands."""
    return Unchanged(tiny, device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    checkpoints.save_model(RestoreVAR(debug()), folder)
    return str(folder)


@pytest.fixture
def command(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `restorevar restore` in an empty folder, with the small model."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(app, ["restore", *map(str, arguments), "--model", model, "--device", "cpu"])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


# ------------------------------------------------------------------------------------------------- what is kept


def test_all_that_belongs_to_an_mp4_is_kept(command, tmp_path):
    made = make_video(
        tmp_path / "in.mp4", audio="aac", rotation=90, aspect=Fraction(4, 3), chapters=True, tags=(5, 6, 5, 2)
    )
    result = command("in.mp4", "-o", "out.mp4", "--temporal", "off")
    assert result.exit_code == 0 and "in.mp4 -> out.mp4 (64x48, 12 frames" in result.stdout
    out = tmp_path / "out.mp4"
    assert times_of(out) == made.times  # of variable rate
    assert packets_of(out, "audio") == packets_of(made.path, "audio") != []
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "A clip"
        assert [c["metadata"]["title"] for c in container.chapters()] == ["one", "two"]
        assert container.streams.audio[0].language == "deu"
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    frame = decoded(out)[0]
    assert (frame.rotation, frame.width, frame.height) == (90, 64, 48)
    tags = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
    assert tuple(map(int, tags)) in ((5, 6, 5, 2), (5, 6, 6, 2))
    assert not hidden(tmp_path)


def test_subtitles_and_attachments_of_a_mkv(command, tmp_path):
    lines = [(0, 100, "Bonjour"), (200, 100, "Au revoir")]
    make_video(tmp_path / "in.mkv", subtitles=lines, attachment=b"letters", audio="libopus")
    assert command("in.mkv", "-o", "out.mkv").exit_code == 0
    assert packets_of(tmp_path / "out.mkv", "subtitle") == [b"Bonjour", b"Au revoir"]
    assert packets_of(tmp_path / "out.mkv", "audio") == packets_of(tmp_path / "in.mkv", "audio")
    with av.open("out.mkv") as container:
        assert [a.data for a in container.streams.attachments] == [b"letters"]
        assert container.streams.subtitles[0].language == "fra"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cover_picture_is_kept(same, tmp_path, suffix):
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(picture, "PNG")
    made = make_video(tmp_path / "plain.mp4", frames=4)
    with av.open(str(made.path)) as plain, av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream_from_template(plain.streams.video[0], opaque=True)
        cover = container.add_mux_stream("png", width=32, height=32)
        cover.disposition = av.stream.Disposition.attached_pic
        packet = av.Packet(picture.getvalue())
        packet.stream, packet.pts, packet.dts = cover, 0, 0
        container.mux(packet)
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    out = tmp_path / f"out{suffix}"
    outcome = restore_video(tmp_path / "in.mp4", out, same, VideoOptions(temporal="off"))
    assert outcome.notes == [] and outcome.frames == 4
    assert picture.getvalue() in out.read_bytes()
    assert len(times_of(out)) == 4


def test_what_the_container_does_not_take_is_told(command, tmp_path):
    made = make_video(tmp_path / "in.mkv", subtitles=[(0, 100, "Bonjour")], attachment=b"letters", audio="libopus")
    result = command("in.mkv", "-o", "out.mp4")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any("subtitles (srt) cannot be copied into mp4" in line for line in lines)
    assert any("an attachment (font.ttf) cannot be copied into mp4" in line for line in lines)
    assert packets_of(tmp_path / "out.mp4", "audio") == packets_of(made.path, "audio")
    assert len(times_of(tmp_path / "out.mp4")) == len(made.times)


@pytest.mark.parametrize(
    "name, settings, encoder, pix_fmt",
    [
        ("in.mp4", {"pix_fmt": "yuv420p"}, "libx264", "yuv420p"),
        ("in.mp4", {"tags": (1, 1, 1, 2)}, "libx264", "yuv420p"),
        ("in.mkv", {"codec": "ffv1", "pix_fmt": "yuv420p10le"}, "libx265", "yuv420p10le"),
        ("in.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p", "tags": (9, 14, 9, 1)}, "libx264", "yuv444p"),
        ("in.mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}, "libx264", "yuv444p"),
        ("in.mkv", {"codec": "ffv1", "pix_fmt": "gray"}, "libx264", "yuv420p"),
        ("in.mkv", {"codec": "ffv1", "size": (47, 63)}, "libvpx-vp9", "yuv420p"),
        ("in.webm", {"codec": "libvpx-vp9", "size": (47, 63)}, "libvpx-vp9", "yuv420p"),
        ("in.avi", {"codec": "mpeg4", "steps": (1,), "time_base": Fraction(1, 25)}, "mpeg4", "yuv420p"),
        ("in.ts", {"audio": "aac"}, "libx264", "yuv420p"),
        ("in.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}, "libx265", "yuv422p10le"),
    ],
)
def test_formats_come_through_with_their_colors(same, tmp_path, name, settings, encoder, pix_fmt):
    if encoder not in av.codecs_available or settings.get("codec", encoder) not in av.codecs_available:
        pytest.skip(f"this PyAV has no {encoder}")
    made = make_video(tmp_path / name, **settings)
    out = tmp_path / f"out{made.path.suffix}"
    outcome = restore_video(made.path, out, same, VideoOptions(temporal="off", segment=5, crf=None))
    assert (outcome.settings["encoder"], outcome.settings["pix_fmt"]) == (encoder, pix_fmt)
    before, after = rgb_of(made.path).astype(int), rgb_of(out).astype(int)
    assert before.shape == after.shape
    error = np.abs(before - after)
    assert error.mean() < 3, error.mean()
    assert np.abs((before - after).mean((0, 1, 2))).max() < 1.5  # no cast: matrix and range are what they were
    given, written = times_of(made.path), times_of(out)
    shift = written[0] - given[0]  # transport streams begin later
    assert all(abs(b - a - shift) <= Fraction(1, 1000) for a, b in zip(given, written, strict=True))


def test_transparency_is_kept_or_refused(same, tmp_path):
    made = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuva420p")
    restore_video(made.path, tmp_path / "out.mkv", same, SHORT)
    assert decoded(tmp_path / "out.mkv")[0].format.name == "yuva420p"
    with pytest.raises(UserError, match="would lose its transparency"):
        restore_video(made.path, tmp_path / "out.mp4", same)


def test_frames_are_turned_upright_for_the_model(tiny, tmp_path):
    seen = []

    class Watching(Unchanged):
        def restore_photo(self, photo, progress=None, watch=None):
            seen.append(photo.rgb)
            return photo

    made = make_video(tmp_path / "in.mp4", frames=2, rotation=90, options={"crf": "0"})
    restore_video(made.path, tmp_path / "out.mp4", Watching(tiny, device="cpu"), VideoOptions(temporal="off"))
    assert seen[0].shape == (64, 48, 3)
    stored = decoded(made.path)[0].to_ndarray(format="rgb24").astype(int)
    assert np.abs(np.rot90(stored) - seen[0] / 257).mean() < 3
    assert decoded(tmp_path / "out.mp4")[0].width == 64


def test_codec_and_quality(command, tmp_path):
    make_video(tmp_path / "in.mp4", codec="libx264", options={"crf": "5"})
    assert command("in.mp4", "-o", "fine.mkv", "--codec", "ffv1").exit_code == 0
    assert command("in.mp4", "-o", "small.mp4", "--crf", "45").exit_code == 0
    assert command("in.mp4", "-o", "large.mp4", "--crf", "5").exit_code == 0
    with av.open("fine.mkv") as container:
        assert container.streams.video[0].codec_context.name == "ffv1"
    assert os.path.getsize("small.mp4") < os.path.getsize("large.mp4")


@pytest.mark.parametrize(
    "options, cause",
    [
        (("--codec", "vhs"), "unknown codec 'vhs'"),
        (("--codec", "h264", "--crf", "99"), "the quality of h264 goes from 0 (best) to 51"),
        (("--codec", "ffv1", "--crf", "9"), "ffv1 has no quality"),
        (("--temporal", "often"), "unknown mode 'often'"),
    ],
)
def test_impossible_options(command, tmp_path, options, cause):
    make_video(tmp_path / "in.mp4", frames=2)
    result = command("in.mp4", "-o", "out.mp4", *options)
    assert result.exit_code == 2 and cause in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_encoding_that_loses_nothing_is_taken(tmp_path):
    def chosen(name: str, pix_fmt: str, size: tuple[int, int] = (48, 64), **options) -> tuple[str, str]:
        encoding = choose_encoding(tmp_path / name, pix_fmt, size, VideoOptions(**options))
        return encoding.codec, encoding.pix_fmt

    assert chosen("a.mp4", "yuv420p") == ("h264", "yuv420p")
    assert chosen("a.mp4", "yuv420p10le") == ("hevc", "yuv420p10le")
    assert chosen("a.mp4", "yuv420p", (47, 63)) == ("vp9", "yuv420p")
    assert chosen("a.mp4", "yuv420p", (47, 63), codec="h264") == ("h264", "yuv444p")
    assert chosen("a.mov", "yuva444p12le") == ("prores", "yuva444p10le")
    assert chosen("a.mkv", "gray16le") == ("ffv1", "gray16le")
    with pytest.raises(UserError, match="cannot be written as h264"):
        chosen("a.webm", "yuv420p", codec="h264")


# ------------------------------------------------------------------------------------------ among other files


def test_photos_and_videos_in_a_folder(command, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    make_video(tmp_path / "in" / "deep" / "a.mp4", frames=3)
    Image.new("RGB", (40, 30)).save(tmp_path / "in" / "b.png")
    (tmp_path / "in" / "c.mkv").write_text("no video")
    result = command("in", "-o", "out", "--json", "log.jsonl")
    assert result.exit_code == 1
    assert (tmp_path / "out" / "deep" / "a.mp4").exists() and (tmp_path / "out" / "b.png").exists()
    assert "1 failed" in result.stdout and "in/c.mkv: is not a video that can be read" in result.stderr
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    video = next(record for record in records if record["input"].endswith("a.mp4"))
    assert video["frames"] == 3 and video["settings"]["codec"] == "h264" and video["status"] == "restored"
    assert "skipped" in command("in", "-o", "out").stdout


def test_names_of_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.wmv", "c.png"):
        Path(name).write_bytes(b"x")

    def targets(*inputs: str, out: str = "out", **writing) -> list[str]:
        return [job.target.as_posix() for job in plan_jobs(inputs, out, Writing(**writing))]

    assert targets("a.mp4", "b.wmv", "c.png") == ["out/a.mp4", "out/b.mkv", "out/c.png"]
    assert targets("a.mp4", "c.png", format="webp") == ["out/a.mp4", "out/c.webp"]
    assert targets("a.mp4", "c.png", video=VideoOptions(container=".mkv")) == ["out/a.mkv", "out/c.png"]
    assert targets("a.mp4", out="d.mkv") == ["d.mkv"]
    with pytest.raises(UserError, match=r"c\.png is a photo, and this is the name of a video"):
        targets("c.png", out="d.mp4")
    with pytest.raises(UserError, match=r"a\.mp4 is a video, and this is the name of a photo"):
        targets("a.mp4", out="d.png")
    assert is_video_path("A.MOV") and not is_video_path(".a.mov") and not is_video_path("a.gif")


def test_without_the_extra_a_line_says_what_to_install(command, tmp_path, monkeypatch):
    make_video(tmp_path / "in.mp4", frames=2)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("restorevar.video.extra.find_spec", lambda name: None)
    result = command("in.mp4", "-o", "out.mp4")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "restorevar: error: in.mp4: videos need PyAV: pip install 'restorevar[video]'"
    ]


# --------------------------------------------------------------------------------------------------- bad files


def broken(tmp_path: Path, kind: str) -> Path:
    made = make_video(tmp_path / "whole.mp4", frames=30)
    data = made.path.read_bytes()
    path = tmp_path / "in.mp4"
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("words")
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "audio":
            with av.open(str(path), "w") as container:
                sound = container.add_stream("aac", rate=48000)
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                samples.sample_rate = 48000
                container.mux(sound.encode(samples))
                container.mux(sound.encode(None))
        case "pq":
            make_video(path, frames=2, tags=(9, 16, 9, 1))
        case "hlg":
            make_video(path, frames=2, tags=(9, 18, 9, 1))
    return path


@pytest.mark.parametrize(
    "kind, cause",
    [
        ("missing", "no such file"),
        ("empty", "is empty"),
        ("text", "is not a video that can be read (Invalid data found when processing input)"),
        ("cut", "is not a video that can be read"),
        ("audio", "has no video stream"),
        ("pq", "is HDR (PQ), which the model does not know"),
        ("hlg", "is HDR (HLG), which the model does not know"),
    ],
)
def test_bad_files_cost_a_line(command, tmp_path, kind, cause):
    broken(tmp_path, kind)
    result = command("in.mp4", "-o", "out.mp4")
    assert result.exit_code in (1, 2)
    lines = [line for line in result.stderr.splitlines() if line.startswith("restorevar")]
    assert len(lines) == 1 and cause in lines[0] and "in.mp4" in lines[0]
    assert not (tmp_path / "out.mp4").exists() and not hidden(tmp_path)


def test_a_file_cut_short_is_restored_as_far_as_it_goes(same, tmp_path):
    made = make_video(tmp_path / "whole.mkv", frames=60, size=(96, 128), options={"crf": "5", "g": "5"})
    data = made.path.read_bytes()
    cut = tmp_path / "in.mkv"
    cut.write_bytes(data[: len(data) * 2 // 3])
    outcome = restore_video(cut, tmp_path / "out.mkv", same, VideoOptions(temporal="off"))
    assert 20 < outcome.frames < 60
    assert times_of(tmp_path / "out.mkv") == times_of(cut)[: outcome.frames]


def test_damage_in_the_middle_is_passed_over(same, tmp_path):
    made = make_video(tmp_path / "in.mp4", frames=60, size=(96, 128), options={"crf": "5", "g": "5"})
    data = bytearray(made.path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 3000] = bytes(3000)
    made.path.write_bytes(bytes(data))
    outcome = restore_video(made.path, tmp_path / "out.mp4", same, VideoOptions(temporal="off"))
    assert outcome.frames >= 30
    if outcome.frames < 60:
        assert any("could not be decoded" in note or "ends early" in note for note in outcome.notes)


def test_outputs_that_cannot_be(same, tmp_path):
    made = make_video(tmp_path / "in.mp4", frames=2, rotation=90)
    with pytest.raises(UserError, match="is no kind of video that is written"):
        restore_video(made.path, tmp_path / "out.wmv", same)
    with pytest.raises(UserError, match="shown turned"):
        restore_video(made.path, tmp_path / "out.ts", same)
    (tmp_path / "out.mp4").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        restore_video(made.path, tmp_path / "out.mp4", same)
    assert not hidden(tmp_path)


# ------------------------------------------------------------------------------------------- going on, memory


_SLOW = """
import sys, time, torch
from pathlib import Path
from restorevar.checkpoints import load_model
from restorevar.pipeline import Restorer
from restorevar.video import VideoOptions
from restorevar.video.restoring import restore_video
torch.set_num_threads(1)
restorer = Restorer(load_model(sys.argv[1]).model, name="m", sha256="s", device="cpu")
def watch(pace):
    time.sleep(0.05)
    sys.stdout.write(f"{pace.done}\\n"); sys.stdout.flush()
restore_video(Path(sys.argv[2]), Path(sys.argv[3]), restorer, VideoOptions(segment=4, crf=0), watch=watch)
"""


def test_a_killed_run_goes_on_and_gives_the_same_file(model, tmp_path):
    """Killed in the middle of the third segment, without a chance to clean up.

    Encoded without loss: on some CPUs libx264 encodes the same frames now so, now a little otherwise.
    """
    made = make_video(tmp_path / "in.mp4", frames=16, audio="aac")
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, model, str(made.path), str(tmp_path / "out.mp4")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 10:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait(60)
    process.stdout.close()
    assert not (tmp_path / "out.mp4").exists()
    (folder,) = [path for path in tmp_path.iterdir() if path.name.startswith(".out.mp4.restorevar-")]
    assert sorted(path.name for path in folder.glob("*.json")) == ["00000.json", "00001.json"]

    restorer = Restorer(checkpoints.load_model(model).model, name="m", sha256="s", device="cpu")
    paces: list[Pace] = []
    outcome = restore_video(
        made.path, tmp_path / "out.mp4", restorer, VideoOptions(segment=4, crf=0), watch=paces.append
    )
    assert (outcome.frames, outcome.resumed, paces[0].done) == (16, 8, 9)
    straight = restore_video(made.path, tmp_path / "straight.mp4", restorer, VideoOptions(segment=4, crf=0))
    assert straight.resumed == 0
    assert times_of(tmp_path / "out.mp4") == times_of(tmp_path / "straight.mp4") == made.times
    assert np.array_equal(rgb_of(tmp_path / "out.mp4"), rgb_of(tmp_path / "straight.mp4"))
    assert not hidden(tmp_path)


def test_other_settings_begin_anew(restorer, tmp_path):
    made = make_video(tmp_path / "in.mp4", frames=10)

    def stop(pace: Pace) -> None:
        if pace.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(made.path, tmp_path / "out.mp4", restorer, SHORT, watch=stop)
    assert len(hidden(tmp_path)) == 1
    half = restorer.at(strength=0.5)
    with pytest.raises(KeyboardInterrupt):
        restore_video(made.path, tmp_path / "out.mp4", half, SHORT, watch=stop)
    assert len(hidden(tmp_path)) == 2
    assert restore_video(made.path, tmp_path / "out.mp4", restorer, SHORT).resumed == 5
    assert not hidden(tmp_path)


def test_an_interrupted_join_goes_on(same, tmp_path, monkeypatch):
    made = make_video(tmp_path / "in.mp4", frames=10)

    def fail(*arguments) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("restorevar.video.restoring.join", fail)
        with pytest.raises(KeyboardInterrupt):
            restore_video(made.path, tmp_path / "out.mp4", same, SHORT)
    outcome = restore_video(made.path, tmp_path / "out.mp4", same, SHORT)
    assert (outcome.frames, outcome.resumed) == (10, 10)
    assert times_of(tmp_path / "out.mp4") == made.times


def test_no_more_frames_are_read_than_are_needed():
    taken = []

    def source():
        for index in range(100):
            taken.append(index)
            yield index

    ahead = read_ahead(source(), 3)
    assert [next(ahead), next(ahead)] == [0, 1]
    time.sleep(0.05)
    assert len(taken) <= 6
    ahead.close()
    time.sleep(0.05)
    assert len(taken) <= 6


def test_memory_does_not_grow_with_the_length(same, tmp_path, monkeypatch):
    """Frames alive at once."""
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()

    class Counted(Frame):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            alive.add(self)

    monkeypatch.setattr("restorevar.video.reading.Frame", Counted)
    made = make_video(tmp_path / "in.mp4", frames=60)
    most = 0

    def watch(pace: Pace) -> None:
        nonlocal most
        most = max(most, len(alive))

    restore_video(made.path, tmp_path / "out.mp4", same, VideoOptions(temporal="off", segment=20), watch=watch)
    assert 1 <= most <= 8


def test_frames_that_share_a_pass_come_out_the_same(tiny, tmp_path):
    made = make_video(tmp_path / "in.mkv", frames=7, codec="ffv1", pix_fmt="bgr0")
    options = VideoOptions(codec="ffv1", segment=5)
    one, many = (Restorer(tiny, device="cpu", batch=batch) for batch in (1, 3))
    restore_video(made.path, tmp_path / "one.mkv", one, options)
    paces: list[Pace] = []
    restore_video(made.path, tmp_path / "many.mkv", many, options, watch=paces.append)
    assert [pace.done for pace in paces] == [3, 5, 7]
    difference = rgb_of(tmp_path / "one.mkv").astype(int) - rgb_of(tmp_path / "many.mkv")
    assert np.abs(difference).max() <= 1


def test_pace_tells_share_and_frames_per_second():
    pace = Pace(done=30, total=120, resumed=10, seconds=4.0)
    assert (pace.share, pace.fps, str(pace)) == (0.25, 5.0, "30 of 120 frames, 5.0 fps")
    assert Pace(3, None, 0, 0.0).share == 0.0


def test_parts_that_were_damaged_are_told(same, tmp_path):
    made = make_video(tmp_path / "in.mp4", frames=10)

    def stop(pace: Pace) -> None:
        if pace.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(made.path, tmp_path / "out.mp4", same, SHORT, watch=stop)
    folder = tmp_path / hidden(tmp_path)[0]
    (folder / "00000.json").write_text("{")
    with pytest.raises(UserError, match="is damaged; remove its folder"):
        restore_video(made.path, tmp_path / "out.mp4", same, SHORT)
    shutil.rmtree(folder)
    assert restore_video(made.path, tmp_path / "out.mp4", same, SHORT).frames == 10
