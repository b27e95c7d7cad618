"""`Kept`: what the two memories of a bank have in common: items that are kept as they were, and the distance's unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Kept(nn.Module):
    """`items` [..., m, numbers], m = 0 at first; `factor` multiplies the distances, 0 where they do not count."""

    items: Tensor
    factor: Tensor

    def __init__(self, items: Tensor) -> None:
        super().__init__()
        self.register_buffer("items", items)
        self.register_buffer("factor", torch.ones(()))

    @property
    def counts(self) -> bool:
        """Whether its distances are to have a weight."""
        return bool(self.factor > 0)

    @property
    def is_used(self) -> bool:
        """Whether it holds any item."""
        return self.items.numel() > 0

    def forget(self) -> None:
        """Hold no item."""
        self.items = self.items[..., :0, :].clone()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """As many items as the file holds."""
        items = state_dict.get(f"{prefix}items")
        if items is not None:
            self.items = torch.zeros(items.shape, dtype=self.items.dtype, device=self.items.device)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
