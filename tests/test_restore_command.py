"""`restorevar restore`: which files, where to, what is said, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from restorevar import checkpoints
from restorevar.batch import Writing, count_pixels, plan_jobs
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.models import RestoreVAR
from restorevar.models.config import debug
from restorevar.pipeline import Restorer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    small = RestoreVAR(debug())
    nn.init.normal_(small.fidelity.to_image.out.bias)  # an untrained branch gives the input back
    checkpoints.save_model(small, folder)
    return str(folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


Command = Callable[..., Result]


@pytest.fixture
def restore(model: str) -> Command:
    """Runs `restorevar restore` on the CPU with the small model."""

    def run(*arguments: object, model: str = model) -> Result:
        options = ("--model", model, "--device", "cpu")
        result = CliRunner().invoke(app, ["restore", *map(str, arguments), *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert all(line.startswith("restorevar: error: ") for line in result.stderr.splitlines())
        return result

    return run


def picture(path: str, width: int = 30, height: int = 20, **options) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return Path(path)


def files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


# -------------------------------------------------------------------------------------------- which, where to


def targets(*inputs: str, out: str = "out", **writing) -> dict[str, str]:
    jobs = plan_jobs(inputs, out, Writing(**writing))
    return {job.source.as_posix(): job.target.as_posix() for job in jobs}


def test_one_file_to_a_file_or_a_folder(here: Path) -> None:
    picture("a.png")
    assert targets("a.png") == {"a.png": "out/a.png"}
    assert targets("a.png", out="b.jpg") == {"a.png": "b.jpg"}
    assert targets("a.png", format="webp") == {"a.png": "out/a.webp"}
    Path("folder.png").mkdir()
    assert targets("a.png", out="folder.png") == {"a.png": "folder.png/a.png"}


def test_folders_keep_their_tree_and_leave_out_the_rest(here: Path) -> None:
    for name in ("in/a.png", "in/deep/er/b.jpg", "in/.hidden.png"):
        picture(name)
    Path("in/notes.txt").write_text("no image")
    assert targets("in") == {"in/a.png": "out/a.png", "in/deep/er/b.jpg": "out/deep/er/b.jpg"}


def test_results_inside_the_input_folder_are_not_inputs(here: Path) -> None:
    picture("in/a.png")
    picture("in/out/a.png")
    assert targets("in", out="in/out") == {"in/a.png": "in/out/a.png"}


def test_patterns_that_no_shell_expanded(here: Path) -> None:
    for name in ("a1.png", "a2.png", "b.png", "sub/a3.png", "odd[1].png"):
        picture(name)
    Path("a.txt").write_text("no image")
    assert list(targets("a*")) == ["a1.png", "a2.png"]
    assert list(targets("**/a*.png")) == ["a1.png", "a2.png", "sub/a3.png"]
    assert list(targets("odd[1].png")) == ["odd[1].png"]


def test_an_input_named_twice_is_one(here: Path) -> None:
    picture("a.png")
    assert targets("a.png", "a.png", "*.png") == {"a.png": "out/a.png"}


@pytest.mark.parametrize(
    "inputs, out, cause",
    [
        ([""], "out", "empty name"),
        (["a.png"], "", "empty name"),
        (["missing.png"], "out", "missing.png: no such file"),
        (["missing.png", "other.png"], "out", "none of the inputs"),
        (["x*.png"], "out", "matches no images"),
        (["empty"], "out", "no images in this folder"),
        (["a.png", "b.png"], "out.png", "single image"),
        (["in"], "out.png", "single image"),
        (["a.png", "in/a.png"], "out", "both would be written to"),
        (["a.png"], ".", "is an input"),
        (["a.png"], "a.png", "is an input"),
        (["in"], "in", "is an input"),
        (["a.png"], "notes.txt", "not a folder"),
    ],
)
def test_plans_that_cannot_be_are_refused(here: Path, inputs: list[str], out: str, cause: str) -> None:
    for name in ("a.png", "b.png", "in/a.png"):
        picture(name)
    Path("empty").mkdir()
    Path("notes.txt").write_text("mine")
    with pytest.raises(UserError, match=cause):
        targets(*inputs, out=out)


def test_formats(here: Path) -> None:
    picture("a.png")
    picture("a.jpg")
    with pytest.raises(UserError, match="both would be written to"):
        targets("a.png", "a.jpg", format="png")
    with pytest.raises(UserError, match="unknown format 'gif'"):
        Writing(format="gif")
    with pytest.raises(UserError, match=r"does not end in \.png"):
        targets("a.png", out="b.jpg", format="png")
    assert targets("a.png", out="b.jpeg", format="jpg") == {"a.png": "b.jpeg"}


def test_overwriting_inputs_must_be_asked_for(here: Path) -> None:
    picture("a.png")
    assert targets("a.png", out=".", overwrite=True) == {"a.png": "a.png"}


def test_pixels_are_counted_from_the_header(here: Path) -> None:
    assert count_pixels(picture("a.png")) == 600
    Path("b.png").write_bytes(b"no image")
    assert count_pixels(Path("b.png")) == count_pixels(Path("c.png")) == 0


# ------------------------------------------------------------------------------------------------- end to end


def test_a_photo_comes_out_restored_in_the_same_size(here: Path, restore: Command) -> None:
    picture("a.png", dpi=(300, 300))
    result = restore("a.png", "-o", "out", "--dtype", "fp32")  # by itself it is bf16 on some CPUs
    assert result.exit_code == 0
    settings, line = result.stdout.splitlines()
    assert line.startswith("a.png -> out/a.png (30x20, ")
    assert "fp32 on cpu" in settings and "one at a time" in settings and "speed best" in settings
    before, after = Image.open("a.png"), Image.open("out/a.png")
    assert before.size == after.size and round(after.info["dpi"][0]) == 300
    assert not np.array_equal(np.asarray(before), np.asarray(after))


def test_a_folder_in_windows_with_a_bad_file(here: Path, restore: Command) -> None:
    picture("in/a.png", 150, 100)
    picture("in/sub/c.jpg")
    Path("in/b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Path("in/d.jpg").touch()
    result = restore("in", "gone.png", "-o", "out", "--tile", 64, "--batch", 2)
    assert result.exit_code == 1
    assert files("out") == ["a.png", "sub/c.jpg"]
    assert result.stdout.splitlines()[-1] == "2 restored, 3 failed"
    errors = result.stderr.splitlines()
    assert [any(name in line for line in errors) for name in ("b.png", "d.jpg", "gone.png")] == [True] * 3
    assert len(errors) == 3


def test_photos_of_one_size_together_with_a_bad_one(here: Path, restore: Command, monkeypatch) -> None:
    """A batch that fails is restored one by one: each photo gets what it is due."""
    for name in "abcde":
        picture(f"in/{name}.png")
    picture("in/f.png", 40, 20)
    Path("in/c.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    together: list[int] = []
    plain = RestoreVAR.restore

    def fragile(model: RestoreVAR, image: torch.Tensor, **options) -> torch.Tensor:
        together.append(len(image))
        if together == [2, 2]:  # d and e
            raise ValueError("surprise")
        return plain(model, image, **options)

    monkeypatch.setattr(RestoreVAR, "restore", fragile)
    result = restore("in", "-o", "out", "--batch", 2, "--json", "log")
    assert together == [2, 2, 1, 1, 1]
    records = [json.loads(line) for line in Path("log").read_text().splitlines()]
    assert [Path(r["input"]).name for r in records] == [f"{name}.png" for name in "abcdef"]
    assert [r["status"] for r in records] == ["restored"] * 2 + ["failed"] + ["restored"] * 3
    assert result.exit_code == 1 and files("out") == ["a.png", "b.png", "d.png", "e.png", "f.png"]


def test_speeds_are_told_and_differ(here: Path, restore: Command) -> None:
    picture("a.png", 128, 130)
    for speed in ("best", "fast"):
        result = restore("a.png", "-o", f"{speed}.png", "--speed", speed, "--json", "log")
        assert result.exit_code == 0 and f"speed {speed}" in result.stdout
    assert [json.loads(line)["settings"]["speed"] for line in Path("log").read_text().splitlines()] == ["best", "fast"]
    assert Path("best.png").read_bytes() != Path("fast.png").read_bytes()
    wrong = restore("a.png", "-o", "b.png", "--speed", "warp")
    assert wrong.exit_code == 2 and "one of auto, best, balanced, fast" in wrong.stderr


def test_running_again_skips_what_is_done(here: Path, restore: Command) -> None:
    picture("a.png")
    assert restore("a.png", "-o", "b.png").exit_code == 0
    done = Path("b.png").stat().st_mtime_ns
    again = restore("a.png", "-o", "b.png")
    assert again.exit_code == 0 and "skipped, b.png exists" in again.stdout
    assert Path("b.png").stat().st_mtime_ns == done
    assert "a.png -> b.png" in restore("a.png", "-o", "b.png", "--overwrite").stdout
    assert Path("b.png").stat().st_mtime_ns > done


def test_formats_and_quality(here: Path, restore: Command) -> None:
    picture("a.png", 60, 60)
    for quality in (10, 90):
        assert restore("a.png", "-o", f"out{quality}", "--format", "jpg", "--quality", quality).exit_code == 0
    assert Image.open("out10/a.jpg").format == "JPEG"
    assert Path("out10/a.jpg").stat().st_size < Path("out90/a.jpg").stat().st_size


def test_the_log_has_a_line_per_file(here: Path, restore: Command, model: str) -> None:
    picture("a.png")
    Path("b.png").touch()
    arguments = ("a.png", "b.png", "-o", "out", "--json", "logs/run.jsonl", "--fidelity", 0.5, "--tile", 64)
    for _ in range(2):
        assert restore(*arguments).exit_code == 1
    lines = [json.loads(line) for line in Path("logs/run.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["restored", "failed", "skipped", "failed"]
    first, second = lines[:2]
    assert first["input"] == "a.png" and first["output"] == str(Path("out/a.png"))
    assert first["size"] == first["output_size"] == [30, 20] and first["seconds"] > 0
    assert first["model"] == model and len(first["sha256"]) == 64 and first["error"] is None
    assert first["settings"]["fidelity"] == 0.5 and first["settings"]["tile"] == 64
    assert "b.png" in second["error"] and second["size"] is None


def test_quiet_says_errors_only(here: Path, restore: Command) -> None:
    picture("a.png")
    Path("b.png").touch()
    result = restore("a.png", "b.png", "-o", "out", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)


def test_a_fault_in_the_model_costs_one_line(here: Path, restore: Command, monkeypatch) -> None:
    def fail(self, degraded, fidelity=None, on_scale=None):
        raise RuntimeError("of two\nlines")

    monkeypatch.setattr(RestoreVAR, "restore", fail)
    picture("a.png")
    result = restore("a.png", "-o", "out")
    assert result.exit_code == 1 and not Path("out").exists()
    assert result.stderr == "restorevar: error: a.png: failed unexpectedly (RuntimeError: of two lines)\n"


def test_an_interrupt_stops_at_once_and_keeps_what_is_done(here: Path, restore: Command, monkeypatch) -> None:
    real = Restorer.restore_photo

    def interrupted(self, photo, progress=None):
        if photo.rgb.shape[0] == 21:
            raise KeyboardInterrupt
        return real(self, photo, progress)

    monkeypatch.setattr(Restorer, "restore_photo", interrupted)
    for name, height in (("a", 20), ("b", 21), ("c", 20)):
        picture(f"in/{name}.png", height=height)
    result = restore("in", "-o", "out", "--json", "log")
    assert result.exit_code == 130 and result.stderr == "restorevar: error: interrupted\n"
    assert files("out") == ["a.png"] and len(Path("log").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "no such model"],
        ["--model", "weights"],
        ["--device", "abacus"],
        ["--dtype", "fp8"],
        ["--tile", "63"],
        ["--tile", "big"],
        ["--batch", "0"],
        ["--fidelity", "2"],
        ["--format", "gif"],
        ["--json", "a.png/log"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(here: Path, model: str, arguments: list[str]) -> None:
    picture("a.png")
    Path("weights").mkdir()
    Path("weights/config.json").write_text("{}")
    Path("weights/model.safetensors").write_bytes(b"damaged")
    known = [] if "--model" in arguments else ["--model", model]
    result = CliRunner().invoke(app, ["restore", "a.png", "-o", "out", *known, *arguments])
    assert result.exit_code == 2 and result.stdout == "" and not Path("out").exists()
    assert result.stderr.startswith("restorevar: error: ") and result.stderr.count("\n") == 1


def test_file_names_of_any_characters_stay_on_one_line(here: Path, restore: Command) -> None:
    name = "two\nlines [red]\x1b[31m" + os.fsdecode(b"\xff")
    try:
        picture(name + ".png", format="PNG")
    except OSError:
        pytest.skip("this file system does not take such names")
    result = restore(name + ".png", "-o", "out", "--json", "log")
    assert result.exit_code == 0 and result.stdout.count("\n") == 2  # the settings, and the file
    assert "two\\nlines [red]\\x1b[31m\\udcff.png" in result.stdout
    assert json.loads(Path("log").read_text())["input"] == name + ".png"


# ------------------------------------------------------------------------------------------- the real command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from restorevar.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


def test_help_and_version_do_not_wait_for_torch() -> None:
    code = "import sys, restorevar.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    assert command("--version").stdout.startswith("restorevar ")
    assert "restore" in command().stdout


@pytest.mark.parametrize("arguments", [["restore", "a.png"], ["restore", "--tiles", "3"], ["repair"]])
def test_options_that_do_not_exist_are_one_line(arguments: list[str]) -> None:
    result = command(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("restorevar: error: ") and result.stderr.count("\n") == 1
