"""`Middle`: images moved until the thing in them is roughly about their middle, whatever its angle; nothing is trained.

What lies at any angle and any place has to be moved before it can be turned about its own middle, and turned before it
can be laid exactly. So places are tried as middles, a sixteenth of the side apart: the one counts whose rings, turned
by the best angle, are nearest to those that the good images have in common. In 64 bits, level places being told apart
by one rule, as `Steady` does it. It is rough, and a defect may mislead it: `pose` tries several.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..data.splits import evenly
from .cells import AT_ONCE, Learnt, nearest_first, read_along_rings, shortest_of_least, whole

STEPS, APART = 3, 16  # places that are tried either way, of which as many make a side
RINGS, ANGLES, WAVES = 8, 60, 20  # about each; angles along a ring; waves of it, beside its mean
STARTS, ROUNDS = 5, 6  # good images that the others are laid to at first, and how often all are laid again
ROOM = 2**28  # bytes of the waves of images to learn from


class Middle(Learnt):
    """Images of `size` pixels a side and `channels`; does nothing until `learn`.

    `common` [2, C, RINGS, 1 + WAVES] is what rings of good images have in common, cosines and sines; empty at first.
    """

    places: Tensor
    shares: Tensor
    weights: Tensor
    basis: Tensor
    turns: Tensor
    nearest_first: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels, size)
        self.step = max(1, self.cells // APART)
        moves = self.step * torch.arange(-STEPS, STEPS + 1, dtype=torch.float64)
        within = max(1.0, self.cells / 2 - STEPS * self.step)  # cells, as far as all middles have rings around them
        radii = within * (torch.arange(RINGS, dtype=torch.float64) + 0.5) / RINGS
        turns = 2 * math.pi * torch.arange(ANGLES, dtype=torch.float64) / ANGLES
        waves = turns[:, None] * torch.arange(WAVES + 1)
        read = [read_along_rings(self.cells, radii, turns, (float(y), float(x))) for y in moves for x in moves]
        scale = torch.full((WAVES + 1,), math.sqrt(2), dtype=torch.float64)
        scale[0] = 1  # so that the squares of a ring's waves add up to its mean square
        self.hold(
            {
                "places": torch.stack([places for places, _ in read], dim=1),  # [4, middles, RINGS * ANGLES]
                "shares": torch.stack([shares for _, shares in read], dim=1),
                "weights": radii / radii.sum(),
                "basis": torch.stack([torch.cos(waves), torch.sin(waves)]) * scale / ANGLES,  # [2, ANGLES, 1 + WAVES]
                "turns": torch.stack([torch.cos(waves), torch.sin(waves)]).transpose(1, 2),  # [2, 1 + WAVES, ANGLES]
                "nearest_first": nearest_first(STEPS),
            }
        )

    def learn(self, images: Tensor) -> None:
        """Find what laid good images [N, C, S, S] have in common; of many an even choice counts.

        Their rings laid to those of one of them, then to the mean of all so laid; from several starts, of which the one
        counts after which they differ least.
        """
        bytes_of_one = 16 * self.channels * RINGS * len(self.nearest_first) * (WAVES + 1)
        some = images[evenly(len(images), max(STARTS, ROOM // bytes_of_one))]
        waves = torch.cat([self._waves(one) for one in torch.split(some, AT_ONCE)], dim=1)
        found = []
        for start in evenly(len(some), STARTS):
            common = waves[:, start, :, :, len(self.nearest_first) // 2]
            for _ in range(ROUNDS):
                common = self._laid(waves, *self._apart(waves, common)).mean(dim=1)
            apart, _ = self._apart(waves, common)
            found.append((float(apart.amin(dim=(1, 2)).mean()), common))
        self.common = min(found, key=lambda one: one[0])[1].float()

    def moves_of(self, images: Tensor) -> Tensor:
        """By how many pixels, down and right, what images [N, C, S, S] show at each place is sought: [N, 2], whole."""
        return self.likeliest(images, 1)[0] * self.width

    def likeliest(self, images: Tensor, count: int) -> Tensor:
        """The `count` likeliest of such moves, in cells, the likeliest first: [count, N, 2]."""
        apart, _ = self._apart(self._waves(images), self.common)
        found: list[Tensor] = []
        for _ in range(count):
            if found:
                taken = self._place(found[-1])[:, None]
                apart = apart.flatten(1).scatter(1, taken, math.inf).reshape(apart.shape)
            found.append(shortest_of_least(apart, self.nearest_first))
        return torch.stack(found) * self.step

    def _waves(self, images: Tensor) -> Tensor:
        """Of the rings about each middle, less the mean of them all: 64 bits [2, N, C, RINGS, middles, 1 + WAVES]."""
        cells = self.cells_of(images).flatten(2)
        n, middles = cells.shape[0], self.places.shape[1]
        seen = cells[:, :, self.places.flatten()].reshape(n, self.channels, *self.places.shape)
        rings = (seen * whole(self.shares)).sum(dim=2).reshape(n, self.channels, middles, RINGS, ANGLES)
        light = (rings.mean(dim=4) * self.weights.double()).sum(dim=3)
        level = (rings - light[..., None, None]).transpose(2, 3)
        return torch.stack([level @ one for one in self.basis.double().unbind()])

    def _apart(self, waves: Tensor, common: Tensor) -> tuple[Tensor, Tensor]:
        """How far rings, each turned by its best angle, are from `common`: [N, down, right]; and all fits to angles."""
        of_all, weigh = common.double()[:, :, :, None], self.weights.double()[:, None, None]
        (cosines, sines), (of_cosines, of_sines) = waves, of_all
        alike = (weigh * (cosines * of_cosines + sines * of_sines)).sum(dim=(1, 2))
        across = (weigh * (sines * of_cosines - cosines * of_sines)).sum(dim=(1, 2))
        to_cosines, to_sines = self.turns.double()
        fits = alike @ to_cosines + across @ to_sines  # [N, middles, ANGLES]
        own = (weigh * waves.square()).sum(dim=(0, 2, 3, 5))
        of_common = (weigh * of_all.square()).sum()
        side = 2 * STEPS + 1
        apart = (own + of_common - 2 * fits.amax(dim=2)) / (own.mean(dim=1, keepdim=True) + of_common).clamp_min(1e-9)
        return apart.reshape(-1, side, side), fits

    def _laid(self, waves: Tensor, apart: Tensor, fits: Tensor) -> Tensor:
        """Of each image's `_waves` those where, and turned as, they fit best: [2, N, C, RINGS, 1 + WAVES].

        Shifted alike, so that what they have in common is about its own middle, not about where the start had it.
        """
        every, moves = torch.arange(len(apart)), shortest_of_least(apart, self.nearest_first)
        angles = fits[every, self._place(moves)].argmax(dim=1)
        by_cosine, by_sine = self.turns.double()[:, :, angles].transpose(1, 2)  # [N, 1 + WAVES] each
        places = self._place(_about_their_own(moves, by_cosine[:, 1], by_sine[:, 1]).clamp(-STEPS, STEPS))
        cosines, sines = torch.stack([waves[:, n, :, :, place] for n, place in enumerate(places.tolist())], dim=1)
        by_cosine, by_sine = by_cosine[:, None, None], by_sine[:, None, None]
        return torch.stack([cosines * by_cosine + sines * by_sine, sines * by_cosine - cosines * by_sine])

    @staticmethod
    def _place(moves: Tensor) -> Tensor:
        """The flat place of moves [N, 2] among all that are tried: [N]."""
        return (moves[:, 0] + STEPS) * (2 * STEPS + 1) + moves[:, 1] + STEPS


def _about_their_own(moves: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Moves [N, 2], down and right, of things turned by angles [N], with what these have in common taken off.

    Seen along with the things, moves that lead to their middles are 0 in the mean; what is left is how far the middle
    that all were laid to lies from theirs.
    """
    down, right = moves.double().unbind(dim=1)
    off_right, off_down = (right * cosines + down * sines).mean(), (down * cosines - right * sines).mean()
    back = torch.stack([off_right * sines + off_down * cosines, off_right * cosines - off_down * sines], dim=1)
    return (moves - back).round().long()
