"""IDX files, the format of MNIST: a magic number, the lengths of the axes, then bytes. Plain or gzip."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, problem

IMAGES_AXES, LABELS_AXES = 3, 1
MAX_VALUES = 2**30  # a header may claim anything: this bounds what is unpacked on its word
_GZIP = b"\x1f\x8b"
_FETCH = "Fetch the file again."


def read_idx(path: str | Path, axes: int) -> NDArray[np.uint8]:
    """The uint8 array of an IDX file with `axes` axes (3: images N x H x W, 1: labels N); read-only.

    Whether the file is gzip is told by its first bytes, not its name. Raises DataError for another magic number, a
    length that does not fit the header, or a damaged gzip stream.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            if not packed:
                return _parse(raw.read, path, axes)
            with gzip.open(raw) as stream:
                return _parse(stream.read, path, axes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(problem(repr(str(path)), expected="a gzip file", came=f"{error}", do=_FETCH)) from None
    except OSError as error:
        raise DataError(f"{str(path)!r}: cannot be read: {error.strerror or error}") from None


def read_frame(path: str | Path, frame: int) -> NDArray[np.uint8]:
    """Image number `frame` of an IDX images file: uint8, H x W x 1, a copy. DataError where there is no such image."""
    images = images_of(path)
    if not 0 <= frame < len(images):
        came = f"{frame}"
        do = f"The file holds {len(images)} images, counted from 0."
        raise DataError(problem(f"frame of {str(path)!r}", expected=f"0 to {len(images) - 1}", came=came, do=do))
    return np.array(images[frame, :, :, None])


def images_of(path: str | Path) -> NDArray[np.uint8]:
    """All images of an IDX file, N x H x W, read-only; kept in memory until two other files were asked for."""
    try:
        state = os.stat(path)
    except OSError as error:
        raise DataError(f"{str(path)!r}: cannot be read: {error.strerror or error}") from None
    return _decoded(os.fspath(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _decoded(path: str, changed: int, size: int) -> NDArray[np.uint8]:
    """`changed` and `size` are part of the key, so that a file written anew is read anew."""
    return read_idx(path, IMAGES_AXES)


def _parse(read: Callable[[int], bytes], path: str | Path, axes: int) -> NDArray[np.uint8]:
    subject = repr(str(path))
    wanted = 0x0800 + axes  # third byte 8: unsigned bytes; fourth: the number of axes
    header = read(4 + 4 * axes)
    if len(header) < 4 + 4 * axes:
        came = f"{len(header)} bytes"
        raise DataError(problem(subject, expected=f"an IDX header of {4 + 4 * axes} bytes", came=came, do=_FETCH))
    magic, *shape = struct.unpack(f">{1 + axes}I", header)
    if magic != wanted:
        do = "Magic 2051 is an images file, 2049 a labels file: are two files swapped?"
        raise DataError(problem(subject, expected=f"the IDX magic number {wanted}", came=f"{magic}", do=do))
    count = math.prod(shape)
    if not 0 < count <= MAX_VALUES:
        came = f"the lengths {' x '.join(map(str, shape))}"
        raise DataError(problem(subject, expected=f"1 to {MAX_VALUES} bytes of data", came=came, do=_FETCH))
    content = read(count + 1)
    if len(content) != count:
        came = f"{len(content)}" if len(content) < count else "more"
        raise DataError(problem(subject, expected=f"{count} bytes after the header", came=came, do=_FETCH))
    return np.frombuffer(content, np.uint8).reshape(shape)
