"""Scoring many files: where their names come from, and where the results go. No PyTorch."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from . import images
from .bundle import write_atomically
from .data.files import DRAWN, ensure_no_loss, list_images
from .detector import Detector, Prediction
from .errors import DataError, ImageError, UserError, problem
from .progress import printable

COLUMNS = ("path", "score", "threshold", "p_value", "is_anomalous", "error")
HEADER = ",".join(COLUMNS) + "\r\n"  # of the CSV
Row = dict[str, Any]
_LONGEST_ROW = 1_000_000  # bytes; a name has thousands at most
_LONGEST_NAME = 255  # bytes, of the usual file systems
_CHUNK = 65536
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


@dataclass
class Tally:
    """What came of a run over many files."""

    scored: int = 0
    anomalous: int = 0
    broken: int = 0


@dataclass(frozen=True)
class Outlets:
    """Where results go; None: nowhere. `maps` and `overlays` are folders; overlays have 4,096 pixels a side at most."""

    csv: Path | None = None
    jsonl: Path | None = None
    maps: Path | None = None
    overlays: Path | None = None


class ByteStream(Protocol):
    """What names are read from: `sys.stdin.buffer`, or an `io.BytesIO`."""

    def read1(self, size: int = -1, /) -> bytes:
        """What is there, up to `size` bytes; waits only where there is nothing. Empty at the end."""


def find_targets(
    paths: Sequence[str], stdin: ByteStream | None = None, *, null: bool = False, without: Collection[Path] = ()
) -> Iterator[Target]:
    """The files meant by `paths`: folders are searched, `-` reads names from `stdin`, one a line (or NUL-separated).

    DataError, at once, for a path that is not there and a folder without images. What stands on `stdin` is taken as it
    comes, so that a line can run all day. Results about the images of a folder are filed by their names below it; where
    several paths are given, and for single files, by their whole path, with `..` written `_..`. The folders `without`,
    which are to be written into, are not searched, nor are those that an earlier run filled, and none of them may be a
    path itself (UserError).
    """
    found = [
        _from_stream(stdin, null) if text == "-" and stdin else _from_path(text, len(paths), without) for text in paths
    ]
    return chain.from_iterable(found)


def _from_stream(stream: ByteStream, null: bool) -> Iterator[Target]:
    for given in _split(stream, b"\0" if null else b"\n"):
        name = given.decode(sys.getfilesystemencoding(), "surrogateescape")
        yield Target(name, _inside(Path(name)))


def _split(stream: ByteStream, separator: bytes) -> Iterator[bytes]:
    """The names on the stream, each as soon as its end has come."""
    rest = b""
    while chunk := stream.read1(_CHUNK):
        *whole, rest = (rest + chunk).split(separator)
        yield from _names(whole, separator)
    yield from _names([rest], separator)


def _names(pieces: list[bytes], separator: bytes) -> Iterator[bytes]:
    if separator == b"\n":  # written by Windows, perhaps
        pieces = [piece.rstrip(b"\r") for piece in pieces if piece.strip()]
    return (piece for piece in pieces if piece)


def _from_path(text: str, count: int, without: Collection[Path]) -> list[Target]:
    path = Path(text)
    if not text or not os.path.lexists(path):
        do = "Give image files, folders, or - for names on standard input."
        raise DataError(f"{text!r}: there is no such file or folder. {do}")
    if not path.is_dir():
        return [Target(text, _inside(path))]
    if os.path.realpath(path) in map(os.path.realpath, without):
        do = "Name another folder to write into; the next run would take what was written for images."
        raise UserError(problem(f"{text!r}", expected="a folder that is only read", came="one to write into", do=do))
    listing = list_images(path, without=without)
    found = sorted({**dict.fromkeys(listing.paths, ""), **dict(listing.skipped)}.items())
    if not found:
        raise DataError(f"{text!r}: no image in this folder. Expected files ending in {', '.join(images.SUFFIXES)}.")
    below = _inside(path) if count > 1 else Path()
    return [Target(name, below / Path(name).relative_to(path), reason) for name, reason in found]


def _inside(path: Path) -> Path:
    """A path that stays inside an output folder, whatever the name."""
    return Path(*("_.." if part == ".." else part for part in path.parts if part != path.anchor))


def score_all(
    detector: Detector,
    targets: Iterable[Target],
    outlets: Outlets,
    *,
    strict: bool = False,
    show: Callable[[Row], None] | None = None,
    batch_size: int = 16,
) -> Tally:
    """Score every target and write to `outlets` as results come; broken files get a row with the reason.

    With `strict` the first broken file raises ImageError, after what came before it is written. UserError where an
    outlet cannot be written.
    """
    _check_outlets(outlets)
    tally = Tally()
    with ExitStack() as stack:
        drawers = [*_drawers(outlets, detector)]
        writers = [*_writers(outlets, stack), *([_shower(show)] if show else [])]
        for target, result in _results(detector, targets, batch_size):
            told = _draw(drawers, target, result)
            _count(tally, told)
            for write in writers:
                write(target, told)
            if strict and isinstance(told, ImageError):
                raise told
    return tally


def _check_outlets(outlets: Outlets) -> None:
    """What can be known to fail, and what would destroy something, before anything is opened."""
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


def _draw(drawers: Sequence[Writer], target: Target, result: Prediction | ImageError) -> Prediction | ImageError:
    """Draw what is asked for; the reason where the file, scored a moment ago, can be read no more."""
    try:
        for draw in drawers:
            draw(target, result)
    except ImageError as error:
        return ImageError(target.name, f"{error.reason} (it changed after it was scored)")
    return result


def _results(
    detector: Detector, targets: Iterable[Target], batch_size: int
) -> Iterator[tuple[Target, Prediction | ImageError]]:
    pending: deque[Target] = deque()

    def sources() -> Iterator[Path | ImageError]:
        for target in targets:
            pending.append(target)
            yield ImageError(target.name, target.reason) if target.reason else target.path

    for result in detector.stream(sources(), batch_size):
        yield pending.popleft(), result


def _count(tally: Tally, result: Prediction | ImageError) -> None:
    if isinstance(result, ImageError):
        tally.broken += 1
        return
    tally.scored += 1
    tally.anomalous += bool(result.is_anomalous)


Writer = Callable[[Target, "Prediction | ImageError"], object]


def _drawers(outlets: Outlets, detector: Detector) -> Iterator[Writer]:
    if outlets.maps:
        yield _map_writer(outlets.maps)
    if outlets.overlays:
        yield _overlay_writer(outlets.overlays, detector)


def _writers(outlets: Outlets, stack: ExitStack) -> Iterator[Writer]:
    if outlets.csv:
        yield _csv_writer(_Table(outlets.csv, stack, HEADER))
    if outlets.jsonl:
        yield _jsonl_writer(_Table(outlets.jsonl, stack))


class _Table:
    """A text file written line by line, each of them at once; UserError names it where that fails.

    What an earlier run left in it stays until the first line comes: a run that scores nothing loses nothing.
    """

    def __init__(self, path: Path, stack: ExitStack, header: str = "") -> None:
        self.path, self.header = path, header
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file: IO[str] = path.open("a", encoding="utf-8", errors="surrogateescape", newline="")
            found = os.fstat(self.file.fileno())
        except OSError as error:
            raise self._failed(error) from None
        stack.callback(self._close)
        self.is_earlier = stat.S_ISREG(found.st_mode) and found.st_size > 0
        if header and not self.is_earlier:
            self.write(header)

    def write(self, line: str) -> None:
        try:
            if self.is_earlier:
                self.file.truncate(0)
                self.file.write(self.header)
                self.is_earlier = False
            self.file.write(line)
            self.file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> UserError:
        do = "Name another file." if isinstance(error, IsADirectoryError) else "Name another file, or make room."
        return UserError(f"{str(self.path)!r} cannot be written: {error.strerror}. {do}")

    def _close(self) -> None:
        with suppress(OSError):  # each line was flushed: what is left here has failed before
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


def _csv_writer(table: _Table) -> Writer:
    writer = csv.DictWriter(table, COLUMNS)
    return lambda target, result: writer.writerow(row_of(target, result))


def _jsonl_writer(table: _Table) -> Writer:
    # ASCII escapes carry names that are not valid Unicode, too.
    return lambda target, result: table.write(json.dumps(row_of(target, result)) + "\n")


def _map_writer(folder: Path) -> Writer:
    def write(target: Target, result: Prediction | ImageError) -> None:
        if isinstance(result, Prediction):
            buffer = io.BytesIO()
            np.save(buffer, result.anomaly_map)
            write_atomically(_beside(folder, target, ".npy"), buffer.getvalue())

    return write


def _overlay_writer(folder: Path, detector: Detector) -> Writer:
    from .report.overlays import resized, save_overlay, to_rgb

    scale = float(detector.manifest["map_scale"])

    def write(target: Target, result: Prediction | ImageError) -> None:
        if isinstance(result, Prediction):
            original = images.read(target.path)
            size = _shown_size(*original.shape[:2])
            picture, path = resized(to_rgb(original), size), _beside(folder, target, ".png")
            save_overlay(path, picture, result.anomaly_map, scale, size, fit=detector.spec.fit)

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


def _shower(show: Callable[[Row], None]) -> Writer:
    return lambda target, result: show(row_of(target, result))
