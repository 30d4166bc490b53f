"""All visits: found by their key, ended some time after their page was closed."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import weakref
from pathlib import Path

from ..engine import Engine
from .visit import Visit

#: Seconds for which a visit outlives its page: reloading and sleeping phones close it too.
GRACE = 600.0
#: Seconds without a word after which a visit ends although its page seems open.
LONGEST_SILENCE = 6 * 3600.0
#: More at once than this, and the one that was silent longest ends.
MOST = 200


class Visits:
    """Files of visits lie below `root`, which nobody else can read and which goes with the process."""

    def __init__(self, engine: Engine, grace: float = GRACE):
        self.engine, self.grace = engine, grace
        self.root = Path(tempfile.mkdtemp(prefix="restorevar-page-"))  # for this user alone
        self._tidy = weakref.finalize(self, shutil.rmtree, self.root, ignore_errors=True)
        self._visits: dict[str, Visit] = {}
        self._ends: dict[str, float] = {}  # key -> when it ends unless it is heard of
        self._pages: dict[str, str] = {}  # session of Gradio -> key
        self._lock = threading.Lock()

    def open(self, key: str | None, page: str) -> Visit:
        """The visit with this key, or that of the page, or a new one; `page` shows it from now on."""
        self.sweep()
        with self._lock:
            visit = self._visits.get(key or "") or self._visits.get(self._pages.get(page, ""))
            if visit is None:
                visit = Visit(self.engine, self.root)
                self._visits[visit.key] = visit
            self._ends[visit.key] = time.monotonic() + LONGEST_SILENCE
            self._pages[page] = visit.key
            surplus = sorted(self._ends, key=self._ends.__getitem__)[: max(0, len(self._ends) - MOST)]
        for old in surplus:
            self._end(old)
        return visit

    def find(self, key: str) -> Visit:
        """KeyError if there is none."""
        return self._visits[key]

    def leave(self, page: str) -> None:
        """The page was closed. Its visit ends after a while, unless another page shows it by then."""
        with self._lock:
            key = self._pages.pop(page, None)
            if key is None or key in self._pages.values():
                return
            self._ends[key] = time.monotonic() + self.grace
        timer = threading.Timer(self.grace + 0.1, self.sweep)
        timer.daemon = True
        timer.start()

    def sweep(self) -> None:
        """Ends the visits whose time has come."""
        now = time.monotonic()
        with self._lock:
            late = [key for key, end in self._ends.items() if end <= now]
        for key in late:
            self._end(key)

    def close(self) -> None:
        for key in list(self._visits):
            self._end(key)
        self._tidy()

    def _end(self, key: str) -> None:
        with self._lock:
            visit = self._visits.pop(key, None)
            self._ends.pop(key, None)
            for page in [page for page, shown in self._pages.items() if shown == key]:
                del self._pages[page]
        if visit is not None:
            visit.close()
