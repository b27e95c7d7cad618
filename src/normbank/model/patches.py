"""`Patches`: what 3 x 3 cells of the good images looked like, wherever they were.

PatchCore's bank (Roth et al. 2022) on descriptors that need no pretrained network. For textures, and for things that
lie anywhere: what is normal here is normal there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .kept import Kept

SIDE = 3  # cells a side of a patch
AXES = 24  # numbers that are kept of a patch: its first principal components
AT_ONCE = 250  # items that are compared at once: what they give stays in the cache of the processor


class Patches(Kept):
    """Items of K numbers: the first principal components of patches, each number of a cell in units of its spread.

    `axes` [K, D, 3, 3] and `offsets` [K] take described images there, `items` [m, K] are the patches kept; m is
    0 until `keep`. `factor` is the unit of the distance.
    """

    axes: Tensor
    offsets: Tensor

    def __init__(self, length: int) -> None:
        count = min(AXES, length * SIDE**2)
        super().__init__(torch.zeros(0, count))
        self.register_buffer("axes", torch.zeros(count, length, SIDE, SIDE))
        self.register_buffer("offsets", torch.zeros(count))

    def keep(self, patches: Tensor, count: int, mean: Tensor, variance: Tensor) -> None:
        """Remember the first `count` of patches [n, 9 D], as `cut` gives them; mean and variance [D] of all cells.

        All n say where the principal components lie.
        """
        unit = torch.sqrt(variance.double() + 1e-12).repeat_interleave(SIDE**2)
        standard = (patches.double() - mean.double().repeat_interleave(SIDE**2)) / unit
        centre = standard.mean(dim=0)
        standard -= centre
        directions = _principal(standard, len(self.axes))
        self.axes = (directions.T / unit).reshape(self.axes.shape).float().contiguous()
        self.offsets = -(directions.T @ (centre + mean.double().repeat_interleave(SIDE**2) / unit)).float()
        self.items = (standard[:count] @ directions).float().contiguous()

    def forward(self, described: Tensor) -> Tensor:
        """How far the patch around each cell is from the nearest item: [N, D, G, G] -> [N, 1, G, G], >= 0.

        The squared difference over the K numbers (beyond the border it is repeated); times `factor`.
        """
        found = functional.conv2d(_padded(described), self.axes, self.offsets)
        cells = found.flatten(2).transpose(1, 2)  # [N, P, K]
        ones = torch.ones_like(cells[..., :1])
        near = self._nearest(torch.cat([cells, ones], dim=2))
        apart = (cells**2).sum(dim=2) + near
        return self.factor * apart.reshape(described.shape[0], 1, *described.shape[2:]).clamp_min(0)

    def _nearest(self, cells: Tensor) -> Tensor:
        """The least of |item|^2 - 2 item . cell over all items, as one product: [N, P, K + 1] -> [N, P]."""
        weights = torch.cat([-2 * self.items, (self.items**2).sum(dim=1, keepdim=True)], dim=1)  # [m, K + 1]
        return torch.stack([(cells @ some.T).amin(dim=2) for some in torch.split(weights, AT_ONCE)]).amin(dim=0)


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
