"""Several trainings at once: how many, on which cores, and that none outlives an interruption."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import paper, runner  # noqa: E402
from bench.children import Children, shares  # noqa: E402


@pytest.fixture
def places(tmp_path):
    for digit in range(6):
        (tmp_path / "data" / "mnist" / str(digit)).mkdir(parents=True)
    return runner.Places(tmp_path / "data", tmp_path / "work", tmp_path / "results")


def digits(places, start, count=6, **more):
    """Run so many digits of Table II."""
    found = runner.plan(paper.cells("II", [str(digit) for digit in range(count)], [0]), "quick", places)
    told = []
    return runner.run_all(found, places, "cpu", told.append, start, **more), told


def test_so_many_trainings_run_at_once_and_no_more(places):
    together, lock, running, most = threading.Barrier(3, timeout=30), threading.Lock(), set(), []

    def start(job):
        with lock:
            running.add(job["training"]["data"])
            most.append(len(running))
        together.wait()  # goes on only when three are here
        with lock:
            running.discard(job["training"]["data"])
        return 0

    failed, told = digits(places, start, jobs=3)
    assert (failed, max(most)) == (0, 3)
    assert sorted(told) == [f"[{n}/6] mnist-{n - 1}.paper-mnist.quick.seed0: 1 to score" for n in range(1, 7)]


def test_failed_ones_are_counted_among_several(places):
    failed, told = digits(places, lambda job: 2 * (job["training"]["data"] in ("mnist/1", "mnist/4")), jobs=2)
    assert failed == 2
    assert [line for line in sorted(told) if "failed" in line] == [
        f"failed (2): mnist-{digit}.paper-mnist.quick.seed0" for digit in (1, 4)
    ]


@pytest.mark.parametrize("code", [130, -2, -15])
def test_an_interrupted_child_ends_the_others_and_no_more_are_started(places, code):
    started, both, ended = [], threading.Barrier(2, timeout=30), threading.Event()

    def start(job):
        started.append(job)
        both.wait()
        if job["training"]["data"] == "mnist/0":
            return code
        assert ended.wait(30)
        return -15

    with pytest.raises(KeyboardInterrupt):
        digits(places, start, jobs=2, end=ended.set)
    assert len(started) == 2


@pytest.mark.parametrize(
    "interrupt",
    [
        pytest.param(lambda: os.kill(os.getpid(), signal.SIGINT), id="while it waits"),
        # Noted, but nothing wakes the main thread: as with a signal that comes just before its wait begins.
        pytest.param(_thread.interrupt_main, id="just before"),
    ],
)
def test_ctrl_c_ends_the_processes_that_run(places, interrupt):
    children = Children([sys.executable, "-c", "import time; time.sleep(10)"])
    started, codes = threading.Barrier(2, timeout=30), []

    def start(job):
        if started.wait() == 0:
            time.sleep(0.3)  # until the main thread waits: a pool forgets a thread that it is interrupted in starting
            interrupt()
        codes.append(children.run(job))
        return codes[-1]

    with pytest.raises(KeyboardInterrupt):
        digits(places, start, jobs=2, end=children.end)
    assert len(codes) == 2
    assert set(codes) <= {-15, 130}
    assert children.run({}) == 130


@pytest.mark.parametrize(
    ("cores", "jobs", "wanted"),
    [
        (range(16), 4, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]),
        ([2, 3, 5, 8, 9], 2, [[2, 3], [5, 8]]),
        ([4, 7], 3, [[4], [7], [4]]),
    ],
)
def test_each_job_has_its_share_of_the_cores(cores, jobs, wanted):
    assert shares(cores, jobs) == wanted


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_processes_get_the_cores_of_their_share(places, tmp_path):
    tells = (
        "import json, os, sys; job = json.load(sys.stdin); print(sorted(os.sched_getaffinity(0)), job['shared'], "
        f"file=open({str(tmp_path)!r} + '/' + job['training']['data'].replace('/', '-'), 'w'))"
    )
    before = sorted(os.sched_getaffinity(0))
    for jobs in (1, 2):
        digits(places, Children([sys.executable, "-c", tells]).run, count=2, jobs=jobs)
        found = {path.read_text(encoding="utf-8").strip() for path in tmp_path.glob("mnist-*")}
        assert found
        assert found <= {f"{share} {jobs > 1}" for share in shares(before, jobs)}
    assert sorted(os.sched_getaffinity(0)) == before
