"""What made defects are filled with: turned copies, strong colour changes, blur, and seamless cloning. Numpy only.

Pixels here are float32 [h, w, C] in 0..1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Stored = NDArray[Any]  # uint8 or uint16, [S, S, C]


class View(NamedTuple):
    """Where a copy is taken from: its middle (row, column), turned by `angle` radians, mirrored, enlarged by `zoom`."""

    centre: tuple[float, float]
    angle: float = 0.0
    mirrored: bool = False
    zoom: float = 1.0


def look(image: Stored, shape: tuple[int, int], view: View) -> Values:
    """[h, w, C] of `image` through the view for a shape (h, w), in its own units; beyond its borders it is mirrored.

    Quarter turns without a zoom copy pixels as they are; all else is interpolated linearly.
    """
    height, width = shape
    sine, cosine = np.sin(view.angle), np.cos(view.angle)
    exact = view.zoom == 1 and min(abs(sine), abs(cosine)) < 1e-6
    down = (np.arange(height)[:, None] - (height - 1) / 2) / view.zoom
    right = (np.arange(width)[None] - (width - 1) / 2) / view.zoom * (-1 if view.mirrored else 1)
    rows = _into(view.centre[0] + cosine * down + sine * right, image.shape[0], exact)
    columns = _into(view.centre[1] - sine * down + cosine * right, image.shape[1], exact)
    if exact:
        return image[rows.astype(np.intp), columns.astype(np.intp)].astype(np.float32)
    return _interpolated(image, rows, columns)


def _into(places: NDArray[np.float64], size: int, exact: bool) -> NDArray[np.float64]:
    """Places folded back into 0..size-1 as by mirrors at the borders; whole numbers where `exact`."""
    if exact:  # half-way places all go the same way, whatever their last digit
        places = np.floor(places + 0.75)
    period = max(2 * (size - 1), 1)
    places = places % period
    return np.minimum(places, period - places).clip(0, size - 1)


def _interpolated(image: Stored, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Values:
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    below, beside = np.minimum(top + 1, image.shape[0] - 1), np.minimum(left + 1, image.shape[1] - 1)
    down, right = ((p - p.astype(np.intp)).astype(np.float32)[..., None] for p in (rows, columns))
    upper = image[top, left] * (1 - right) + image[top, beside] * right
    lower = image[below, left] * (1 - right) + image[below, beside] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def recolour(rng: np.random.Generator, values: Values) -> Values:
    """The values with two or three of: gains and offsets a channel, channels shuffled, inverted, posterised."""
    for change in rng.permutation(4)[: rng.integers(2, 4)]:
        values = (_gains, _shuffled, _inverted, _posterised)[change](rng, values)
    return values


def _gains(rng: np.random.Generator, values: Values) -> Values:
    channels = values.shape[-1]
    gain, offset = rng.uniform(0.4, 1.8, channels), rng.uniform(-0.35, 0.35, channels)
    return np.asarray((values * gain + offset).clip(0, 1), np.float32)


def _shuffled(rng: np.random.Generator, values: Values) -> Values:
    return values[..., rng.permutation(values.shape[-1])]


def _inverted(rng: np.random.Generator, values: Values) -> Values:
    return 1 - values


def _posterised(rng: np.random.Generator, values: Values) -> Values:
    steps = np.float32(rng.integers(2, 5) - 1)
    return np.asarray(np.rint(values * steps) / steps, np.float32)


def blurred(values: Values, radius: int) -> Values:
    """Values [h, w, C] after two means over (2 radius + 1)^2 pixels, the border pixels repeated outside."""
    for _ in range(2):
        for axis in (0, 1):
            values = _running_mean(values, radius, axis)
    return values


def _running_mean(values: Values, radius: int, axis: int) -> Values:
    around = [(radius + 1, radius) if a == axis else (0, 0) for a in range(3)]
    sums = np.pad(values, around, mode="edge").cumsum(axis=axis, dtype=np.float64)
    count = values.shape[axis]
    upper, lower = np.arange(count) + 2 * radius + 1, np.arange(count)
    window = sums.take(upper, axis=axis) - sums.take(lower, axis=axis)
    return np.asarray(window / (2 * radius + 1), np.float32)


def seamless(before: Values, source: Values, mixed: bool = False) -> Values:
    """Poisson cloning: the inside of `source` lifted onto the border of `before`.

    Both are [h + 2, w + 2, C] and include a ring of one pixel. The answer [h, w, C] has the differences between
    neighbours that `source` has (where `mixed`, the larger of the two), as nearly as the ring of `before` allows.
    """
    divergence = _guidance(before, source, mixed, 0)[:, 1:-1] + _guidance(before, source, mixed, 1)[1:-1]
    return before[1:-1, 1:-1] + _solve(divergence)


def _guidance(before: Values, source: Values, mixed: bool, axis: int) -> Values:
    """How much the wanted differences along an axis exceed those of `before`, differenced once more."""
    ours, theirs = np.diff(before, axis=axis), np.diff(source, axis=axis)
    excess = theirs - ours
    if mixed:
        excess = np.where(np.abs(theirs) > np.abs(ours), excess, np.float32(0))
    return np.diff(excess, axis=axis)


def _solve(divergence: Values) -> Values:
    """u [h, w, C] with four-neighbour Laplacian `divergence` and u = 0 on the ring: exact, by two sine transforms."""
    rows, row_values = _sines(divergence.shape[0])
    columns, column_values = _sines(divergence.shape[1])
    waves = rows @ divergence.transpose(2, 0, 1) @ columns
    waves /= row_values[:, None] + column_values
    return np.asarray((rows @ waves @ columns).transpose(1, 2, 0), np.float32)


@lru_cache(maxsize=256)
def _sines(count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The orthonormal, symmetric sine transform [count, count] and the second difference's eigenvalues [count]."""
    numbers = np.arange(1, count + 1)
    matrix = np.sqrt(2 / (count + 1)) * np.sin(np.pi / (count + 1) * np.outer(numbers, numbers))
    return matrix.astype(np.float32), (2 * np.cos(np.pi / (count + 1) * numbers) - 2).astype(np.float32)
