"""`Pose`: what lays images as the good ones lie before anything looks at them, and lays back what was found."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .steady import Steady
from .upright import Upright


class How(NamedTuple):
    """By how much each of N images was moved [N, 2], and then turned [N]; None where none was."""

    moves: Tensor | None
    angles: Tensor | None


class Pose(NamedTuple):
    """Moving, then turning: a thing is turned about its own middle; None where not asked for, unused where no help."""

    steady: Steady | None
    upright: Upright | None

    @property
    def is_moved(self) -> bool:
        """Whether images are moved at all."""
        return self.steady is not None and self.steady.is_used

    @property
    def is_turned(self) -> bool:
        """Whether images are turned at all."""
        return self.upright is not None and self.upright.is_used

    def lay(self, images: Tensor) -> tuple[Tensor, How]:
        """Images [N, C, S, S], of whole numbers, as the good ones lie, and how they got there."""
        moves = angles = None
        if self.steady is not None and self.steady.is_used:
            moves = self.steady.moves_of(images)
            images = self.steady.move(images, moves)
        if self.upright is not None and self.upright.is_used:
            angles = self.upright.angles_of(images)
            images = self.upright.turn(images, angles)
        return images, How(moves, angles)

    def lay_back(self, maps: Tensor, how: How) -> Tensor:
        """Maps [N, C, S, S] of laid images as the images lay; 0 where these were laid out of sight."""
        if self.upright is not None and how.angles is not None:
            maps = self.upright.turn_back(maps, how.angles)
        if self.steady is not None and how.moves is not None:
            maps = self.steady.move_back(maps, how.moves)
        return maps
