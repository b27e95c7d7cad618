"""Memories: what may stand on a lateral link of the U-Net.

The contract, `Memory`: `forward(features [B, C, H, W]) -> Recall`, the same in training and in use. "No memory" is one
of them, so the network never asks whether there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..settings import Model

RAMP = 0.01  # width of the step of the hard shrinkage, in thresholds


class Recall(NamedTuple):
    """What a memory answers to features [B, C, H, W].

    `features` [B, C', H, W] goes to the decoder, where C' is the memory's `gives(C)`; `read` [B, C, H, W] is what was
    read in place of the query (mostly the same tensor); `weights` [..., m] in [0, 1] over the items, where there are
    any; `penalty`, a scalar >= 0, is what the memory adds to the loss in training, where it adds something.
    """

    features: Tensor
    weights: Tensor | None
    read: Tensor
    penalty: Tensor | None = None


class Memory(nn.Module):
    """What stands on a link of the network."""

    def gives(self, channels: int) -> int:
        """Channels of `Recall.features` for so many channels of the query."""
        return channels

    def forward(self, features: Tensor) -> Recall:
        """The recall of features [B, C, H, W]."""
        raise NotImplementedError

    __call__: Callable[[Tensor], Recall]


class NoMemory(Memory):
    """The raw skip connection as a memory: it recalls what it is asked."""

    def forward(self, features: Tensor) -> Recall:
        """The features themselves, and no weights."""
        return Recall(features, None, features)


class CutLink(Memory):
    """No lateral link at all: the decoder gets no channel from here."""

    def gives(self, channels: int) -> int:
        """None."""
        return 0

    def forward(self, features: Tensor) -> Recall:
        """Features without channels."""
        return Recall(features[:, :0], None, features)


def address(similarity: Tensor, *, shrinkage: str, threshold: float, renormalise: bool, temperature: float) -> Tensor:
    """Weights over the last axis from cosines (Eq. 3 and 4).

    `similarity` [..., m] in [-1, 1] -> weights [..., m] in [0, 1]. Eq. 3 is a softmax (of cosines / temperature;
    the paper's is 1). Eq. 4 is the soft shrinkage max(0, w - threshold); "hard" keeps w where w > threshold, rising
    from 0 to w over the first RAMP of the threshold: with a jump there, the last digit of a sum would decide a read,
    and another processor or ONNX Runtime would reconstruct visibly otherwise. With `renormalise` the weights are
    divided by their sum; where all were shrunk to 0 they stay 0.
    """
    weights = torch.softmax(similarity / temperature, dim=-1)
    if shrinkage == "soft":
        weights = torch.relu(weights - threshold)
    elif shrinkage == "hard":
        weights = weights * ((weights - threshold) / max(RAMP * threshold, 1e-12)).clamp(0, 1)
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    return weights


class LearntItems(Memory):
    """Items of the shape `units` + [m, D], learnt by back-propagation, and how they are addressed (`address`)."""

    def __init__(
        self,
        items: int,
        length: int,
        *,
        units: tuple[int, ...] = (),
        shrinkage: str = "soft",
        threshold: float | None = None,
        renormalise: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        bound = length**-0.5  # field: MemAE's start
        self.items = nn.Parameter(torch.empty(*units, items, length).uniform_(-bound, bound))
        self.shrinkage, self.renormalise, self.temperature = shrinkage, renormalise, temperature
        self.threshold = 1 / items if threshold is None else threshold  # paper: delta_m = 1/m

    def address(self, similarity: Tensor) -> Tensor:
        """Weights [..., m] in [0, 1] from cosines [..., m], as the settings say."""
        return address(
            similarity,
            shrinkage=self.shrinkage,
            threshold=self.threshold,
            renormalise=self.renormalise,
            temperature=self.temperature,
        )


def addressing(settings: Model) -> dict[str, Any]:
    """The settings of addressing, as `LearntItems` takes them."""
    return {
        "shrinkage": settings.shrinkage,
        "threshold": settings.shrink_threshold,
        "renormalise": settings.renormalise,
        "temperature": settings.temperature,
    }


class PartitionMemoryBank(LearntItems):
    """Partition Memory Bank (section III-B): k memory units along the height, each of m items of (H/k)*W values.

    Queries are single channels of a partition (Figure 1 (3)), so a unit is shared by all channels. Items are learnt
    by back-propagation with everything else. Shapes: features [B, C, H, W]; items [k, m, (H/k)*W];
    weights [B, C, k, m].
    """

    def __init__(self, size: tuple[int, int], partitions: int, items: int, **addressing: Any) -> None:
        height, width = size
        if height % partitions:
            raise ValueError(f"partitions: expected a divisor of the height {height}, got {partitions}")
        super().__init__(items, height // partitions * width, units=(partitions,), **addressing)
        self.partitions, self.item_length = partitions, height // partitions * width

    def forward(self, features: Tensor) -> Recall:
        """Eq. 2 to 5 for features [B, C, H, W] of the size it was made for."""
        batch, channels, _, _ = features.shape
        queries = self._partition(features)
        weights = self._weights(queries)
        read = torch.bmm(weights, self.items)  # Eq. 5: the items as they are
        assembled = self._assemble(read, features.shape)
        return Recall(assembled, weights.reshape(self.partitions, batch, channels, -1).permute(1, 2, 0, 3), assembled)

    def _weights(self, queries: Tensor) -> Tensor:
        """Weights [k, B*C, m], always in 32 bits: they differ from 1/m in digits that bfloat16 does not hold."""
        unit_items = functional.normalize(self.items, dim=-1)  # Eq. 2
        # Dividing the products by |q| equals normalising q, on a far smaller tensor.
        products = torch.bmm(queries, unit_items.transpose(1, 2)).float()
        lengths = torch.linalg.vector_norm(queries, dim=-1, keepdim=True, dtype=torch.float32)
        return self.address(products / lengths.clamp_min(1e-12))

    def _partition(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> queries [k, B*C, (H/k)*W]: one a channel and partition (Figure 1 (3))."""
        batch, channels, height, width = features.shape
        parts = features.reshape(batch, channels, self.partitions, height // self.partitions, width)
        return parts.permute(2, 0, 1, 3, 4).reshape(self.partitions, batch * channels, self.item_length)

    def _assemble(self, read: Tensor, shape: torch.Size) -> Tensor:
        """[k, B*C, (H/k)*W] -> [B, C, H, W]: the partitions back where they came from."""
        batch, channels, height, width = shape
        parts = read.reshape(self.partitions, batch, channels, height // self.partitions, width)
        return parts.permute(1, 0, 3, 4, 2).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
