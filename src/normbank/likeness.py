"""Whether images are stored in the shape and size of those that a detector learnt from. No PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .detector import Detector
from .images import stored_size

Size = tuple[int, int]  # width, height in pixels
SHAPE = 1.1  # times wider for its height, or higher for its width, than any good image: of another shape
SMALL = 2  # times smaller than any good image, where it is smaller than the model's size, too

_MADE = {
    "stretch": "Stretched to a square, what they show is wider or narrower than it was in those",
    "pad": "Padded to a square, they have other bars at their sides than those",
    "crop": "Cut to a square, they show another part than those",
}
_ENLARGED = "Enlarged to {size} x {size}, they lack the fine detail of those"


def stored_record(sizes: Sequence[Size]) -> dict[str, list[int]] | None:
    """The least and the largest width and height of good images, for a manifest; None of none."""
    if not sizes:
        return None
    widths, heights = zip(*sizes, strict=True)
    return {"width": [min(widths), max(widths)], "height": [min(heights), max(heights)]}


@dataclass
class _Unlike:
    first: str
    count: int = 0


class Likeness:
    """Looks at the files of images to be scored, and tells those that are stored otherwise than the good ones were.

    Nothing is told of detectors of earlier versions, which do not know.
    """

    def __init__(self, detector: Detector) -> None:
        self._spec = detector.spec
        self._known: dict[str, list[int]] | None = detector.manifest["data"].get("stored")
        self._found: dict[str, _Unlike] = {}

    def see(self, path: str | Path, frame: int | None = None, name: str | None = None) -> None:
        """Look at an image, by the header of its file, told as `name`; of what cannot be read others tell."""
        size = stored_size(path, frame) if self._known else None
        if self._known is None or size is None:
            return
        if consequence := self._unlike(self._known["width"], self._known["height"], *size):
            first = f"{name or str(path)!r} ({size[0]} x {size[1]})"
            self._found.setdefault(consequence, _Unlike(first)).count += 1

    def _unlike(self, widths: list[int], heights: list[int], width: int, height: int) -> str | None:
        """What comes of an image of this size; None where it is as the good ones were."""
        if not widths[0] / heights[1] / SHAPE <= width / height <= SHAPE * widths[1] / heights[0]:
            return _MADE[self._spec.fit]
        least, side = max(widths[0], heights[0]), max(width, height)
        return _ENLARGED.format(size=self._spec.size) if side < self._spec.size and SMALL * side < least else None

    def told(self, least: int = 1) -> list[str]:
        """What there is to tell of the images looked at: a sentence for each way that `least` or more are unlike."""
        return [self._sentence(so, found) for so, found in self._found.items() if found.count >= least]

    def _sentence(self, so: str, found: _Unlike) -> str:
        assert self._known is not None
        known = " x ".join(_range(*self._known[side]) for side in ("width", "height"))
        more = f" and {found.count - 1} more" if found.count > 1 else ""
        return f"not stored as the good images were ({known}): {found.first}{more}. {so}: their scores say little"


def _range(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} to {most}"
