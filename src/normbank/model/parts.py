"""`PARTS`: what the anomaly map can be made of. Each is a pure function of images and the network's reading of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

import torch
from torch import Tensor
from torch.nn import functional

from ..residual import ERRORS
from .network import Network
from .unet import Reading


@dataclass(frozen=True, eq=False)
class View:
    """What a part may look at: images and reconstructions [N, C, S, S] in [0, 1], the reading, the network.

    `whole` are the images as they came, R times as large a side; the rest is what the network saw of them.
    """

    images: Tensor
    reconstructions: Tensor
    reading: Reading
    network: Network
    whole: Tensor

    @cached_property
    def head(self) -> Tensor:
        """The segmentation head's probability of a defect: [N, 1, S, S] in [0, 1]."""
        assert self.network.head is not None
        return torch.sigmoid(self.network.head(self.images, self.reconstructions))

    @cached_property
    def bank(self) -> Tensor:
        """d / (1 + d) of the distance d to the nearest of the bank: [N, 1, R S, R S] in [0, 1)."""
        assert self.network.bank is not None
        distance = self.network.bank(self.whole)
        return enlarge(distance / (1 + distance), self.whole)


def memory_distance(view: View) -> Tensor:
    """How far each place's features are from what the memory read for them: [N, 1, S, S] in [0, 2].

    1 - cosine over the channels, the mean of the levels that carry a memory, each brought to full size.
    """
    maps = [
        1 - functional.cosine_similarity(query.float(), recall.read.float(), dim=1, eps=1e-6)[:, None]
        for query, recall in zip(view.reading.queries, view.reading.recalls, strict=True)
        if recall.weights is not None
    ]
    return torch.stack([enlarge(one, view.images) for one in maps]).mean(dim=0).clamp_min(0)


def latent_distance(view: View) -> Tensor:
    """Distance of image and reconstruction in the critic's features (DAAD+): [N, 1, S, S], >= 0."""
    assert view.network.critic is not None
    of_image, of_other = (view.network.critic.features(x) for x in (view.images, view.reconstructions))
    return enlarge((of_image - of_other).abs().mean(dim=1, keepdim=True), view.images)


def marked_distance(view: View) -> Tensor:
    """What the bank says times what the head does, high where both find a defect: [N, 1, R S, R S] in [0, 1)."""
    return enlarge(view.head, view.whole) * view.bank


def _error(measure: Callable[[Tensor, Tensor], Tensor]) -> Callable[[View], Tensor]:
    return lambda view: measure(view.images, view.reconstructions)


def enlarge(maps: Tensor, images: Tensor) -> Tensor:
    """[N, C, H, W] brought to the size of `images` [N, ., S, S], between pixels by straight lines."""
    if maps.shape[-2:] == images.shape[-2:]:
        return maps
    return functional.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)


PARTS: dict[str, Callable[[View], Tensor]] = {
    **{name: _error(measure) for name, measure in ERRORS.items()},
    "memory": memory_distance,
    "latent": latent_distance,
    "head": attrgetter("head"),
    "bank": attrgetter("bank"),
    "marked": marked_distance,
}
