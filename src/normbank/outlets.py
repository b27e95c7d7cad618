"""Where the results of scoring many files go: tables, raw maps, heat maps. No PyTorch."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import decoding
from .bundle import is_stdout, write_atomically
from .data.files import DRAWN, ensure_no_loss
from .detector import Detector, Prediction
from .errors import ImageError, UserError, problem
from .machine import alone_in
from .progress import printable

COLUMNS = ("path", "score", "threshold", "p_value", "is_anomalous", "error")
HEADER = ",".join(COLUMNS) + "\r\n"  # of the CSV
Row = dict[str, Any]
_LONGEST_ROW = 1_000_000  # bytes; a name has thousands at most
_LONGEST_NAME = 255  # bytes, of the usual file systems
_OUR_OVERLAY = re.compile(rb"\x89PNG.{0,80}Software\0normbank", re.DOTALL)
_OUR_MAP = re.compile(
    rb"\x93NUMPY.{4}\{'descr': '<f4', 'fortran_order': False, 'shape': \(\d+, \d+\)", re.DOTALL
)  # or alike
_LARGEST_OVERLAY = 4096  # pixels a side; drawing takes some 100 bytes a pixel


@dataclass(frozen=True)
class Target:
    """One file to score, by the `name` that it was given by; `relative` names what is written about it elsewhere."""

    name: str
    relative: Path
    reason: str = ""  # why it can never be an image, where that is known already

    @property
    def path(self) -> Path:
        """The file itself."""
        return Path(self.name)


@dataclass(frozen=True)
class Outlets:
    """Where results go; None: nowhere. `maps` and `overlays` are folders; overlays have 4,096 pixels a side at most."""

    csv: Path | None = None
    jsonl: Path | None = None
    maps: Path | None = None
    overlays: Path | None = None


def check_outlets(outlets: Outlets) -> None:
    """What can be known to fail, and what would destroy something, before anything is opened; but for drawings."""
    starts = ((outlets.csv, HEADER.encode()), (outlets.jsonl, _first_row(outlets.jsonl)))
    if outlets.csv and outlets.jsonl and os.path.realpath(outlets.csv) == os.path.realpath(outlets.jsonl):
        do, came = "Name another for one of them.", f"{str(outlets.csv)!r} for both"
        raise UserError(problem("--csv and --jsonl", expected="two files", came=came, do=do))
    for path, start in starts:
        if path is None:
            continue
        if str(path) == "-":
            do = "Without --csv and --jsonl the rows go to standard output."
            raise UserError(problem("--csv and --jsonl", expected="a file", came="'-'", do=do))
        if not is_stdout(path):  # what that leads to is the shell's choice, and nothing in it is replaced
            ensure_no_loss(path, start)
    _make_folders([folder for folder in (outlets.maps, outlets.overlays) if folder])


def _first_row(path: Path | None) -> bytes:
    """The first line of an earlier run's JSON lines; empty of any other file."""
    with suppress(OSError, ValueError):
        if path and path.is_file():
            with path.open("rb") as file:
                line = file.readline(_LONGEST_ROW)
            row = json.loads(line)
            return line if isinstance(row, dict) and tuple(row) == COLUMNS else b""
    return b""


def _make_folders(folders: Sequence[Path]) -> None:
    """Those that were not there, or empty, are marked: of other ones someone's own images would be passed over, too."""
    ours = [folder for folder in folders if not (folder.is_dir() and any(folder.iterdir()))]
    for folder in folders:
        _make_folder(folder)
    for folder in ours:
        (folder / DRAWN).touch()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder {str(folder)!r} cannot be made: {error.strerror}. Name another.") from None


Writer = Callable[[Target, "Prediction | ImageError"], object]


def drawers_of(outlets: Outlets, detector: Detector) -> Iterator[Writer]:
    """What draws a scored image into each folder that is asked for."""
    if outlets.maps:
        yield _map_writer(outlets.maps)
    if outlets.overlays:
        yield _overlay_writer(outlets.overlays, detector)


def tables_of(outlets: Outlets, stack: ExitStack) -> Iterator[tuple[Table, Writer]]:
    """Each table that is asked for, open until the stack ends, and what writes a result into it."""
    if outlets.csv:
        table = Table(outlets.csv, stack, HEADER)
        yield table, _csv_writer(table)
    if outlets.jsonl:
        table = Table(outlets.jsonl, stack)
        yield table, _jsonl_writer(table)


class Table:
    """A text file written line by line, each of them at once; UserError names it where that fails.

    What an earlier run left in it stays until the first line comes, or the end without one: a run that fails or is
    interrupted before it has scored anything loses nothing. What standard output leads to is gone on with.
    """

    def __init__(self, path: Path, stack: ExitStack, header: str = "") -> None:
        self.path, self.header, goes_on = path, header, is_stdout(path)
        try:
            self.file = self._open(goes_on)
            found = os.fstat(self.file.fileno())
        except OSError as error:
            raise self._failed(error) from None
        stack.callback(self._close)
        is_file = stat.S_ISREG(found.st_mode)
        if is_file and not goes_on and not stack.enter_context(alone_in(path)):
            do = "Wait for it, end it, or name another file."
            raise UserError(problem(repr(str(path)), expected="it free", came="another run at work in it", do=do))
        self.is_cut_back = is_file and not goes_on
        holds_some = is_file and os.fstat(self.file.fileno()).st_size > 0
        self.is_earlier = holds_some and not goes_on
        if header and not (holds_some and (self.is_earlier or self._has_header())):
            self.write(header)

    def _open(self, goes_on: bool) -> io.FileIO:
        """Standard output by its own descriptor: where it is a file, another one would write over what is printed."""
        if goes_on:
            sys.stdout.flush()
            return io.FileIO(os.dup(1), "w")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return io.FileIO(self.path, "a")

    def _has_header(self) -> bool:
        with suppress(OSError), self.path.open("rb") as file:
            return file.read(len(self.header)) == self.header.encode()
        return False

    def end(self) -> None:
        """Nothing more comes: an earlier run's lines go, if they are still there."""
        if self.is_earlier:
            self.write("")

    def write(self, line: str) -> None:
        """Add a line, in place of what an earlier run left; whole or not at all, where it is a file of ours."""
        try:
            if self.is_earlier:
                self.file.truncate(0)
                self._add(self.header)
                self.is_earlier = False
            self._add(line)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from None

    def _add(self, text: str) -> None:
        """Unbuffered: what has failed is not tried again when the file is closed."""
        before, left = os.fstat(self.file.fileno()).st_size, text.encode("utf-8", "surrogateescape")
        try:
            while left:
                if (count := self.file.write(left)) is None:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                left = left[count:]
        except OSError:
            if self.is_cut_back:  # half a number is another number
                with suppress(OSError):
                    self.file.truncate(before)
            raise

    def _failed(self, error: OSError) -> UserError:
        do = "Name another file." if isinstance(error, IsADirectoryError) else "Name another file, or make room."
        return UserError(f"{str(self.path)!r} cannot be written: {error.strerror}. {do}")

    def _close(self) -> None:
        with suppress(OSError):
            self.file.close()


def row_of(target: Target, result: Prediction | ImageError) -> Row:
    """A result as CSV and JSON lines hold it; empty where there is nothing."""
    if isinstance(result, ImageError):
        return {**dict.fromkeys(COLUMNS), "path": target.name, "error": result.reason}
    return {
        "path": target.name,
        "score": result.score,
        "threshold": result.threshold,
        "p_value": result.p_value,
        "is_anomalous": result.is_anomalous,
        "error": None,
    }


def line_of(row: Row) -> str:
    """A scored image's row as the terminal shows it."""
    verdict = {True: "anomalous", False: "normal", None: "no threshold"}[row["is_anomalous"]]
    p_value = "" if row["p_value"] is None else f"p={row['p_value']:.3g}"
    return f"{row['score']:.6g}\t{verdict}\t{p_value}\t{printable(row['path'])}"


def _csv_writer(table: Table) -> Writer:
    writer = csv.DictWriter(table, COLUMNS)
    return lambda target, result: writer.writerow(row_of(target, result))


def _jsonl_writer(table: Table) -> Writer:
    # ASCII escapes carry names that are not valid Unicode, too.
    return lambda target, result: table.write(json.dumps(row_of(target, result)) + "\n")


def _map_writer(folder: Path) -> Writer:
    replace = _replacing(folder, _OUR_MAP)

    def write(target: Target, result: Prediction | ImageError) -> None:
        if isinstance(result, Prediction):
            buffer = io.BytesIO()
            np.save(buffer, result.anomaly_map)
            replace(_beside(folder, target, ".npy"), buffer.getvalue())

    return write


def _overlay_writer(folder: Path, detector: Detector) -> Writer:
    from .report.overlays import draw_overlay, resized, to_rgb

    scale, replace = float(detector.manifest["map_scale"]), _replacing(folder, _OUR_OVERLAY)

    def write(target: Target, result: Prediction | ImageError) -> None:
        if isinstance(result, Prediction):
            original = decoding.read(target.path)
            size = _shown_size(*original.shape[:2])
            picture = resized(to_rgb(original), size)
            content = draw_overlay(picture, result.anomaly_map, scale, size, fit=detector.spec.fit)
            replace(_beside(folder, target, ".png"), content)

    return write


def _replacing(folder: Path, earlier: re.Pattern[bytes]) -> Callable[[Path, bytes], None]:
    """What writes a drawn file; in a folder of someone's own (`_make_folders`) over nothing but an `earlier` one."""
    is_ours = (folder / DRAWN).exists()

    def write(path: Path, content: bytes) -> None:
        if not is_ours:
            ensure_no_loss(path, earlier)
        write_atomically(path, content)

    return write


def _shown_size(height: int, width: int) -> tuple[int, int]:
    share = min(1.0, _LARGEST_OVERLAY / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def _beside(folder: Path, target: Target, suffix: str) -> Path:
    """folder/sub/name.jpg.png: the whole name is kept, so a.jpg and a.png do not meet.

    A name that would be too long for the disk is cut, and told from its likes by a digest.
    """
    name = os.fsencode(target.relative.name)
    if len(name) + len(suffix) > _LONGEST_NAME:
        name = name[:200] + f"~{hashlib.sha256(name).hexdigest()[:16]}".encode()
    return folder / target.relative.with_name(os.fsdecode(name) + suffix)
