"""Whether images are stored as those were that a detector learnt from: shape, size, colour, depth. No PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .decoding import Pixels
from .headers import Stored, stored_as
from .images import ImageSpec

Size = tuple[int, int]  # width, height in pixels
SHAPE = 1.1  # times wider for its height, or higher for its width, than any good image: of another shape
SMALL = 2  # times smaller than any good image, where it is smaller than the model's size, too
GREY = 4 / 255  # of full scale, the largest difference between the channels of an image without colours

_MADE = {
    "stretch": "stretched to a square it looks wider or narrower than they did",
    "pad": "padded to a square it has other bars at its sides than they had",
    "crop": "cut to a square it shows another part than they did",
}


def side_of(size: Size, fit: str) -> int:
    """The side of the square that an image of this size is made into, before it gets the model's size."""
    return min(size) if fit == "crop" else max(size)


def stored_record(looks: Sequence[Stored], fit: str, coloured: bool = False) -> dict[str, Any] | None:
    """How good images are stored, for a manifest: least and largest width, height and width / height; None of none.

    And the least `side_of` them, their depths, and whether they are `coloured`, each of them.
    """
    if not looks:
        return None
    sizes = [one.size for one in looks]
    widths, heights = zip(*sizes, strict=True)
    ratios = [width / height for width, height in sizes]
    return {
        "width": [min(widths), max(widths)],
        "height": [min(heights), max(heights)],
        "ratio": [min(ratios), max(ratios)],
        "side": min(side_of(size, fit) for size in sizes),
        "bits": sorted({one.bits for one in looks}),
        "coloured": coloured,
    }


def in_colour(images: Iterable[Pixels]) -> bool:
    """Whether each of the images [H, W, C] has colours: three channels that are not the same."""
    return all(
        image.shape[2] == 3 and np.ptp(image, axis=2).max() > GREY * np.iinfo(image.dtype).max for image in images
    )


@dataclass(frozen=True)
class _Consequence:
    """What comes of being stored otherwise, and when that does no harm."""

    said: str
    unless: str = ""


@dataclass
class _Unlike:
    """The first image of a kind, and how many there were."""

    first: str
    count: int = 0


class Likeness:
    """Looks at the files of images to be scored, and tells those that are stored otherwise than the good ones were.

    `known` is what `stored_record` found of these; nothing is told where it is None, as of earlier versions' detectors.
    """

    def __init__(self, spec: ImageSpec, known: Mapping[str, Any] | None) -> None:
        self._spec, self._known = spec, known
        self._found: dict[_Consequence, _Unlike] = {}

    def see(self, path: str | Path, frame: int | None = None, name: str | None = None) -> str | None:
        """Look at an image, by the header of its file; a sentence on it, by `name`, where it is the first of a kind.

        Of what cannot be read others tell.
        """
        stored = stored_as(path, frame) if self._known else None
        difference = self._difference(stored) if stored else None
        if difference is None:
            return None
        came, so = difference
        found = self._found.setdefault(so, _Unlike(f"{name or str(path)!r} {came}"))
        found.count += 1
        return _sentence(so, found) if found.count == 1 else None

    def told(self, least: int = 1) -> list[str]:
        """One sentence for each kind of difference that was found in `least` images or more."""
        return [_sentence(so, found) for so, found in self._found.items() if found.count >= least]

    def _difference(self, stored: Stored) -> tuple[str, _Consequence] | None:
        """How the image is stored and what comes of it; None where it is as the good ones were."""
        assert self._known is not None
        if {stored.channels, self._spec.channels} not in ({self._spec.channels}, {1, 3}):
            return None  # it is refused, not scored
        size, (least, most) = stored.size, self._known["ratio"]
        wide, high = (_range(*self._known[side]) for side in ("width", "height"))
        sizes = f"is {size[0]} x {size[1]}, the good images were {wide} wide and {high} high"
        if not least / SHAPE <= size[0] / size[1] <= most * SHAPE:
            return sizes, _Consequence(_MADE[self._spec.fit])
        side = side_of(size, self._spec.fit)
        if side < self._spec.size and SMALL * side < self._known["side"]:
            enlarged = f"enlarged to {self._spec.size} x {self._spec.size} it lacks the fine detail that they had"
            return sizes, _Consequence(enlarged)
        return self._difference_of_values(stored)

    def _difference_of_values(self, stored: Stored) -> tuple[str, _Consequence] | None:
        assert self._known is not None
        if stored.channels == 1 and self._known.get("coloured"):  # earlier versions knew neither colour nor depth
            return "is grey, the good images were in colour", _Consequence("it has no colours to compare with theirs")
        if stored.bits in (known := self._known.get("bits", [stored.bits])):
            return None
        came = f"has {stored.bits} bits a value, the good images had {known[0]}"
        counts = f"its {2**stored.bits - 1} counts as their {2 ** known[0] - 1}"
        return came, _Consequence(counts, ", unless both use their whole range")


def _sentence(so: _Consequence, found: _Unlike) -> str:
    more = f", nor on those of {found.count - 1} more like it" if found.count > 1 else ""
    return f"{found.first}: {so.said}. Do not rely on its score{more}{so.unless}."


def _range(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} to {most}"
