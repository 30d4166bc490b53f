"""A visit: the photos that somebody has put on the page, each on its way to the engine and back.

Knows nothing of Gradio or of HTTP. A thread of its own takes the photos one by one, so that a visit with many does not
fill the queue that others wait in. Everything that it writes lies in one folder, which goes when the visit ends.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...errors import UserError
from ...glimpse import Glimpse
from ...images import Photo, read_photo, write_photo
from ..engine import Busy, Cancelled, Engine, Options, Restored, Ticket, TimedOut
from ..names import distinct, result_name, shown_name
from . import pictures, words

log = logging.getLogger(__name__)

State = Literal["waiting", "working", "done", "failed", "cancelled"]

#: Photos of one visit, and bytes of what was sent; who has more wants the command.
MOST, ROOM = 100, 2 << 30
#: Seconds between two previews, at least: they are decoded in the model's thread, and all wait for them.
PREVIEW_PAUSE = 0.3
#: Of the whole bar: what the first look at a photo takes that is restored in windows afterwards.
FIRST_LOOK = 0.1


@dataclass(eq=False)
class Item:
    """A photo of a visit, and what is known of it by now. `version` counts its restorations: pictures have it in their
    names, for a browser may keep what it has seen."""

    id: str
    name: str
    source: Path
    options: Options
    state: State = "waiting"
    sentence: str = words.WAITING
    facts: str = ""
    share: float = 0.0
    preview: str | None = None
    size: tuple[int, int] | None = None  #: width, height
    version: int = 0
    untouched: bool = False
    is_readable: bool = False
    pictures: dict[str, str] = field(default_factory=dict)  #: before, after, ... -> name of the file
    about: dict[str, str] = field(default_factory=dict)
    report: dict[str, Any] | None = None
    file: str | None = None  #: the result, by the name it is to be kept under
    stored: str | None = None  #: and as it lies in the folder
    ticket: Ticket | None = None
    is_unwanted: bool = False

    @property
    def is_open(self) -> bool:
        return self.state in ("waiting", "working")


class Visit:
    """`key` is the secret that opens it; `folder` is its own, and is removed with it."""

    def __init__(self, engine: Engine, root: Path):
        self.engine = engine
        self.key = secrets.token_urlsafe(18)
        self.folder = root / self.key
        self.folder.mkdir(mode=0o700)
        self._items: dict[str, Item] = {}
        self._kept: tuple[str, Photo] | None = None  # the photo read last: it is needed twice
        self._lock = threading.RLock()
        self._worker: threading.Thread | None = None
        self._is_closed = False
        self._bytes = 0
        self._follower = 0

    # ------------------------------------------------------------------------------------- asked for by the page

    def add(self, path: Path, name: str, options: Options) -> None:
        """Takes a copy of the file. Raises UserError when there are too many, or it cannot be copied."""
        with self._lock:
            if self._is_closed or len(self._items) >= MOST or self._bytes >= ROOM:
                raise UserError(
                    f"a visit takes {MOST} photos, or {ROOM >> 30} GB of them; for more there is `restorevar restore`"
                )
        id = secrets.token_hex(8)
        item = Item(id, shown_name(name), self.folder / id / "source", options)
        try:
            item.source.parent.mkdir(mode=0o700)
            shutil.copyfile(path, item.source)
            size = item.source.stat().st_size
        except OSError as error:
            raise UserError(f"{item.name}: cannot be read ({error.strerror or error})") from None
        with self._lock:  # only now: the worker takes what it sees
            self._items[id] = item
            self._bytes += size
        self._go()

    def again(self, id: str, options: Options) -> None:
        """Restores a photo once more, with other options; nothing for one that is on its way."""
        item = self._items.get(id)
        if item is None or item.is_open or not item.is_readable:
            return
        with self._lock:
            item.options = options
            item.is_unwanted = False
            item.state, item.sentence, item.share, item.preview = "waiting", words.WAITING, 0.0, None
        self._go()

    def cancel(self, id: str) -> None:
        item = self._items.get(id)
        if item is None or not item.is_open:
            return
        item.is_unwanted = True
        if item.ticket is not None:
            item.ticket.cancel()

    def close(self) -> None:
        """Calls off what is on its way and removes all files, now or when the last of them is let go."""
        with self._lock:
            self._is_closed = True
            items, worker = list(self._items.values()), self._worker
        for item in items:
            self.cancel(item.id)
        if worker is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    # ------------------------------------------------------------------------------------------ what can be seen

    @property
    def is_busy(self) -> bool:
        with self._lock:
            return any(item.is_open for item in self._items.values())

    def view(self) -> dict[str, Any]:
        """Plain JSON types: `visit`, the key, and `photos` in the order in which they came."""
        with self._lock:
            return {"visit": self.key, "photos": [self._seen(item) for item in self._items.values()]}

    def follow(self) -> int:
        """A number for who follows the visit from now on; those before are to end."""
        with self._lock:
            self._follower += 1
            return self._follower

    def is_followed_by(self, number: int) -> bool:
        return self._follower == number

    def file(self, id: str, name: str) -> tuple[Path, str | None]:
        """A file of one photo, and the name for keeping it if it is the result. KeyError for any other.

        For a picture that was replaced, perhaps before the browser asked for it, the one in its place.
        """
        item = self._items[id]
        if name == item.stored:
            return self.folder / id / name, item.file
        if name in item.pictures.values():
            return self.folder / id / name, None
        kind, _, version = name.removesuffix(".webp").rpartition("-")
        if kind in item.pictures and version.isdecimal() and int(version) < item.version:
            return self.folder / id / item.pictures[kind], None
        raise KeyError(name)

    def pack(self) -> Path:
        """A zip archive of all results there are by now."""
        with self._lock:
            done = [(item.file, self.folder / item.id / item.stored) for item in self._items.values() if item.stored]
        path = self.folder / "restored.zip"
        temporary = path.with_name(f"{secrets.token_hex(4)}.part")
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:  # images are compressed already
            for name, (_, stored) in zip(distinct([name or "photo" for name, _ in done]), done, strict=True):
                archive.write(stored, name)
        temporary.replace(path)
        return path

    def _seen(self, item: Item) -> dict[str, Any]:
        place = f"visit/{self.key}/{item.id}/"
        links = {name: place + file for name, file in item.pictures.items()}
        width, height = item.size or (0, 0)
        return {
            "id": item.id,
            "name": item.name,
            "state": item.state,
            "sentence": item.sentence,
            "facts": item.facts,
            "share": round(item.share, 3),
            "preview": item.preview,
            "width": width,
            "height": height,
            "untouched": item.untouched,
            "again": item.is_readable,
            "about": item.about,
            "report": item.report,
            "file": item.file,
            "download": place + item.stored if item.stored else None,
            **links,
        }

    # --------------------------------------------------------------------------------------------- the worker

    def _go(self) -> None:
        with self._lock:
            if self._worker is None and not self._is_closed:
                self._worker = threading.Thread(target=self._work, name="restorevar-visit", daemon=True)
                self._worker.start()

    def _work(self) -> None:
        while (item := self._next()) is not None:
            with _noting(item):
                if item.is_unwanted:
                    raise Cancelled
                if item.is_readable:
                    self._restore(item)
                else:
                    self._look(item)

    def _next(self) -> Item | None:
        """First all that have come are looked at, so that they can be seen, and bad ones are told of at once."""
        with self._lock:
            waiting = [item for item in self._items.values() if item.state == "waiting"]
            if waiting and not self._is_closed:
                return next((item for item in waiting if not item.is_readable), waiting[0])
            for item in waiting:
                item.state, item.sentence = "cancelled", words.CANCELLED
            self._worker, self._kept = None, None
            if self._is_closed:
                shutil.rmtree(self.folder, ignore_errors=True)
            return None

    def _look(self, item: Item) -> None:
        photo = self._read(item)
        item.size = photo.rgb.shape[1], photo.rgb.shape[0]
        item.facts = words.facts(photo)
        picture = pictures.shown(photo)
        files = {"before": "before.webp", "thumb": "thumb-0.webp"}
        pictures.save(picture, self.folder / item.id / files["before"])
        pictures.save(pictures.thumbnail(picture), self.folder / item.id / files["thumb"])
        item.pictures = files
        item.is_readable = True

    def _read(self, item: Item) -> Photo:
        if self._kept is not None and self._kept[0] == item.id:
            return self._kept[1]
        photo = read_photo(item.source, max_pixels=self.engine.limits.pixels)
        self._kept = (item.id, photo)
        return photo

    def _restore(self, item: Item) -> None:
        photo = self._read(item)
        item.state, item.sentence = "working", words.WORKING
        watcher = _Watcher(item, is_whole=self.engine.restorer.share_a_pass(*photo.rgb.shape[:2]))
        item.ticket = self._submit(item, photo, watcher)
        if item.is_unwanted:  # said meanwhile
            item.ticket.cancel()
        restored = item.ticket.result()
        self._keep(item, photo, restored, watcher)

    def _submit(self, item: Item, photo: Photo, watcher: _Watcher) -> Ticket:
        """Waits for a place in the queue."""
        while True:
            try:
                return self.engine.submit(photo, item.options, watcher.progress, watcher.watch)
            except Busy as busy:
                if not self.engine.is_open:
                    raise UserError(f"{item.source}: {busy}") from None
                item.sentence = words.BUSY
                until = time.monotonic() + min(busy.retry_after, 2.0)
            while time.monotonic() < until:
                if item.is_unwanted:
                    raise Cancelled
                time.sleep(0.05)

    def _keep(self, item: Item, photo: Photo, restored: Restored, watcher: _Watcher) -> None:
        """Files first, then the words that lead to them."""
        place, version = self.folder / item.id, item.version + 1
        name = result_name(words.restored_name(item.name), photo.format)
        stored = f"result-{version}{Path(name).suffix}"
        write_photo(place / stored, restored.photo)
        before, after = pictures.shown(photo), pictures.shown(restored.photo)
        shots = {"after": after, "thumb": pictures.thumbnail(after)}
        about = {"after": words.settings(restored)}
        if not restored.untouched:
            shots["change"], changed = pictures.change(before, after)
            about["change"] = words.changed(changed)
        if watcher.confidences:
            shots["sure"], sure = pictures.confidence(watcher.confidences, after.size)
            about["sure"] = words.sure(sure)
        files = {"before": item.pictures["before"]}
        for kind, picture in shots.items():
            files[kind] = f"{kind}-{version}.webp"
            pictures.save(picture, place / files[kind])
        with self._lock:
            old = [name for name in (*item.pictures.values(), item.stored) if name and name not in files.values()]
            item.pictures, item.about, item.version = files, about, version
            item.file, item.stored = name, stored
            item.untouched = restored.untouched
            item.report = words.report(restored.diagnosis)
            item.sentence = words.done(restored)
            item.state, item.share, item.preview = "done", 1.0, None
        for name in old:
            (place / name).unlink(missing_ok=True)


class _Watcher:
    """Called in the engine's threads while a photo is restored."""

    def __init__(self, item: Item, is_whole: bool):
        self.item, self.is_whole = item, is_whole
        self.confidences: list[np.ndarray] = []
        self._shown = 0.0

    def progress(self, share: float) -> None:
        start = 0.0 if self.is_whole else FIRST_LOOK
        self.item.share = max(self.item.share, start + (1 - start) * share)

    def watch(self, glimpse: Glimpse) -> None:
        if glimpse.scale == 0:  # begun, or begun anew with less at once
            self.confidences = []
        self.confidences.append(glimpse.confidence)
        part = (glimpse.scale + 1) / (glimpse.scales + 1)
        self.item.share = max(self.item.share, part if self.is_whole else FIRST_LOOK * part)
        self.item.sentence = words.scale(glimpse.scale, glimpse.scales)
        # The coarsest scales are a single colour, or little more.
        if 2 * glimpse.scale >= glimpse.scales // 2 and time.monotonic() - self._shown >= PREVIEW_PAUSE:
            self.item.preview = pictures.as_uri(glimpse.preview())
            self._shown = time.monotonic()


@contextmanager
def _noting(item: Item) -> Iterator[None]:
    """Whatever goes wrong with a photo is said of it, and the others go on."""
    try:
        yield
    except Cancelled:
        item.state, item.sentence = "cancelled", words.CANCELLED
    except UserError as error:
        item.state, item.sentence = "failed", words.failed(item.name, str(error).removeprefix(f"{item.source}: "))
    except TimedOut as error:
        item.state, item.sentence = "failed", words.failed(item.name, str(error))
    except Exception:
        log.exception("a photo of the page failed unexpectedly")
        item.state, item.sentence = "failed", words.failed(item.name, "failed for a reason that was not foreseen")
    finally:
        item.ticket = None
        if item.state != "waiting":
            item.preview = None
