"""Memory that is freed serves the next tensor: no new pages, in any thread."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from restorevar import heap

ASK = """
import resource, threading
import torch
from restorevar import heap

def pages_a_tensor() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(5_000_000)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20

def ask(found: list[int]) -> None:
    pages_a_tensor()  # the first few leave gaps
    found.append(pages_a_tensor())

kept, found = heap.keep_freed(), []
ask(found)
thread = threading.Thread(target=ask, args=[found])
thread.start()
thread.join()
print(kept, *found)
"""


def ask(**environment: str) -> list[str]:
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment
    done = subprocess.run([sys.executable, "-c", ASK], env=surroundings, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's heap")
def test_freed_memory_is_kept_in_every_thread():
    kept, here, in_a_thread = ask()
    assert kept == "True"
    whole = 20_000_000 // os.sysconf("SC_PAGESIZE")
    assert max(int(here), int(in_a_thread)) < whole / 100


def test_the_users_own_settings_stay():
    assert ask(MALLOC_TRIM_THRESHOLD_="100000")[0] == "False"


def test_elsewhere_nothing_is_set(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert heap.keep_freed() is False
