"""Defects made from the user's own good images: for restoring training and for choosing settings without test images.

A made image is a good one with one to three defects of one kind, and the mask of what visibly changed. The habits are
those of DRAEM (noise-shaped blends), CutPaste (patches, scars), NSA (seamless patches) and EdgRec, with the filling
taken from the good images alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .config import unknown
from .errors import ConfigError, problem
from .fillings import Values, View, blurred, look, recolour, seamless
from .shapes import SHAPES, Plane, Region, blob, cloud, ellipse, place, stroke

Stored = NDArray[Any]  # uint8 or uint16

VISIBLE = 0.03
"""Share of full scale by which a pixel of the mask differs from the good image in some channel; all others by less."""
LEAST_MASK = 0.0003
"""Share of the pixels that the mask marks at least."""

_AREAS = (0.001, 0.12)  # shares of the image, log-uniform
_LARGE, _LARGE_AREAS = 0.1, (0.12, 0.3)  # chance of a large defect, and its areas
_SEEN = 0.4  # of all changed pixels at least so many are visible: specks in a region of noise teach doubt (LOG.md)
_COUNTS = (0.6, 0.25, 0.15)  # chances of one, two and three defects
_TRIES_A_KIND, _TRIES = 2, 8
_CELLS = 32  # the object is found on a grid of so many cells a side
_SURVEYED = 64  # images that decide whether there is a plain background
_OBJECT = 1.5  # an object deviates so many times as much from the border's colour as the border itself does
_ELSEWHERE = 0.08  # weight of a cell off the object, against 1 on it


class Defective(NamedTuple):
    """`pixels` [S, S, C] of the images' type, `mask` bool [S, S] of what visibly differs, `kind` a name of KINDS."""

    pixels: Stored
    mask: NDArray[np.bool_]
    kind: str


@dataclass(frozen=True)
class Scene:
    """One image while defects are drawn on it.

    `canvas` [S, S, C] is drawn on; `images` [N, S, S, C] are what fillings are taken from, `place` the canvas's own
    number among them; `full` is the value of white; `chances` [G * G] rise to 1, the chance of a defect's centre to
    lie in a cell or an earlier one; `area` is that of a defect in pixels.
    """

    images: Stored
    place: int
    canvas: Stored
    full: float
    chances: NDArray[np.float64]
    area: float

    @property
    def size(self) -> int:
        """S."""
        return int(self.canvas.shape[0])

    @property
    def grain(self) -> float:
        """The unit of widths: one pixel at size 128 and below, and in proportion above."""
        return max(1.0, self.size / 128)

    def centre(self, rng: np.random.Generator) -> tuple[float, float]:
        """A place (row, column) for a defect, by `chances`."""
        cells = round(len(self.chances) ** 0.5)
        cell = min(int(np.searchsorted(self.chances, rng.random(), side="right")), len(self.chances) - 1)
        row, column = (np.array(divmod(cell, cells)) + rng.random(2)) * self.size / cells
        return float(row), float(column)

    def anywhere(self, rng: np.random.Generator) -> tuple[float, float]:
        """A place (row, column) in the image, uniform."""
        row, column = rng.uniform(0, self.size, 2)
        return float(row), float(column)

    def region(self, rng: np.random.Generator, *, soft: float | None = None) -> Region:
        """One of SHAPES of about `area` at a place by `chances`, its edge `soft` pixels wide or 1 to 6 grains."""
        width = soft if soft is not None else self.grain * log_uniform(rng, 1, 6)
        return place(SHAPES[rng.integers(len(SHAPES))](rng, self.area, width), self.centre(rng), self.size)

    def box(self, rng: np.random.Generator) -> Region:
        """An upright rectangle of about `area`, cover 1, that stays clear of the image's border by a pixel."""
        ratio, side = log_uniform(rng, 0.5, 2), self.area**0.5
        height, width = (min(max(2, round(s)), self.size - 2) for s in (side * ratio, side / ratio))
        row, column = self.centre(rng)
        top = min(max(1, round(row - height / 2)), self.size - 1 - height)
        left = min(max(1, round(column - width / 2)), self.size - 1 - width)
        return Region(top, left, np.ones((height, width), np.float32))

    def under(self, region: Region, ring: int = 0) -> Values:
        """The canvas under the region in 0..1, [h, w, C], with `ring` pixels more on each side."""
        rows, columns = (slice(s.start - ring, s.stop + ring) for s in region.box)
        return self.canvas[rows, columns].astype(np.float32) / np.float32(self.full)

    def other(self, rng: np.random.Generator) -> Stored:
        """Another of the images, [S, S, C]; the same where there is only one."""
        count = len(self.images)
        place = (self.place + rng.integers(1, count)) % count if count > 1 else 0
        return np.asarray(self.images[place])

    def seen(self, image: Stored, shape: tuple[int, int], view: View) -> Values:
        """[h, w, C] of an image through a view, in 0..1, for a shape (h, w)."""
        return look(image, shape, view) / np.float32(self.full)

    def put(self, region: Region, values: Values, opacity: float = 1.0) -> None:
        """Draw `values` [h, w, C] or [C] in 0..1 on the canvas where the region covers it."""
        before = self.under(region)
        after = before + np.float32(opacity) * region.cover[..., None] * (values - before)
        self.canvas[region.box] = np.rint(after.clip(0, 1) * np.float32(self.full)).astype(self.canvas.dtype)

    def colour(self, rng: np.random.Generator) -> Values:
        """A colour [C] in 0..1: of a pixel of the images, grey, or any."""
        source, channels = rng.random(), self.canvas.shape[-1]
        if source < 0.4:
            row, column = rng.integers(self.size, size=2)
            return np.asarray(self.other(rng)[row, column] / self.full, np.float32)
        return np.full(channels, rng.random(None if source < 0.6 else channels), np.float32)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _quarter(rng: np.random.Generator) -> float:
    return float(rng.integers(4)) * np.pi / 2


def _paste(scene: Scene, rng: np.random.Generator) -> None:
    """A patch from elsewhere, of this or another image, turned by quarters or a little; sometimes another colour."""
    region = scene.region(rng, soft=scene.grain * log_uniform(rng, 0.5, 4))
    image = scene.images[scene.place] if rng.random() < 0.5 else scene.other(rng)
    angle = _quarter(rng) if rng.random() < 0.6 else rng.uniform(-0.8, 0.8)
    source = scene.centre(rng) if rng.random() < 0.5 else scene.anywhere(rng)
    values = scene.seen(image, region.cover.shape, View(source, angle, bool(rng.integers(2))))
    if rng.random() < 0.3:
        values = (values * np.float32(rng.uniform(0.7, 1.3)) + np.float32(rng.uniform(-0.1, 0.1))).clip(0, 1)
    scene.put(region, values, opacity=rng.uniform(0.7, 1))


def _blend(scene: Scene, rng: np.random.Generator) -> None:
    """A noise-shaped region of another image in other colours, mirrored, turned, at times repeated small."""
    cover = cloud(rng, scene.area, scene.grain * log_uniform(rng, 1, 5))
    region = place(cover, scene.centre(rng), scene.size)
    zoom = 1.0 if rng.random() < 0.6 else log_uniform(rng, 0.25, 2)
    view = View(scene.anywhere(rng), _quarter(rng), bool(rng.integers(2)), zoom)
    values = recolour(rng, scene.seen(scene.other(rng), region.cover.shape, view))
    scene.put(region, values, opacity=rng.uniform(0.2, 1))


def _swap(scene: Scene, rng: np.random.Generator) -> None:
    """A part of the same image shifted, or turned or mirrored where it stands: structure out of place."""
    region = scene.region(rng)
    row, column = (s.start + (s.stop - 1 - s.start) / 2 for s in region.box)
    angle, mirrored, shift = 0.0, False, (0.0, 0.0)
    way = rng.integers(3)
    if way == 0:
        distance, heading = scene.size * log_uniform(rng, 0.04, 0.4), rng.uniform(0, 2 * np.pi)
        shift = (round(distance * np.sin(heading)), round(distance * np.cos(heading)))
    elif way == 1:
        angle = float(rng.integers(1, 4)) * np.pi / 2 if rng.random() < 0.5 else rng.uniform(0.15, 1.4)
    else:
        mirrored, angle = True, _quarter(rng)
    view = View((row + shift[0], column + shift[1]), angle, mirrored)
    scene.put(region, scene.seen(scene.images[scene.place], region.cover.shape, view))


def _stain(scene: Scene, rng: np.random.Generator) -> None:
    """A soft spot, darker, brighter or coloured, mostly see-through."""
    soft = rng.uniform(0.3, 1)
    area = scene.area / (1 + soft) ** 2  # the outskirts are seen, too
    cover = blob(rng, area, soft) if rng.random() < 0.5 else cloud(rng, area, soft * area**0.5)
    region = place(cover, scene.centre(rng), scene.size)
    tone = rng.integers(3)
    values = scene.colour(rng) if tone == 2 else np.full(scene.canvas.shape[-1], tone, np.float32)
    scene.put(region, values, opacity=log_uniform(rng, 0.08, 1))


def _scratch(scene: Scene, rng: np.random.Generator) -> None:
    """A thin bent line, straight at times: darker, brighter or of some colour."""
    length, width = scene.size * log_uniform(rng, 0.1, 1), scene.grain * rng.uniform(1, 3)
    region = stroke(rng, scene.size, scene.centre(rng), length, width, bend=rng.choice([0.1, 0.6, 1.5]))
    tone, strength = rng.integers(3), log_uniform(rng, 0.08, 0.8)
    if tone == 2:
        scene.put(region, scene.colour(rng), opacity=max(strength, 0.3))
    else:
        change = np.float32(strength if tone else -strength)
        scene.put(region, (scene.under(region) + change).clip(0, 1))


def _plain(scene: Scene, rng: np.random.Generator) -> None:
    """A region of one colour, often close to what was there."""
    region = scene.region(rng, soft=scene.grain * log_uniform(rng, 0.5, 1.5))
    colour = scene.colour(rng)
    if rng.random() < 0.5:
        around = scene.under(region).mean(axis=(0, 1))
        change = rng.choice([-1, 1], around.shape) * log_uniform(rng, 0.04, 0.4)
        colour = np.asarray(around + change, np.float32).clip(0, 1)
    scene.put(region, colour)


def _poisson(scene: Scene, rng: np.random.Generator) -> None:
    """A patch from elsewhere without a seam: its differences between pixels, on the border that is there."""
    region = scene.box(rng)
    image = scene.images[scene.place] if rng.random() < 0.3 else scene.other(rng)
    height, width = region.cover.shape
    zoom = 1.0 if rng.random() < 0.5 else log_uniform(rng, 0.7, 1.4)
    view = View(scene.centre(rng), _quarter(rng), bool(rng.integers(2)), zoom)
    source = scene.seen(image, (height + 2, width + 2), view)
    scene.put(region, seamless(scene.under(region, ring=1), source, mixed=bool(rng.integers(2))))


def _erase(scene: Scene, rng: np.random.Generator) -> None:
    """Structure that is missing: smoothed away, or filled in from the border."""
    if rng.random() < 0.5:
        region = scene.box(rng)
        before = scene.under(region, ring=1)
        values = seamless(before, np.zeros_like(before))
    else:
        region = scene.region(rng)
        radius = max(1, round(min(region.cover.shape) * rng.uniform(0.1, 0.5)))
        values = blurred(scene.under(region), radius)
    scene.put(region, values)


KINDS: dict[str, Callable[[Scene, np.random.Generator], None]] = {
    "paste": _paste,
    "blend": _blend,
    "swap": _swap,
    "stain": _stain,
    "scratch": _scratch,
    "plain": _plain,
    "poisson": _poisson,
    "erase": _erase,
}
"""Each draws one defect on a scene's canvas."""


class Defects:
    """Maker of defective images from good ones.

    `pixels` [N, S, S, C], uint8 or uint16, N >= 1, S >= 8: the good images, which are only read. `seed` >= 0 decides
    everything that is made. `kinds` are names of KINDS. With `background`, defects keep mostly to the object where the
    images show one on a plain background; without, they lie anywhere.
    ConfigError for a kind that is unknown, or none at all; ValueError for pixels of another shape or type.
    """

    def __init__(
        self, pixels: Stored, seed: int, kinds: tuple[str, ...] = tuple(KINDS), background: bool = True
    ) -> None:
        if pixels.ndim != 4 or not len(pixels) or pixels.shape[1] != pixels.shape[2] or pixels.shape[1] < 8:
            raise ValueError(f"pixels: expected [N, S, S, C] with N >= 1 and S >= 8, got {pixels.shape}")
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"pixels: expected uint8 or uint16, got {pixels.dtype}")
        _check_kinds(kinds)
        self.pixels, self.seed, self.kinds = pixels, seed, kinds
        self.full = full_scale(pixels)
        self._tolerance = _background_tolerance(pixels, self.full) if background else None

    def make(self, place: int, number: int) -> Defective:
        """Image `place` (0..N-1) with defects; `number` (>= 0) tells its versions apart.

        The same seed, place and number make the same image, in whatever order they are asked for. Kinds that change
        nothing visible here (a patch of a plain background on another) give way to others of `kinds`, and at last to
        "plain" in a contrasting colour: the mask is never empty.
        """
        rng = np.random.default_rng([self.seed, place, number])
        good = self.pixels[place]
        chances = self._chances(good)
        order = rng.permutation(len(self.kinds))
        for attempt in range(_TRIES):
            kind = self.kinds[order[attempt // _TRIES_A_KIND % len(order)]]
            canvas = good.copy()
            for area in _areas(rng, good.shape[0]):
                KINDS[kind](Scene(self.pixels, place, canvas, self.full, chances, area), rng)
            mask = self._changed(good, canvas)
            if mask.sum() >= max(3, LEAST_MASK * mask.size, _SEEN * self._changed(good, canvas, 0).sum()):
                return Defective(canvas, mask, kind)
        _spot(Scene(self.pixels, place, canvas := good.copy(), self.full, chances, 0.01 * good.shape[0] ** 2), rng)
        return Defective(canvas, self._changed(good, canvas), "plain")

    def make_all(self, versions: int) -> list[Defective]:
        """So many versions of every image, image by image."""
        return [self.make(place, number) for place in range(len(self.pixels)) for number in range(versions)]

    def _changed(self, good: Stored, canvas: Stored, share: float = VISIBLE) -> NDArray[np.bool_]:
        """Pixels that differ in some channel by more than `share` of full scale: bool [S, S]."""
        beyond = np.maximum(good, canvas) - np.minimum(good, canvas) > int(share * self.full)
        return np.asarray(np.logical_or.reduce(beyond, axis=-1))

    def _chances(self, image: Stored) -> NDArray[np.float64]:
        """Running sums, up to 1, of a centre's chance to lie in each cell of the image."""
        if self._tolerance is None:
            return np.ones(1)
        weights = _foreground(image, self.full, self._tolerance) + _ELSEWHERE
        sums = weights.cumsum(dtype=np.float64)
        return np.asarray(sums / sums[-1])


def _check_kinds(kinds: tuple[str, ...]) -> None:
    if not kinds:
        raise ConfigError(
            problem("kinds of defects", expected="one at least", came="none", do=f"Choose from {', '.join(KINDS)}.")
        )
    for name in kinds:
        if name not in KINDS:
            raise ConfigError(unknown("kind of defect", name, KINDS))


def full_scale(pixels: Stored) -> float:
    """White: 255, or for 16 bits the largest value of the bits in use (10- and 12-bit cameras fill 16 partly)."""
    if pixels.dtype == np.uint8:
        return 255.0
    return float(2 ** max(8, int(pixels.max()).bit_length()) - 1)


def _areas(rng: np.random.Generator, size: int) -> list[float]:
    """Areas in pixels of the one to three defects of an image; a large one comes alone."""
    if rng.random() < _LARGE:
        shares = [rng.uniform(*_LARGE_AREAS)]
    else:
        shares = [log_uniform(rng, *_AREAS) for _ in range(1 + rng.choice(3, p=_COUNTS))]
    return [max(4.0, share * size**2) for share in shares]


def _spot(scene: Scene, rng: np.random.Generator) -> None:
    """A disc of black or white in each channel, whichever is further away: seen on any image."""
    row, column = scene.centre(rng)
    margin = min(scene.area**0.5, scene.size / 2)
    centre = tuple(min(max(p, margin), scene.size - margin) for p in (row, column))
    region = place(ellipse(rng, max(12.0, scene.area), 1.0), (centre[0], centre[1]), scene.size)
    scene.put(region, (scene.under(region).mean(axis=(0, 1)) < 0.5).astype(np.float32))


def _cells(image: Stored, full: float) -> Values:
    """Means [G, G, C] in 0..1 over the cells of a grid."""
    size = image.shape[0]
    count = min(_CELLS, size)
    starts = np.arange(count) * size // count
    sums = np.add.reduceat(np.add.reduceat(image, starts, axis=0, dtype=np.float32), starts, axis=1)
    heights = np.diff(starts, append=size).astype(np.float32)
    return np.asarray(sums / (heights[:, None] * heights)[..., None] / np.float32(full))


def _deviation(cells: Values) -> tuple[Plane, Plane]:
    """How far each cell is from the median colour of the image's border, [G, G], and those of the border alone."""
    apart = np.abs(cells - np.median(_border(cells), axis=0)).max(axis=-1)
    return apart, _border(apart)


def _border(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([cells[0], cells[-1], cells[1:-1, 0], cells[1:-1, -1]])


def _background_tolerance(pixels: Stored, full: float) -> float | None:
    """How far from the border's colour the background reaches; None where the images show no plain background."""
    chosen = np.linspace(0, len(pixels) - 1, min(_SURVEYED, len(pixels))).astype(int)
    looks = [_deviation(_cells(pixels[i], full)) for i in chosen]
    spread = float(np.median([np.percentile(border, 75) for _, border in looks]))
    tolerance = max(0.06, 2 * spread)
    share = float(np.mean([(apart > tolerance).mean() for apart, _ in looks]))
    stands_out = np.median([apart.mean() - _OBJECT * border.mean() for apart, border in looks]) > 0
    return tolerance if stands_out and 0.02 <= share <= 0.85 else None


def _foreground(image: Stored, full: float, tolerance: float) -> Plane:
    """Weights [G, G] in 0..1 of the cells that differ from the background, smoothed over 3 x 3 cells."""
    apart, _ = _deviation(_cells(image, full))
    return blurred((apart > tolerance).astype(np.float32)[..., None], 1)[..., 0]
