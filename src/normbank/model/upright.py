"""`Upright`: images turned until they lie alike, each about its middle, and maps turned back; nothing is trained.

Things that lie at any angle are compared with good ones that lie as they do. Which angle an image needs is found on a
coarse image of it, by the correlation of its rings with those that the good images have in common; all of that in 64
bits, and of angles that are level but for rounding the first is taken: the network and its exported graph have to
choose the same one. What is kept is of 32 bits, for devices that have no others.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..data.splits import evenly
from .cells import AT_ONCE, LEVEL, Learnt, read_along_rings, whole

ANGLES = 240  # that are tried, a degree and a half apart
WAVES = 40  # of a ring, of which the outermost of 32 cells a side could show some 50
STARTS, ROUNDS = 5, 8  # good images that the others are turned to at first, and how often all are turned again


class Upright(Learnt):
    """Images of `size` pixels a side and `channels`; does nothing until `learn`.

    `common` [2, C * rings, WAVES] is what the good images have in common, cosines and sines along each ring; it
    is empty at first, and where turning does not help.
    """

    places: Tensor
    shares: Tensor
    cosines: Tensor
    sines: Tensor
    weights: Tensor
    directions: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels, size)
        self.rings = self.cells // 2
        waves = torch.arange(1, WAVES + 1, dtype=torch.float64)
        turns = 2 * math.pi * torch.arange(ANGLES, dtype=torch.float64) / ANGLES
        places, shares = read_along_rings(self.cells, torch.arange(self.rings, dtype=torch.float64) + 0.5, turns)
        self.hold(
            {
                "places": places,
                "shares": shares,
                "cosines": torch.cos(turns[:, None] * waves),
                "sines": torch.sin(turns[:, None] * waves),
                "weights": (torch.arange(self.rings) + 0.5).repeat(self.channels)[:, None],
                "directions": torch.stack([torch.cos(turns), torch.sin(turns)], dim=1),
            }
        )

    def learn(self, images: Tensor) -> None:
        """Find what turned good images [N, C, S, S] have in common."""
        self.common = self._settled(self._all_rings(images))

    def seen(self, images: Tensor) -> Tensor:
        """The rings of images [N, C, S, S] less each one's mean, by how much of the image they are."""
        rings = self._all_rings(images)
        shares = self.weights / (self.weights.sum() * ANGLES)
        return (rings - (rings * shares).sum(dim=(1, 2), keepdim=True)) * self.weights.sqrt()

    def _settled(self, rings: Tensor) -> Tensor:
        """What images have in common, turned to one of them, then to the mean of all so turned.

        From several starts; the best counts.
        """
        waves, bright = self._waves(rings), _bright(rings)
        found = []
        for start in evenly(len(rings), STARTS):
            common = waves[:, start]
            for _ in range(ROUNDS):
                common = self._turned(waves, self._best(waves, common, bright)).mean(dim=1)
            found.append((float(self._fits(waves, common).amax(dim=1).mean()), common))
        return max(found, key=lambda one: one[0])[1].float()

    def _all_rings(self, images: Tensor) -> Tensor:
        """`rings_of` many images, a few at a time: in 64 bits they are large."""
        return torch.cat([self.rings_of(self.cells_of(some)) for some in torch.split(images, AT_ONCE)])

    def rings_of(self, cells: Tensor) -> Tensor:
        """Cells [N, C, G, G] along rings about their middle: 64 bits [N, C * rings, ANGLES]."""
        seen = cells.flatten(2)[:, :, self.places.flatten()].reshape(-1, self.channels, *self.places.shape)
        return (seen * whole(self.shares)).sum(dim=2).reshape(-1, self.channels * self.rings, ANGLES)

    def angles_of(self, cells: Tensor) -> Tensor:
        """By how many of ANGLES each of images has to be turned, by `cells_of` them [N, C, G, G]: [N]."""
        rings = self.rings_of(cells)
        return self._best(self._waves(rings), self.common, _bright(rings))

    def turn(self, images: Tensor, angles: Tensor) -> Tensor:
        """Images, or cells, [N, C, S, S] turned by `angles` [N]; what comes from beyond the border is mirrored."""
        return _sampled(images, self.directions[angles], "reflection")

    def before_turning(self, moves: Tensor, angles: Tensor) -> Tensor:
        """Moves [N, 2], down and right, of what is turned by `angles` [N], as moves of it as it lies: whole, [N, 2]."""
        (cosines, sines), (down, right) = self.directions[angles].double().unbind(dim=1), moves.double().unbind(dim=1)
        return torch.stack([right * sines + down * cosines, right * cosines - down * sines], dim=1).round().long()

    def turn_back(self, maps: Tensor, angles: Tensor) -> Tensor:
        """What `turn` did, undone: [N, C, S, S] to the same; a corner out of sight is as the nearest place in it."""
        cosines, sines = self.directions[angles].unbind(dim=1)
        return _sampled(maps, torch.stack([cosines, -sines], dim=1), "border")

    def _waves(self, rings: Tensor) -> Tensor:
        """[N, R, ANGLES] -> [2, N, R, WAVES]."""
        return torch.stack([rings @ self.cosines.double(), rings @ self.sines.double()])

    def _fits(self, waves: Tensor, common: Tensor) -> Tensor:
        """How well images fit, turned by each angle: [2, N, R, WAVES] and [2, R, WAVES] -> [N, ANGLES]."""
        (cosines, sines), (of_cosines, of_sines) = waves, common.double() * self.weights
        alike = (cosines * of_cosines + sines * of_sines).sum(dim=1)
        across = (sines * of_cosines - cosines * of_sines).sum(dim=1)
        fits: Tensor = alike @ self.cosines.double().T + across @ self.sines.double().T
        return fits

    def _best(self, waves: Tensor, common: Tensor, bright: Tensor) -> Tensor:
        """The first angle that is level with the best for images as `bright` [N, 1] as that: [N]."""
        fits = self._fits(waves, common)
        most = ANGLES * bright * (common.double().abs() * self.weights).sum()  # no fit is more
        return (fits >= fits.amax(dim=1, keepdim=True) - LEVEL * most).int().argmax(dim=1)

    def _turned(self, waves: Tensor, angles: Tensor) -> Tensor:
        """The waves of images turned by `angles` [N]."""
        cosines, sines = waves
        by_cosine, by_sine = (of[angles][:, None].double() for of in (self.cosines, self.sines))
        return torch.stack([cosines * by_cosine + sines * by_sine, sines * by_cosine - cosines * by_sine])


def _bright(rings: Tensor) -> Tensor:
    """The largest value of each image's rings: [N, 1]."""
    return rings.abs().amax(dim=(1, 2))[:, None]


def _sampled(images: Tensor, directions: Tensor, beyond: str) -> Tensor:
    """Images [N, C, S, S], at each place what stands there turned by (cosine, sine) [N, 2] about the middle."""
    side = images.shape[-1]
    line = (torch.arange(side, dtype=torch.float64, device=images.device) * 2 + 1) / side - 1
    cosine, sine = directions.double()[:, :, None, None].unbind(dim=1)
    x, y = line[None, None, :], line[None, :, None]
    grid = torch.stack([x * cosine - y * sine, x * sine + y * cosine], dim=-1)
    seen = functional.grid_sample(images.double(), grid, mode="bilinear", padding_mode=beyond, align_corners=False)
    return seen.to(images.dtype)
