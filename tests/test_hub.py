"""Model folders in parts, from_pretrained, push_to_hub, and the Hub's cache, without a Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from restorevar import Restorer, RestoreVAR
from restorevar.checkpoints import CONFIG, WEIGHTS, Card, load_model, resolve_model
from restorevar.checkpoints.card import Figure, read_card
from restorevar.checkpoints.folders import INDEX, count_parameters, read_config
from restorevar.checkpoints.hub import cached_models
from restorevar.checkpoints.pretrained import RegressionNet
from restorevar.checkpoints.saving import tensors_sha256
from restorevar.errors import UserError
from restorevar.models.config import debug

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = "60KB"  # a few parts of the tiny model


@pytest.fixture
def model(tiny) -> RestoreVAR:
    """The tiny model as the public class."""
    public = RestoreVAR(debug()).eval().requires_grad_(False)
    public.load_state_dict(tiny.state_dict())
    return public


@pytest.fixture
def parts(model, tmp_path) -> Path:
    model.save_pretrained(tmp_path / "parts", max_shard_size=SMALL)
    return tmp_path / "parts"


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def into_cache(folder: Path, cache: Path, repository: str = "someone/restorer", leave_out: str = "") -> Path:
    """The folder as the Hub's cache lays it out; returns the snapshot."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    for directory in (home / "refs", home / "blobs", snapshot):
        directory.mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(COMMIT)
    for number, path in enumerate(sorted(folder.iterdir())):
        if path.name != leave_out:
            (home / "blobs" / str(number)).write_bytes(path.read_bytes())
            (snapshot / path.name).symlink_to(Path("..", "..", "blobs", str(number)))
    return snapshot


# ------------------------------------------------------------------------------------ folders, whole or in parts


def test_the_public_network_is_what_is_loaded(model, parts):
    loaded = RestoreVAR.from_pretrained(parts)
    assert type(loaded) is RestoreVAR and same(loaded, model) and not loaded.training
    assert isinstance(Restorer.from_pretrained(str(parts), device="cpu").model, RestoreVAR)


def test_parts_have_an_index_that_others_read(model, parts):
    index = json.loads((parts / INDEX).read_text())
    names = sorted(path.name for path in parts.glob("*.safetensors"))
    assert len(names) > 2 and set(index["weight_map"].values()) == set(names)
    assert set(index["weight_map"]) == set(model.state_dict())
    from huggingface_hub import load_torch_model  # another reader of the same layout

    other = RestoreVAR(debug())
    load_torch_model(other, parts, strict=True)
    assert same(other, model)


@pytest.mark.parametrize("first", [None, SMALL])
def test_saving_again_in_another_number_of_parts_leaves_nothing_behind(model, tmp_path, first):
    sizes = {None: "5GB", SMALL: SMALL}
    for size in (first, SMALL if first is None else None):
        digest = model.save_pretrained(tmp_path, max_shard_size=sizes[size])
        assert load_model(tmp_path).sha256 == digest and same(load_model(tmp_path).model, model)
    whole = (tmp_path / WEIGHTS).is_file()
    assert whole is (first is not None) and (tmp_path / INDEX).is_file() is not whole
    assert bool(list(tmp_path.glob("model-*"))) is not whole


def test_parameters_are_counted_from_the_headers(model, parts):
    assert count_parameters(parts, read_config(parts)) == sum(t.numel() for t in model.state_dict().values())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "model-00002-of-"),
        ("flipped", "damaged"),
        ("swapped", "damaged"),
        ("forged", "damaged, its sha256 is not that of its shards"),
        ("escape", "cannot be called '../model.safetensors'"),
        ("no list", "shards are names"),
    ],
)
def test_damaged_parts_are_told_in_one_line(parts, how, words):
    names = sorted(path.name for path in parts.glob("*.safetensors"))
    description = json.loads((parts / CONFIG).read_text())
    if how == "missing":
        (parts / names[1]).unlink()
    elif how == "flipped":
        data = bytearray((parts / names[1]).read_bytes())
        data[-1] ^= 1
        (parts / names[1]).write_bytes(data)
    elif how == "swapped":
        (parts / names[0]).write_bytes((parts / names[1]).read_bytes())
    elif how == "forged":
        description["shards"].pop(names[-1])
    elif how == "escape":
        description["shards"]["../model.safetensors"] = description["shards"].pop(names[0])
    else:
        description["shards"] = names
    (parts / CONFIG).write_text(json.dumps(description))
    with pytest.raises(UserError) as error:
        load_model(parts)
    message = str(error.value)
    assert words in message and str(parts) in message and "\n" not in message


def test_the_other_kind_of_network_is_refused(parts):
    with pytest.raises(UserError, match="holds a RestoreVAR, not a RegressionNet"):
        RegressionNet.from_pretrained(parts)


def test_a_place_that_cannot_be_written_is_one_line(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        model.save_pretrained(tmp_path / "file")


# --------------------------------------------------------------------------------------------------------- the card

FIGURES = (Figure("ten photographs, haze", "haze", 10, 13.4, 4.35, None, 0.75, 0.81, 9),)


def card_of(model: RestoreVAR) -> Card:
    return Card(licence="MIT", limits=("Dusk.",), figures=FIGURES, tensors=tensors_sha256(model.state_dict()))


def test_the_card_is_a_model_card_of_the_hub(model, tmp_path):
    digest = model.save_pretrained(tmp_path, card=card_of(model))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "mit" and card.data.pipeline_tag == "image-to-image"
    assert "dehazing" in card.data.tags and card.data.eval_results[0].metric_value == 4.35
    yaml.safe_load(card.data.to_yaml())
    assert "| ten photographs, haze | 10 | 13.40 | +4.35 |" in card.text and "- Dusk." in card.text
    assert digest in card.text and '"sides"' in card.text


def test_figures_follow_the_weights_they_were_measured_on(model, tmp_path):
    """Through files in parts and back; but not into other weights."""
    model.save_pretrained(tmp_path / "a", card=card_of(model))
    again = RestoreVAR.from_pretrained(tmp_path / "a")
    digest = again.save_pretrained(tmp_path / "b", max_shard_size=SMALL)
    assert read_card(tmp_path / "b").figures_of(digest) == FIGURES
    with torch.no_grad():
        next(again.parameters()).add_(1)
    again.save_pretrained(tmp_path / "c")
    assert read_card(tmp_path / "c").figures == () and read_card(tmp_path / "c").licence == "MIT"
    assert "None are known" in (tmp_path / "c" / "README.md").read_text()
    assert "model-index" not in (tmp_path / "c" / "README.md").read_text()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"limits": 3}', '{"figures": [1]}', '{"licence": {}}'])
def test_a_card_that_cannot_be_read_stops_nothing(model, tmp_path, text):
    model.save_pretrained(tmp_path)
    (tmp_path / "card.json").write_text(text)
    assert load_model(tmp_path).card == Card()


def test_the_shipped_card_is_of_the_shipped_weights():
    folder = resolve_model("compact")
    card = read_card(folder)
    assert card.licence == "MIT" and {f.task for f in card.figures_of(read_config(folder)["sha256"])} >= {
        "haze",
        "rain",
    }


# -------------------------------------------------------------------------------------------------- cache and Hub


def test_a_cached_model_is_loaded_without_a_hub(model, parts, tmp_path):
    snapshot = into_cache(parts, tmp_path / "cache")
    options = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    for name, revision in (("someone/restorer", None), ("someone/restorer@main", None), ("someone/restorer", COMMIT)):
        assert same(RestoreVAR.from_pretrained(name, revision=revision, **options), model)
    assert resolve_model("someone/restorer", **options) == snapshot
    (found,) = cached_models(tmp_path / "cache")
    assert (found.repository, found.revision, found.folder) == ("someone/restorer", COMMIT, snapshot)
    with pytest.raises(UserError, match="names a revision"):
        resolve_model("someone/restorer@main", revision=COMMIT, **options)


@pytest.mark.parametrize("leave_out", [CONFIG, "model-00002-of-*.safetensors"])
def test_what_is_not_in_the_cache_is_one_line(model, tmp_path, leave_out):
    model.save_pretrained(tmp_path / "model", max_shard_size="200KB")
    (leave_out,) = (path.name for path in (tmp_path / "model").glob(leave_out))
    into_cache(tmp_path / "model", tmp_path / "cache", leave_out=leave_out)
    with pytest.raises(UserError) as error:
        RestoreVAR.from_pretrained("someone/restorer", cache_dir=tmp_path / "cache", local_files_only=True)
    assert f"{leave_out} is not in the cache" in str(error.value) and "\n" not in str(error.value)


def test_other_models_in_the_cache_are_not_ours(model, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / CONFIG).write_text('{"model_type": "bert"}')
    into_cache(tmp_path / "bert", tmp_path / "cache", "some/bert")
    assert cached_models(tmp_path / "cache") == [] == cached_models(tmp_path / "nowhere")


def test_the_switch_of_the_hub_is_obeyed_in_a_process_of_its_own(model, parts, tmp_path):
    """HF_HUB_OFFLINE=1 and HF_HOME, which huggingface_hub reads once."""
    into_cache(parts, tmp_path / "home" / "hub")
    code = (
        "from restorevar import RestoreVAR\nfrom restorevar.errors import UserError\n"
        "print(RestoreVAR.from_pretrained('someone/restorer').config.window)\n"
        "try: RestoreVAR.from_pretrained('someone/other')\nexcept UserError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("HF_HUB_CACHE", None)
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    window, line = result.stdout.splitlines()
    assert window == str(model.config.window)
    assert "someone/other" in line and "HF_HUB_OFFLINE" in line


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as a download asks: HEAD and GET of files of one repository, and the errors of others."""

    folder: ClassVar[Path]
    asked: ClassVar[list[str]]
    ERRORS: ClassVar = {
        "missing": (404, "RepoNotFound"),
        "gated": (403, "GatedRepo"),
        "empty": (404, "EntryNotFound"),
        "unversioned": (404, "RevisionNotFound"),
        "broken": (500, ""),
    }

    def do_HEAD(self) -> None:
        self.answer()

    do_GET = do_HEAD

    def answer(self) -> None:
        _, _owner, name, _resolve, revision, file = self.path.split("?")[0].split("/", 5)
        self.asked.append(f"{self.command} {revision} {file}")
        status, code = self.ERRORS.get(name, (200, ""))
        path = self.folder / file
        if status == 200 and not path.is_file():
            status, code = 404, "EntryNotFound"
        body = path.read_bytes() if status == 200 else b""
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{file}"')
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(parts, monkeypatch) -> Iterator[type[Hub]]:
    """A stand-in for huggingface.co on a port of its own."""
    from huggingface_hub import constants

    class Ours(Hub):
        folder = parts
        asked: ClassVar[list[str]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ours)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield Ours
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_is_of_one_commit_and_done_once(model, hub, tmp_path):
    options = {"cache_dir": tmp_path / "cache"}
    assert same(RestoreVAR.from_pretrained("someone/restorer", **options), model)
    files = {line.split()[2] for line in hub.asked}
    assert files == {path.name for path in hub.folder.iterdir()} - {INDEX, "README.md"}
    assert all(line.split()[1] == COMMIT for line in hub.asked if line.split()[2] != CONFIG)
    hub.asked.clear()
    RestoreVAR.from_pretrained("someone/restorer", **options)
    assert hub.asked == [f"HEAD main {CONFIG}"]  # has the branch moved?


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "no such repository, or a private one"),
        ("gated", "it is gated; ask for access on https://huggingface.co/someone/gated"),
        ("empty", f"it has no {CONFIG}"),
        ("unversioned@v9", "it has no revision 'v9'"),
    ],
)
def test_refusals_of_the_hub_are_one_line_with_what_helps(hub, tmp_path, name, words):
    with pytest.raises(UserError) as error:
        RestoreVAR.from_pretrained(f"someone/{name}", cache_dir=tmp_path)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_download_that_is_damaged_is_told(hub, parts, tmp_path):
    part = sorted(parts.glob("model-*"))[0]
    data = part.read_bytes()
    part.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match="damaged"):
        RestoreVAR.from_pretrained("someone/restorer", cache_dir=tmp_path)


# --------------------------------------------------------------------------------------------------------- sending


class Recorder:
    """HfApi, as far as sending asks of it."""

    calls: ClassVar[dict[str, dict]] = {}
    sent: ClassVar[dict[str, bytes]] = {}

    def __init__(self, token=None):
        self.calls.clear()
        self.sent.clear()
        self.calls["token"] = {"token": token}

    def create_repo(self, repo_id, **options):
        self.calls["create_repo"] = {"repo_id": repo_id, **options}
        return type("RepoUrl", (), {"repo_id": repo_id})

    def create_branch(self, repo_id, **options):
        self.calls["create_branch"] = options

    def upload_folder(self, *, folder_path, **options):
        self.calls["upload_folder"] = options
        self.sent.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
        return type("CommitInfo", (), {"commit_url": f"https://hub/{options['repo_id']}/commit/1"})


def test_what_is_sent_is_what_is_loaded(model, monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", Recorder)
    address = model.push_to_hub(
        "me/restorer", private=True, token="hf_x", revision="v1", max_shard_size=SMALL, card=card_of(model)
    )
    assert address == "https://hub/me/restorer/commit/1" and Recorder.calls["token"] == {"token": "hf_x"}
    assert Recorder.calls["create_repo"]["private"] is True and Recorder.calls["create_repo"]["exist_ok"] is True
    assert Recorder.calls["create_branch"]["branch"] == "v1"
    upload = Recorder.calls["upload_folder"]
    assert upload["revision"] == "v1" and "*.safetensors" in upload["delete_patterns"]
    assert {CONFIG, INDEX, "README.md", "card.json"} < set(Recorder.sent)
    for name, data in Recorder.sent.items():
        (tmp_path / name).write_bytes(data)
    again = RestoreVAR.from_pretrained(tmp_path)
    assert same(again, model) and replace(again.card, sha256="") == replace(card_of(model), sha256="")


def test_a_push_that_fails_is_one_line(model, monkeypatch):
    import huggingface_hub

    class Refusing(Recorder):
        def create_repo(self, repo_id, **options):
            raise OSError("401 Client Error\nmore of it")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    with pytest.raises(UserError, match=r"me/restorer.*401 Client Error$"):
        model.push_to_hub("me/restorer")
