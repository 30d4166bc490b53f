"""A service of its own process, on a free port of this machine, watched while it works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError

if TYPE_CHECKING:
    import psutil

#: Seconds for loading the model, and for ending.
START, END = 180.0, 120.0


@dataclass(frozen=True)
class Reading:
    """What the service holds at one moment. `rss`: bytes of memory; `files`: open ones, sockets included.
    `cpu`: seconds that processors have worked for it, all together: that hardly depends on what else the machine does.
    """

    seconds: float
    cpu: float
    rss: int
    threads: int
    files: int


class Service:
    """`restorevar serve` with `options`, in a `with`. Its temporary files go to a folder of their own, looked at later.

    Raises UserError if it does not begin; what it printed is in the message.
    """

    def __init__(self, options: Sequence[str], sample: float = 0.5):
        self.options, self.sample = list(options), sample
        self.readings: list[Reading] = []
        self.output = ""
        self.port = 0
        self._ended = threading.Event()

    def __enter__(self) -> Service:
        self._folder = tempfile.TemporaryDirectory(prefix="restorevar-load-")
        self.temporary = Path(self._folder.name)
        command = [sys.executable, "-m", "restorevar", "serve", "--port", "0", *self.options]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": self._folder.name, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until = time.monotonic() + START
        while not self.port:
            if not self._reader.is_alive() or time.monotonic() > until:
                self.kill()
                raise UserError(f"the service did not begin: {' / '.join(self.output.split(chr(10)))[-500:]}")
            time.sleep(0.02)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._folder.cleanup()

    @property
    def process_seen(self) -> psutil.Process:
        return _psutil().Process(self.process.pid)

    def read(self) -> Reading:
        seen = self.process_seen
        with seen.oneshot():
            files = seen.num_fds() if hasattr(seen, "num_fds") else seen.num_handles()
            times = seen.cpu_times()
            cpu = times.user + times.system
            return Reading(time.monotonic(), cpu, seen.memory_info().rss, seen.num_threads(), files)

    def end(self) -> int:
        """Asks it to end, as systemd or Ctrl-C would, and waits. Returns its exit code."""
        self._ended.set()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join()
        return self.process.returncode

    def kill(self) -> None:
        """As a crash or a loss of power ends it."""
        self._ended.set()
        self.process.kill()
        self.process.wait()

    def left_files(self) -> list[str]:
        """Temporary files that are there now."""
        return sorted(str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*") if path.is_file())

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output = (self.output + line)[-100_000:]
            if found := re.search(r"http://\S+?:(\d+) ", line):
                self.port = self.port or int(found[1])

    def _watch(self) -> None:
        while not self._ended.wait(self.sample):
            try:
                self.readings.append(self.read())
            except Exception:  # it has ended
                return


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:
        raise UserError("watching the service needs psutil: pip install psutil") from None
    return psutil
