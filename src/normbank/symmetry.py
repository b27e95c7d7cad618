"""Which mirrors and shifts leave good images what they are, found from the images alone. Numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data.splits import contents_of, evenly
from .decoding import Pixels

Mirror = Callable[[NDArray[Any]], NDArray[Any]]
MIRRORS: dict[str, Mirror] = {  # images [N, S, S, C]
    "left-right": lambda images: images[:, :, ::-1],
    "up-down": lambda images: images[:, ::-1],
}
GRID, LOOKED_AT = 32, 200  # cells a side, images
FEWEST = 3  # images, of fewer than which nothing is told
FARTHER = 0.6  # share of images that a mirror takes away from the others, above which it is none of theirs
SHIFTS = {"left-right": 2, "up-down": 1}  # axes of images [N, S, S, C]
TRIED = (0.25, -0.25)  # of the side, shifts that are looked at
FAR = 1.4  # times as far from its like, squared: brick, gravel, grass are below 1.25, tiles, digits, things above 1.6


def mirrors(pixels: Pixels, asked: str) -> tuple[str, ...]:
    """The names of MIRRORS that `train.flips` comes to for images [N, S, S, C]."""
    return found(pixels) if asked == "auto" else _named(MIRRORS, asked)


def shifts(pixels: Pixels, asked: str) -> tuple[str, ...]:
    """The names of SHIFTS that `train.shifts` comes to for images [N, S, S, C]."""
    return found_shifts(pixels) if asked == "auto" else _named(SHIFTS, asked)


def _named(ways: Iterable[str], asked: str) -> tuple[str, ...]:
    return tuple(name for name in ways if asked in ("both", name))


def shifted(values: NDArray[Any], axis: int, places: int) -> NDArray[Any]:
    """Images or masks moved along an axis by less than its length, either way; mirrored beyond the border."""
    size = values.shape[axis]
    moved = np.abs(np.arange(size) + places)
    return np.asarray(np.take(values, np.minimum(moved, 2 * (size - 1) - moved), axis=axis))


def found(pixels: Pixels) -> tuple[str, ...]:
    """The mirrors under which images [N, S, S, C] stay as near to their like as they are.

    An image that is typical of its kind has another near it. If its mirror image is as near to one, as often as not,
    the kind does not know left from right. None for fewer than three images.
    """
    if len(pixels) < FEWEST:
        return ()
    some, cells, near = _like(pixels)
    # The cells of the mirror image, not the mirrored cells: they are not of one width where they do not fit the side.
    return tuple(
        name for name, mirror in MIRRORS.items() if _share(_nearest(_cells(mirror(some)), cells), near) <= FARTHER
    )


def found_shifts(pixels: Pixels) -> tuple[str, ...]:
    """The ways in which images [N, S, S, C] may be shifted and stay about as near to their like as they are.

    Those of a texture may, those of a thing that lies where it always lies may not. None for fewer than three images.
    """
    if len(pixels) < FEWEST:
        return ()
    some, cells, near = _like(pixels)
    return tuple(name for name, axis in SHIFTS.items() if _stretch(some, axis, cells, near) <= FAR)


def _stretch(pixels: Pixels, axis: int, cells: NDArray[np.float64], near: NDArray[np.float64]) -> float:
    """How many times farther from its like the median image is when shifted along an axis; the mean of TRIED."""
    least = np.maximum(near, 1e-9 * float(np.mean(cells**2)) + 1e-12)  # exact copies have none
    moved = [_cells(shifted(pixels, axis, round(share * pixels.shape[axis]))) for share in TRIED]
    return float(np.mean([np.median(_nearest(one, cells).clip(0) / least) for one in moved]))


def _like(pixels: Pixels) -> tuple[Pixels, NDArray[np.float64], NDArray[np.float64]]:
    """At most LOOKED_AT of the images, evenly chosen, their cells, and how far each is from its like.

    No two are copies, unless nearly all are: they would be no distance apart, and any mirrored image farther.
    """
    some = pixels[evenly(len(pixels), LOOKED_AT)]
    _, first = np.unique(contents_of(some), return_index=True)
    if len(first) >= FEWEST:
        some = some[np.sort(first)]
    cells = _cells(some)
    return some, cells, _nearest(cells, cells)


def _share(mirrored: NDArray[np.float64], near: NDArray[np.float64]) -> float:
    return float(np.mean(mirrored > near * (1 + 1e-9)))


def _cells(pixels: Pixels) -> NDArray[np.float64]:
    """Means over a grid, [N, G, G, C], without each image's own brightness, which no mirror changes."""
    size = pixels.shape[1]
    edges = np.linspace(0, size, min(GRID, size) + 1).astype(int)
    sums = np.stack([_sums(image.astype(np.float64), edges[:-1]) for image in pixels])
    cells = sums / np.multiply.outer(np.diff(edges), np.diff(edges))[None, :, :, None]
    return np.asarray(cells - cells.mean(axis=(1, 2), keepdims=True))


def _sums(image: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.add.reduceat(np.add.reduceat(image, edges, axis=0), edges, axis=1))


def _nearest(images: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distance of each of `images` to the nearest of `others` that is not the one of the same place."""
    a, b = images.reshape(len(images), -1), others.reshape(len(others), -1)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    np.fill_diagonal(squares, np.inf)
    return np.asarray(squares.min(axis=1))
