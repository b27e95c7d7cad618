"""One road from a file or an array to the square the network sees: decoded, channels, fitted, resized, depth.

Training and use both go through `load`; nothing else in the package resizes an image.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .decoding import MAX_PIXELS, Pixels, checked, decode, is_npy, opened, read, read_bytes
from .errors import ImageError
from .headers import look_up
from .quiet import QUIET

LABELS = 64  # largest value of a mask that is taken to number kinds of defects
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
    pixels = checked(source, name) if isinstance(source, np.ndarray) else read(source, frame)
    try:
        pixels = _to_channels(pixels, spec.channels, name)
        pixels = _resize(fit_square(pixels, spec.fit), (spec.size, spec.size), Image.Resampling.BILINEAR)
        return _to_bits(pixels, spec.bits)
    except MemoryError:
        raise ImageError(name, "takes more memory to convert than there is") from None


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
    if largest == values.min() and _has_a_shape_in_alpha(content, str(path)):
        told = "is of one colour and keeps its shape in its transparency, which is not read. Save it as grey, 0 and 255"
        raise ImageError(str(path), told)
    numbers = largest <= LABELS or _has_palette(content, str(path))
    whole = (values > (0 if numbers else largest / 2)).astype(np.uint8) * 255
    square = fit_square(whole[:, :, None], fit, edge=False)
    share = _resize_channel(square[:, :, 0].astype(np.float32), (size, size), Image.Resampling.BOX)
    return share >= 127.5


def _check_shape(mask: tuple[int, int], image: str | Path, name: str) -> None:
    """Whether the mask may be that of the image, reduced or enlarged: its sides are in proportion, to a pixel."""
    try:
        stored = look_up(image).size
    except ImageError:  # whoever decodes it says so
        return
    if _in_proportion(mask, stored):
        return
    height, width = read(image).shape[:2]  # turned, perhaps, by what the header hides
    if not _in_proportion(mask, (width, height)):
        came = f"is {mask[0]} x {mask[1]} pixels, its image {width} x {height}"
        raise ImageError(name, f"{came}: expected the same shape, drawn on the image as it is shown")


def _in_proportion(one: tuple[int, int], other: tuple[int, int]) -> bool:
    (width, height), (wide, high) = one, other
    return abs(width * high - height * wide) <= max(width, height, wide, high)


def _has_a_shape_in_alpha(content: bytes, name: str) -> bool:
    if is_npy(name):
        return False
    with QUIET, opened(io.BytesIO(content)) as image:
        least, most = image.getchannel("A").getextrema() if "A" in image.getbands() else (0, 0)
    return least != most


def _has_palette(content: bytes, name: str) -> bool:
    if is_npy(name):
        return False
    with QUIET, opened(io.BytesIO(content)) as image:
        return image.mode == "P"


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
