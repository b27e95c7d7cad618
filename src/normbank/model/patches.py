"""`Patches`: what 3 x 3 cells of the good images looked like, wherever they were.

PatchCore's bank (Roth et al. 2022) on descriptors that need no pretrained network. For textures, and for things that
lie anywhere: what is normal here is normal there.

Which patches are kept: as k-means++ draws its centres (Arthur and Vassilvitskii 2007), the farther from those that are
kept already the likelier.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .kept import Kept, scale_of

SIDE = 3  # cells a side of a patch
LEAST = 1e-6  # variance: what varies less, as the colours of grey images stored in three channels, is rounding
AXES = 24  # numbers that are kept of a patch: its first principal components
DRAWN = 500  # patches that are chosen between two looks at what is far from those chosen
LOOKED_AT = 500  # points at once, while the bank is filled
MEASURED = 50  # of which the radii are found at once, against all: so few that it stays in the cache
AT_ONCE = 250  # items that are compared at once: what they give stays in the cache of the processor


class Patches(Kept):
    """Items of K numbers: the first principal components of patches, each number of a cell in units of its spread.

    `axes` [K, D, 3, 3] and `offsets` [K] take described images there, `items` [m, K] are the patches kept, `scale` [m]
    is how much a distance from each counts; m is 0 until `keep`. `factor` is the unit of the distance.
    """

    axes: Tensor
    offsets: Tensor

    def __init__(self, length: int) -> None:
        count = min(AXES, length * SIDE**2)
        super().__init__(torch.zeros(0, count), torch.zeros(0))
        self.register_buffer("axes", torch.zeros(count, length, SIDE, SIDE))
        self.register_buffer("offsets", torch.zeros(count))

    def keep(
        self, patches: Tensor, sources: Tensor, count: int, mean: Tensor, variance: Tensor, generator: torch.Generator
    ) -> None:
        """Remember `count` of patches [n, 9 D], as `cut` gives them, of the images numbered `sources` [n].

        `mean` and `variance` [D] are those of all cells. All n say where the principal components lie, and how far the
        good images are from one another.
        """
        unit = torch.sqrt(variance.double().clamp_min(LEAST) + 1e-12).repeat_interleave(SIDE**2)
        standard = (patches.double() - mean.double().repeat_interleave(SIDE**2)) / unit
        centre = standard.mean(dim=0)
        standard -= centre
        directions = _principal(standard, len(self.axes))
        self.axes = (directions.T / unit).reshape(self.axes.shape).float().contiguous()
        self.offsets = -(directions.T @ (centre + mean.double().repeat_interleave(SIDE**2) / unit)).float()
        points = (standard @ directions).float()
        chosen = spread_out(points, count, generator)
        self.items = points[chosen].contiguous()
        self.scale = scale_of(radii(points, sources, chosen))

    def forward(self, described: Tensor) -> Tensor:
        """How far the patch around each cell is from the nearest item: [N, D, G, G] -> [N, 1, G, G], >= 0.

        The squared difference over the K numbers (beyond the border it is repeated), times the item's scale, the least
        of all items; times `factor`.
        """
        found = functional.conv2d(_padded(described), self.axes, self.offsets)
        cells = found.flatten(2).transpose(1, 2)  # [N, P, K]
        ones, lengths = torch.ones_like(cells[..., :1]), (cells**2).sum(dim=2, keepdim=True)
        near = self._nearest(torch.cat([cells, ones, lengths], dim=2))
        return self.factor * near.reshape(described.shape[0], 1, *described.shape[2:]).clamp_min(0)

    def _nearest(self, cells: Tensor) -> Tensor:
        """The least of scale (|item|^2 - 2 item . cell + |cell|^2), as one product: [N, P, K + 2] -> [N, P]."""
        ones, lengths = torch.ones_like(self.items[:, :1]), (self.items**2).sum(dim=1, keepdim=True)
        weights = self.scale[:, None] * torch.cat([-2 * self.items, lengths, ones], dim=1)  # [m, K + 2]
        return torch.stack([(cells @ some.T).amin(dim=2) for some in torch.split(weights, AT_ONCE)]).amin(dim=0)


def spread_out(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Which `count` of points [n, K] to keep, int64 [count], all of them where there are no more.

    DRAWN at a time, the likelier the larger the squared distance from those that are chosen already.
    """
    if len(points) <= count:
        return torch.arange(len(points))
    chosen = new = torch.randperm(len(points), generator=generator)[: min(DRAWN, count)]
    apart = torch.full((len(points),), torch.inf)
    while len(chosen) < count:
        apart = torch.minimum(apart, squared_distances(points, points[new]))
        apart[chosen] = 0
        wanted = min(DRAWN, count - len(chosen))
        left = apart > 0
        if left.sum() <= wanted:  # the rest are copies of what is chosen
            return torch.cat([chosen, torch.nonzero(left)[:, 0]])
        new = torch.multinomial(apart, wanted, generator=generator)
        chosen = torch.cat([chosen, new])
    return chosen


def radii(points: Tensor, sources: Tensor, chosen: Tensor) -> Tensor:
    """Of each chosen point the squared distance to the nearest of points [n, K] of another source; inf without one."""
    lengths, ones = (points**2).sum(dim=1, keepdim=True), torch.ones_like(points[:, :1])
    against = torch.cat([-2 * points, ones, lengths], dim=1).T.contiguous()
    found = []
    for some in torch.split(chosen, MEASURED):
        apart = torch.cat([points[some], lengths[some], ones[some]], dim=1) @ against
        found.append(apart.masked_fill_(sources[some, None] == sources, torch.inf).amin(dim=1))
    return torch.cat(found).clamp_min(0)


def squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """Of each of points [n, K] to the nearest of others [m, K], m at least 1: [n], >= 0."""
    lengths = (others**2).sum(dim=1)
    near = [(lengths - 2 * some @ others.T).amin(dim=1) for some in torch.split(points, LOOKED_AT)]
    return ((points**2).sum(dim=1) + torch.cat(near)).clamp_min(0)


def _principal(standard: Tensor, count: int) -> Tensor:
    """The first principal components of rows [n, d] whose mean is 0: [d, count]. By the smaller of n x n and d x d."""
    if len(standard) >= standard.shape[1]:
        of_columns: Tensor = torch.linalg.eigh(standard.T @ standard)[1]  # the largest last
        return of_columns.flip(1)[:, :count]
    sizes, of_rows = torch.linalg.eigh(standard @ standard.T)
    of_rows = of_rows.flip(1)[:, :count] / sizes.flip(0)[:count].clamp_min(1e-12).sqrt()
    return functional.pad(standard.T @ of_rows, (0, count - of_rows.shape[1]))  # fewer rows than components


def cut(described: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """At most `count` patches of each described image [N, D, G, G], drawn at random: [n, 9 D]."""
    patches = functional.unfold(_padded(described), SIDE).transpose(1, 2)  # [N, G * G, 9 D]
    return torch.cat([one[torch.randperm(len(one), generator=generator)[:count]] for one in patches])


def _padded(described: Tensor) -> Tensor:
    reach = SIDE // 2
    return functional.pad(described, (reach, reach, reach, reach), mode="replicate")
