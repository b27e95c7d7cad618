"""Regions for made defects: soft-edged shapes on a small box, put somewhere in a square image. Numpy and Pillow only.

Every shape is a cover [h, w] float32 in 0..1, as large as its box needs; `place` sets it in an image. Lengths are in
pixels, areas in pixels with a cover of one half or more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float32]
Shape = Callable[[np.random.Generator, float, float], Plane]

_OCTAVES = ((3, 1.0), (6, 0.5), (12, 0.25))  # cells along the box's side, and their share of the noise
AT_ONCE = 500_000  # pixels near a stroke's points that are looked at together: the more, the more memory
_TAPER = 0.15  # share of a stroke at each end over which it thins out


class Region(NamedTuple):
    """A cover [h, w] in 0..1 whose upper left pixel is (top, left) of the image."""

    top: int
    left: int
    cover: Plane

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the image under the cover."""
        height, width = self.cover.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def place(cover: Plane, centre: tuple[float, float], size: int) -> Region:
    """The cover with its middle at `centre` (row, column), cut at the borders of a size x size image.

    A centre inside the image leaves one pixel at least.
    """
    height, width = cover.shape
    top, left = round(centre[0] - height / 2), round(centre[1] - width / 2)
    top, left = min(max(top, 1 - height), size - 1), min(max(left, 1 - width), size - 1)
    inside = cover[max(0, -top) : size - top, max(0, -left) : size - left]
    return Region(max(0, top), max(0, left), inside)


def rectangle(rng: np.random.Generator, area: float, soft: float) -> Plane:
    """An upright or turned rectangle of `area` pixels, aspect 1/3 to 3, whose edge is `soft` pixels wide."""
    half_height, half_width = _halves(rng, area / 4)
    angle = rng.uniform(0, np.pi) if rng.random() < 0.5 else 0.0
    across, along = _turned(half_height, half_width, angle, soft)
    inside = np.minimum(half_height - np.abs(across), half_width - np.abs(along))
    return _edge(inside, soft)


def ellipse(rng: np.random.Generator, area: float, soft: float) -> Plane:
    """A turned ellipse of `area` pixels, aspect 1/3 to 3, whose edge is about `soft` pixels wide."""
    half_height, half_width = _halves(rng, area / np.pi)
    across, along = _turned(half_height, half_width, rng.uniform(0, np.pi), soft)
    radius = np.sqrt((across / half_height) ** 2 + (along / half_width) ** 2)
    return _edge((1 - radius) * np.float32(min(half_height, half_width)), soft)


def cloud(rng: np.random.Generator, area: float, soft: float) -> Plane:
    """A ragged shape, often with islands: smooth noise of three octaves, cut where `area` pixels lie above the cut.

    The edge is about `soft` pixels wide.
    """
    half_height, half_width = _halves(rng, 1.25 * area)  # the shape fills a fifth of its box
    height, width = max(3, round(2 * half_height)), max(3, round(2 * half_width))
    field = noise(rng, height, width)
    steepness = np.float32(2 * np.hypot(np.diff(field, axis=0).std(), np.diff(field, axis=1).std()))
    across, along = _offsets(height, width)
    inside = 1 - (across * np.float32(2 / height)) ** 2 - (along * np.float32(2 / width)) ** 2
    field += np.float32(2) * inside + 8 * np.minimum(inside - np.float32(0.3), 0)
    rank = max(0, height * width - max(1, round(area)))
    cut = np.partition(field, rank, axis=None)[rank]
    window = (inside * np.float32(4)).clip(0, 1)  # nothing is cut off straight at the box
    return window * _edge((field - cut) / max(steepness, np.float32(1e-6)), soft)


def blob(rng: np.random.Generator, area: float, soft: float) -> Plane:
    """A turned ellipse whose cover falls like a Gaussian: 1 in the middle, 1/2 on the outline of `area` pixels.

    `soft` in 0..1 is the width of the fall in half axes: near 0 a disc with an edge, 1 a plain Gaussian.
    """
    half_height, half_width = _halves(rng, area / np.pi)
    reach = 1 + 1.7 * soft  # beyond it the cover is below 1/100
    across, along = _turned(reach * half_height, reach * half_width, rng.uniform(0, np.pi), 0)
    radius = np.sqrt((across / half_height) ** 2 + (along / half_width) ** 2)
    beyond = np.maximum(radius - np.float32(1 - soft), 0) / np.float32(max(soft, 0.02))
    return np.asarray(np.exp2(-(beyond**2)), np.float32)


def noise(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Smooth noise [height, width] of mean about 0 and deviation about 1/2: random values on coarse grids, enlarged."""
    total = np.zeros((height, width), np.float32)
    for cells, share in _OCTAVES:
        if cells <= max(3, min(height, width)):
            coarse = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
            total += np.float32(share) * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return total


def stroke(
    rng: np.random.Generator, size: int, centre: tuple[float, float], length: float, width: float, bend: float
) -> Region:
    """A line of `length` and `width` pixels with its middle at `centre`, thinner towards its ends.

    Its direction drifts by about `bend` radians from end to end. What lies outside the size x size image is cut off.
    """
    points = _path(rng, centre, max(2, round(2 * length)), bend)
    share = np.linspace(0, 1, len(points))
    radius = width / 2 * np.minimum(1, 0.3 + 0.7 * np.minimum(share, 1 - share) / _TAPER)
    return _draw(points, radius, size)


def _path(rng: np.random.Generator, centre: tuple[float, float], count: int, bend: float) -> NDArray[np.float64]:
    """Points [count, 2] (row, column) half a pixel apart, the middle one at `centre`."""
    knots = rng.standard_normal(5).cumsum() * bend / 2
    heading = rng.uniform(0, 2 * np.pi) + np.interp(np.linspace(0, 4, count), np.arange(5), knots)
    points = 0.5 * np.stack([np.sin(heading), np.cos(heading)], axis=1).cumsum(axis=0)
    path: NDArray[np.float64] = points - points[count // 2] + np.asarray(centre)
    return path


def _draw(points: NDArray[np.float64], radius: NDArray[np.float64], size: int) -> Region:
    """Cover of all pixels near the points: 1 inside `radius`, falling to 0 over one pixel around it."""
    reach = int(np.ceil(radius.max() + 0.5))
    steps = np.arange(-reach, reach + 1)
    near = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    middles = np.rint(points).astype(np.int64)
    top, left = (middles.min(axis=0) - reach).clip(0, size)
    bottom, right = (middles.max(axis=0) + reach + 1).clip(0, size)
    drawn = np.zeros((bottom - top, right - left), np.float32)
    each = max(1, AT_ONCE // len(near))
    for start in range(0, len(points), each):
        some = slice(start, start + each)
        pixels = middles[some, None] + near
        distance = np.sqrt(((pixels - points[some, None]) ** 2).sum(axis=-1))
        cover = (radius[some, None] + 0.5 - distance).clip(0, 1)
        used = (cover > 0) & ((pixels >= 0) & (pixels < size)).all(axis=-1)
        np.maximum.at(drawn, tuple((pixels[used] - (top, left)).T), cover[used].astype(np.float32))
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return place(np.zeros((1, 1), np.float32), (points[0, 0], points[0, 1]), size)
    cut = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Region(int(top + rows[0]), int(left + columns[0]), cut.copy())


def _halves(rng: np.random.Generator, product: float) -> tuple[float, float]:
    """Two half sides of that product, their ratio log-uniform from 1/3 to 3, each half a pixel at least."""
    ratio = np.exp(rng.uniform(-0.5, 0.5) * np.log(3))
    side = np.sqrt(product)
    return max(0.5, float(side * ratio)), max(0.5, float(side / ratio))


def _offsets(height: int, width: int) -> tuple[Plane, Plane]:
    """Distance in pixels from the middle of the box: down [height, 1] and to the right [1, width]."""
    down = np.arange(height, dtype=np.float32)[:, None] - np.float32((height - 1) / 2)
    right = np.arange(width, dtype=np.float32)[None] - np.float32((width - 1) / 2)
    return down, right


def _turned(half_height: float, half_width: float, angle: float, soft: float) -> tuple[Plane, Plane]:
    """Coordinates [h, w] along the axes of a shape turned by `angle`, on a box that holds it and its soft edge."""
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    reach_down = abs(cosine) * half_height + abs(sine) * half_width + soft / 2
    reach_right = abs(sine) * half_height + abs(cosine) * half_width + soft / 2
    down, right = _offsets(max(1, int(np.ceil(2 * reach_down))), max(1, int(np.ceil(2 * reach_right))))
    return cosine * down + sine * right, cosine * right - sine * down


def _edge(inside: Plane, soft: float) -> Plane:
    """Cover from the distance inside an outline: 1/2 on it, 0 and 1 reached smoothly within `soft` pixels."""
    share = (inside / np.float32(max(soft, 1e-3)) + np.float32(0.5)).clip(0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


SHAPES: tuple[Shape, ...] = (cloud, rectangle, ellipse)
