"""`lay`: the images to train on moved and turned until they lie alike, where that is asked for or plainly helps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .config import Config
from .data.splits import evenly
from .decoding import Pixels
from .model.cells import AT_ONCE
from .model.middle import Middle
from .model.pose import Pose
from .model.steady import Steady
from .model.upright import ANGLES, Upright
from .settings import Model
from .symmetry import LOOKED_AT
from .training import torch_of_ours

LIKE = 4  # a quarter of the images are the like of one
HELPS = 0.4  # share of its squared distance from its like that a typical image keeps where a way of laying is worth it;
# where things keep their places more or less, one out of its place is a defect, which moving would hide (LOG.md)
LEAST, TRIED = 3, 40  # images; of fewer than LEAST nothing is told, on TRIED at most all ways are tried


class Way(NamedTuple):
    """What is done to images."""

    moved: bool
    turned: bool


@torch.no_grad()
def lay(pixels: Pixels, config: Config) -> tuple[Pose, Pixels]:
    """Images [N, S, S, C] as the network is to see them, and what lays others likewise (unused where they stay).

    `model.steady` and `model.upright` decide: "auto" moves images where a typical one comes far nearer to its like by
    it, turns them where that is far better than moving them, and does both where that is far better than either.
    """
    if config.model.steady == config.model.upright == "none":
        return Pose(), pixels
    with torch_of_ours(config.train):
        way = _chosen(_Learner(pixels[evenly(len(pixels), TRIED)], config), config.model)
        pose = _Learner(pixels[evenly(len(pixels), LOOKED_AT)], config).pose(way)
        return pose, _laid(pose, pixels)


def _chosen(learner: _Learner, known: Model) -> Way:
    """Of the ways that are asked for the one that does least, but where another that does more is worth it."""
    chosen, *others = _ways(known)
    if not others or len(learner.pixels) < LEAST:
        return chosen
    kept = learner.share_kept(learner.pose(chosen))
    for way in others:
        share = learner.share_kept(learner.pose(way))
        if share <= HELPS * kept:
            chosen = way
        kept = min(kept, share)
    return chosen


def _ways(known: Model) -> list[Way]:
    """Those that `model.steady` and `model.upright` leave open, what does least first.

    Moving is less than turning, which brings what is round to one side where moving brings it to its place.
    """
    may = {"none": (False,), "auto": (False, True), "always": (True,)}
    return [Way(moved, turned) for turned, moved in product(may[known.upright], may[known.steady])]


class _Learner:
    """Poses learnt from good images [N, S, S, C], and how near they bring them to their like."""

    def __init__(self, pixels: Pixels, config: Config) -> None:
        self.pixels = pixels
        self.shape = pixels.shape[3], config.data.size

    def pose(self, way: Way) -> Pose:
        """What does this, learnt; what it does not do is unused."""
        middle, upright, steady = Middle(*self.shape), Upright(*self.shape), Steady(*self.shape)
        if way.moved and way.turned:
            middle.learn(_tensor(self.pixels))
        if way.turned:
            upright.learn(_tensor(_laid(Pose(middle), self.pixels)))
        if way.moved:
            steady.learn(_tensor(_laid(Pose(middle, upright), self.pixels)))
        return Pose(middle, upright, steady)

    def share_kept(self, pose: Pose) -> float:
        """How far the median image is from its like when laid, as a share of how far it is as it lies; squared."""
        near, far = self._apart(_laid(pose, self.pixels)), self._turned_alike if pose.is_turned else self._as_they_lie
        least = 1e-9 * float(far.mean()) + 1e-12  # of copies, which are no distance apart
        return float(torch.median((near + least) / (far + least)))

    @cached_property
    def _as_they_lie(self) -> Tensor:
        return self._apart(self.pixels)

    @cached_property
    def _turned_alike(self) -> Tensor:
        """As they lie, all turned by one angle: reading between pixels smooths, and smoother images are less apart."""
        upright = Upright(*self.shape)
        angles = torch.full((len(self.pixels),), ANGLES // 8)
        return self._apart(_in_portions(self.pixels, lambda images, some: upright.turn(images, angles[some])))

    def _apart(self, pixels: Pixels) -> Tensor:
        """Mean squared distance of each image from the nearest quarter of the others, one at least: [N].

        Of what lies within a circle, so that no corner that was turned into sight counts, and without brightness. What
        was moved into sight is the image, mirrored, and does count.
        """
        flat = Upright(*self.shape).seen(_tensor(pixels)).flatten(1)
        squares = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").square()
        squares = squares.fill_diagonal_(math.inf).sort(dim=1).values
        return squares[:, : max(1, len(flat) // LIKE)].mean(dim=1)


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _laid(pose: Pose, pixels: Pixels) -> Pixels:
    if not (pose.is_turned or pose.is_moved):
        return pixels
    return _in_portions(pixels, lambda images, _: pose.lay(images)[0])


def _in_portions(pixels: Pixels, lay_some: Callable[[Tensor, slice], Tensor]) -> Pixels:
    """What becomes of images [N, S, S, C], a few at a time, rounded to what they were stored as."""
    laid = np.empty_like(pixels)
    for start in range(0, len(pixels), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        images = lay_some(_tensor(pixels[some].astype(np.float32)), some)
        laid[some] = images.round().permute(0, 2, 3, 1).numpy()
    return laid
