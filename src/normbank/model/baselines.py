"""The memories of the methods the paper compares itself with, behind the contract `Memory`.

All of them read from one set of m items [m, D] for a whole feature map [B, C, H, W], and differ in what a query is and
in how items come about. Addressing (shrinkage, threshold, temperature) is that of `memory.address`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..settings import Model
from .memory import LearntItems, Memory, Recall, addressing

TINY = 1e-12  # what a length is held above before one divides by it
MARGIN = 1.0  # of MNAD's triplet term


class LookUp(LearntItems):
    """m items of D values [m, D], and the read that goes with them (Gong 2019, Eq. 3-7)."""

    def _look_up(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B, n, D] -> what is read in their place [B, n, D], weights [B, n, m] in [0, 1]."""
        weights = self.address(cosines(queries, self.items))
        return weights @ self.items, weights  # the items as they are


class VectorMemory(LookUp):
    """The memory of MemAE (Gong et al., ICCV 2019; Figure 1 (1) of the paper).

    A query is the vector of all channels at one position. Shapes: features [B, C, H, W]; items [m, C];
    weights [B, H*W, m].
    """

    def __init__(self, channels: int, items: int, **addressing: Any) -> None:
        super().__init__(items, channels, **addressing)

    def forward(self, features: Tensor) -> Recall:
        """The recall of features [B, C, H, W] of any height and width."""
        answer, weights = self._look_up(_positions(features))
        read = _back(answer, features)
        return Recall(read, weights, read)


class BlockMemory(LookUp):
    """The block-wise memory in the style of DAAD (Hou et al., ICCV 2021), whose code is not public.

    The map is cut into k x k blocks; a query is a whole block of all channels, and one unit of items serves all
    blocks. Shapes: features [B, C, H, W]; items [m, C*(H/k)*(W/k)]; weights [B, k*k, m], blocks row by row.
    ValueError unless k divides height and width.
    """

    def __init__(self, channels: int, size: tuple[int, int], partitions: int, items: int, **addressing: Any) -> None:
        height, width = size
        if height % partitions or width % partitions:
            raise ValueError(
                f"partitions: expected a divisor of the height {height} and the width {width}, got {partitions}"
            )
        super().__init__(items, channels * (height // partitions) * (width // partitions), **addressing)
        self.partitions = partitions

    def forward(self, features: Tensor) -> Recall:
        """The recall of features [B, C, H, W] of the size it was made for."""
        answer, weights = self._look_up(self._cut(features))
        read = self._assemble(answer, features.shape)
        return Recall(read, weights, read)

    def _cut(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> queries [B, k*k, C*(H/k)*(W/k)]."""
        batch, channels, height, width = features.shape
        k = self.partitions
        blocks = features.reshape(batch, channels, k, height // k, k, width // k).permute(0, 2, 4, 1, 3, 5)
        return blocks.reshape(batch, k * k, channels * (height // k) * (width // k))

    def _assemble(self, read: Tensor, shape: torch.Size) -> Tensor:
        """[B, k*k, C*(H/k)*(W/k)] -> [B, C, H, W]: the blocks back where they came from."""
        batch, channels, height, width = shape
        k = self.partitions
        blocks = read.reshape(batch, k, k, channels, height // k, width // k).permute(0, 3, 1, 4, 2, 5)
        return blocks.reshape(batch, channels, height, width)


class MovedMemory(Memory):
    """The memory of MNAD (Park et al., CVPR 2020): items that are moved by a rule, not learnt.

    A query is the vector of all channels at one position, at length 1. Weights are a softmax over items, without
    shrinkage; the decoder gets query and read together. Shapes: features [B, C, H, W]; items [m, C], a buffer of 32
    bits, each of length 1; weights [B, H*W, m]; `Recall.features` [B, 2*C, H, W]. A forward in training mode moves
    the items after they were read, and gives the penalty: compactness plus separateness. ValueError for fewer
    than 2 items: separateness needs a second nearest.
    """

    items: Tensor

    def __init__(self, channels: int, items: int, *, temperature: float = 1.0) -> None:
        super().__init__()
        if items < 2:
            raise ValueError(f"items: expected at least 2 (the nearest and the second nearest), got {items}")
        self.register_buffer("items", functional.normalize(torch.rand(items, channels), dim=1))  # field: MNAD's start
        self.temperature = temperature

    def gives(self, channels: int) -> int:
        """Twice as many: query and read."""
        return 2 * channels

    def forward(self, features: Tensor) -> Recall:
        """The recall of features [B, C, H, W] of any height and width."""
        items = self.items.clone()  # the backward pass needs them as they were read
        with torch.autocast(features.device.type, enabled=False):
            queries = functional.normalize(_positions(features).float(), dim=-1, eps=TINY)
            similarity = queries @ items.T
        weights = torch.softmax(similarity / self.temperature, dim=-1)
        query, read = _back(queries, features), _back(weights @ items, features)
        recall = Recall(torch.cat([query, read.to(query.dtype)], dim=1), weights, read)
        if not self.training:
            return recall
        self.items.copy_(moved(items, queries.flatten(0, 1), similarity.flatten(0, 1)))
        return recall._replace(penalty=compactness_and_separateness(queries, similarity))


def cosines(queries: Tensor, items: Tensor) -> Tensor:
    """Cosines [B, n, m] of queries [B, n, D] and items [m, D], in 32 bits whatever the autocast; 0 for a zero query."""
    with torch.autocast(queries.device.type, enabled=False):
        queries = queries.float()
        lengths: Tensor = torch.linalg.vector_norm(queries, dim=-1, keepdim=True)
        return queries @ functional.normalize(items, dim=-1).T / lengths.clamp_min(TINY)


@torch.no_grad()
def moved(items: Tensor, queries: Tensor, similarity: Tensor) -> Tensor:
    """Items [m, C] of length 1 after one step of MNAD's rule, by queries [n, C] with cosines [n, m].

    Each item gains the queries it is nearest to, weighted, and is brought back to length 1 (Park 2020, Eq. 5-7).
    The weight is the softmax over all queries, divided by its largest value among the item's own: the softmax's
    denominator cancels, and exp(cosine - largest cosine among its own) stays. An item without queries stays.
    """
    nearest = similarity.argmax(dim=1, keepdim=True)
    own = nearest == torch.arange(len(items), device=items.device)
    closeness = similarity.masked_fill(~own, -torch.inf)
    largest = closeness.amax(dim=0).clamp_min(-1)  # -1: an item without queries
    with torch.autocast(items.device.type, enabled=False):
        return functional.normalize(items + (closeness - largest).exp().T @ queries, dim=1)


def compactness_and_separateness(queries: Tensor, similarity: Tensor) -> Tensor:
    """MNAD's two terms (Park 2020, Eq. 9 and 10), weighted alike: a scalar >= 0.

    `queries` [B, n, C] of length 1 (or 0), `similarity` [B, n, m] to items of length 1. Compactness is the mean over
    queries of |q - p1|^2, p1 the nearest item; separateness the mean of max(0, |q - p1|^2 - |q - p2|^2 + MARGIN).
    """
    distances = queries.square().sum(dim=-1, keepdim=True) + 1 - 2 * similarity  # |q - p|^2 where |p| = 1
    nearest, second = distances.topk(2, largest=False).values.clamp_min(0).unbind(dim=-1)
    return nearest.mean() + torch.relu(nearest - second + MARGIN).mean()


def vector_memory(settings: Model, level: int, size: int) -> Memory:
    """MemAE's memory for level `level` (from 1); partitions play no part."""
    return VectorMemory(settings.widths[level - 1], settings.items_at(level), **addressing(settings))


def block_memory(settings: Model, level: int, size: int) -> Memory:
    """DAAD-style memory of level `level` (from 1), where feature maps are `size` x `size`, cut into k x k blocks."""
    return BlockMemory(
        settings.widths[level - 1],
        (size, size),
        settings.partitions_at(level),
        settings.items_at(level),
        **addressing(settings),
    )


def moved_memory(settings: Model, level: int, size: int) -> Memory:
    """MNAD's memory for level `level` (from 1); partitions, shrinkage and renormalisation play no part."""
    return MovedMemory(settings.widths[level - 1], settings.items_at(level), temperature=settings.temperature)


def _positions(features: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H*W, C], positions row by row."""
    return features.flatten(2).transpose(1, 2)


def _back(vectors: Tensor, features: Tensor) -> Tensor:
    """[B, H*W, C] -> [B, C, H, W], the shape of `features`."""
    return vectors.transpose(1, 2).reshape(features.shape)
