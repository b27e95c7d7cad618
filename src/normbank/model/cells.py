"""Coarse images, on which `Steady` and `Upright` find how an image lies."""

from __future__ import annotations

from torch import Tensor

from ..symmetry import GRID


def cells_of_side(size: int) -> tuple[int, int]:
    """Cells along a side of `size` pixels, GRID and somewhat more where there are as many pixels, and their width."""
    width = max(1, size // GRID)
    return size // width, width


def sums_of_cells(images: Tensor, cells: int, width: int) -> Tensor:
    """Images [N, C, S, S] of whole numbers -> 64 bits [N, C, cells, cells]; what is left over lies around them."""
    side = cells * width
    start = (images.shape[2] - side) // 2
    inside = images[:, :, start : start + side, start : start + side].double()
    return inside.reshape(*images.shape[:2], cells, width, cells, width).sum(dim=(3, 5))
