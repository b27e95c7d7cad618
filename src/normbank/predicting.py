"""Scoring many files: where their names come from, and where the results go. No PyTorch."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import images
from .bundle import write_atomically
from .data.files import list_images
from .detector import Detector, Prediction
from .errors import DataError, ImageError, UserError

COLUMNS = ("path", "score", "threshold", "p_value", "is_anomalous", "error")
Row = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """One file to score; `relative` names what is written about it inside an output folder."""

    path: Path
    relative: Path


@dataclass
class Tally:
    """What came of a run over many files."""

    scored: int = 0
    anomalous: int = 0
    broken: int = 0


@dataclass(frozen=True)
class Outlets:
    """Where results go; None: nowhere. `maps` and `overlays` are folders."""

    csv: Path | None = None
    jsonl: Path | None = None
    maps: Path | None = None
    overlays: Path | None = None


def find_targets(paths: Sequence[str], stdin: IO[bytes] | None = None, *, null: bool = False) -> Iterator[Target]:
    """The files meant by `paths`: folders are searched, `-` reads names from `stdin`, one a line (or NUL-separated).

    DataError for a path that is not there. What stands on `stdin` is taken as it comes, so that a line can run all day.
    """
    for text in paths:
        if text == "-" and stdin is not None:
            yield from _from_stream(stdin, b"\0" if null else b"\n")
        else:
            yield from _from_path(Path(text))


def _from_stream(stream: IO[bytes], separator: bytes) -> Iterator[Target]:
    for name in _split(stream, separator):
        path = Path(name.decode(sys.getfilesystemencoding(), "surrogateescape"))
        yield Target(path, _inside(path))


def _split(stream: IO[bytes], separator: bytes) -> Iterator[bytes]:
    if separator == b"\n":
        yield from (line.rstrip(b"\r\n") for line in stream if line.strip())
        return
    yield from (name for name in stream.read().split(separator) if name)


def _from_path(path: Path) -> Iterator[Target]:
    if not path.exists() and not path.is_symlink():
        raise DataError(
            f"{str(path)!r}: there is no such file or folder. Give image files, folders, or - for standard input."
        )
    if not path.is_dir():
        yield Target(path, _inside(path))
        return
    listing = list_images(path)
    found = sorted({*listing.paths, *(name for name, _ in listing.skipped)})
    if not found:
        raise DataError(
            f"{str(path)!r}: no image in this folder. Expected files ending in {', '.join(images.SUFFIXES)}."
        )
    for name in found:
        yield Target(Path(name), Path(name).relative_to(path))


def _inside(path: Path) -> Path:
    """A path that stays inside an output folder, whatever the name."""
    return Path(*(part for part in path.parts if part not in (path.anchor, "..")))


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
    tally = Tally()
    with ExitStack() as stack:
        writers = [*_writers(outlets, detector, stack), *([_shower(show)] if show else [])]
        for target, result in _results(detector, targets, batch_size):
            _count(tally, result)
            for write in writers:
                write(target, result)
            if strict and isinstance(result, ImageError):
                raise result
    return tally


def _results(
    detector: Detector, targets: Iterable[Target], batch_size: int
) -> Iterator[tuple[Target, Prediction | ImageError]]:
    pending: list[Target] = []

    def sources() -> Iterator[Path]:
        for target in targets:
            pending.append(target)
            yield target.path

    for result in detector.stream(sources(), batch_size):
        yield pending.pop(0), result


def _count(tally: Tally, result: Prediction | ImageError) -> None:
    if isinstance(result, ImageError):
        tally.broken += 1
        return
    tally.scored += 1
    tally.anomalous += bool(result.is_anomalous)


Writer = Callable[[Target, "Prediction | ImageError"], None]


def _writers(outlets: Outlets, detector: Detector, stack: ExitStack) -> Iterator[Writer]:
    if outlets.csv:
        yield _csv_writer(_open(outlets.csv, stack))
    if outlets.jsonl:
        yield _jsonl_writer(_open(outlets.jsonl, stack))
    if outlets.maps:
        yield _map_writer(outlets.maps)
    if outlets.overlays:
        yield _overlay_writer(outlets.overlays, detector)


def _open(path: Path, stack: ExitStack) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(path.open("w", encoding="utf-8", errors="surrogateescape", newline=""))
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be written: {error.strerror}. Name another file.") from None


def row_of(target: Target, result: Prediction | ImageError) -> Row:
    """A result as CSV and JSON lines hold it; empty where there is nothing."""
    if isinstance(result, ImageError):
        return {**dict.fromkeys(COLUMNS), "path": str(target.path), "error": result.reason}
    return {
        "path": str(target.path),
        "score": result.score,
        "threshold": result.threshold,
        "p_value": result.p_value,
        "is_anomalous": result.is_anomalous,
        "error": None,
    }


def _csv_writer(file: IO[str]) -> Writer:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()

    def write(target: Target, result: Prediction | ImageError) -> None:
        writer.writerow(row_of(target, result))
        file.flush()

    return write


def _jsonl_writer(file: IO[str]) -> Writer:
    def write(target: Target, result: Prediction | ImageError) -> None:
        # ASCII escapes carry names that are not valid Unicode, too.
        file.write(json.dumps(row_of(target, result)) + "\n")
        file.flush()

    return write


def _map_writer(folder: Path) -> Writer:
    def write(target: Target, result: Prediction | ImageError) -> None:
        if isinstance(result, Prediction):
            buffer = io.BytesIO()
            np.save(buffer, result.anomaly_map)
            write_atomically(_beside(folder, target, ".npy"), buffer.getvalue())

    return write


def _overlay_writer(folder: Path, detector: Detector) -> Writer:
    from .report.overlays import save_overlay

    scale = float(detector.manifest["map_scale"])

    def write(target: Target, result: Prediction | ImageError) -> None:
        if isinstance(result, Prediction):
            original = images.read(target.path)
            path = _beside(folder, target, ".png")
            save_overlay(path, original, result.anomaly_map, scale, original.shape[:2], fit=detector.spec.fit)

    return write


def _beside(folder: Path, target: Target, suffix: str) -> Path:
    """folder/sub/name.jpg.png: the whole name is kept, so a.jpg and a.png do not meet."""
    return folder / target.relative.with_name(target.relative.name + suffix)


def _shower(show: Callable[[Row], None]) -> Writer:
    return lambda target, result: show(row_of(target, result))
