"""How the file of an image is stored, from its header where that is enough: size, channels, depth."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from .decoding import Pixels, as_bytes, check_samples, checked, is_deep, is_npy, opened, read, read_bytes, why
from .errors import ImageError, UserError
from .quiet import QUIET

_WIDTH, _HEIGHT = 256, 257  # tags of TIFF
_ON_ITS_SIDE = (5, 6, 7, 8)  # of EXIF's orientations


@dataclass(frozen=True)
class Stored:
    """How the file of an image is stored: (width, height) in pixels as `read` gives it, channels, bits a value.

    Alpha does not count as a channel.
    """

    size: tuple[int, int]
    channels: int
    bits: int


def look_up(path: str | Path, frame: int | None = None) -> Stored:
    """How a file is stored, or one of the many images in it; ImageError where not even that can be read.

    What is damaged past its header passes.
    """
    if frame is not None:
        return _stored(read(path, frame))
    if not os.path.isfile(path):  # a pipe would be waited for; `Path.is_file` raises for a name that is too long
        raise ImageError(str(path), "is not a plain file")
    if is_npy(str(path)):
        return _stored(_array(path))
    try:
        with QUIET, opened(path) as image:
            check_samples(image, str(path))
            grey = image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")
            return Stored(_shown(image), 1 if grey else 3, 16 if is_deep(image) else 8)
    except ImageError:
        raise
    except Exception as error:  # as in decoding
        raise ImageError(str(path), why(error, read_bytes(Path(path), 4))) from None


def stored_as(path: str | Path, frame: int | None = None) -> Stored | None:
    """How a file is stored; None where that cannot be told, which is left to whoever decodes it."""
    try:
        return look_up(path, frame)
    except UserError:
        return None


def _stored(pixels: Pixels) -> Stored:
    height, width, channels = pixels.shape
    return Stored((width, height), channels, 8 * pixels.dtype.itemsize)


def _array(path: str | Path) -> Pixels:
    try:
        return checked(as_bytes(np.lib.format.open_memmap(path, mode="r")), str(path))
    except ImageError:
        raise
    except Exception:  # reading it whole says what is wrong with it
        return read(path)


def _shown(image: Image.Image) -> tuple[int, int]:
    """(width, height) with the EXIF orientation applied, but for one that a PNG hides behind its pixels."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode all of it in search of one
        return image.size
    try:
        on_its_side = image.getexif().get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE
    except Exception:  # damaged; the pixels may be whole
        return image.size
    tags = getattr(image, "tag_v2", {})  # a TIFF is turned by some versions of Pillow, and not by others
    turned = image.size == (tags.get(_HEIGHT), tags.get(_WIDTH))
    return (image.height, image.width) if on_its_side and not turned else image.size
