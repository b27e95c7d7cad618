"""`Kept`: what the two memories of a bank have in common: items that are kept as they were, and the distance's unit.

What a distance means depends on where: items that are far from all other good images, where normal varies much, count
less (`scale_of`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

NEAR = 0.1  # of the mean radius: none counts as much smaller
FAINT = 0.01  # of a squared distance: likewise, of good images that are all but equal


class Kept(nn.Module):
    """`items` [..., m, numbers], `scale` [m, ...]: how much a distance from each counts; m = 0 at first.

    `factor` multiplies the distances, 0 where they do not count.
    """

    items: Tensor
    scale: Tensor
    factor: Tensor

    def __init__(self, items: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("items", items)
        self.register_buffer("scale", scale)
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
        self.items, self.scale = self.items[..., :0, :].clone(), self.scale[:0].clone()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """As many items as the file holds."""
        for name in ("items", "scale"):
            held, here = state_dict.get(f"{prefix}{name}"), getattr(self, name)
            if held is not None:
                setattr(self, name, torch.zeros(held.shape, dtype=here.dtype, device=here.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def scale_of(radius: Tensor) -> Tensor:
    """How much a distance from an item counts: one over the root of its radius, in units of the mean radius.

    The radius is the squared distance to the nearest item of another image, inf where there is no other image.
    """
    usual = radius.mean()
    if not torch.isfinite(usual):
        return torch.ones_like(radius)
    return torch.sqrt((usual + FAINT) / (radius + NEAR * usual + FAINT))
