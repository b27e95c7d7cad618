"""The processes that train: how many at once, on which cores, and how all of them are ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

REPO = Path(__file__).resolve().parent.parent
INTERRUPTED = 130
ENDED = (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM)  # exit codes of a process that was told to end
ONE = (sys.executable, "-m", "bench.one")


class Children:
    """Starts processes, one for each job, and ends those that run: only the main thread hears of Ctrl-C and SIGTERM."""

    def __init__(self, command: Sequence[str] = ONE) -> None:
        self._command, self._lock = command, threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False

    def run(self, job: Mapping[str, Any]) -> int:
        """A training and its scores in a process of its own; its exit code. After `end` none is started."""
        with self._lock:
            if self._ended:
                return INTERRUPTED
            child = subprocess.Popen(self._command, cwd=REPO, stdin=subprocess.PIPE, text=True)
            self._running.add(child)
        try:
            child.communicate(json.dumps(job))
        finally:
            with self._lock:
                self._running.discard(child)
        return child.returncode

    def end(self) -> None:
        """End those that run and start no more; each `run` returns when its process is gone."""
        with self._lock:
            self._ended = True
            for child in self._running:
                child.terminate()


def threads(jobs: int) -> ThreadPoolExecutor:
    """So many threads to start processes from; where there are several, each has its share of the cores.

    On Linux a thread's cores are its own, and a process it starts has the same from its first library on.
    """
    if jobs == 1 or not hasattr(os, "sched_setaffinity"):
        return ThreadPoolExecutor(jobs)
    left: SimpleQueue[list[int]] = SimpleQueue()
    for share in shares(sorted(os.sched_getaffinity(0)), jobs):
        left.put(share)
    return ThreadPoolExecutor(jobs, initializer=lambda: _stay_on(left.get()))


def _stay_on(cores: list[int]) -> None:
    with contextlib.suppress(OSError):  # a core may have been taken away meanwhile; all of them do, too
        os.sched_setaffinity(0, cores)


def shares(cores: Sequence[int], jobs: int) -> list[list[int]]:
    """The cores of each job: distinct while there are enough, and as many for each.

    A training that goes on from its checkpoint needs as many as it began with, whichever share it then gets.
    """
    size = max(1, len(cores) // jobs)
    return [[cores[place % len(cores)] for place in range(job * size, (job + 1) * size)] for job in range(jobs)]
