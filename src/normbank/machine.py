"""What this machine has, and the settings of its runtime that decide how fast it is. No PyTorch."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("normbank", "numpy", "pillow", "onnxruntime", "torch", "lightning", "onnx", "opencv-python-headless")
CGROUP = Path("/sys/fs/cgroup")
HERE = Path(__file__).resolve().parent
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def cpu_count() -> int:
    """Processors this process may use: those it is kept to, and no more than its container may take the time of."""
    kept_to = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(kept_to, _quota(CGROUP) or kept_to)


def _quota(group: Path) -> int | None:
    """Processors' worth of time that a container is limited to, rounded up (cgroup v2, or v1); None without a limit."""
    with contextlib.suppress(OSError, ValueError):
        most, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if most == "max" else math.ceil(int(most) / int(period))
    with contextlib.suppress(OSError, ValueError):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        limit, of = (int((group / "cpu" / name).read_text(encoding="ascii")) for name in names)
        return math.ceil(limit / of) if limit > 0 else None
    return None


@functools.cache
def cpu_name() -> str:
    """The processor's own name, where the system tells."""
    lines = _cpuinfo().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@functools.cache
def has_fast_bf16() -> bool:
    """Whether the processor computes in bfloat16 (AVX512-BF16 or AMX), where it makes training faster."""
    flags = set(_cpuinfo().split())
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def _cpuinfo() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return ""


def tune_for_training() -> None:
    """Keep freed memory in the process, and waiting threads off the processor.

    PyTorch on the CPU allocates and frees the same large blocks each step; glibc returns them to the system and every
    step pays the page faults again (measured: half of a training step). Threads that spin while they wait slow
    each other down as soon as one core is busy elsewhere. Call before PyTorch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def alone_in(place: Path) -> Iterator[bool]:
    """Whether no one else is inside such a block for `place`, a folder or file that is there.

    True where the system or the disk cannot tell.
    """
    held = os.open(place, os.O_RDONLY) if os.name == "posix" else None
    try:
        yield held is None or _lock(held)
    finally:
        if held is not None:
            os.close(held)


@contextlib.contextmanager
def alone_by(file: Path) -> Iterator[bool]:
    """As `alone_in`, by an empty `file` that is there only meanwhile."""
    held, free = _hold(file)
    try:
        yield free
    finally:
        if free:  # while it is still held: who opened it before finds another of the name, or none
            with contextlib.suppress(OSError):
                file.unlink()
        os.close(held)


def _hold(file: Path) -> tuple[int, bool]:
    while True:
        held = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)  # as some disks in networks want it
        free = _lock(held)
        if not free or _is_called(held, file):
            return held, free
        os.close(held)  # whoever had it has removed it in between


def _lock(held: int) -> bool:
    try:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # a system or a disk without locks
        pass
    return True


def _is_called(held: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), file.stat())
    except FileNotFoundError:
        return False


def versions(*more: str) -> dict[str, str]:
    """Python and the packages that decide a result (and `more`), as installed."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *more):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def commit(here: Path = HERE) -> str | None:
    """The commit of the checkout this code (the folder `here`) runs from, `+changes` where it was edited.

    None outside a checkout, and inside one that only happens to hold the installed package.
    """
    try:
        if not _git(here, "ls-files", "--", "."):
            return None
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        edited = _git(here, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+changes" if edited else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def describe() -> dict[str, Any]:
    """The machine as results record it."""
    return {
        "processor": cpu_name(),
        "processors": cpu_count(),
        "bf16": has_fast_bf16(),
        "system": f"{platform.system()} {platform.machine()}",
    }
