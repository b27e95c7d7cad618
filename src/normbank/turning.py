"""`lay_upright`: the images to train on turned until they lie alike, where that is asked for or plainly helps."""

from __future__ import annotations

import numpy as np
import torch

from .config import Config
from .data.splits import evenly
from .images import Pixels
from .model.upright import AT_ONCE, Upright
from .symmetry import LOOKED_AT
from .training import torch_of_ours


@torch.no_grad()
def lay_upright(pixels: Pixels, config: Config) -> tuple[Upright, Pixels]:
    """Images [N, S, S, C] as the network is to see them, and what turns others likewise (unused where they stay).

    `model.upright` decides: "auto" turns them where a typical image comes far nearer to its like by it.
    """
    upright = Upright(pixels.shape[3], config.data.size)
    if config.model.upright == "none":
        return upright, pixels
    some = pixels[evenly(len(pixels), LOOKED_AT)]
    with torch_of_ours(config.train):
        learn = upright.learn if config.model.upright == "always" else upright.learn_if_it_helps
        learn(torch.from_numpy(some).permute(0, 3, 1, 2))
        return upright, _turned(upright, pixels) if upright.is_used else pixels


def _turned(upright: Upright, pixels: Pixels) -> Pixels:
    turned = np.empty_like(pixels)
    for start in range(0, len(pixels), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        images = torch.from_numpy(pixels[some].astype(np.float32)).permute(0, 3, 1, 2)
        turned[some] = upright.turn(images, upright.angles_of(images)).round().permute(0, 2, 3, 1).numpy()
    return turned
