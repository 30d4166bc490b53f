"""Very many photos: listings, names, shards, killed workers, stores by URL, Ray Data, the service on Ray Serve."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from restorevar import checkpoints
from restorevar.batch import Record, Writing
from restorevar.batch.transient import is_transient
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.errors import reading as reading_file
from restorevar.models import RestoreVAR
from restorevar.models.config import debug
from restorevar.scaling import Plan, Settings, Slot, Source, places, run_plan
from restorevar.scaling.items import Item, name_of
from restorevar.scaling.ledger import Book
from restorevar.scaling.listing import list_items
from restorevar.scaling.shards import Chunk, cut

#: The long ones need a cluster of several processes; run them with RESTOREVAR_TEST_CLUSTER=1.
long = pytest.mark.skipif(
    not os.environ.get("RESTOREVAR_TEST_CLUSTER"), reason="takes a minute: RESTOREVAR_TEST_CLUSTER=1 runs it"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    small = RestoreVAR(debug())
    nn.init.normal_(small.fidelity.to_image.out.bias)  # an untrained branch gives the input back
    checkpoints.save_model(small, folder)
    return str(folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photo(path: str | Path, seed: int = 0, width: int = 66, height: int = 64) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return Path(path)


def photos(count: int, folder: str = "in") -> None:
    for i in range(count):
        photo(f"{folder}/{i % 3}/{i:03}.png", i)


def batch(model: str, *arguments: object) -> Result:
    options = ("--model", model, "--device", "cpu")
    result = CliRunner().invoke(app, ["batch", *map(str, arguments), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def images(folder: str | Path) -> dict[str, bytes]:
    """Name below the folder -> content."""
    root = Path(folder)
    found = (path for path in root.rglob("*") if path.is_file() and ".restorevar" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def names(text: str, **options: str) -> list[str]:
    return [item.name for item in list_items(Source(text, **options))]


def single_process(model: str, source: str, out: str) -> dict[str, bytes]:
    """What `restorevar restore` makes of it."""
    command = ["restore", source, "-o", out, "--model", model, "--device", "cpu", "--quiet"]
    assert CliRunner().invoke(app, command).exit_code == 0
    return images(out)


# ------------------------------------------------------------------------------------------------- what is listed


def test_folders_patterns_and_photos_mirror_their_tree(here: Path) -> None:
    for path in ("in/b.png", "in/a/c.jpg", "in/a/.hidden.png", "in/out/d.png"):
        photo(path)
    Path("in/notes.md").write_text("no image")
    assert names("in") == ["b.png", "a/c.jpg", "out/d.png"]
    assert names("in", apart="in/out") == ["b.png", "a/c.jpg"]
    assert names(f"file://{here}/in", apart=f"{here}/in/out") == ["b.png", "a/c.jpg"]
    assert names("in/**/*.png") == ["b.png", "out/d.png"]
    assert names("in/a/c.jpg") == ["c.jpg"] and names("in/a/c.jpg", root="in") == ["a/c.jpg"]


def test_manifests_of_every_kind_name_the_same_photos(here: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    paths = ["a/b.jpg", f"{here}/in/c.png", "/elsewhere/d.jpg", "s3://bucket/e/f.jpg"]
    expected = ["a/b.jpg", "c.png", "elsewhere/d.jpg", "bucket/e/f.jpg"]
    Path("in").mkdir()
    Path("in/list.txt").write_text("# photos\n" + "\n\n".join(paths))
    Path("in/list.json").write_text(json.dumps([paths[0], *({"image_path": path} for path in paths[1:])]))
    Path("in/list.jsonl").write_text("\n".join(json.dumps({"input": path}) for path in paths))
    parquet.write_table(pa.table({"file": paths}), "in/list.parquet")
    for name in ("list.txt", "list.json", "list.jsonl"):
        items = list(list_items(Source(f"in/{name}")))
        assert [item.name for item in items] == expected and not any(item.flaw for item in items)
        assert Path(items[0].source) == Path("in/a/b.jpg")
    assert names("in/list.parquet", column="file") == expected
    assert names("in/list.txt", root="/elsewhere")[2] == "d.jpg"
    with pytest.raises(UserError, match=r"no column 'path' \(--column\); it has file"):
        names("in/list.parquet")


def test_rows_that_cannot_be_are_flawed_items(here: Path) -> None:
    Path("list.jsonl").write_text('{"input": "a.png", "name": "../../etc/passwd.png"}\n{"size": 3}\nno json\n"b.png"\n')
    items = list(list_items(Source("list.jsonl")))
    assert ["stay below" in items[0].flaw, "no path" in items[1].flaw, "not JSON" in items[2].flaw] == [True] * 3
    assert items[3].flaw == "" and [item.number for item in items] == [0, 1, 2, 3]


def test_photos_with_one_output_are_told(here: Path) -> None:
    for path in ("in/a.png", "in/a.jpg", "in/b/a.png"):
        photo(path)
    assert [bool(item.flaw) for item in list_items(Source("in", suffix=".webp"))] == [False, True, False]
    assert not any(item.flaw for item in list_items(Source("in")))


@pytest.mark.parametrize("text, cause", [("gone", "no such file or folder"), ("x*", "no images"), (".", "no images")])
def test_sources_that_cannot_be(here: Path, text: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        names(text)


def test_listings_are_streams(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a manifest of any length, no more is read than asked for."""
    Path("list.txt").write_text("\n".join(f"{i}.png" for i in range(100_000)))
    chunks = cut(list_items(Source("list.txt")), shard_size=20, chunk_size=8)
    first = [next(chunks) for _ in range(4)]
    assert [(chunk.shard, chunk.of, len(chunk.items)) for chunk in first] == [
        (0, 20, 8),
        (0, 20, 8),
        (0, 20, 4),
        (1, 20, 8),
    ]
    assert Chunk.from_json(first[2].as_json()) == first[2]


def test_names_are_each_ones_own() -> None:
    assert name_of("/data/a/../b/c.png", "/data") == "b/c.png"
    assert name_of("/database/c.png", "/data") == "database/c.png"
    assert name_of("gs://x/y/c.png", "gs://x/y") == "c.png" and name_of("gs://x/y/c.png", "/z") == "x/y/c.png"


def test_failures_that_may_pass_are_told_from_those_that_stay() -> None:
    def cause(error: Exception) -> UserError:
        with pytest.raises(UserError) as caught, reading_file("a.png"):
            raise error
        return caught.value

    assert is_transient(cause(OSError(5, "Input/output error"))) and is_transient(cause(TimeoutError()))
    assert not is_transient(cause(FileNotFoundError(2, "No such file"))) and not is_transient(UserError("is damaged"))
    assert not is_transient(cause(OSError("image file is truncated")))


# ------------------------------------------------------------------------------------- the slot, without a process


class Failing(Slot):
    """Reading of some photos fails for a while: as often as the first digit of their name says."""

    failures: dict[str, int]

    def _try(self, items):  # type: ignore[no-untyped-def]
        for item, record in super()._try(items):
            left = self.failures.setdefault(item.name, int(Path(item.name).stem))
            if left:
                self.failures[item.name] -= 1
                record.status, record.error, record.transient = "failed", "the network is down", True
            yield item, record


def items_below(folder: str) -> tuple[Item, ...]:
    return tuple(list_items(Source(str(Path(folder).absolute()))))


def test_what_may_pass_is_tried_again_up_to_the_limit(here: Path, model: str, monkeypatch) -> None:
    monkeypatch.setattr("restorevar.scaling.slot.PAUSE", 0.01)
    for times in (0, 2, 3):
        photo(f"in/{times}.png")
    Path("in/9.png").write_text("broken")
    slot = Failing(Settings("out", model, device="cpu", retries=2, writing=Writing(overwrite=True)))
    slot.failures = {"9.png": 0}
    outcomes = {outcome.name: outcome for outcome in slot.work(Chunk(0, 4, items_below("in")), Book())}
    slot.close()
    assert {name: (o.record.status, o.tries) for name, o in outcomes.items()} == {
        "0.png": ("restored", 1),
        "2.png": ("restored", 3),
        "3.png": ("failed", 3),
        "9.png": ("failed", 1),
    }


def test_a_chunk_of_a_dead_worker_is_gone_on_with(here: Path, model: str) -> None:
    """What had ended is not done again; what had begun is begun alone, and given up in the end."""
    photos(4)
    items = items_below("in")
    book = Book()
    book.begin([0, 1, 2, 3])
    slot = Slot(Settings("out", model, device="cpu", retries=1))
    ended = Record("a", "b", status="restored", seconds=7.0)
    from restorevar.scaling.outcomes import Outcome

    book.end(1, Outcome(1, items[1].name, 0, 4, ended, 1, 0.0).as_json())
    for _ in range(2):
        book.begin([3])
    outcomes = {outcome.number: outcome for outcome in slot.work(Chunk(0, 4, items), book)}
    slot.close()
    assert outcomes[1].record == ended and sorted(outcomes) == [0, 1, 2, 3]
    assert [outcomes[i].record.status for i in (0, 2, 3)] == ["restored", "restored", "failed"]
    assert outcomes[0].tries == 2 and outcomes[3].tries == 3
    assert "killed its worker" in str(outcomes[3].record.error)
    assert set(images("out")) == {items[0].name, items[2].name}
    book.forget(range(4))
    assert book.look([0, 1]) == [(0, ""), (0, "")]


def test_photos_by_url_come_out_as_those_by_path(here: Path, model: str) -> None:
    fsspec = pytest.importorskip("fsspec")
    photos(5)
    store = fsspec.filesystem("memory")
    store.put("in", "/bucket/in", recursive=True)
    store.pipe_file("/bucket/in/bad.png", b"broken")
    try:
        listed = tuple(list_items(Source("memory://bucket/in")))
        assert {item.name for item in listed} == {*images("in"), "bad.png"}
        slot = Slot(Settings("memory://bucket/out", model, device="cpu"))
        for statuses in ({"restored": 5, "failed": 1}, {"skipped": 5, "failed": 1}):
            outcomes = list(slot.work(Chunk(0, 6, listed), Book()))
            found = [outcome.record.status for outcome in outcomes]
            assert {status: found.count(status) for status in set(found)} == statuses
        bad = next(outcome.record for outcome in outcomes if outcome.record.status == "failed")
        assert bad.input == "memory://bucket/in/bad.png" and str(bad.error).startswith(f"{bad.input}: is not an image")
        gone = next(slot.work(Chunk(0, 1, (Item(0, "memory://bucket/gone.png", "gone.png"),)), Book())).record
        assert gone.error == "memory://bucket/gone.png: no such file" and not gone.transient
        assert not list(Path(slot._folder.name).iterdir()) if slot._folder else False
        slot.close()
        expected = single_process(model, "in", "out")
        assert {name: store.cat_file(f"/bucket/out/{name}") for name in expected} == expected
    finally:
        store.rm("/bucket", recursive=True)


def test_stores_that_are_not_atomic_get_a_name_when_whole(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr(places, "ATOMIC", set())
    store = fsspec.filesystem("memory")
    places.put(b"whole", "memory://plain/a/b.bin")
    assert store.find("/plain") == ["/plain/a/b.bin"] and store.cat_file("/plain/a/b.bin") == b"whole"
    store.rm("/plain", recursive=True)


@pytest.mark.parametrize(
    "url, cause", [("abacus://x", "not a URL that fsspec knows"), ("memory://no/where", "no such")]
)
def test_urls_that_lead_nowhere(url: str, cause: str) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(UserError, match=cause):
        names(url)


def test_without_fsspec_a_line_tells_what_to_install(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restorevar.scaling.extra.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'restorevar\[scale\]'"):
        names("s3://bucket/photos")
    photo("in/a.png")
    result = CliRunner().invoke(app, ["batch", "in", "out", "--ray"])
    assert result.exit_code == 2 and "--ray needs Ray: pip install 'restorevar[scale]'" in result.stderr


# ---------------------------------------------------------------------------------- processes of this machine


def test_processes_do_what_one_does_and_go_on_where_they_ended(here: Path, model: str) -> None:
    photos(7)
    Path("in/0/bad.png").write_text("broken")
    result = batch(model, "in", "out", "--shard", 4, "--workers", 2)
    assert result.exit_code == 1 and "7 restored, 0 untouched, 0 skipped, 1 failed" in result.stdout
    assert result.stderr.count("\n") == 1 and "bad.png: is not an image" in result.stderr
    letters = [json.loads(line) for line in Path("out/.restorevar/dead-letters.jsonl").read_text().splitlines()]
    assert [(letter["name"], letter["tries"]) for letter in letters] == [("0/bad.png", 1)]
    reports = [json.loads(path.read_text()) for path in sorted(Path("out/.restorevar/shards").iterdir())]
    assert [report["photos"] for report in reports] == [4, 4] and sum(r["restored"] for r in reports) == 7
    assert sum(len(report["failures"]) for report in reports) == 1
    summary = json.loads(Path("out/.restorevar/summary.json").read_text())
    assert summary["workers"] == 2 and summary["deaths"] == 0 and len(summary["sha256"]) == 64
    made = images("out")
    Path("in/0/bad.png").unlink()
    assert made == single_process(model, "in", "alone")

    name = sorted(made)[2]
    Path("out", name).unlink()
    photo("in/0/bad.png")
    rest = batch(model, "in", "out", "--workers", 1)
    assert rest.exit_code == 0 and "2 restored, 0 untouched, 6 skipped, 0 failed" in rest.stdout
    assert Path("out", name).read_bytes() == made[name]
    assert Path("out/.restorevar/dead-letters.jsonl").read_text() == ""


def test_dead_letters_are_a_manifest_with_the_names_of_their_outputs(here: Path) -> None:
    letter = {"input": f"{here}/in/a/b.png", "name": "a/b.png", "error": "gone", "tries": 4}
    Path("dead-letters.jsonl").write_text(json.dumps(letter) + "\n")
    (item,) = list_items(Source("dead-letters.jsonl"))
    assert (item.source, item.name) == (letter["input"], "a/b.png")


class Deadly(Slot):
    """Photos named poison kill their worker each time, those named unlucky the first time."""

    def restore(self, items):  # type: ignore[no-untyped-def]
        for item, record, tries in super().restore(items):
            if "poison" in item.name or ("unlucky" in item.name and not Path("seen").exists()):
                if "unlucky" in item.name:
                    Path("seen").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield item, record, tries


def check_deadly(summary: dict, count: int) -> None:
    """All outputs are there, and the letters tell of the photo that killed."""
    assert summary["restored"] + summary["skipped"] == count and summary["failed"] == 1
    letters = Path("out/.restorevar/dead-letters.jsonl").read_text().splitlines()
    assert [json.loads(letter)["name"] for letter in letters] == ["poison.png"]
    assert "killed its worker, or was in its hands, 2 times" in letters[0]


def check_same(model: str) -> None:
    """All outputs are what one process makes. Poison kills after it was written."""
    made, expected = images("out"), single_process(model, "in", "alone")
    for found in (made, expected):
        found.pop("poison.png", None)
    assert made == expected


def test_killed_processes_are_replaced_and_poison_is_given_up(here: Path, model: str) -> None:
    photos(6)
    photo("in/poison.png")
    photo("in/2/unlucky.png")
    settings = Settings("out", model, device="cpu", retries=0)
    summary = run_plan(Plan(Source("in"), settings, workers=1, chunk=4, slot=Deadly))
    check_deadly(summary, 7)
    assert summary["deaths"] == 3  # the unlucky one once, the poison in company and alone
    check_same(model)


def test_settings_that_cannot_be_are_one_line(here: Path, model: str) -> None:
    photo("in/a.png")
    for wrong in (["--speed", "warp", "--workers", "1"], ["--format", "gif"], ["--workers", "0"]):
        result = batch(model, "in", "out", *wrong)
        assert result.exit_code == 2 and result.stdout == ""
    assert batch(model, "in", "in").exit_code == 2 and not images("out")


# --------------------------------------------------------------------------------------------------------- Ray


def on_ray(model: str, slot: type[Slot] = Slot, **options: object) -> dict:
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its processes cannot import the tests
    settings = Settings("out", model, device="cpu", retries=0)
    return run_plan(Plan(Source("in"), settings, ray="local", slot=slot, **options))  # type: ignore[arg-type]


def test_ray_data_does_what_one_process_does_and_replaces_a_killed_worker(here: Path, model: str) -> None:
    """One cluster, and few photos: its processes are what takes long."""
    pytest.importorskip("ray")
    photos(4)
    photo("in/2/unlucky.png")
    Path("in/bad.png").write_text("broken")
    summary = on_ray(model, Deadly, workers=1, chunk=3)
    assert summary["restored"] + summary["skipped"] == 5 and summary["failed"] == 1
    assert Path("seen").exists() and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    Path("in/bad.png").unlink()
    check_same(model)


def test_what_ends_the_work_on_ray_is_one_line() -> None:
    from restorevar.scaling.cluster import _cause

    text = "died: ray::A.__init__()\n  File x\nrestorevar.errors.UserError: gone: no such model\n\n"
    assert str(_cause(RuntimeError(text))) == "gone: no such model"
    assert str(_cause(RuntimeError("died\nImportError: no x\n"))) == "the work on Ray ended: ImportError: no x"


@long
def test_ray_gives_poison_up(here: Path, model: str) -> None:
    pytest.importorskip("ray")
    photos(6)
    photo("in/poison.png")
    photo("in/2/unlucky.png")
    check_deadly(on_ray(model, Deadly, workers=2, chunk=4), 7)
    check_same(model)


@long
def test_ray_workers_killed_from_outside_lose_nothing(here: Path, model: str) -> None:
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    photos(120)
    done = threading.Event()
    killed: list[int] = []

    def kill() -> Iterator[None]:
        while not done.wait(0.1):
            if len(images("out")) < 10 * (1 + len(killed)) or len(killed) == 5:
                continue
            for process in psutil.Process().children(recursive=True):
                if process.name().startswith("ray::") and "_Actor" in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(process.pid)
                    time.sleep(2)
                    break
        yield

    thread = threading.Thread(target=lambda: list(kill()), daemon=True)
    thread.start()
    try:
        summary = on_ray(model, workers=2, chunk=4)
    finally:
        done.set()
        thread.join()
    assert killed and summary["failed"] == 0 and summary["restored"] + summary["skipped"] == 120
    check_same(model)


@pytest.mark.parametrize(
    "words, address",
    [(["--ray"], "local"), (["--ray", "auto"], "auto"), (["--ray", "head:6379"], "head:6379"), ([], None)],
)
def test_ray_stands_with_and_without_an_address(here: Path, words: list[str], address, monkeypatch) -> None:
    seen: list[Plan] = []

    def remember(plan: Plan, *further: object) -> dict:
        seen.append(plan)
        raise UserError("enough")

    monkeypatch.setattr("restorevar.scaling.run_plan", remember)
    for arguments in (["in", "out", *words], [*words, "in", "out"]):
        assert CliRunner().invoke(app, ["batch", *arguments]).exit_code == 2
    assert [(plan.ray, plan.source.text, plan.settings.destination) for plan in seen] == [(address, "in", "out")] * 2


@long
def test_the_service_answers_from_two_replicas(here: Path, model: str) -> None:
    pytest.importorskip("ray")
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi")
    from restorevar.images import photo_from_bytes
    from restorevar.serving.ray import Replicas, serving_on_ray
    from restorevar.serving.running import listen
    from restorevar.serving.settings import Settings as Service

    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
    sent = photo("a.png").read_bytes()
    service = Service(model=model, device="cpu", page=False, keys=("a-key-of-some-length",))
    with serving_on_ray(service, Replicas(2, cpus=1), port=port):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert client.post("/v1/restore", files={"image": sent}).status_code == 401
            client.headers["X-API-Key"] = "a-key-of-some-length"
            answers = [client.post("/v1/restore", files={"image": ("a.png", sent)}) for _ in range(6)]
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.content for answer in answers}) == 1
            assert photo_from_bytes(answers[0].content).rgb.shape == (64, 66, 3)
            bad = client.post("/v1/restore", files={"image": ("a.png", b"broken")})
            assert bad.status_code in (400, 415, 422) and bad.json()["status"] == bad.status_code
        import ray

        actors = ray.util.list_named_actors(all_namespaces=True)
        assert sum("REPLICA" in actor["name"] for actor in actors) == 2
    assert not ray.is_initialized()
    assert answers[0].content == next(iter(single_process(model, "a.png", "out").values()))


def test_replicas_that_cannot_be() -> None:
    pytest.importorskip("fastapi")
    from restorevar.serving.ray import Replicas

    for wrong in ((0, None), (2, 1)):
        with pytest.raises(UserError, match="replicas go from 1"):
            Replicas(*wrong)
    result = CliRunner().invoke(app, ["serve", "--ray", "--replicas", "many"])
    assert result.exit_code == 2 and "--replicas is a number" in result.stderr
