"""Whether images are stored in the shape and size of those that a detector learnt from. No PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .images import ImageSpec, stored_size

Size = tuple[int, int]  # width, height in pixels
SHAPE = 1.1  # times wider for its height, or higher for its width, than any good image: of another shape
SMALL = 2  # times smaller than any good image, where it is smaller than the model's size, too

_MADE = {
    "stretch": "stretched to a square it looks wider or narrower than they did",
    "pad": "padded to a square it has other bars at its sides than they had",
    "crop": "cut to a square it shows another part than they did",
}


def side_of(size: Size, fit: str) -> int:
    """The side of the square that an image of this size is made into, before it gets the model's size."""
    return min(size) if fit == "crop" else max(size)


def stored_record(sizes: Sequence[Size], fit: str) -> dict[str, Any] | None:
    """How good images are stored, for a manifest: least and largest width, height and width / height; None of none.

    And the least `side_of` them.
    """
    if not sizes:
        return None
    widths, heights = zip(*sizes, strict=True)
    ratios = [width / height for width, height in sizes]
    return {
        "width": [min(widths), max(widths)],
        "height": [min(heights), max(heights)],
        "ratio": [min(ratios), max(ratios)],
        "side": min(side_of(size, fit) for size in sizes),
    }


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
        self._found: dict[str, _Unlike] = {}  # by what comes of it

    def see(self, path: str | Path, frame: int | None = None, name: str | None = None) -> str | None:
        """Look at an image, by the header of its file; a sentence on it, by `name`, where it is the first of a kind.

        Of what cannot be read others tell.
        """
        size = stored_size(path, frame) if self._known else None
        if size is None or not (so := self._consequence(size)):
            return None
        first = f"{name or str(path)!r} is {size[0]} x {size[1]}"
        found = self._found.setdefault(so, _Unlike(first))
        found.count += 1
        return self._sentence(so, found) if found.count == 1 else None

    def _consequence(self, size: Size) -> str | None:
        """What comes of an image of this size; None where it is as the good ones were."""
        assert self._known is not None
        (least, most), side = self._known["ratio"], side_of(size, self._spec.fit)
        if not least / SHAPE <= size[0] / size[1] <= most * SHAPE:
            return _MADE[self._spec.fit]
        if side < self._spec.size and SMALL * side < self._known["side"]:
            return f"enlarged to {self._spec.size} x {self._spec.size} it lacks the fine detail that they had"
        return None

    def told(self, least: int = 1) -> list[str]:
        """One sentence for each kind of difference that was found in `least` images or more."""
        return [self._sentence(so, found) for so, found in self._found.items() if found.count >= least]

    def _sentence(self, so: str, found: _Unlike) -> str:
        assert self._known is not None
        wide, high = (_range(*self._known[side]) for side in ("width", "height"))
        more = f", nor on those of {found.count - 1} more like it" if found.count > 1 else ""
        return f"{found.first}, the good images were {wide} wide and {high} high: {so}. Do not rely on its score{more}."


def _range(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} to {most}"
