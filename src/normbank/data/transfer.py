"""One file over HTTP, surely: resumed where it was cut, checked against its checksum, named only when it is whole.

While it comes, a file `x` is `x.part`, and `x.part.json` says from where and how long it will be. A later call goes on
from there, unless the file has changed at its source. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from ..errors import DataError, problem

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes that are there and the bytes there will be (None while unknown)."""

_CHUNK = 1 << 20
_TRY_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


@dataclass(frozen=True)
class Patience:
    """How long to bear with a network: seconds without a byte, failures in a row, and the first wait (then doubled)."""

    timeout: float = 30.0
    retries: int = 4
    wait: float = 1.0


DEFAULT_PATIENCE = Patience()


class _Cut(Exception):
    """This try failed in a way that the next may not; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class _State:
    """What `x.part.json` holds; `validator` is a strong ETag or a date, for If-Range."""

    url: str
    size: int | None
    validator: str | None


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    room_for_contents: float = 0.0,
    progress: Progress | None = None,
    patience: Patience = DEFAULT_PATIENCE,
) -> None:
    """Fetch `url` into the file `target`, going on with `target.part` where one is there.

    Without `sha256` the sum of what came is written to `target.sha256`, and where that file is there already it is the
    sum expected. `room_for_contents` is the further disk space needed, as a share of the file's size.

    Raises DataError, saying what is kept and what to do, for: no network, an address that is not found, a connection
    cut more than `patience.retries` times in a row without a new byte, a full disk, a wrong checksum.
    """
    part = _Part(url, target, room_for_contents, progress or _silent)
    failures = 0
    while not part.is_whole():
        before = part.length()
        try:
            _receive(part, patience.timeout)
        except _Cut as cut:
            failures = 1 if part.length() > before else failures + 1
            if failures > patience.retries:
                _give_up(part, cut, failures)
            time.sleep(min(max(cut.wait, patience.wait * 2 ** (failures - 1)), _LONGEST_WAIT))
    _settle(part, target, sha256)


def verify(path: Path, expected: str | None, *, do: str) -> str:
    """The SHA-256 of a file; DataError where `expected`, or else the sum recorded in `path.sha256`, is another."""
    came = _digest(path)
    expected = expected or _recorded(path)
    if expected is not None and came != expected.lower():
        size = path.stat().st_size
        raise DataError(problem(str(path), expected=f"SHA-256 {expected}", came=f"{came} ({size:,} bytes)", do=do))
    return came


def check_room(folder: Path, needed: float) -> None:
    """DataError where the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            problem(
                str(folder),
                expected=f"{_mega(needed)} free on the disk",
                came=f"{_mega(free)}",
                do="Make room or choose a folder on another disk.",
            )
        )


class _Part:
    """The file as far as it has come."""

    def __init__(self, url: str, target: Path, room_for_contents: float, progress: Progress) -> None:
        self.url, self.room_for_contents, self.progress = url, room_for_contents, progress
        self.path = target.with_name(target.name + ".part")
        self.state_path = target.with_name(target.name + ".part.json")
        self.state = self._read_state()

    def _read_state(self) -> _State:
        try:
            return _State(**json.loads(self.state_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return _State("", None, None)

    def _is_ours(self) -> bool:
        """Whether what lies on disk came from the same address."""
        return self.state.url == self.url and self.path.is_file()

    def length(self) -> int:
        """Bytes on disk that can be built on."""
        return self.path.stat().st_size if self._is_ours() else 0

    def is_whole(self) -> bool:
        """Whether all bytes announced are there."""
        return self._is_ours() and self.length() == self.state.size

    def discard(self) -> None:
        """Forget what came."""
        self.path.unlink(missing_ok=True)
        self.state_path.unlink(missing_ok=True)
        self.state = _State(self.url, None, None)

    def request(self) -> urllib.request.Request:
        """For the whole file, or for what is missing of it if it is still the same."""
        headers = {"User-Agent": "normbank"}
        if self.length():
            headers["Range"] = f"bytes={self.length()}-"
            if self.state.validator:
                headers["If-Range"] = self.state.validator
        return urllib.request.Request(self.url, headers=headers)

    def open(self, response: Any) -> IO[bytes]:
        """The file to write the response's body to, at the place where that belongs."""
        if response.status == 206:
            self._check_continues(response.headers)
            return open(self.path, "ab")
        if response.headers.get_content_type() == "text/html":
            _not_the_file(self.url, "a web page")
        size = _number(response.headers.get("Content-Length"))
        self.discard()
        self.state = _State(self.url, size, _validator(response.headers))
        check_room(self.path.parent, (self.state.size or 0) * (1 + self.room_for_contents))
        self.state_path.write_text(json.dumps(asdict(self.state)), encoding="utf-8")
        return open(self.path, "wb")

    def _check_continues(self, headers: http.client.HTTPMessage) -> None:
        came = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        start, size = (came[1], came[2]) if came else (None, None)
        if start != str(self.length()) or size not in (str(self.state.size), "*"):
            self.discard()
            raise _Cut("the file has changed at its source")
        missing = (self.state.size or self.length()) - self.length()
        check_room(self.path.parent, missing + (self.state.size or 0) * self.room_for_contents)


def _receive(part: _Part, timeout: float) -> None:
    """One try; _Cut where another may do better."""
    try:
        with urllib.request.urlopen(part.request(), timeout=timeout) as response, part.open(response) as file:
            _copy(response, file, part)
    except urllib.error.HTTPError as error:
        with error:
            _refused(part, error)
    except urllib.error.URLError as error:
        raise _Cut(str(error.reason)) from None
    except http.client.HTTPException as error:
        raise _Cut(f"{type(error).__name__}: {error}") from None
    except OSError as error:
        _local_trouble(part, error)
        raise _Cut(str(error)) from None
    if part.state.size is None:
        part.state = _State(part.url, part.length(), part.state.validator)
    if part.length() > (part.state.size or 0):
        part.discard()
        raise _Cut("more bytes came than were announced")
    if not part.is_whole():
        raise _Cut("the connection was closed early")


def _copy(response: Any, file: IO[bytes], part: _Part) -> None:
    done = file.tell()
    part.progress(done, part.state.size)
    while chunk := response.read1(_CHUNK):
        file.write(chunk)
        done += len(chunk)
        part.progress(done, part.state.size)
    file.flush()
    os.fsync(file.fileno())


def _refused(part: _Part, error: urllib.error.HTTPError) -> NoReturn:
    if error.code == 416:  # our part is longer than the file now is
        part.discard()
        raise _Cut("the file has changed at its source")
    if error.code in _TRY_LATER:
        raise _Cut(f"the server answers {error.code} {error.reason}", _asked_wait(error.headers))
    _not_the_file(part.url, f"{error.code} {error.reason}")


def _not_the_file(url: str, came: str) -> NoReturn:
    raise DataError(
        problem(
            url,
            expected="the file",
            came=came,
            do="Its address may have changed, or the network asks for a login: look at the data set's page.",
        )
    )


def _asked_wait(headers: Any) -> float:
    """Retry-After where it is a number of seconds, else 0."""
    return float((_number(headers.get("Retry-After")) if headers else None) or 0)


def _number(text: str | None) -> int | None:
    """The number that a header holds; None where it holds none, whatever else."""
    return int(text) if text and text.isascii() and text.isdecimal() else None


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """What If-Range may hold: a strong ETag, else the date of the last change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _local_trouble(part: _Part, error: OSError) -> None:
    """DataError where it is the disk that fails, not the network."""
    if error.errno in _DISK_ERRORS:
        do = f"Make room; the same command goes on from the {_mega(part.length())} in {part.path.name}."
        expected = f"room for {_mega(part.state.size or 0)}"
        raise DataError(problem(str(part.path), expected=expected, came=f"{error.strerror}", do=do)) from None
    if error.filename is not None:
        do = "Choose a folder that you may write to."
        raise DataError(problem(str(part.path), expected="to write it", came=str(error), do=do)) from None


def _give_up(part: _Part, cut: _Cut, failures: int) -> NoReturn:
    there = part.length()
    size = f" of {_mega(part.state.size)}" if part.state.size else ""
    kept = f"{_mega(there)}{size} are kept in {part.path}; the same command goes on from there." if there else ""
    raise DataError(
        problem(
            part.url,
            expected="an answer from the network",
            came=f"{cut} ({failures} times in a row)",
            do=kept or "Check the connection (and HTTPS_PROXY where there is a proxy) and try again.",
        )
    ) from None


def _settle(part: _Part, target: Path, sha256: str | None) -> None:
    """Check the whole file and give it its name."""
    expected = sha256 or _recorded(target)
    came = _digest(part.path)
    if expected is not None and came != expected.lower():
        size = part.length()
        part.discard()
        source = "" if sha256 else f"; that sum was recorded at an earlier download, in {target.name}.sha256"
        raise DataError(
            problem(
                part.url,
                expected=f"SHA-256 {expected}{source}",
                came=f"{came} ({size:,} bytes)",
                do="What came was removed. Try again; if it stays so, the file has changed at its source.",
            )
        )
    if sha256 is None:
        _sum_path(target).write_text(f"{came}  {target.name}\n", encoding="utf-8")
    os.replace(part.path, target)
    part.state_path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded(path: Path) -> str | None:
    with contextlib.suppress(OSError, IndexError):
        return _sum_path(path).read_text(encoding="utf-8").split()[0]
    return None


def _mega(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def _silent(done: int, total: int | None) -> None:
    """No progress wanted."""
