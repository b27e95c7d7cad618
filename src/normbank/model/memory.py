"""Memories: what may stand on a lateral link of the U-Net.

The contract, `Memory`: `forward(features [B, C, H, W]) -> Recall`, the same in training and in use. "No memory" is one
of them, so the network never asks whether there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..settings import COLDEST, Model

RAMP = 0.01  # width of the step of the hard shrinkage, in thresholds
CLOSED = -3.0  # where a gate starts: 5 % of the raw features


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


def address(
    similarity: Tensor, *, shrinkage: str, threshold: float, renormalise: bool, temperature: float | Tensor
) -> Tensor:
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
    """Items of the shape `units` + [m, D], learnt by back-propagation, and how they are addressed (`address`).

    With `learn_temperature` the temperature is learnt, too, and starts at the one given.
    """

    log_temperature: nn.Parameter | None

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
        learn_temperature: bool = False,
    ) -> None:
        super().__init__()
        bound = length**-0.5  # field: MemAE's start
        self.items = nn.Parameter(torch.empty(*units, items, length).uniform_(-bound, bound))
        self.shrinkage, self.renormalise, self.fixed_temperature = shrinkage, renormalise, temperature
        start = nn.Parameter(torch.tensor(math.log(temperature))) if learn_temperature else None
        self.register_parameter("log_temperature", start)
        self.threshold = 1 / items if threshold is None else threshold  # paper: delta_m = 1/m

    @property
    def temperature(self) -> float | Tensor:
        """What the cosines are divided by."""
        if self.log_temperature is None:
            return self.fixed_temperature
        return self.log_temperature.exp().clamp_min(COLDEST)

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
        "learn_temperature": settings.learn_temperature,
    }


class PartitionMemoryBank(LearntItems):
    """Partition Memory Bank (section III-B): k memory units along the height, each of m items of (H/k)*W values.

    Queries are single channels of a partition (Figure 1 (3)), so a unit is shared by all channels. Items are learnt
    by back-propagation with everything else. Shapes: features [B, C, H, W]; items [k, m, (H/k)*W];
    weights [B, C, k, m].

    Beyond the paper: with `columns` c the width is cut, too, into k*c units of items of (H/k)*(W/c) values, row by
    row; with `gated` what goes on is read + g (features - read), g in 0..1 learnt.
    """

    gate: nn.Parameter | None

    def __init__(
        self,
        size: tuple[int, int],
        partitions: int,
        items: int,
        *,
        columns: int = 1,
        gated: bool = False,
        **addressing: Any,
    ) -> None:
        for name, count, side in (("partitions", partitions, "height"), ("columns", columns, "width")):
            if size[side == "width"] % count:
                raise ValueError(f"{name}: expected a divisor of the {side} {size[side == 'width']}, got {count}")
        unit_size = size[0] // partitions, size[1] // columns
        super().__init__(items, unit_size[0] * unit_size[1], units=(partitions * columns,), **addressing)
        self.partitions, self.columns, self.unit_size = partitions, columns, unit_size
        self.register_parameter("gate", nn.Parameter(torch.tensor(CLOSED)) if gated else None)

    @property
    def item_length(self) -> int:
        """Values of an item: (H/k)*W where the width is whole."""
        return self.unit_size[0] * self.unit_size[1]

    def forward(self, features: Tensor) -> Recall:
        """Eq. 2 to 5 for features [B, C, H, W] of the size it was made for."""
        batch, channels, _, _ = features.shape
        queries = self._partition(features)
        weights = self._weights(queries)
        read = self._assemble(torch.bmm(weights, self.items), features.shape)  # Eq. 5: the items as they are
        per_query = weights.reshape(self.items.shape[0], batch, channels, -1).permute(1, 2, 0, 3)
        return Recall(self._gated(features, read), per_query, read)

    def _gated(self, features: Tensor, read: Tensor) -> Tensor:
        return read if self.gate is None else read + torch.sigmoid(self.gate) * (features - read)

    def _weights(self, queries: Tensor) -> Tensor:
        """Weights [k, B*C, m] in 32 bits: they differ from 1/m in digits that bfloat16 does not hold.

        Under autocast the products before them are bfloat16's.
        """
        unit_items = functional.normalize(self.items, dim=-1)  # Eq. 2
        # Dividing the products by |q| equals normalising q, on a far smaller tensor.
        products = torch.bmm(queries, unit_items.transpose(1, 2)).float()
        lengths = torch.linalg.vector_norm(queries, dim=-1, keepdim=True, dtype=torch.float32)
        return self.address(products / lengths.clamp_min(1e-12))

    def _partition(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> queries [k*c, B*C, (H/k)*(W/c)]: one a channel and partition (Figure 1 (3))."""
        batch, channels, _, _ = features.shape
        height, width = self.unit_size
        parts = features.reshape(batch, channels, self.partitions, height, self.columns, width)
        return parts.permute(2, 4, 0, 1, 3, 5).reshape(-1, batch * channels, self.item_length)

    def _assemble(self, read: Tensor, shape: torch.Size) -> Tensor:
        """[k*c, B*C, (H/k)*(W/c)] -> [B, C, H, W]: the partitions back where they came from."""
        batch, channels, height, width = shape
        parts = read.reshape(self.partitions, self.columns, batch, channels, *self.unit_size)
        return parts.permute(2, 0, 4, 1, 5, 3).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
