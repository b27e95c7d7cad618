"""`Pose`: what lays images as the good ones lie before anything looks at them, and lays back what was found."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .cells import LEVEL, moved, moved_back
from .middle import Middle
from .steady import Steady
from .upright import Upright

TRIED, CORRECTED = 8, 2  # middles; times that the one which fits best is corrected
FARTHEST = 4  # a quarter of the side is the farthest that it lies from the image's, either way


class How(NamedTuple):
    """By how much each of N images was moved [N, 2], turned [N] and moved again [N, 2]; None where it was not."""

    first: Tensor | None
    angles: Tensor | None
    moves: Tensor | None


class Pose(NamedTuple):
    """Roughly to the middle, turned, moved into place, each where it is used; None where it is not asked for."""

    middle: Middle | None = None
    upright: Upright | None = None
    steady: Steady | None = None

    @property
    def is_turned(self) -> bool:
        """Whether images are turned at all."""
        return self.upright is not None and self.upright.is_used

    @property
    def is_moved(self) -> bool:
        """Whether images are moved at all."""
        return any(one is not None and one.is_used for one in (self.middle, self.steady))

    def lay(self, images: Tensor) -> tuple[Tensor, How]:
        """Images [N, C, S, S] as the good ones lie, and how they got there."""
        first = angles = moves = None
        if self.middle is not None and self.middle.is_used:
            first = self._first(self.middle, images)
            images = moved(images, first)
        if self.upright is not None and self.upright.is_used:
            angles = self.upright.angles_of(self.upright.cells_of(images))
            images = self.upright.turn(images, angles)
        if self.steady is not None and self.steady.is_used:
            moves = self.steady.moves_of(self.steady.cells_of(images))
            images = moved(images, moves)
        return images, How(first, angles, moves)

    def _first(self, middle: Middle, images: Tensor) -> Tensor:
        """By how many pixels [N, 2] images are moved before anything else.

        The rings about a middle tell little of what lies between them, and a defect may mislead them: so the cells are
        turned about the likeliest middles and compared with those of the good ones. What is turned about another place
        than these were fits at a wrong angle: where it has to be moved afterwards, it is moved beforehand, and turned
        again.
        """
        upright, steady = self.upright, self.steady
        if upright is None or steady is None or not (upright.is_used and steady.is_used):
            return middle.moves_of(images)
        likeliest = middle.likeliest(images, TRIED)
        cells = moved(middle.cells_of(images).repeat(TRIED, 1, 1, 1), likeliest.flatten(0, 1))
        apart = steady.least_apart(_turned(cells, upright)[0]).reshape(TRIED, -1)
        first = _of_least(likeliest, apart) * middle.width
        farthest = images.shape[-1] // FARTHEST
        for _ in range(CORRECTED):
            cells, angles = _turned(upright.cells_of(moved(images, first)), upright)
            first = first + upright.before_turning(steady.moves_of(cells), angles)
            first = first.clamp(-farthest, farthest)
        return first

    def lay_back(self, maps: Tensor, how: How) -> Tensor:
        """Maps [N, C, S, S] of laid images as the images lay; what was out of sight is as the nearest place in it."""
        if how.moves is not None:
            maps = moved_back(maps, how.moves)
        if self.upright is not None and how.angles is not None:
            maps = self.upright.turn_back(maps, how.angles)
        if how.first is not None:
            maps = moved_back(maps, how.first)
        return maps


def _turned(cells: Tensor, upright: Upright) -> tuple[Tensor, Tensor]:
    """Cells [N, C, G, G] turned upright, and by what angles [N]."""
    angles = upright.angles_of(cells)
    return upright.turn(cells, angles), angles


def _of_least(moves: Tensor, apart: Tensor) -> Tensor:
    """Of moves [K, N, 2] the first after which images are level with the least `apart` [K, N]: [N, 2]."""
    first = (apart <= apart.amin(dim=0) + LEVEL).int().argmax(dim=0)
    return moves.gather(0, first[None, :, None].expand(1, -1, 2))[0]
