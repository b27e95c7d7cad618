"""`Bank`: what each place of the good images looked like, kept as it was; no training, a few seconds of looking.

The memory of the paper is learnt, so that it reads well; this one is what was seen, so that nothing else is in it. It
judges by the distance to the nearest it knows, at the same place: PatchCore (Roth et al. 2022) with one bank a place,
as SPADE and PaDiM keep places apart, on descriptors that need no pretrained network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..descriptors import CELL, describe, length

GRAIN = 16  # steps of an item's bytes in a standard deviation: values from -8 to 8 deviations
WINDOW = 3  # cells a side over which an item has to agree
STILL = 0.01  # of the mean variance: what is added to that of a number that hardly varies


class Bank(nn.Module):
    """Items of D numbers for each place of G x G cells, in units of their spread there; at most `cells` in all.

    `mean` and `spread` [D, G, G] are those of all images that were learnt, `items` int8 [G * G, m, D] the images kept.
    Empty (m = 0) until `learn`.
    """

    mean: Tensor
    spread: Tensor
    items: Tensor

    def __init__(self, channels: int, size: int, cells: int) -> None:
        super().__init__()
        self.side = size // CELL
        self.count = max(1, cells // self.side**2)  # images
        shape = (length(channels), self.side, self.side)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("spread", torch.ones(shape))
        self.register_buffer("items", torch.zeros(self.side**2, 0, shape[0], dtype=torch.int8))

    @torch.no_grad()
    def learn(self, batches: Iterable[Tensor], total: int, seed: int = 0) -> None:
        """Remember `total` good images, [B, C, S, S] in [0, 1] a batch; of more than `count` a seeded choice.

        Of all others only sums stay in memory, so that their number does not matter.
        """
        chosen = torch.zeros(total, dtype=torch.bool)
        chosen[torch.randperm(total, generator=torch.Generator().manual_seed(seed))[: self.count]] = True
        sums, squares = (torch.zeros(self.mean.shape, dtype=torch.float64) for _ in range(2))
        kept: list[Tensor] = []
        done = 0
        for images in batches:
            seen = describe(images)
            sums += seen.double().sum(dim=0)
            squares += seen.double().square().sum(dim=0)
            kept.append(seen[chosen[done : done + len(images)]])
            done += len(images)
        mean = sums / total
        variance = (squares / total - mean**2).clamp_min(0)
        self.mean = mean.float()
        self.spread = torch.sqrt(variance + STILL * variance.mean() + 1e-12).float()
        items = self._by_place(self._standard(torch.cat(kept)))
        self.items = items.mul(GRAIN).round().clamp(-127, 127).to(torch.int8).contiguous()

    def forward(self, images: Tensor) -> Tensor:
        """How far each cell is from the nearest item: [N, C, S, S] in [0, 1] -> [N, 1, G, G], >= 0.

        The mean over the D numbers of the squared difference in units of the spread, averaged for each item over 3 x 3
        cells (the border repeated), then the least of the items.
        """
        found = self._by_place(self._standard(describe(images)))  # [P, N, D]
        items = self.items.to(found.dtype) / GRAIN
        lengths = (found**2).sum(dim=2, keepdim=True) + (items**2).sum(dim=2)[:, None]
        apart = (lengths - 2 * torch.bmm(found, items.transpose(1, 2))) / items.shape[2]  # [P, N, m]
        maps = apart.permute(1, 2, 0).reshape(images.shape[0], -1, self.side, self.side)
        reach = WINDOW // 2
        around = functional.pad(maps, (reach, reach, reach, reach), mode="replicate")
        return functional.avg_pool2d(around, WINDOW, stride=1).amin(dim=1, keepdim=True).clamp_min(0)

    def _standard(self, described: Tensor) -> Tensor:
        return (described - self.mean) / self.spread

    def _by_place(self, described: Tensor) -> Tensor:
        """[N, D, G, G] -> [G * G, N, D]."""
        return described.flatten(2).permute(2, 0, 1)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """As many items as the file holds."""
        items = state_dict.get(f"{prefix}items")
        if items is not None:
            self.items = torch.zeros(items.shape, dtype=self.items.dtype, device=self.items.device)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
