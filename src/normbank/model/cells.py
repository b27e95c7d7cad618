"""Coarse images, on which `Middle`, `Upright` and `Steady` find how an image lies; moving, and reading along rings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..symmetry import GRID

GROUPS = 4  # channels that are looked at; more are added up to as many
LEVEL = 1e-9  # of what is compared: what is this near to the best is level with it


AT_ONCE = 8  # images: in 64 bits they are large


class Learnt(nn.Module):
    """What finds how images lie, of `channels` and `size` pixels a side, on `cells` x `cells` of `width` pixels.

    It has one state, `common`, what good images have in common: empty, and unused, until that is learnt.
    """

    common: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.channels = min(channels, GROUPS)
        self.width = max(1, size // GRID)
        self.cells = size // self.width
        self.register_buffer("common", torch.zeros(0))

    def hold(self, constants: Mapping[str, Tensor]) -> None:
        """Keep what no training changes and no file needs, numbers in 32 bits, for devices that have no others."""
        for name, value in constants.items():
            self.register_buffer(name, value if value.dtype == torch.int64 else value.float(), persistent=False)

    def cells_of(self, images: Tensor) -> Tensor:
        """Images [N, C, S, S] -> sums in 64 bits [N, channels, cells, cells]; what is left over lies around them."""
        side = self.cells * self.width
        start = (images.shape[2] - side) // 2
        inside = images[:, :, start : start + side, start : start + side].double()
        summed = inside.reshape(*images.shape[:2], self.cells, self.width, self.cells, self.width).sum(dim=(3, 5))
        if images.shape[1] <= GROUPS:
            return summed
        return torch.stack([some.sum(dim=1) for some in summed.tensor_split(GROUPS, dim=1)], dim=1)

    @property
    def is_used(self) -> bool:
        """Whether images are laid by it at all."""
        return self.common.numel() > 0

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Empty or not, as the file holds it."""
        held = state_dict.get(f"{prefix}common")
        if held is not None:
            self.common = torch.zeros(held.shape, device=self.common.device)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def nearest_first(reach: int) -> Tensor:
    """The places of a square of moves, down and right, -reach..reach each, flat, the shortest first."""
    moves = torch.arange(-reach, reach + 1)
    return torch.argsort((moves[:, None] ** 2 + moves**2).flatten(), stable=True)


def shortest_of_least(apart: Tensor, shortest_first: Tensor) -> Tensor:
    """The move, down and right, at which [N, moves, moves] is least, of level ones the shortest: [N, 2]."""
    flat, moves = apart.flatten(1), apart.shape[1]
    level = flat <= flat.amin(dim=1, keepdim=True) + LEVEL
    place = shortest_first[level[:, shortest_first].int().argmax(dim=1)]
    return torch.stack([place // moves, place % moves], dim=1) - moves // 2


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """Images [N, C, S, S], at each place what stands `moves` [N, 2], down and right, from it.

    Moves are whole, and shorter than the side; beyond the border the image is mirrored.
    """
    last = images.shape[2] - 1
    line = torch.arange(last + 1, device=images.device)[None]
    rows, columns = (last - (last - (line + by[:, None]).abs()).abs() for by in moves.unbind(dim=1))
    return _gathered(images, rows, columns)


def moved_back(maps: Tensor, moves: Tensor) -> Tensor:
    """What `moved` did, undone: [N, C, S, S] to the same; what it moved out of sight is as the nearest place in it."""
    last = maps.shape[2] - 1
    line = torch.arange(last + 1, device=maps.device)[None]
    rows, columns = ((line - by[:, None]).clamp(0, last) for by in moves.unbind(dim=1))
    return _gathered(maps, rows, columns)


def _gathered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of images [N, C, S, S] the rows [N, S] and columns [N, S] of each."""
    by_rows = images.gather(2, rows[:, None, :, None].expand(images.shape))
    return by_rows.gather(3, columns[:, None, None, :].expand(images.shape))


def whole(shares: Tensor) -> Tensor:
    """Shares [4, places] of 32 bits in 64, which add up to 1: else a plain image would have rings that are not."""
    exact = shares.double()
    return exact / exact.sum(dim=0)


def read_along_rings(
    cells: int, radii: Tensor, turns: Tensor, off: tuple[float, float] = (0, 0)
) -> tuple[Tensor, Tensor]:
    """How rings about what is `off` (down, right) the middle of a square of cells are read.

    Each point lies between four cells, straight lines between them: their numbers and shares, [4, rings * angles] each.
    """
    middle, across = (cells - 1) / 2, radii[:, None]
    y = middle + off[0] + (across * torch.sin(turns)).flatten()
    x = middle + off[1] + (across * torch.cos(turns)).flatten()
    left, top = (one.floor().clamp(0, cells - 2) for one in (x, y))
    right, down = (x - left).clamp(0, 1), (y - top).clamp(0, 1)
    places = [(top + dy) * cells + left + dx for dy in (0, 1) for dx in (0, 1)]
    shares = [vertical * horizontal for vertical in (1 - down, down) for horizontal in (1 - right, right)]
    return torch.stack(places).long(), torch.stack(shares)
