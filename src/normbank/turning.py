"""`lay_upright`: the images to train on turned until they lie alike, where that is asked for or plainly helps."""

from __future__ import annotations

import numpy as np
import torch

from .config import Config
from .images import Pixels
from .model.upright import Upright
from .symmetry import LOOKED_AT

BATCH = 32  # images turned at once


@torch.no_grad()
def lay_upright(pixels: Pixels, config: Config) -> tuple[Upright, Pixels]:
    """Images [N, S, S, C] as the network is to see them, and what turns others likewise (unused where they stay).

    `model.upright` decides: "auto" turns them where a typical image comes far nearer to its like by it.
    """
    upright = Upright(pixels.shape[3], config.data.size)
    places = np.linspace(0, len(pixels) - 1, min(LOOKED_AT, len(pixels))).round().astype(int)
    some = torch.from_numpy(pixels[places]).permute(0, 3, 1, 2)
    if config.model.upright == "always":
        upright.learn(some)
    if config.model.upright == "auto":
        upright.learn_if_it_helps(some)
    if not upright.is_used:
        return upright, pixels
    parts = [_turned(upright, pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    return upright, np.concatenate(parts)


def _turned(upright: Upright, pixels: Pixels) -> Pixels:
    images = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)
    turned = upright.turn(images, upright.angles_of(images))
    return turned.round().permute(0, 2, 3, 1).numpy().astype(pixels.dtype)
