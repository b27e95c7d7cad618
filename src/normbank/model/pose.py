"""`Pose`: what lays images as the good ones lie before anything looks at them, and lays back what was found."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .cells import moved, moved_back
from .middle import Middle
from .steady import Steady
from .upright import Upright


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
            first = self.middle.moves_of(images)
            images = moved(images, first)
        if self.upright is not None and self.upright.is_used:
            angles = self.upright.angles_of(images)
            images = self.upright.turn(images, angles)
        if self.steady is not None and self.steady.is_used:
            moves = self.steady.moves_of(images)
            images = moved(images, moves)
        return images, How(first, angles, moves)

    def lay_back(self, maps: Tensor, how: How) -> Tensor:
        """Maps [N, C, S, S] of laid images as the images lay; what was out of sight is as the nearest place in it."""
        if how.moves is not None:
            maps = moved_back(maps, how.moves)
        if self.upright is not None and how.angles is not None:
            maps = self.upright.turn_back(maps, how.angles)
        if how.first is not None:
            maps = moved_back(maps, how.first)
        return maps
