"""`Bank`: the good images as they were, and how far a new one is from them; no training, a few seconds of looking.

The memory of the paper is learnt, so that it reads well; this one is what was seen, so that nothing else is in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..descriptors import CELL, describe, length
from .patches import SIDE, Patches, cut
from .places import Places

USUAL = 0.2  # the mean distance of good images that were not remembered
SURVEYED = 50_000  # patches that say where their principal components lie, and at most
ROOM = 2**27  # bytes of them
HELD = 2**30  # bytes of the images kept, and a byte is a number: an ONNX file has 2 GiB for everything


class Shares(NamedTuple):
    """How much each memory counts; together 1."""

    places: float
    patches: float


class Bank(nn.Module):
    """Images remembered place by place, `cells` of them at most, and `patches` of 3 x 3 cells remembered wherever.

    Where many channels make cells long, there are fewer. Images are `size` pixels a side, cells 4 x `reduction`. Empty
    until `learn`; `settle` weighs the two and gives the distance its unit.
    """

    def __init__(self, channels: int, size: int, cells: int, patches: int = 0, reduction: int = 1) -> None:
        super().__init__()
        self.reduction, self.cell = reduction, CELL * reduction
        side, numbers = size // self.cell, length(channels, reduction)
        self.count, self.patch_count = max(1, min(cells, HELD // numbers) // side**2), patches  # images, patches
        self.places = Places(numbers, side)
        self.patches = Patches(numbers) if patches else None

    def size_of(self, images: int) -> int:
        """Bytes of what it will keep of that many images, place by place; patches are little beside it."""
        numbers, count = self.places.mean.numel(), min(images, self.count)
        return count * numbers + 4 * (2 * numbers + count * self.places.side**2)

    @torch.no_grad()
    def learn(self, batches: Iterable[Tensor], total: int, seed: int = 0) -> None:
        """Remember `total` good images, [B, C, S, S] in [0, 1] a batch; of more than there is room for a seeded choice.

        Of all others only sums stay in memory, so that their number does not matter. What does not count is left out.
        """
        patches = self.patches if self.patches is not None and self.patches.counts else None
        generator = torch.Generator().manual_seed(seed)
        chosen = _some(total, self.count, generator)
        wanted = self._surveyed()
        cutting, each = _some(total, wanted, generator), -(-wanted // total)
        sums, squares = (torch.zeros(self.places.mean.shape, dtype=torch.float64) for _ in range(2))
        numbers: list[int] = []  # of the images by their content
        known: dict[bytes, int] = {}
        kept: list[Tensor] = []
        some: list[Tensor] = []
        sources: list[Tensor] = []
        done = 0
        for images in batches:
            seen = self.describe(images)
            sums += seen.double().sum(dim=0)
            squares += seen.double().square().sum(dim=0)
            here = slice(done, done + len(images))
            numbers += [known.setdefault(_digest(image), len(known)) for image in images]
            if self.places.counts:
                kept.append(seen[chosen[here]])
            picked = torch.nonzero(cutting[here])[:, 0]
            if patches is not None and len(picked):
                some.append(cut(seen[picked], each, generator))
                sources.append(torch.tensor(numbers)[done + picked].repeat_interleave(len(some[-1]) // len(picked)))
            done += len(images)
        mean, square = sums / total, squares / total
        if self.places.counts:
            of = torch.tensor(numbers)[chosen]
            self.places.keep(torch.cat(kept), of, mean, (square - mean**2).clamp_min(0))
        if patches is not None:
            drawn = torch.randperm(sum(map(len, some)), generator=generator)[:wanted]
            middle = mean.mean(dim=(1, 2))
            spread = (square.mean(dim=(1, 2)) - middle**2).clamp_min(0)
            of = torch.cat(sources)[drawn]
            patches.keep(torch.cat(some)[drawn], of, self.patch_count, middle, spread, generator)

    def describe(self, images: Tensor) -> Tensor:
        """What the cells look like: [N, C, S, S] in [0, 1] -> [N, D, G, G]."""
        return describe(images, self.reduction)

    def _surveyed(self) -> int:
        """How many patches are cut: fewer where many channels make them long."""
        fitting = ROOM // (4 * SIDE**2 * len(self.places.mean))
        return max(1, min(max(SURVEYED, self.patch_count), fitting))

    def settle(self, shares: Shares, usual: Shares) -> None:
        """Weigh the memories, whose mean distances of good images are `usual` (> 0); forget what does not count."""
        for member, share, mean in zip((self.places, self.patches), shares, usual, strict=True):
            if member is not None:
                member.factor = torch.tensor(USUAL * share / mean)
                if not share:
                    member.forget()

    def forward(self, images: Tensor) -> Tensor:
        """How far each cell is from what is remembered: [N, C, S, S] in [0, 1] -> [N, 1, G, G], >= 0.

        The sum of what `Places` and `Patches` say, as far as they hold anything.
        """
        described = self.describe(images)
        found = [member(described) for member in (self.places, self.patches) if member is not None and member.is_used]
        return torch.stack(found).sum(dim=0)


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()


def _some(total: int, count: int, generator: torch.Generator) -> Tensor:
    """Which of `total`, at most `count`, drawn at random: bool [total]."""
    if total <= count:
        return torch.ones(total, dtype=torch.bool)
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[torch.randperm(total, generator=generator)[:count]] = True
    return chosen
