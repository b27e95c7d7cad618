"""`remember`: what goes into a network's bank, and which of its two memories counts, judged on made defects."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .batches import as_batches
from .data.splits import contents_of
from .decoding import Pixels
from .defects import Defects
from .metrics import auroc
from .model.bank import Bank, Shares
from .settings import Train

PLACES = Shares(1.0, 0.0)  # the choice falls back on it: it knows what is out of place, and is the quickest
WITH_PATCHES = (Shares(0.5, 0.5), Shares(0.0, 1.0))
AHEAD = 0.01  # by which one of them has to be better: where places are far behind it is 10 points and more
JUDGES, AN_IMAGE = 40, 3  # good images that judge at most, and made defects on each
FEWEST = 5  # judges, below which nothing is chosen
LEAST = 0.1  # mean distance that counts as no less: good images that are all but equal reach less
SEED = 20_011  # of the made defects; none of training's, which are small, nor of the selection set's


def remember(bank: Bank, pixels: Pixels, known: Train) -> Shares:
    """Fill the bank with the images to train on [N, S, S, C] and weigh its memories; returns how much each counts.

    The judges are a fifth of those very images, which the bank does not hold while they judge: held-out images are for
    the threshold, and have no part in what they measure.
    """
    others, judges = _judges(pixels, known.seed)
    judging = pixels[judges]
    if not len(others):  # all of them are copies of one
        others = np.arange(len(pixels))
    bank.learn(as_batches(pixels, known.batch_size, others), len(others), known.seed)
    good = _distances(bank, judging, known.batch_size)
    usual = Shares(*(max(LEAST, float(one.mean())) for one in good))
    shares = PLACES
    if bank.patches is not None and len(judging) >= FEWEST:
        shares = _choose(bank, judging, good, usual, known.batch_size)
    bank.settle(shares, usual)
    bank.learn(as_batches(pixels, known.batch_size), len(pixels), known.seed)
    return shares


def _judges(pixels: Pixels, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of the images to remember while others judge, and of the judges, a fifth drawn by the seed.

    No image that is to be remembered is a copy of a judge; of several copies one judges.
    """
    contents = contents_of(pixels)
    different, first = np.unique(contents, return_index=True)
    count = max(1, min(JUDGES, len(different) // 5))
    drawn = np.random.default_rng(seed).permutation(len(different))[:count]
    return np.flatnonzero(~np.isin(contents, different[drawn])), np.sort(first[drawn])


def _choose(bank: Bank, judges: Pixels, good: tuple[Tensor, Tensor], usual: Shares, batch_size: int) -> Shares:
    """Places alone, unless patches, with or without them, tell made defects from good images better."""
    made = Defects(judges, SEED).make_all(AN_IMAGE)
    spoiled = _distances(bank, np.stack([one.pixels for one in made]), batch_size)
    masks = torch.from_numpy(np.stack([one.mask for one in made]))[:, None].float()
    cells = functional.max_pool2d(masks, bank.cell).bool()

    def quality(shares: Shares) -> float:
        return _separation(_weighed(good, shares, usual), _weighed(spoiled, shares, usual), cells)

    best = max(WITH_PATCHES, key=quality)
    return best if quality(best) > quality(PLACES) + AHEAD else PLACES


def _weighed(found: tuple[Tensor, Tensor], shares: Shares, usual: Shares) -> Tensor:
    places, patches = (maps * share / mean for maps, share, mean in zip(found, shares, usual, strict=True))
    return places + patches


def _separation(good: Tensor, made: Tensor, cells: Tensor) -> float:
    """The mean of image AUROC, by the largest value, and of the AUROC of cells; maps [N, 1, G, G]."""
    maps = torch.cat([good, made])
    spoiled = np.repeat([0, 1], [len(good), len(made)])
    marked = torch.cat([torch.zeros_like(good, dtype=torch.bool), cells])
    by_image = auroc(maps.amax(dim=(1, 2, 3)).numpy(), spoiled)
    return (by_image + auroc(maps.flatten().numpy(), marked.flatten().int().numpy())) / 2


@torch.no_grad()
def _distances(bank: Bank, pixels: Pixels, batch_size: int) -> tuple[Tensor, Tensor]:
    """What each memory says of images [N, S, S, C]: two maps [N, 1, G, G]; zeros of one that is not there."""
    found = [
        (places := bank.places(seen), torch.zeros_like(places) if bank.patches is None else bank.patches(seen))
        for seen in map(bank.describe, as_batches(pixels, batch_size))
    ]
    ofplaces, ofpatches = zip(*found, strict=True)
    return torch.cat(ofplaces), torch.cat(ofpatches)
