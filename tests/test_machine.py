"""What the machine is said to be: processors, bfloat16, versions, and the commit of the code."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from normbank import __version__, machine

GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    remembered = (machine.cpu_name, machine.has_fast_bf16, machine.commit)
    for one in remembered:
        one.cache_clear()
    yield
    for one in remembered:  # what was made up is gone by now: other tests are not to be told of it
        one.cache_clear()


def cpuinfo(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda: text)


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fpu sse avx2 avx512f", False),
        ("fpu avx512f avx512_bf16", True),
        ("fpu amx_bf16 amx_tile", True),
        ("fpu avx512_bf16_like", False),
        ("", False),
    ],
)
def test_bf16_by_the_processor_s_flags(monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool) -> None:
    cpuinfo(monkeypatch, f"processor\t: 0\nmodel name\t: A processor\nflags\t\t: {flags}\n")
    assert machine.has_fast_bf16() is fast


def test_the_processor_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo(monkeypatch, "processor\t: 0\nmodel name\t: Some: Processor 9000\nmodel name\t: Another\n")
    assert machine.cpu_name() == "Some: Processor 9000"
    machine.cpu_name.cache_clear()
    cpuinfo(monkeypatch, "")
    assert machine.cpu_name()  # some name, wherever the system keeps it


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "900000 100000\n"}, 3),  # more than it is kept to
        ({"cpu.max": "max 100000\n"}, 3),
        ({"cpu.max": "?"}, 3),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({}, 3),
    ],
)
def test_processors_are_no_more_than_a_container_may_use(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5}, raising=False)
    assert machine.cpu_count() == expected


def test_processors_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_quota", lambda group: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5}, raising=False)
    assert machine.cpu_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cpu_count() == 1


def test_versions() -> None:
    found = machine.versions("pytest", "surely-no-such-package")
    assert found["normbank"] == __version__
    assert found["pytest"] == pytest.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "surely-no-such-package" not in found


def test_the_description_is_plain() -> None:
    told = machine.describe()
    assert told.keys() == {"processor", "processors", "bf16", "system"}
    assert told["processors"] == machine.cpu_count()


# the commit


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *arguments],
        cwd=folder,
        env={**os.environ, **GIT},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit that holds package/code.py; the folder of the package."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    return package


def test_the_commit_of_a_checkout(checkout: Path) -> None:
    assert machine.commit(checkout) == git(checkout, "rev-parse", "HEAD")[:12]


def test_edited_code_is_told(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("beside it\n")
    (checkout.parent / "elsewhere.txt").write_text("not of the package\n")
    assert machine.commit(checkout) == git(checkout, "rev-parse", "HEAD")[:12]
    (checkout / "code.py").write_text("two\n")
    machine.commit.cache_clear()
    assert machine.commit(checkout) == git(checkout, "rev-parse", "HEAD")[:12] + "+changes"


def test_the_commit_is_remembered_as_it_was_first(checkout: Path) -> None:
    first = machine.commit(checkout)
    git(checkout, "commit", "-q", "--allow-empty", "-m", "two")
    assert machine.commit(checkout) == first


def test_no_checkout_has_no_commit(tmp_path: Path) -> None:
    assert machine.commit(tmp_path) is None


def test_a_package_installed_inside_another_repository_has_no_commit(checkout: Path) -> None:
    installed = checkout.parent / ".venv" / "site-packages" / "normbank"
    installed.mkdir(parents=True)
    (installed / "code.py").write_text("installed\n")
    assert machine.commit(installed) is None


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert machine.commit(checkout) is None


# tuning


def test_tuning_leaves_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        def __init__(self) -> None:
            self.set: list[tuple[int, int]] = []

        def mallopt(self, name: int, value: int) -> None:
            self.set.append((name, value))

    libc = Libc()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    machine.tune_for_training()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert libc.set == [(-3, 2**30), (-1, 2**31 - 1)]
    monkeypatch.delenv("OMP_WAIT_POLICY")
    machine.tune_for_training()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_system_without_mallopt_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # musl
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    machine.tune_for_training()


def test_a_lock_that_was_removed_meanwhile_holds_no_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who had it ends between another's opening and locking it: that one then takes the file of today."""
    lock, real, calls = tmp_path / "x.lock", machine._lock, []

    def late(held: int) -> bool:
        if not calls:
            lock.unlink()
        calls.append(held)
        return real(held)

    monkeypatch.setattr(machine, "_lock", late)
    with machine.alone_by(lock) as free:
        assert free
        assert lock.exists()
        assert len(calls) == 2
        with machine.alone_by(lock) as second:
            assert not second
        assert lock.exists()  # whom it was refused leaves it alone
    assert not lock.exists()
