"""`Upright`: images turned until they lie alike, each about its middle, and maps turned back; nothing is trained.

Things that lie at any angle are compared with good ones that lie as they do. Which angle an image needs is found on a
coarse image of it, by the correlation of its rings with those that the good images have in common; all of that in 64
bits, whose rounding leaves no two angles level: the network and its exported graph have to choose the same one.
What is kept is of 32 bits, for devices that have no others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..symmetry import GRID

ANGLES = 240  # that are tried, a degree and a half apart
WAVES = 40  # of a ring: a coarse image of 32 cells a side has no finer
STARTS, ROUNDS = 5, 8  # good images that the others are turned to at first, and how often all are turned again
AT_ONCE = 8  # images
NEARER = 0.62  # times as far from its like, squared, that a typical image has to come by being turned


class Upright(nn.Module):
    """Images of `size` pixels a side and `channels`; does nothing until `learn`.

    `common` [2, channels * rings, WAVES] is what the good images have in common, cosines and sines along each ring; it
    is empty at first, and where turning does not help.
    """

    common: Tensor
    places: Tensor
    shares: Tensor
    cosines: Tensor
    sines: Tensor
    weights: Tensor
    directions: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        cells = max(n for n in range(1, min(GRID, size) + 1) if size % n == 0)
        self.width, self.rings = size // cells, max(1, cells // 2)
        waves = torch.arange(1, WAVES + 1, dtype=torch.float64)
        turns = 2 * math.pi * torch.arange(ANGLES, dtype=torch.float64) / ANGLES
        places, shares = _around(cells, self.rings, turns)
        constants = {
            "places": places,
            "shares": shares,
            "cosines": torch.cos(turns[:, None] * waves),
            "sines": torch.sin(turns[:, None] * waves),
            "weights": (torch.arange(self.rings) + 0.5).repeat(channels)[:, None],
            "directions": torch.stack([torch.cos(turns), torch.sin(turns)], dim=1),
        }
        for name, value in constants.items():
            self.register_buffer(name, value if value.dtype == torch.int64 else value.float(), persistent=False)
        self.register_buffer("common", torch.zeros(0))

    @property
    def is_used(self) -> bool:
        """Whether images are turned at all."""
        return self.common.numel() > 0

    def learn(self, images: Tensor) -> None:
        """Find what turned good images [N, C, S, S], of whole numbers, have in common."""
        self._settle(self._all_rings(images))

    def learn_if_it_helps(self, images: Tensor) -> None:
        """`learn`, and forget it where turning brings a typical image of [N, C, S, S] no nearer to its like."""
        rings = self._all_rings(images)
        angles = self._settle(rings)
        turned = torch.stack([ring.roll(-int(angle), dims=1) for ring, angle in zip(rings, angles, strict=True)])
        if len(images) < 3 or _nearness(turned * self.weights.sqrt(), rings * self.weights.sqrt()) > NEARER:
            self.common = torch.zeros(0)

    def _settle(self, rings: Tensor) -> Tensor:
        """Turn each image to one of them, then to the mean of all so turned, from several starts; the best stays."""
        waves = self._waves(rings)
        best, angles = -math.inf, torch.zeros(len(rings), dtype=torch.int64)
        for start in torch.linspace(0, len(rings) - 1, min(STARTS, len(rings))).round().int().tolist():
            common = waves[:, start]
            for _ in range(ROUNDS):
                fits = self._fits(waves, common)
                common = self._turned(waves, fits.argmax(dim=1)).mean(dim=1)
            found = self._fits(waves, common)
            if float(found.amax(dim=1).mean()) > best:
                best, angles, self.common = float(found.amax(dim=1).mean()), found.argmax(dim=1), common.float()
        return angles

    def _all_rings(self, images: Tensor) -> Tensor:
        """`rings_of` many images, a few at a time: in 64 bits they are large."""
        return torch.cat([self.rings_of(some) for some in torch.split(images, AT_ONCE)])

    def rings_of(self, images: Tensor) -> Tensor:
        """Images [N, C, S, S] of whole numbers along rings about their middle: 64 bits [N, C * rings, ANGLES]."""
        n, channels, side = images.shape[0], images.shape[1], images.shape[2] // self.width
        cells = images.double().reshape(n, channels, side, self.width, side, self.width).sum(dim=(3, 5))
        seen = cells.flatten(2)[:, :, self.places.flatten()].reshape(n, channels, *self.places.shape)
        return (seen * self.shares.double()).sum(dim=2).reshape(n, channels * self.rings, ANGLES)

    def angles_of(self, images: Tensor) -> Tensor:
        """By how many of ANGLES each of images [N, C, S, S], of whole numbers, has to be turned: [N]."""
        return self._fits(self._waves(self.rings_of(images)), self.common).argmax(dim=1)

    def turn(self, images: Tensor, angles: Tensor) -> Tensor:
        """Images [N, C, S, S] turned by `angles` [N]; what comes from beyond the border is the image, mirrored."""
        return _sampled(images, self.directions[angles], "reflection")

    def turn_back(self, maps: Tensor, angles: Tensor) -> Tensor:
        """What `turn` did, undone: [N, C, S, S] to the same; 0 where a corner was turned out of sight."""
        cosines, sines = self.directions[angles].unbind(dim=1)
        return _sampled(maps, torch.stack([cosines, -sines], dim=1), "zeros")

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Empty or not, as the file holds it."""
        held = state_dict.get(f"{prefix}common")
        if held is not None:
            self.common = torch.zeros(held.shape, device=self.common.device)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

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

    def _turned(self, waves: Tensor, angles: Tensor) -> Tensor:
        """The waves of images turned by `angles` [N]."""
        cosines, sines = waves
        by_cosine, by_sine = (of[angles][:, None].double() for of in (self.cosines, self.sines))
        return torch.stack([cosines * by_cosine + sines * by_sine, sines * by_cosine - cosines * by_sine])


def _around(cells: int, rings: int, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Between which four cells of a square each place on a ring lies, and their shares: [4, rings * angles] each."""
    radii = torch.arange(rings, dtype=torch.float64)[:, None] + 0.5
    middle = (cells - 1) / 2
    x, y = (middle + (radii * of(turns)).flatten() for of in (torch.cos, torch.sin))
    left, top = (one.floor().clamp(0, max(0, cells - 2)) for one in (x, y))
    right, down = (x - left).clamp(0, 1), (y - top).clamp(0, 1)
    step = min(1, cells - 1)
    places = [(top + dy) * cells + left + dx for dy in (0, step) for dx in (0, step)]
    shares = [vertical * horizontal for vertical in (1 - down, down) for horizontal in (1 - right, right)]
    return torch.stack(places).long(), torch.stack(shares)


def _sampled(images: Tensor, directions: Tensor, beyond: str) -> Tensor:
    """Images [N, C, S, S], at each place what stands there turned by (cosine, sine) [N, 2] about the middle."""
    side = images.shape[-1]
    line = (torch.arange(side, dtype=torch.float64, device=images.device) * 2 + 1) / side - 1
    cosine, sine = directions.double()[:, :, None, None].unbind(dim=1)
    x, y = line[None, None, :], line[None, :, None]
    grid = torch.stack([x * cosine - y * sine, x * sine + y * cosine], dim=-1)
    seen = functional.grid_sample(images.double(), grid, mode="bilinear", padding_mode=beyond, align_corners=False)
    return seen.float()


def _nearness(turned: Tensor, as_they_are: Tensor) -> float:
    """How many times as far from its like the median image is when turned, squared."""
    least = 1e-9 * float(as_they_are.square().sum(dim=(1, 2)).mean()) + 1e-12  # of copies, which are no distance apart
    return float(torch.median((_nearest(turned) + least) / (_nearest(as_they_are) + least)))


def _nearest(images: Tensor) -> Tensor:
    """Squared distance of each image [N, ...] to the nearest other, each without its own brightness."""
    flat = images.flatten(1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    squares = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").square()
    return squares.fill_diagonal_(math.inf).amin(dim=1)
