"""Heat maps over images, with numpy and Pillow only: `normbank predict --overlays` needs no plotting library.

One colour scale serves every image of a report or a run: 0 is the dark end, `scale` and above the light end. Nothing
is stretched per image, so two heat maps can be compared and a good image stays calm. `colour_scale` puts
the brightest pixels of good images at the middle of the scale.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ..errors import UserError, problem

Pixels = NDArray[Any]  # H x W x C
Rgb = NDArray[np.uint8]  # H x W x 3
Fit = Literal["stretch", "pad", "crop"]

ALPHA = 0.85  # opacity of the hottest colour
GOOD_PEAK = 0.5  # where on the scale the brightest pixels of good images lie
WHITE, BLACK = (255, 255, 255), (0, 0, 0)

# Our own ramp, violet to red to pale yellow: OKLab lightness rises in equal steps from 0.22 to 0.97.
_POINTS = np.array(
    [
        (27, 2, 80), (69, 5, 111), (122, 10, 118), (177, 16, 105), (222, 53, 73),
        (252, 99, 35), (253, 159, 65), (254, 207, 106), (255, 250, 171),
    ],
    dtype=float,
)  # fmt: skip
_LUT = np.round([[np.interp(at, np.linspace(0, 1, 9), c) for c in _POINTS.T] for at in np.linspace(0, 1, 256)])
_LUT = _LUT.astype(np.uint8)  # 256 x 3


@dataclass(frozen=True)
class Layer:
    """A map over its image, to be drawn once its colour scale is known.

    `image` is uint8 [H, W, 3]; `values` float [H, W] >= 0; `mask` bool [H, W], true where defective, or None. `largest`
    is the map's largest value before it was brought to this size.
    """

    name: str
    image: Rgb
    values: NDArray[np.floating[Any]]
    mask: NDArray[np.bool_] | None
    largest: float

    def drawn(self, scale: float) -> Rgb:
        """The overlay with the mask outlined: uint8 [H, W, 3]. UserError as `heat`."""
        hot = overlay(self.image, self.values, scale)
        return hot if self.mask is None else outline(hot, self.mask)


def top_of_each(layers: Iterable[Layer]) -> dict[str, float]:
    """The colour scale of each name: the largest value of all its maps; 1.0 where that is 0."""
    tops: dict[str, float] = {}
    for layer in layers:
        tops[layer.name] = max(tops.get(layer.name, 0.0), layer.largest)
    return {name: top or 1.0 for name, top in tops.items()}


def colour_scale(good_peaks: Sequence[float]) -> float:
    """The one scale of a run, from the largest map value of each good image: 99.5th percentile / GOOD_PEAK.

    1.0 where that is no positive number.
    """
    top = float(np.percentile(good_peaks, 99.5)) if good_peaks else 0.0
    return top / GOOD_PEAK if top > 0 else 1.0


def heat(anomaly_map: NDArray[np.floating[Any]], scale: float) -> Rgb:
    """Colours [H, W, 3], uint8, of a raw map [H, W] >= 0; values of `scale` and above get the last colour.

    UserError for a map that is not two-dimensional or not finite, and for a scale that is not a positive number.
    """
    colours: Rgb = _LUT[np.round(255 * _share(anomaly_map, scale)).astype(int)]
    return colours


def overlay(image: Pixels, anomaly_map: NDArray[np.floating[Any]], scale: float, alpha: float = ALPHA) -> Rgb:
    """The image [H, W, C] in grey under its heat map [H, W]: uint8 [H, W, 3].

    Opacity rises with the map from 0 to `alpha` (0 to 1) at `scale`, so that normal regions show the image itself.
    Grey keeps the image's own colours from being read as heat. UserError as `heat`, and where the sizes differ.
    """
    if image.shape[:2] != anomaly_map.shape:
        raise UserError(
            problem(
                "overlay", expected=f"a map of the image's size {image.shape[:2]}", came=f"{anomaly_map.shape}",
                do="Resize one to the other first.",
            )
        )  # fmt: skip
    grey = (to_rgb(image) @ np.array([0.299, 0.587, 0.114]))[:, :, None]
    opacity = alpha * _share(anomaly_map, scale)[:, :, None]
    mixed: Rgb = np.round((1 - opacity) * grey + opacity * heat(anomaly_map, scale)).astype(np.uint8)
    return mixed


def outline(rgb: Rgb, mask: NDArray[np.bool_], colour: tuple[int, int, int] = WHITE, width: int = 1) -> Rgb:
    """A copy of `rgb` [H, W, 3] with `mask` [H, W] outlined: `width` pixels of colour, then of black.

    Two tones show on any ground. The line lies outside the mask, so a defect of a few pixels is not covered; where the
    mask meets the image's border, the line lies on its border pixels.
    """
    inner = _grown(mask, width)
    border = np.ones_like(mask)
    border[width:-width, width:-width] = False
    drawn = rgb.copy()
    drawn[_grown(inner, width) & ~inner] = BLACK
    drawn[(inner & ~mask) | (mask & border)] = colour
    return drawn


def to_rgb(image: Pixels) -> Rgb:
    """[H, W, C] (or [H, W]) of uint8, uint16 or floats in [0, 1] as uint8 [H, W, 3].

    One channel is grey; two are shown as their mean; of more than three, the first three (RGBA and RGB + infrared look
    natural). 16 bits are cut to 8 over the full range, never stretched per image.
    """
    pixels = (image[:, :, None] if image.ndim == 2 else image)[:, :, :3]
    if pixels.shape[2] == 2:
        pixels = pixels.mean(axis=2, keepdims=True, dtype=np.float32).astype(pixels.dtype)
    if pixels.dtype == np.uint16:
        pixels = pixels.astype(np.uint32)
        pixels += 128
        pixels //= 257
    elif pixels.dtype != np.uint8:
        pixels = np.round(255 * np.clip(pixels, 0, 1))
    pixels = pixels.astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def resized(pixels: NDArray[Any], size: tuple[int, int], smooth: bool = True) -> NDArray[Any]:
    """uint8 [H, W, 3], bool [H, W] or a map [H, W] (as float32) at `size` = (height, width).

    Smooth: bilinear, averaging where it shrinks; otherwise the nearest pixel. A shrunk mask keeps all it touches.
    """
    if pixels.shape[:2] == size:
        return pixels
    is_mask = pixels.dtype == np.bool_
    source = Image.fromarray(pixels.astype(np.uint8 if pixels.ndim == 3 else np.float32))
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    result = np.asarray(source.resize(size[::-1], Image.Resampling.BOX if is_mask else method))
    return result > 0 if is_mask else result


def to_original(square: NDArray[Any], size: tuple[int, int], fit: Fit = "stretch") -> NDArray[Any]:
    """What the model saw, [S, S] or [S, S, 3], laid back over the original of `size` = (height, width).

    The inverse of `images.fit_square`: `pad` cuts the padding off, `crop` leaves 0 where the model did not look.
    """
    if fit == "stretch":
        return resized(square, size)
    height, width = size
    side = max(size) if fit == "pad" else min(size)
    whole = resized(square, (side, side))
    top, left = abs(side - height) // 2, abs(side - width) // 2
    if fit == "pad":
        return whole[top : top + height, left : left + width]
    laid = np.zeros((height, width, *square.shape[2:]), dtype=whole.dtype)
    laid[top : top + side, left : left + side] = whole
    return laid


def draw_overlay(
    image: Pixels,
    anomaly_map: NDArray[np.floating[Any]],
    scale: float,
    size: tuple[int, int],
    *,
    fit: Fit = "stretch",
    alpha: float = ALPHA,
) -> bytes:
    """The overlay as a PNG file of the original's `size` = (height, width), which says that it is ours.

    `image` is the original [height, width, C], or the model's square one, which is then laid back like the map.
    """
    rgb = to_rgb(image)
    if rgb.shape[:2] != size:
        rgb = to_original(rgb, size, fit)
    return encode(overlay(rgb, to_original(anomaly_map, size, fit), scale, alpha), "PNG")


def encode(rgb: Rgb, format: Literal["PNG", "WEBP"] = "WEBP") -> bytes:
    """The bytes of an image file: lossless PNG that says it is ours, or small WebP."""
    buffer, ours = io.BytesIO(), PngImagePlugin.PngInfo()
    ours.add_text("Software", "normbank")
    more: dict[str, Any] = {"quality": 82, "method": 4} if format == "WEBP" else {"pnginfo": ours}
    Image.fromarray(rgb).save(buffer, format=format, **more)
    return buffer.getvalue()


def _share(anomaly_map: NDArray[np.floating[Any]], scale: float) -> NDArray[np.float64]:
    if not (np.isfinite(scale) and scale > 0):
        raise UserError(
            problem("colour scale", expected="a positive number", came=repr(scale), do="Take it from colour_scale().")
        )
    if anomaly_map.ndim != 2 or not np.isfinite(anomaly_map).all():
        came = f"shape {anomaly_map.shape}" if anomaly_map.ndim != 2 else "values that are not finite"
        raise UserError(problem("anomaly map", expected="finite numbers [H, W]", came=came, do="Check the detector."))
    return np.clip(anomaly_map.astype(np.float64) / scale, 0, 1)


def _grown(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The mask and its 8-connected neighbours, `steps` times."""
    for _ in range(steps):
        rows = mask.copy()
        rows[1:] |= mask[:-1]
        rows[:-1] |= mask[1:]
        mask = rows.copy()
        mask[:, 1:] |= rows[:, :-1]
        mask[:, :-1] |= rows[:, 1:]
    return mask
