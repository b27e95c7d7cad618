"""Decoded images on disk, so that no image is decoded twice.

One file an image, named by the SHA-256 of its bytes and of what shaped it, settings and Pillow's version: a changed
file or setting is another name, and nothing can go stale. Files appear by rename, so two runs can share the folder;
each carries a checksum, so that a cut or damaged one is made anew. The folder is kept under a bound by removing what
was used longest ago.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from .. import decoding, images
from ..decoding import Pixels
from ..errors import DataError, ImageError, problem
from ..images import ImageSpec
from .samples import Sample

DEFAULT_LIMIT = 4 * 2**30
_CHECKSUM = 4  # bytes of the CRC-32 after the pixels of an entry
_GROUP = "decoded-5"  # another number whenever what decodes gives other pixels, or refuses what it took
_GROUPS = "decoded-[0-9]"  # of earlier versions, too; only what lies in them, under names of ours, is ever removed
_FORGOTTEN = 3600.0  # seconds after which an unfinished entry belongs to a run that was killed


def default_folder() -> Path:
    """NORMBANK_CACHE, or `normbank` in the user's cache folder."""
    if named := os.environ.get("NORMBANK_CACHE"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "normbank"
    except RuntimeError:  # a user without a home: nothing is kept where no folder can be
        return Path(os.devnull) / "normbank"


@dataclass(frozen=True)
class Cache:
    """A folder of decoded images, of at most `limit` bytes after `trim`."""

    folder: Path
    limit: int = DEFAULT_LIMIT

    def load(self, sample: Sample, spec: ImageSpec) -> tuple[Pixels, str]:
        """The image as `spec` asks and the SHA-256 of its source; decoded only where it is not here yet.

        Raises ImageError as `images.load` does. A cache that cannot be written to is passed over.
        """
        try:
            return self._load(sample, spec)
        except ImageError as error:  # what fails after decoding does not know the file's name
            raise ImageError(sample.name, error.reason) from None

    def _load(self, sample: Sample, spec: ImageSpec) -> tuple[Pixels, str]:
        if sample.frame is not None:
            frame = decoding.read(sample.path, sample.frame)  # decoded with its file, which is kept in memory
            return images.load(frame, spec), hashlib.sha256(frame.tobytes()).hexdigest()
        content = decoding.read_bytes(Path(sample.path))
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest, spec, Path(sample.path).suffix)
        kept = _read_entry(path, spec)
        if kept is not None:
            return kept, digest
        pixels = images.load(decoding.decode(content, sample.path), spec)
        _write_entry(path, pixels)
        return pixels, digest

    def usage(self) -> tuple[int, int]:
        """(files, bytes) held."""
        sizes = [size for _, size, _ in _known(self._entries())]
        return len(sizes), sum(sizes)

    def trim(self) -> None:
        """Remove what was used longest ago until `limit` holds, and what killed runs left half written."""
        held, now = 0, time.time()
        for _, size, entry in sorted(_known(self._entries()), reverse=True):
            held += size
            if held > self.limit:
                _remove(entry)
        for used, _, entry in _known(self._half_written()):
            if now - used > _FORGOTTEN:
                _remove(entry)

    def clear(self) -> None:
        """Remove every entry."""
        for entry in (*self._entries(), *self._half_written()):
            _remove(entry)

    def _entries(self) -> list[Path]:
        return list(self.folder.glob(f"{_GROUPS}/[0-9a-f][0-9a-f]/*.pixels"))

    def _half_written(self) -> list[Path]:
        return list(self.folder.glob(f"{_GROUPS}/[0-9a-f][0-9a-f]/*.tmp"))

    def _path(self, digest: str, spec: ImageSpec, suffix: str) -> Path:
        # The suffix tells .npy from the rest in decoding, so it is part of what shaped the pixels.
        shaped = f"{spec.size}-{spec.channels}-{spec.bits}-{spec.fit}-{suffix.lower()}-{PIL.__version__}"
        name = hashlib.sha256(f"{digest}-{shaped}".encode()).hexdigest()
        return self.folder / _GROUP / name[:2] / f"{name}.pixels"


def _known(entries: Iterable[Path]) -> Iterator[tuple[float, int, Path]]:
    """(time of last use, bytes, path) of the files that are still there: another run may be trimming, too."""
    for entry in entries:
        with contextlib.suppress(OSError):
            found = entry.stat()
            yield found.st_mtime, found.st_size, entry


def _remove(entry: Path) -> None:
    with contextlib.suppress(OSError):
        entry.unlink(missing_ok=True)


def _read_entry(path: Path, spec: ImageSpec) -> Pixels | None:
    """The pixels of an entry; None where there is none, or none that is whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    values = content[:-_CHECKSUM]
    shape = (spec.size, spec.size, spec.channels)
    if len(values) != math.prod(shape) * np.dtype(spec.dtype).itemsize or content[-_CHECKSUM:] != _checksum(values):
        return None
    with contextlib.suppress(OSError):  # a cache one may only read
        os.utime(path)
    return np.frombuffer(values, spec.dtype).reshape(shape).copy()


def _write_entry(path: Path, pixels: Pixels) -> None:
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            values = pixels.tobytes()
            file.write(values + _checksum(values))
        os.replace(temporary, path)
    except OSError:  # a full or read-only disk costs time, not the run
        if temporary is not None:
            _remove(Path(temporary))


def _checksum(values: bytes) -> bytes:
    return zlib.crc32(values).to_bytes(_CHECKSUM, "little")


def open_cache(folder: Path | None = None, limit: int = DEFAULT_LIMIT) -> Cache:
    """The cache in that folder (default: `default_folder`); DataError where its name is taken by a file."""
    folder = folder or default_folder()
    if os.path.exists(folder) and not os.path.isdir(folder):  # False, too, where one may not look
        raise DataError(
            problem(
                f"cache {folder}", expected="a folder", came="a file", do="Set NORMBANK_CACHE to a folder of yours."
            )
        )
    return Cache(folder, limit)
