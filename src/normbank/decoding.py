"""From the bytes of a file to its pixels as they are, and why not where that cannot be. Nothing else decodes."""

from __future__ import annotations

import io
import re
import stat
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .data.idx import read_frame
from .errors import ImageError
from .quiet import QUIET

Pixels = NDArray[Any]  # uint8 or uint16, H x W x C

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy")
LARGE = 2**26  # bytes of a file, above which its header is asked first
MAX_PIXELS = 178_000_000  # just below where Pillow refuses on its own
_PNG, _AROUND_CHUNK = b"\x89PNG\r\n\x1a\n", 12  # how a PNG begins; bytes of length, name and checksum
# What begins a JPEG and what ends it; what else is a marker in it: not what stands for 255, nor where it goes on.
_JPEG, _END, _MARKER = b"\xff\xd8\xff", b"\xff\xd9", re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PILLOWS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # of its formats: others may start programs of the system
# Tags of TIFF, and what the last of them is of signed values.
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT = 258, 262, 277, 284, 339
_SIGNED = 2


def read(path: str | Path, frame: int | None = None) -> Pixels:
    """The pixels of a file as they are: H x W x C, uint8 or uint16, EXIF orientation applied."""
    path = Path(path)
    if frame is not None:
        return read_frame(path, frame)
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path, most: int = -1) -> bytes:
    """The bytes of a file, `most` of them unless below 0; ImageError where it is none, cannot be read or is empty."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise ImageError(str(path), "is not a plain file")
        if most < 0 and found.st_size > LARGE:
            _check_header(path)
        with path.open("rb") as file:
            content = file.read(most)
    except OSError as error:
        raise ImageError(str(path), f"cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise ImageError(str(path), "takes more memory to read than there is") from None
    if not content:
        raise ImageError(str(path), "is empty (0 bytes)")
    return content


def _check_header(path: Path) -> None:
    """ImageError for a picture of too many pixels before it is in memory; of what else is wrong `decode` tells."""
    try:
        with QUIET, opened(path) as image:
            _check_size(image.width, image.height, str(path))
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(str(path), why(error, b"")) from None
    except Exception:
        return


def decode(content: bytes, name: str) -> Pixels:
    """The pixels in the bytes of an image file; `name` stands in the errors and tells .npy from the rest."""
    if is_npy(name):
        return checked(_decode_npy(content, name), name)
    try:
        with QUIET:
            return _decode_picture(content, name)
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on damaged files
        raise ImageError(name, why(error, content)) from None


def is_npy(name: str) -> bool:
    """Whether a file of this name holds an array, not a picture."""
    return name.lower().endswith(".npy")


def opened(source: str | Path | io.BytesIO) -> Image.Image:
    """A picture of which only the header is read yet."""
    return Image.open(source, formats=_PILLOWS)


def why(error: Exception, content: bytes) -> str:
    """Pillow's reason, without the addresses of its buffers; `content` begins as the file does."""
    if isinstance(error, UnidentifiedImageError):
        if content.startswith((b"II*\0", b"MM\0*")):
            told = "expected grey or colour of 8 or 16 bits, unsigned: save it so, or as PNG"
            return f"is a TIFF that is damaged, or of a layout that is not read ({told})"
        return "is not an image of a known format (PNG, JPEG, BMP, most of TIFF, WebP), whatever its name says"
    if isinstance(error, MemoryError):
        return "takes more memory to decode than there is"
    if isinstance(error, Image.DecompressionBombError):
        return f"declares more than {MAX_PIXELS:,} pixels; such images are not decoded"
    return f"cannot be decoded as an image: {error}"


def checked(pixels: NDArray[Any], name: str) -> Pixels:
    """An array as an image H x W x C in the order of bytes of this machine; ImageError where it is none."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            name, f"expected uint8 or uint16 values, got {pixels.dtype}. Scale to 0..255 or 0..65535 first"
        )
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ImageError(name, f"expected an image H x W or H x W x C, got shape {pixels.shape}")
    _check_size(pixels.shape[1], pixels.shape[0], name)
    return pixels


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(name, f"is {width} x {height} pixels; more than {MAX_PIXELS:,} are not decoded")


def check_samples(image: Image.Image, name: str) -> None:
    """What of a TIFF would be lost unsaid, or read wrongly.

    Pillow passes over channels that are neither colour nor alpha, and over the sign of 8 bits; OpenCV takes the values
    of channels that are stored one after another for those of pixels.
    """
    tags = getattr(image, "tag_v2", {})
    held = tags.get(_SAMPLES, 0)
    if _SIGNED in tags.get(_FORMAT, ()) and max(tags.get(_BITS, (8,))) <= 8:
        raise ImageError(name, "holds signed values of 8 bits, which are not read. Save it with values of 0..255")
    if held > 1 and tags.get(_PLANAR) == 2 and max(tags.get(_BITS, (8,))) > 8:
        do = f"Save it as .npy (height x width x {held}), or as a TIFF whose channels stand side by side (contiguous)"
        raise ImageError(name, f"holds {held} deep channels, each in a plane of its own, which is not read. {do}")
    if held > len(image.getbands()):
        do = f"Save all as .npy (height x width x {held}), or those wanted as a TIFF of one or three"
        raise ImageError(name, f"holds {held} channels, of which {len(image.getbands())} can be read. {do}")


def _decode_npy(content: bytes, name: str) -> NDArray[Any]:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:
        raise ImageError(name, f"cannot be read as a .npy array: {error}") from None
    if not isinstance(array, np.ndarray):
        raise ImageError(name, "expected one array, got an archive of several")
    return as_bytes(array) * 255 if array.dtype == bool else array  # as a picture of one bit


def as_bytes(array: NDArray[Any]) -> NDArray[Any]:
    """Truths as 0 and 1, all else as it is; nothing is read of an array that is mapped."""
    return array.view(np.uint8) if array.dtype == bool else array


def _decode_picture(content: bytes, name: str) -> Pixels:
    with opened(io.BytesIO(content)) as image:
        _check_size(*image.size, name)
        _check_markers(content, name)
        check_samples(image, name)
        if is_deep(image) and not image.mode.startswith("I"):
            return _turned(_decode_deep_colour(content, name), image)
        white_is_0 = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
        pixels = checked(_picture_array(ImageOps.exif_transpose(image), name), name)
        _check_chunks(content, name)
        return 65535 - pixels if white_is_0 else pixels  # of 8 bits Pillow does that by itself


def _picture_array(image: Image.Image, name: str) -> NDArray[Any]:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(name, f"expected values in 0..65535, got {values.min()}..{values.max()}")
        return values.astype(np.uint16)
    if image.mode == "F":
        raise ImageError(name, "expected integer pixels of 8 or 16 bits, got 32-bit floating point")
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))  # alpha is dropped, palettes and CMYK become colours


def is_deep(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a value: for colour Pillow tells that only in its decoder's mode."""
    if image.mode.startswith("I"):
        return True
    modes = (str(argument) for tile in getattr(image, "tile", ()) for argument in _as_tuple(tile[3]))
    return any(re.search(";16[BLN]", mode) for mode in modes)  # BGR;16 are 16 bits a pixel


def _turned(pixels: Pixels, image: Image.Image) -> Pixels:
    """Apply the EXIF orientation where OpenCV does not: it does for TIFF, not for PNG."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if image.format == "PNG" else 1
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _decode_deep_colour(content: bytes, name: str) -> Pixels:
    try:
        import cv2
    except ImportError:
        raise ImageError(
            name, "16-bit colour needs OpenCV, or its depth would be lost: pip install '.[deep]' in normbank's folder"
        ) from None
    _check_chunks(content, name)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError(name, "cannot be decoded as a 16-bit image")
    colour = pixels[:, :, :3] if pixels.ndim == 3 else pixels
    return checked(np.ascontiguousarray(colour[:, :, ::-1]) if colour.ndim == 3 else colour, name)


def _check_chunks(content: bytes, name: str) -> None:
    """Of a PNG the parts to its end: as long as they say, and pixels as they were written.

    Pillow looks at neither in the last of them, so that zeros for what a disk has lost are black. OpenCV makes room for
    what each says it holds, gigabytes where a byte was changed. That the end alone is missing is no matter: where
    pixels are missing, too, either of them says so.
    """
    if not content.startswith(_PNG):
        return
    place, kind = len(_PNG), b""
    while kind != b"IEND" and len(content) - place >= _AROUND_CHUNK:  # what follows is passed over
        kind = content[place + 4 : place + 8]
        end = place + int.from_bytes(content[place : place + 4], "big") + _AROUND_CHUNK
        if end > len(content):
            raise ImageError(name, "is damaged or cut short: one of its parts is longer than the file")
        part, checksum = memoryview(content)[place + 4 : end - 4], content[end - 4 : end]
        if kind in (b"IDAT", b"IEND") and zlib.crc32(part) != int.from_bytes(checksum, "big"):
            raise ImageError(name, "is damaged: its pixels are not those that were written (by their checksum)")
        place = end


def _check_markers(content: bytes, name: str) -> None:
    """Of a JPEG the parts to its end: where a disk gives zeros for what it has lost they decode as some grey."""
    if not (content.startswith(_JPEG) and content.endswith(bytes(2))):
        return
    found = _MARKER.search(content, len(_JPEG) - 1)
    while found and found[0] != _END:
        length = int.from_bytes(content[found.end() : found.end() + 2], "big")
        found = _MARKER.search(content, found.end() + length)
    if not found:
        zeros = len(content) - len(content.rstrip(b"\0"))
        raise ImageError(name, f"is damaged: a JPEG without its end, whose last {zeros:,} bytes are zeros")
