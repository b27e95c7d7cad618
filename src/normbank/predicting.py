"""Scoring many files: where their names come from, and what comes of each. No PyTorch."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from .data.files import list_images
from .decoding import SUFFIXES
from .detector import Detector, Prediction
from .errors import DataError, ImageError, UserError, problem
from .likeness import Likeness
from .outlets import Outlets, Row, Target, Writer, check_outlets, drawers_of, row_of, tables_of

_CHUNK = 65536


@dataclass
class Tally:
    """What came of a run over many files."""

    scored: int = 0
    anomalous: int = 0
    broken: int = 0


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
    several paths are given, and for single files, by their whole path, the root written `_` and `..` `_..`. The folders
    `without`, which are to be written into, are not searched, nor are those that an earlier run filled, and none of
    them may be a path itself (UserError).
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
        raise DataError(f"{text!r}: no image in this folder. Expected files ending in {', '.join(SUFFIXES)}.")
    below = _inside(path) if count > 1 else Path()
    return [Target(name, below / Path(name).relative_to(path), reason) for name, reason in found]


def _inside(path: Path) -> Path:
    """A path that stays inside an output folder, whatever the name, and another one for each name."""
    root = ["_", *re.findall(r"\w+", path.anchor)] if path.anchor else []
    return Path(*root, *(re.sub(r"^(_+|_*\.\.)$", r"_\1", part) for part in path.parts if part != path.anchor))


def score_all(
    detector: Detector,
    targets: Iterable[Target],
    outlets: Outlets,
    *,
    strict: bool = False,
    show: Callable[[Row], None] | None = None,
    watch: Callable[[Target], None] | None = None,
    batch_size: int = 16,
) -> Tally:
    """Score every target and write to `outlets` as results come; broken files get a row with the reason.

    `watch` is shown what has a score, before anything is written of it.
    With `strict` the first broken file raises ImageError, after what came before it is written. UserError where an
    outlet cannot be written.
    """
    check_outlets(outlets)
    tally = Tally()
    with ExitStack() as stack:
        drawers, tables = [*drawers_of(outlets, detector)], [*tables_of(outlets, stack)]
        writers = [*(write for _, write in tables), *([_shower(show)] if show else [])]
        for target, result in _results(detector, targets, batch_size):
            if watch and isinstance(result, Prediction):
                watch(target)
            told = _draw(drawers, target, result)
            _count(tally, told)
            for write in writers:
                write(target, told)
            if strict and isinstance(told, ImageError):
                raise told
        for table, _ in tables:
            table.end()
    return tally


def watching(likeness: Likeness, say: Callable[[str], None]) -> Callable[[Target], None]:
    """For `score_all`: `say` is told of the first image that is unlike in a way at once, whatever follows."""

    def watch(target: Target) -> None:
        if remark := likeness.see(target.path):
            say(remark)

    return watch


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


def _shower(show: Callable[[Row], None]) -> Writer:
    return lambda target, result: show(row_of(target, result))
