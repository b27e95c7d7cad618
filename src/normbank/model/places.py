"""`Places`: what each place of the good images looked like, kept as it was.

PatchCore (Roth et al. 2022) with one bank a place, as SPADE and PaDiM keep places apart, on descriptors that need no
pretrained network. For things that lie still: what is normal here is not normal there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .kept import Kept, scale_of

GRAIN = 16  # steps of an item's bytes in a standard deviation
FARTHEST = 127 / GRAIN  # deviations, as far as bytes reach; what is farther counts as that far, kept and asked alike
ROOM = 2**22  # distances that are compared at once while the bank is filled; they are held several times over
WINDOW = 3  # cells a side over which an item has to agree
STILL = 0.01  # of the mean variance: what is added to that of a number that hardly varies
FAINT = 1e-3  # what is added in any case: where nothing at all varies, rounding would be told as a difference


class Places(Kept):
    """Items of D numbers for each of G x G places, in units of their spread there.

    `mean` and `spread` [D, G, G] are those of all images, `items` int8 [G * G, m, D] the images kept, `scale` [m, G, G]
    is how much the distance from each counts; m is 0 until `keep`. `factor` is the unit of the distance.
    """

    mean: Tensor
    spread: Tensor
    near: Tensor

    def __init__(self, length: int, side: int) -> None:
        super().__init__(torch.zeros(side**2, 0, length, dtype=torch.int8), torch.zeros(0, side, side))
        self.side = side
        self.register_buffer("mean", torch.zeros(length, side, side))
        self.register_buffer("spread", torch.ones(length, side, side))
        self.register_buffer("near", _near(side), persistent=False)

    def keep(self, described: Tensor, sources: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Remember images [m, D, G, G], numbered `sources` [m]; mean and variance [D, G, G] of all there are.

        Images of one number are copies, and nothing to measure one another by.
        """
        self.mean = mean.float()
        self.spread = torch.sqrt(variance + STILL * variance.mean() + FAINT).float()
        items = self._by_place(self._standard(described))
        self.items = items.mul(GRAIN).round().to(torch.int8).contiguous()
        self.scale = scale_of(self._radii(sources))

    def _radii(self, sources: Tensor) -> Tensor:
        """How far each item is from the nearest of another source at each place: [m, G, G]; inf without another."""
        count = self.items.shape[1]
        radius = torch.empty(
            count, self.side, self.side
        )  # at once: results between what is freed leave holes in memory
        each = max(1, ROOM // (count * self.side**2))
        items = self._values()
        against = _against(items)
        for start in range(0, count, each):
            apart = self._apart(items[:, start : start + each], against)
            own = sources[start : start + each, None] == sources
            radius[start : start + each] = apart.masked_fill_(own, torch.inf).amin(dim=3).permute(2, 0, 1)
        return radius.clamp_min_(0)

    def forward(self, described: Tensor) -> Tensor:
        """How far each cell is from the nearest item of its place: [N, D, G, G] -> [N, 1, G, G], >= 0.

        The mean over the D numbers of the squared difference in units of the spread (each number at most FARTHEST from
        the mean, so that what one good image in thousands had is known again), averaged for each item over 3 x 3
        cells (the border repeated), times its scale there, then the least of the items; times `factor`.
        """
        apart = self._apart(self._by_place(self._standard(described)), _against(self._values()))  # [G, G, N, m]
        nearest = (self.scale.permute(1, 2, 0)[:, :, None] * apart).amin(dim=3)
        return self.factor * nearest.permute(2, 0, 1)[:, None].clamp_min(0)

    def _values(self) -> Tensor:
        """The items in units of the spread: [P, m, D]."""
        return self.items.to(self.spread.dtype) / GRAIN

    def _apart(self, found: Tensor, against: Tensor) -> Tensor:
        """From cells [P, N, D] to items, given as `_against` [P, D + 2, m] has them: [G, G, N, m].

        Rounding may go below 0. Two products with `near` take the mean over 3 x 3 cells: half the time of a pooling,
        which wants the places last.
        """
        ones, squares = torch.ones_like(found[..., :1]), (found**2).sum(dim=2, keepdim=True)
        apart = torch.bmm(torch.cat([found, squares, ones], dim=2), against)  # [P, N, m]
        rows = (self.near @ apart.reshape(self.side, -1)).reshape(self.side, self.side, -1)
        return (self.near @ rows).reshape(self.side, self.side, found.shape[1], -1)

    def _standard(self, described: Tensor) -> Tensor:
        return ((described - self.mean) / self.spread).clamp(-FARTHEST, FARTHEST)

    def _by_place(self, described: Tensor) -> Tensor:
        """[N, D, G, G] -> [G * G, N, D]."""
        return described.flatten(2).permute(2, 0, 1)


def _against(items: Tensor) -> Tensor:
    """Items [P, m, D], so that one product gives the mean squared difference from each: [P, D + 2, m]."""
    ones, squares = torch.ones_like(items[..., :1]), (items**2).sum(dim=2, keepdim=True)
    return torch.cat([-2 * items, ones, squares], dim=2).transpose(1, 2) / items.shape[2]


def _near(side: int) -> Tensor:
    """What takes the mean over WINDOW cells along a side, the border repeated: [G, G]."""
    reach = WINDOW // 2
    padded = functional.pad(torch.eye(side)[None], (reach, reach), mode="replicate")[0]
    return padded.unfold(1, WINDOW, 1).mean(dim=2)
