"""Frames held steady, the motion between them, flicker measured, and the clips that it is measured on."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from restorevar.errors import UserError
from restorevar.video.camera import Pose, as_rows, carried, from_rows, path, prepare, view
from restorevar.video.making import make_clip
from restorevar.video.motion import flow_between
from restorevar.video.temporal import Steadier, same_scene

SIZE = (64, 96)


def scene(seed: int = 0, height: int = 160, width: int = 220) -> Tensor:
    """(3, H, W) in [0, 1]: a picture with structure at many sizes."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        torch.nn.functional.interpolate(
            torch.rand(1, 3, height // cell, width // cell, generator=generator), (height, width), mode="bicubic"
        )[0]
        for cell in (40, 16, 6)
    ]
    return (0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2]).clamp(0, 1)


def camera_frames(count: int, seed: int = 0) -> tuple[list[Tensor], list[Pose]]:
    photo, room = prepare(scene(seed), SIZE)
    poses = path(count, room, 0.1)
    return [view(photo, pose, SIZE) for pose in poses], poses


def pixels(frame_3HW: Tensor) -> np.ndarray:
    return frame_3HW.clamp(0, 1).mul(65535).round().permute(1, 2, 0).numpy().astype(np.uint16)


def warping_error(frames: list[np.ndarray], poses: list[Pose]) -> float:
    """In levels of 255."""
    total = 0.0
    tensors = [torch.from_numpy(frame.astype(np.float32) / 65535).permute(2, 0, 1) for frame in frames]
    for index in range(1, len(frames)):
        moved, seen = carried(tensors[index - 1], poses[index - 1], poses[index])
        total += float(((moved - tensors[index])[:, seen] ** 2).mean())
    return 255 * (total / (len(frames) - 1)) ** 0.5


def steadied(mode: str, degraded: list[np.ndarray], restored: list[np.ndarray]) -> list[np.ndarray]:
    steadier = Steadier(mode)
    return [steadier.steady(*pair) for pair in zip(degraded, restored, strict=True)]


def flickering(frames: list[Tensor], tone: float = 0.06, noise: float = 0.04) -> list[np.ndarray]:
    """What a model gives that guesses the tone anew for each frame, and makes detail of noise."""
    generator = torch.Generator().manual_seed(1)
    return [
        pixels(
            frame
            + tone * torch.randn(3, 1, 1, generator=generator)
            + noise * torch.randn(frame.shape, generator=generator)
        )
        for frame in frames
    ]


# ------------------------------------------------------------------------------------------------ motion, camera


def test_the_camera_knows_where_everything_went():
    frames, poses = camera_frames(12)
    for index in range(1, 12):
        moved, seen = carried(frames[index - 1], poses[index - 1], poses[index])
        assert seen.float().mean() > 0.8
        assert (moved - frames[index])[:, seen].abs().mean() < 0.01
    assert from_rows(as_rows(poses)) == poses
    steps = [abs(b.x - a.x) + abs(b.y - a.y) for a, b in pairwise(poses)]
    assert 0.1 < max(steps) < 4  # slow, but not still


def test_flow_finds_the_motion():
    photo = scene(3)
    before, now = view(photo, Pose(0, 0, 1), SIZE), view(photo, Pose(2.6, -1.4, 1), SIZE)
    flow = flow_between(before, now)[:, 10:-10, 10:-10]
    assert torch.allclose(flow.mean((1, 2)), torch.tensor([2.6, -1.4]), atol=0.15)
    assert (flow - torch.tensor([2.6, -1.4])[:, None, None]).norm(dim=0).median() < 0.2


# ---------------------------------------------------------------------------------------------------- steadying


@pytest.mark.parametrize("mode", ["steady", "strong"])
def test_steadying_lowers_flicker_and_keeps_the_picture(mode):
    clean, poses = camera_frames(14)
    degraded, restored = [pixels(frame) for frame in clean], flickering(clean)
    held = steadied(mode, degraded, restored)
    assert warping_error(held, poses) < 0.5 * warping_error(restored, poses)

    def error(frames: list[np.ndarray]) -> float:
        return float(np.mean([(a.astype(float) - b) ** 2 for a, b in zip(frames, degraded, strict=True)]))

    assert error(held) < 0.6 * error(restored)


def test_steady_clips_are_left_almost_alone():
    clean, _ = camera_frames(8)
    frames = [pixels(frame) for frame in clean]
    for frame, held in zip(frames, steadied("steady", frames, frames), strict=True):
        assert np.abs(frame.astype(float) - held).mean() / 257 < 0.6


def test_nothing_of_a_scene_shows_after_a_cut():
    one, _ = camera_frames(3, seed=0)
    other, _ = camera_frames(3, seed=9)
    restored = flickering([*one, *other])
    steadier = Steadier("strong")
    held = [steadier.steady(frame, frame) for frame in restored]
    assert steadier.cuts == 1
    assert np.array_equal(held[3], restored[3])
    assert not same_scene(one[-1], other[0]) and same_scene(one[0], one[1])


def test_what_moves_on_its_own_leaves_no_ghost():
    background, _ = camera_frames(1)
    frames = []
    for index in range(6):
        frame = background[0].clone()
        frame[:, 20:44, 8 + 10 * index : 32 + 10 * index] = torch.tensor([0.95, 0.1, 0.1])[:, None, None]
        frames.append(pixels(frame))
    held = steadied("steady", frames, frames)
    assert np.abs(held[-1].astype(float) - frames[-1])[20:44].mean() / 257 < 2


def test_strong_takes_away_what_shows_once():
    clean, _ = camera_frames(10)
    generator = torch.Generator().manual_seed(0)
    flakes = [(torch.rand(SIZE, generator=generator) < 0.03).float()[None] for _ in clean]
    snowy = [pixels(frame + flake * (1 - frame)) for frame, flake in zip(clean, flakes, strict=True)]

    def error(frames: list[np.ndarray]) -> float:
        return float(
            np.mean([((a.astype(float) - pixels(b)) / 257) ** 2 for a, b in zip(frames[5:], clean[5:], strict=True)])
        )

    assert error(steadied("strong", snowy, snowy)) < 0.4 * error(snowy)


def test_the_state_is_all_that_is_remembered():
    clean, _ = camera_frames(8)
    degraded, restored = [pixels(frame) for frame in clean], flickering(clean)
    straight = steadied("steady", degraded, restored)
    first = Steadier("steady")
    for pair in zip(degraded[:4], restored[:4], strict=True):
        first.steady(*pair)
    second = Steadier("steady")
    second.load({key: value.copy() for key, value in first.state().items()})
    for index in range(4, 8):
        assert np.array_equal(second.steady(degraded[index], restored[index]), straight[index])
    second.load({})
    assert second.state() == {}
    with pytest.raises(UserError, match="is damaged"):
        second.load({"tone": np.zeros(3)})


# --------------------------------------------------------------------------------------------- clips of photos


def photo() -> Tensor:
    return scene().mul(255).to(torch.uint8)


@pytest.mark.parametrize("task", ["rain", "snow", "lowlight"])
def test_weather_stays_and_its_drops_do_not(task):
    clip = make_clip(photo(), task, "a", 6, SIZE, strength=0.8)
    still = type(clip)(
        clip.degraded_scene_3HW, clip.clean_scene_3HW, [clip.poses[0]] * 6, *list(vars(clip).values())[3:]
    )
    frames = [degraded.float() for degraded, _ in still.frames()]
    clean = [target.float() for _, target in still.frames()]
    assert all(torch.equal(target, clean[0]) for target in clean)
    assert (frames[0] - frames[1]).abs().mean() > 1.5  # other drops, flakes, noise
    means = torch.stack([frame.mean() for frame in frames])
    assert means.std() < 4  # of one strength
    again = [degraded.float() for degraded, _ in still.frames()]
    assert all(torch.equal(a, b) for a, b in zip(frames, again, strict=True))


def test_haze_hangs_in_the_scene():
    clip = make_clip(photo(), "haze", "a", 6, SIZE, strength=0.8)
    frames = [degraded.float() / 255 for degraded, _ in clip.frames()]
    for index in range(1, 6):
        moved, seen = carried(frames[index - 1], clip.poses[index - 1], clip.poses[index])
        assert (moved - frames[index])[:, seen].abs().mean() < 0.015


def test_clips_that_cannot_be():
    with pytest.raises(UserError, match="unknown degradation 'fire'"):
        make_clip(photo(), "fire", "a", 4, SIZE)
    with pytest.raises(UserError, match="between 0 and 1"):
        make_clip(photo(), "rain", "a", 4, SIZE, strength=2)


# ----------------------------------------------------------------------------------------------- the commands


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip of snow, as `restorevar degrade --video` writes it."""
    pytest.importorskip("av")
    from restorevar.cli import app

    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo().permute(1, 2, 0).numpy()).save("a.png")
    arguments = ["degrade", "a.png", "-o", "clips", "--video", "6", "--size", "96x64", "--task", "snow"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return tmp_path / "clips" / "snow"


def run(*arguments: object) -> list[str]:
    from restorevar.cli import app

    result = CliRunner().invoke(app, ["analyze", "flicker", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_flicker_of_a_made_clip(clips, tmp_path):
    degraded, clean = clips / "input" / "a_snow.mkv", clips / "target" / "a_snow.mkv"
    lines = run(degraded, clean, "--truth", clean, "--json", "f.json")
    assert lines[0] == "motion of the camera, 6 frames; levels of 255"
    found = json.loads(Path("f.json").read_text())
    snow, truth = found["videos"][0], found["videos"][1]
    assert snow["warping"] > 5 > truth["warping"]
    assert snow["coarse"] > truth["coarse"] and snow["difference"] > truth["difference"]
    assert 5 < snow["psnr"] < 40 < truth["psnr"]


def test_flicker_with_motion_that_is_estimated(clips):
    degraded, clean = clips / "input" / "a_snow.mkv", clips / "target" / "a_snow.mkv"
    run(degraded, "--truth", clean, "--json", "known.json")
    degraded.with_suffix(".json").unlink()
    lines = run(degraded, "--truth", clean, "--json", "found.json")
    assert lines[0].startswith("motion estimated")
    known, found = (json.loads(Path(name).read_text())["videos"] for name in ("known.json", "found.json"))
    assert found[0]["warping"] == pytest.approx(known[0]["warping"], rel=0.2)


def test_flicker_of_videos_that_do_not_fit(clips, tmp_path):
    from clips import make_video

    from restorevar.cli import app

    other = make_video(tmp_path / "other.mkv", frames=4)
    arguments = ["analyze", "flicker", str(clips / "input" / "a_snow.mkv"), str(other.path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "frames of another size" in result.stderr
    (clips / "input" / "a_snow.json").write_text("{}")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "holds no camera path" in result.stderr
