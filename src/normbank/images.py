"""Decoding and resizing: one road from a file or an array to the square the network sees.

Training and use both go through `load`; nothing else in the package decodes or resizes an image.
"""

from __future__ import annotations

import io
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .data.idx import read_frame
from .errors import ImageError
from .quiet import QUIET

Pixels = NDArray[Any]  # uint8 or uint16, H x W x C

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy")
LABELS = 64  # largest value of a mask that is taken to number kinds of defects
_PNG, _AROUND_CHUNK = b"\x89PNG\r\n\x1a\n", 12  # how a PNG begins; bytes of length, name and checksum
MAX_PIXELS = 178_000_000  # just below where Pillow refuses on its own
_PILLOWS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # of its formats: others may start programs of the system
# Tags of TIFF, and what the last of them is of signed values.
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT = 256, 257, 258, 262, 277, 284, 339
_SIGNED = 2
_SCAN = 8192  # pixels along the longer side, to which a strip is reduced whose square would fill the memory
_ROWS = 64
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's mode L


@dataclass(frozen=True)
class ImageSpec:
    """The arrays a model takes: `size` x `size` x `channels` of `bits` bits, and the rule for non-square images.

    `stretch` resizes each side on its own; `pad` repeats the border pixels of the shorter side; `crop` keeps the
    centre of the longer one.
    """

    size: int
    channels: int
    bits: Literal[8, 16]
    fit: Literal["stretch", "pad", "crop"] = "stretch"

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """The numpy type of a value."""
        return np.uint8 if self.bits == 8 else np.uint16


def load(source: str | Path | Pixels, spec: ImageSpec, frame: int | None = None) -> Pixels:
    """The image as the model takes it: [size, size, channels] of `spec.dtype`.

    `source` is a file (and `frame` an index inside one of many images) or an array H x W or H x W x C of
    uint8 or uint16, colours in the order red, green, blue. ImageError names the file and says what is wrong with it.
    """
    name = "array" if isinstance(source, np.ndarray) else str(source)
    pixels = _checked(source, name) if isinstance(source, np.ndarray) else read(source, frame)
    try:
        pixels = _to_channels(pixels, spec.channels, name)
        pixels = _resize(fit_square(pixels, spec.fit), (spec.size, spec.size), Image.Resampling.BILINEAR)
        return _to_bits(pixels, spec.bits)
    except MemoryError:
        raise ImageError(name, "takes more memory to convert than there is") from None


def read(path: str | Path, frame: int | None = None) -> Pixels:
    """The pixels of a file as they are: H x W x C, uint8 or uint16, EXIF orientation applied."""
    path = Path(path)
    if frame is not None:
        return read_frame(path, frame)
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path, most: int = -1) -> bytes:
    """The bytes of a file, `most` of them unless below 0; ImageError where it is none, cannot be read or is empty."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            raise ImageError(str(path), "is not a plain file")
        with path.open("rb") as file:
            content = file.read(most)
    except OSError as error:
        raise ImageError(str(path), f"cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise ImageError(str(path), "takes more memory to read than there is") from None
    if not content:
        raise ImageError(str(path), "is empty (0 bytes)")
    return content


def decode(content: bytes, name: str) -> Pixels:
    """The pixels in the bytes of an image file; `name` stands in the errors and tells .npy from the rest."""
    if name.lower().endswith(".npy"):
        return _checked(_decode_npy(content, name), name)
    try:
        with QUIET:
            return _decode_picture(content, name)
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on damaged files
        raise ImageError(name, _why(error, content)) from None


def probe(path: str | Path, frame: int | None = None) -> tuple[int, int]:
    """(channels, bits) of a file, from its header where that is enough; alpha does not count as a channel."""
    if frame is not None or str(path).lower().endswith(".npy"):
        pixels = read(path, frame)
        return pixels.shape[2], 8 * pixels.dtype.itemsize
    if not Path(path).is_file():
        raise ImageError(str(path), "is not a plain file")
    try:
        with QUIET, _opened(path) as image:
            _check_samples(image, str(path))
            bits = 16 if _is_deep(image) else 8
            return (1 if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;") else 3), bits
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(str(path), _why(error, read_bytes(Path(path), 4))) from None


def stored_size(path: str | Path, frame: int | None = None) -> tuple[int, int] | None:
    """(width, height) of a file as `read` would give it, from its header; None where that cannot be told."""
    if not Path(path).is_file():  # a pipe would be waited for
        return None
    try:
        if frame is not None or str(path).lower().endswith(".npy"):
            stored = read_frame(path, frame) if frame is not None else np.load(path, mmap_mode="r", allow_pickle=False)
            return (stored.shape[1], stored.shape[0]) if stored.size else None
        with QUIET, _opened(path) as image:
            # Pillow would decode a whole PNG in search of an orientation, where it does not stand before the pixels.
            searched = image.format != "PNG" or "exif" in image.info
            on_its_side = searched and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            tags = getattr(image, "tag_v2", {})  # a TIFF is turned by some versions of Pillow, and not by others
            turned = on_its_side and image.size == (tags.get(_HEIGHT), tags.get(_WIDTH))
            return (image.height, image.width) if on_its_side and not turned else image.size
    except Exception:  # whoever decodes the file says what is wrong with it
        return None


def read_mask(
    path: str | Path, size: int, fit: Literal["stretch", "pad", "crop"] = "stretch", image: str | Path | None = None
) -> NDArray[np.bool_]:
    """A ground-truth mask [size, size]: box-filtered from its own size and cut at one half.

    It may be larger or smaller than its `image`; ImageError where it has another shape.

    Defective is what is above half of the mask's largest value: 1, 255 and the ripples of a JPEG are read right. Of a
    mask whose largest value is LABELS or less every value above 0 is, and of one with a palette every colour but black:
    they number kinds. With `pad`, what lies outside the image is good.
    """
    content = read_bytes(Path(path))
    values = decode(content, str(path)).max(axis=2)
    if image is not None:
        _check_shape((values.shape[1], values.shape[0]), image, str(path))
    largest = int(values.max())
    numbers = largest <= LABELS or _has_palette(content, str(path))
    whole = (values > (0 if numbers else largest / 2)).astype(np.uint8) * 255
    square = fit_square(whole[:, :, None], fit, edge=False)
    share = _resize_channel(square[:, :, 0].astype(np.float32), (size, size), Image.Resampling.BOX)
    return share >= 127.5


def _check_shape(mask: tuple[int, int], image: str | Path, name: str) -> None:
    """Whether the mask may be that of the image, reduced or enlarged: its sides are in proportion, to a pixel."""
    stored = stored_size(image)
    if stored is None or _in_proportion(mask, stored):
        return
    height, width = read(image).shape[:2]  # turned, perhaps, by what the header hides
    if not _in_proportion(mask, (width, height)):
        came = f"is {mask[0]} x {mask[1]} pixels, its image {width} x {height}"
        raise ImageError(name, f"{came}: expected the same shape, drawn on the image as it is shown")


def _in_proportion(one: tuple[int, int], other: tuple[int, int]) -> bool:
    (width, height), (wide, high) = one, other
    return abs(width * high - height * wide) <= max(width, height, wide, high)


def _has_palette(content: bytes, name: str) -> bool:
    if name.lower().endswith(".npy"):
        return False
    with QUIET, _opened(io.BytesIO(content)) as image:
        return image.mode == "P"


def _opened(source: str | Path | io.BytesIO) -> Image.Image:
    return Image.open(source, formats=_PILLOWS)


def fit_square(pixels: NDArray[Any], fit: str, edge: bool = True) -> NDArray[Any]:
    """Make the image square by `pad` or `crop`; `stretch` leaves that to the resizing."""
    height, width = pixels.shape[:2]
    side = max(height, width) if fit == "pad" else min(height, width)
    if fit == "crop":
        top, left = (height - side) // 2, (width - side) // 2
        return pixels[top : top + side, left : left + side]
    if fit == "pad" and side * side > MAX_PIXELS:  # a line scan, perhaps
        by = _SCAN / side
        small = max(1, round(width * by)), max(1, round(height * by))
        return fit_square(_resize(pixels, small, Image.Resampling.BOX), fit, edge)
    if fit == "pad" and height != width:
        top, left = (side - height) // 2, (side - width) // 2
        margins = ((top, side - height - top), (left, side - width - left), (0, 0))
        return np.pad(pixels, margins, mode="edge") if edge else np.pad(pixels, margins)
    return pixels


def reduced(pixels: Pixels, by: int) -> Pixels:
    """Rounded means of by x by pixels: [N, S, S, C] uint8 or uint16 -> [N, S / by, S / by, C] of the same type."""
    count, side, _, channels = pixels.shape
    if by == 1:
        return pixels
    small = np.empty((count, side // by, side // by, channels), pixels.dtype)
    for image, made in zip(pixels, small, strict=True):  # one at a time: the sums are wider than the images
        sums = image.reshape(side // by, by, side // by, by, channels).sum(axis=(1, 3), dtype=np.int64)
        made[...] = (sums + by * by // 2) // (by * by)
    return small


def _why(error: Exception, content: bytes) -> str:
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


def _checked(pixels: NDArray[Any], name: str) -> Pixels:
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


def _check_samples(image: Image.Image, name: str) -> None:
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
    return array


def _decode_picture(content: bytes, name: str) -> Pixels:
    with _opened(io.BytesIO(content)) as image:
        _check_size(*image.size, name)
        _check_samples(image, name)
        if _is_deep(image) and not image.mode.startswith("I"):
            return _turned(_decode_deep_colour(content, name), image)
        white_is_0 = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
        pixels = _checked(_picture_array(ImageOps.exif_transpose(image), name), name)
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


def _is_deep(image: Image.Image) -> bool:
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
    return _checked(np.ascontiguousarray(colour[:, :, ::-1]) if colour.ndim == 3 else colour, name)


def _check_chunks(content: bytes, name: str) -> None:
    """OpenCV makes room for what each chunk of a PNG says it holds, gigabytes where a byte was changed."""
    place, kind = len(_PNG), b""
    while content.startswith(_PNG) and place < len(content) and kind != b"IEND":  # what follows its end is passed over
        kind = content[place + 4 : place + 8]
        place += int.from_bytes(content[place : place + 4], "big") + _AROUND_CHUNK
        if place > len(content):
            raise ImageError(name, "is damaged or cut short: one of its parts is longer than the file")


def _to_channels(pixels: Pixels, channels: int, name: str) -> Pixels:
    """Grey to colour by repetition, colour to grey by luminance; other counts have to match."""
    came = pixels.shape[2]
    if came == channels:
        return pixels
    if came == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=2)
    if came == 3 and channels == 1:
        grey = np.empty((*pixels.shape[:2], 1), pixels.dtype)
        for row in range(0, len(pixels), _ROWS):  # a few at a time: the products are of eight bytes
            grey[row : row + _ROWS, :, 0] = np.rint(pixels[row : row + _ROWS] @ _LUMA)
        return grey
    raise ImageError(name, f"expected {channels} channel{'s' * (channels > 1)}, as the model was made for, got {came}")


def _to_bits(pixels: Pixels, bits: int) -> Pixels:
    """255 and 65535 are both white: 8 to 16 bits is a factor of 257, 16 to 8 its rounded inverse."""
    if bits == 16 and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    if bits == 8 and pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


def _resize(pixels: Pixels, size: tuple[int, int], filter_: Image.Resampling) -> Pixels:
    """Anti-aliased resize to (width, height); the depth is kept."""
    if pixels.shape[1::-1] == size:
        return pixels
    if pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3):
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return np.asarray(picture.resize(size, filter_)).reshape(size[1], size[0], -1)
    top = np.iinfo(pixels.dtype).max
    channels = [_resize_channel(pixels[:, :, c].astype(np.float32), size, filter_) for c in range(pixels.shape[2])]
    return np.stack(channels, axis=2).round().clip(0, top).astype(pixels.dtype)


def _resize_channel(
    channel: NDArray[np.float32], size: tuple[int, int], filter_: Image.Resampling
) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(channel).resize(size, filter_))
