"""What a place looks like, without learning: directions of edges around it at several scales, free of light.

Pure tensor functions on images in [0, 1]. In the manner of HOG (Dalal and Triggs 2005): derivatives in eight
directions, summed over cells, divided by the contrast around them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

CELL = 4  # pixels a side of a cell, of the network's
DIRECTIONS = 8
SCALES = 3  # and one more each time that the network sees half of the image's size
FLOOR = 0.002  # contrast below which a place counts as flat, of full scale
COLOUR_GAIN = 4.0
CONTRAST_GAIN = 0.3
_BINOMIAL = (1.0, 2.0, 1.0)


def describe(images: Tensor, reduction: int = 1) -> Tensor:
    """[N, C, S, S] in [0, 1] -> [N, D, G, G], G = S / (4 reduction), which is whole; S at least 8.

    Of each of three scales (four where `reduction` is 2, five where it is 4) ten edge channels (eight directions,
    ridges bright and dark) relative to the contrast around, and the logarithm of that contrast; of several channels,
    how each differs from their mean. An equal change of brightness in all pixels changes nothing. D is `length(C)`.
    """
    grey, cell = images.mean(dim=1, keepdim=True), CELL * reduction
    side, found = images.shape[-1] // cell, []
    for scale in range(_scales(reduction)):
        if scale:
            grey = functional.avg_pool2d(grey, 2)
        found.append(_relative(_on_cells(_edges(grey), side)))
    if images.shape[1] > 1:
        colour = _spread(functional.avg_pool2d(images, cell))
        found.append(COLOUR_GAIN * (colour - colour.mean(dim=1, keepdim=True)))
    return torch.cat(found, dim=1)


def length(channels: int, reduction: int = 1) -> int:
    """D, the numbers that describe a place of a C-channel image."""
    return _scales(reduction) * (DIRECTIONS + 3) + (channels if channels > 1 else 0)


def _scales(reduction: int) -> int:
    return SCALES + reduction.bit_length() - 1


def _edges(grey: Tensor) -> Tensor:
    """[N, 1, H, W] -> [N, 10, H, W] >= 0: derivatives along eight directions and bright and dark ridges, rectified."""
    padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    return functional.relu(functional.conv2d(padded, torch.tensor(_filters(), dtype=grey.dtype, device=grey.device)))


def _filters() -> list[list[list[list[float]]]]:
    """[10, 1, 3, 3]. As sums of shifted images they were a quarter of what the exported graph held."""
    angles = [2 * math.pi * number / DIRECTIONS for number in range(DIRECTIONS)]
    slopes = [(math.cos(angle) / 2, math.sin(angle) / 2) for angle in angles]
    derivatives = [[[0.0, -y, 0.0], [-x, 0.0, x], [0.0, y, 0.0]] for x, y in slopes]
    bright = [[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]
    dark = [[-value for value in row] for row in bright]
    return [[one] for one in (*derivatives, bright, dark)]


def _on_cells(maps: Tensor, side: int) -> Tensor:
    """Means over cells: [N, K, H, W] -> [N, K, side, side], H a multiple of side."""
    return _spread(functional.avg_pool2d(maps, maps.shape[-1] // side))


def _spread(maps: Tensor) -> Tensor:
    """A little of the neighbouring cells: a binomial filter of 3 x 3, the border repeated."""
    count = maps.shape[1]
    kernel = torch.tensor(_BINOMIAL, dtype=maps.dtype, device=maps.device) / sum(_BINOMIAL)
    maps = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    maps = functional.conv2d(maps, kernel.view(1, 1, 3, 1).expand(count, 1, 3, 1), groups=count)
    return functional.conv2d(maps, kernel.view(1, 1, 1, 3).expand(count, 1, 1, 3), groups=count)


def _relative(edges: Tensor) -> Tensor:
    """[N, 10, G, G] -> [N, 11, G, G]: each over the contrast around it, and the logarithm of the latter."""
    contrast = _spread(edges[:, :DIRECTIONS].mean(dim=1, keepdim=True)) + FLOOR
    return torch.cat([edges / contrast, CONTRAST_GAIN * torch.log(contrast)], dim=1)
