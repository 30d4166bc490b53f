"""The Dockerfile without Docker: what it copies, installs and starts is what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from restorevar.cli import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TEXT = (ROOT / "Dockerfile").read_text()


def steps() -> list[tuple[str, str]]:
    """(instruction, the rest), lines joined, comments left out."""
    lines = re.sub(r"\\\n", " ", "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines.splitlines() if line.strip()]


def last(instruction: str) -> str:
    return [rest for name, rest in steps() if name == instruction][-1]


def test_everything_the_build_needs_is_copied_and_not_ignored():
    copied = [word for name, rest in steps() if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed and all((ROOT / name).exists() for name in copied)
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel.get("force-include", {}), PROJECT["project"]["readme"], "pyproject.toml"}
    assert needed | set(PROJECT["project"]["license-files"]) <= set(copied)


def test_it_installs_what_the_package_asks_for():
    (torch,) = (need for need in PROJECT["project"]["dependencies"] if need.startswith("torch"))
    assert f'"{torch}"' in TEXT
    extras = re.search(r"ARG EXTRAS=(\S+)", TEXT)[1].split(",")
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
    version = re.search(r"ARG PYTHON=(\d+)\.(\d+)\.\d+-", TEXT)
    assert (int(version[1]), int(version[2])) >= (3, 10)


def test_it_runs_without_rights_and_writes_to_two_places():
    assert last("USER") == "10001:10001" and last("VOLUME") == "/data" and last("WORKDIR") == "/tmp"
    order = [name for name, _ in steps()]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name == "RUN")


def test_what_it_starts_is_a_command_of_ours():
    assert json.loads(last("ENTRYPOINT")) == ["restorevar"]
    name, *arguments = json.loads(last("CMD"))
    command = typer.main.get_command(app).commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in arguments if word.startswith("--")} <= known
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert given["--port"] == last("EXPOSE") and given["--jobs"].startswith(last("VOLUME") + "/")


def test_the_health_check_asks_what_the_service_answers():
    pytest.importorskip("fastapi")
    from restorevar.serving import health_routes

    check = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    path = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", check[2])
    assert path[1] == last("EXPOSE") and f'"{path[2]}"' in Path(health_routes.__file__).read_text()
    compile(check[2], "check", "exec")
    wrong = check[2].replace(path[1], "9")  # nobody answers there
    assert subprocess.run([sys.executable, "-c", wrong], capture_output=True, timeout=30).returncode == 1


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="no hadolint")
def test_the_linter_is_content():
    subprocess.run(["hadolint", str(ROOT / "Dockerfile")], check=True, timeout=60)
