"""What a bank takes of its images: of which image a patch is, and in what units it is kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from normbank.descriptors import describe
from normbank.model.bank import Bank
from normbank.model.kept import scale_of


def drawn(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(8))


def learnt(*batches: Tensor) -> Bank:
    bank = Bank(1, 32, 1_000_000, 10_000)  # of 4 images every patch
    bank.learn(list(batches), 4)
    return bank


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 1, 2, 0]])
def test_patches_are_measured_against_those_of_other_images(order: list[int]) -> None:
    """Against distances to every patch of every image; an exact copy of an image is none of the others."""
    images = drawn(4, 1, 32, 32)[order]
    patches = learnt(images[:3], images[3:]).patches
    padded = functional.pad(describe(images), (1, 1, 1, 1), mode="replicate")
    points = functional.conv2d(padded, patches.axes, patches.offsets).flatten(2).transpose(1, 2).double()
    nearest = (torch.cdist(patches.items[None].double(), points) ** 2).amin(dim=2)
    of_others = nearest.masked_fill(nearest < 1e-3, torch.inf)  # an image that holds this very patch
    assert torch.isinf(of_others).sum() == 64 * sum(order.count(one) for one in order)
    torch.testing.assert_close(patches.scale, scale_of(of_others.amin(dim=0)).float(), rtol=1e-2, atol=1e-3)


def test_patches_are_in_units_of_the_spread_over_all_cells() -> None:
    images = drawn(4, 1, 32, 32)
    spread = describe(images).var(dim=(0, 2, 3), unbiased=False).sqrt()
    axes = (learnt(images).patches.axes * spread[:, None, None]).flatten(1)
    torch.testing.assert_close(axes @ axes.T, torch.eye(len(axes)), rtol=0, atol=1e-2)
