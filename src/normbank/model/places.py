"""`Places`: what each place of the good images looked like, kept as it was.

PatchCore (Roth et al. 2022) with one bank a place, as SPADE and PaDiM keep places apart, on descriptors that need no
pretrained network. For things that lie still: what is normal here is not normal there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .kept import Kept

GRAIN = 16  # steps of an item's bytes in a standard deviation
FARTHEST = 127 / GRAIN  # deviations, as far as bytes reach; what is farther counts as that far, kept and asked alike
WINDOW = 3  # cells a side over which an item has to agree
STILL = 0.01  # of the mean variance: what is added to that of a number that hardly varies
FAINT = 1e-3  # what is added in any case: where nothing at all varies, rounding would be told as a difference


class Places(Kept):
    """Items of D numbers for each of G x G places, in units of their spread there.

    `mean` and `spread` [D, G, G] are those of all images, `items` int8 [G * G, m, D] the images kept; m is 0 until
    `keep`. `factor` is the unit of the distance.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, length: int, side: int) -> None:
        super().__init__(torch.zeros(side**2, 0, length, dtype=torch.int8))
        self.side = side
        self.register_buffer("mean", torch.zeros(length, side, side))
        self.register_buffer("spread", torch.ones(length, side, side))

    def keep(self, described: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Remember images [m, D, G, G]; mean and variance [D, G, G] of all there are."""
        self.mean = mean.float()
        self.spread = torch.sqrt(variance + STILL * variance.mean() + FAINT).float()
        items = self._by_place(self._standard(described))
        self.items = items.mul(GRAIN).round().to(torch.int8).contiguous()

    def forward(self, described: Tensor) -> Tensor:
        """How far each cell is from the nearest item of its place: [N, D, G, G] -> [N, 1, G, G], >= 0.

        The mean over the D numbers of the squared difference in units of the spread (each number at most FARTHEST from
        the mean, so that what one good image in thousands had is known again), averaged for each item over 3 x 3
        cells (the border repeated), then the least of the items; times `factor`.
        """
        found = self._by_place(self._standard(described))  # [P, N, D]
        items = self.items.to(found.dtype) / GRAIN
        lengths = (found**2).sum(dim=2, keepdim=True) + (items**2).sum(dim=2)[:, None]
        apart = (lengths - 2 * torch.bmm(found, items.transpose(1, 2))) / items.shape[2]  # [P, N, m]
        maps = apart.permute(1, 2, 0).reshape(described.shape[0], -1, self.side, self.side)
        reach = WINDOW // 2
        around = functional.pad(maps, (reach, reach, reach, reach), mode="replicate")
        near = functional.avg_pool2d(around, WINDOW, stride=1).amin(dim=1, keepdim=True)
        return self.factor * near.clamp_min(0)

    def _standard(self, described: Tensor) -> Tensor:
        return ((described - self.mean) / self.spread).clamp(-FARTHEST, FARTHEST)

    def _by_place(self, described: Tensor) -> Tensor:
        """[N, D, G, G] -> [G * G, N, D]."""
        return described.flatten(2).permute(2, 0, 1)
