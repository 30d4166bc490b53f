"""`restorevar doctor`, `models`, `completion`: what is here, whether it works, what a shell offers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from restorevar import available_models
from restorevar.checkpoints import listing, load_model, resolve_model, save_model
from restorevar.checkpoints.folders import WEIGHTS
from restorevar.checkpoints.hub import Cached
from restorevar.checkpoints.listing import list_models
from restorevar.cli import app, completing
from restorevar.data.manifest import PUBLISHED_NAMES
from restorevar.doctor import examine, machine, parts, trial


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def model(tiny, tmp_path) -> Path:
    save_model(tiny, tmp_path / "model")
    return tmp_path / "model"


# ------------------------------------------------------------------------------------------------------------ doctor


def found(result: Result) -> dict[str, dict]:
    return {finding["name"]: finding for finding in json.loads(result.stdout)}


def test_a_sound_machine(model, monkeypatch):
    monkeypatch.setattr(trial, "PHOTO", 256)  # sooner
    result = run("doctor", "--model", model, "--device", "cpu", "--json")
    findings = found(result)
    assert result.exit_code == 0, result.output
    assert findings["versions"]["values"]["torch"] and findings["device"]["values"]["picked"] == "cpu"
    assert findings["dtype"]["values"]["picked"] in ("fp32", "bf16") and findings["threads"]["values"]["threads"] >= 1
    speed = findings["speed"]["values"]
    assert speed["measured_side"] in (128, 256) and speed["seconds"] > 0
    scaled = speed["measured_seconds"] * (256 / speed["measured_side"]) ** 2
    assert speed["seconds"] == pytest.approx(scaled)


def test_lines_for_people(model):
    result = run("doctor", "--model", model, "--device", "cpu", "--no-speed")
    assert result.exit_code == 0 and "device: cpu" in result.stdout and "speed" not in result.stdout
    assert all(line[:4].strip() in ("ok", "note", "BAD", "") for line in result.stdout.splitlines())


def test_damaged_weights_are_bad_and_nothing_is_timed(model):
    data = bytearray((model / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (model / WEIGHTS).write_bytes(data)
    result = run("doctor", "--model", model, "--device", "cpu", "--json")
    assert result.exit_code == 1 and "damaged" in found(result)["model"]["text"] and "speed" not in found(result)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_bad(model):
    result = run("doctor", "--model", model, "--device", "cuda:7", "--no-speed", "--json")
    assert result.exit_code == 1 and "not available" in found(result)["device"]["text"]
    assert found(result)["model"]["grade"] == "good"


def test_a_broken_torch_is_a_finding_and_the_rest_is_told():
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom restorevar.cli import main\n"
        "sys.argv = ['restorevar', 'doctor', '--json']\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert result.returncode == 1 and findings["torch"]["grade"] == "bad" and "pytorch.org" in findings["torch"]["help"]
    assert findings["model"]["grade"] == "good" and "memory" in findings and "speed" not in findings


def test_what_cannot_be_looked_at_is_a_finding_too(monkeypatch):
    def fail() -> None:
        raise PermissionError("not\nallowed")

    monkeypatch.setattr("restorevar.doctor.examining.look_at_memory", fail)
    (finding,) = (f for f in examine(speed=False) if f.name == "memory")
    assert finding.grade == "bad" and "PermissionError: not" in finding.text and "\n" not in finding.text


def test_missing_extras_are_named_with_what_installs_them(monkeypatch):
    lines = [
        "torch>=2",
        'av>=15 ; extra == "video"',
        "ray[data]>=2 ; extra == 'scale'",
        "restorevar[eval]; extra=='dev'",
    ]
    monkeypatch.setattr(parts, "requires", lambda name: lines)
    monkeypatch.setattr(parts, "_is_installed", lambda package: package == "av")
    assert parts.packages_by_extra() == {"video": ["av"], "scale": ["ray"]}
    video, scale = sorted(parts.look_at_extras(), key=lambda finding: finding.name, reverse=True)
    assert video.grade == "good" and scale.grade == "note" and scale.help == 'pip install "restorevar[scale]"'


def test_little_memory_and_busy_machines_are_told(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 500_000_000)
    (memory,) = machine.look_at_memory()
    assert memory.grade == "note" and "--tile" in memory.help
    monkeypatch.setattr("restorevar.doctor.computing.usable_cores", lambda: 1000)
    (threads,) = (f for f in examine(speed=False) if f.name == "threads")
    assert threads.grade == "note" and "OMP_NUM_THREADS=1000" in threads.help


def test_a_slow_machine_is_timed_on_less(model):
    (finding,) = trial.look_at_speed(str(model), "cpu", "fp32", patience=0)
    assert finding.values["measured_side"] == 128 and "by the area" in finding.text


# ------------------------------------------------------------------------------------------------------------ models


@pytest.fixture
def cached(tiny, tmp_path, monkeypatch) -> Path:
    """One model in the cache of the Hub, with a name that would confuse a terminal."""
    save_model(tiny, tmp_path / "one", max_shard_size="60KB", card=load_model("compact").card)
    models = [Cached("some\x1b[31m/[red]one", "a" * 40, tmp_path / "one")]
    monkeypatch.setattr(listing, "cached_models", lambda cache_dir=None: models)
    return tmp_path / "one"


def test_models_are_listed(cached):
    result = run("models")
    assert result.exit_code == 0 and "compact" in result.stdout and "56.2" in result.stdout and "MIT" in result.stdout
    assert load_model("compact").sha256 in result.stdout.replace("\n", "")
    haze = json.loads((resolve_model("compact") / "card.json").read_text())["figures"][0]
    assert f"{haze['psnr_gain']:+.2f}" in result.stdout and "\x1b" not in result.stdout and "[red]one" in result.stdout


def test_models_as_json(cached, tiny):
    listed = {model["name"]: model for model in json.loads(run("models", "--json").stdout)}
    assert next(iter(listed)) == "compact" == available_models()[0]
    compact, other = listed["compact"], listed["some\x1b[31m/[red]one"]
    assert compact["parameters"] == 28_050_473
    assert {figure["task"] for figure in compact["figures"]} >= {"haze", "rain", "snow", "lowlight", "blur", "clean"}
    assert other["parameters"] == sum(t.numel() for t in tiny.state_dict().values())
    assert other["figures"] == [] and other["licence"] == "MIT", "the figures are of other weights"


def test_damaged_models_are_listed_as_such(cached):
    next(cached.glob("model-*")).unlink()
    result = run("models")
    assert result.exit_code == 1 and "damaged" in result.stdout and "no such file" in result.stdout
    assert [bool(model.problem) for model in list_models()] == [False, True]


# -------------------------------------------------------------------------------------------------------- completion


def offered(line: str, shell: str = "bash") -> list[str]:
    """What the command answers to a shell, in a process that fails if torch is imported."""
    words = line.split(" ")
    code = "import sys\nsys.modules['torch'] = None\nfrom restorevar.cli import main\nsys.argv = ['restorevar']\nmain()"
    asked = {
        "_RESTOREVAR_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return [word.partition("\t")[0] for word in result.stdout.splitlines() if word]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("restorevar resto", {"restore"}),
        ("restorevar restore --mod", {"--model"}),
        ("restorevar restore a.jpg --model comp", {"compact"}),
        ("restorevar degrade a.jpg --task ", {"haze", "rain", "snow", "lowlight", "blur", "clean"}),
    ],
)
def test_a_shell_is_offered(line, words):
    assert set(offered(line)) == words


def test_other_shells_too():
    assert offered("restorevar restore --speed ", "fish") == ["auto", "best", "balanced", "fast"]
    assert '"cuda"' in " ".join(offered("restorevar restore --device ", "zsh"))


def test_what_is_offered_is_what_there_is():
    from restorevar.pipeline import SPEEDS

    commands = completing.typer.main.get_command(app)
    speed = next(p for p in commands.commands["restore"].params if p.name == "speed")
    assert speed.metavar.split("|") == ["auto", *SPEEDS]
    assert set(completing.TASKS) == set(PUBLISHED_NAMES)


@pytest.mark.parametrize("shell", completing.SHELLS)
def test_the_script_of_a_shell(shell):
    result = run("completion", shell)
    assert result.exit_code == 0 and completing.VARIABLE in result.stdout and "restorevar" in result.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=result.stdout, text=True, check=True)


def test_unknown_shells_are_one_line():
    result = run("completion", "csh")
    assert result.exit_code == 2 and "one of bash, zsh, fish" in result.stderr
