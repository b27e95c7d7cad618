"""What is remembered of patches wherever they were: against loops, by hand, and what it promises."""

from __future__ import annotations

import io

import pytest
import torch
from reference import descriptors as slow
from tiny import tiny_config
from torch import Tensor
from torch.nn import functional

from normbank.descriptors import describe, length
from normbank.model.bank import USUAL, Bank, Shares
from normbank.model.network import build
from normbank.model.patches import AXES, SIDE, Patches, _principal, cut


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def learnt(images: Tensor, count: int = 10_000) -> Bank:
    bank = Bank(images.shape[1], images.shape[2], 1_000_000, count)
    bank.learn([images], len(images))
    return bank


def every_patch(described: Tensor) -> list[list[list[list[float]]]]:
    """Of one image [D, G, G] by slicing: for each cell a patch as D planes of 3 x 3, the border repeated."""
    padded = functional.pad(described[None], (1, 1, 1, 1), mode="replicate")[0]
    side = range(described.shape[1])
    return [padded[:, y : y + SIDE, x : x + SIDE].tolist() for y in side for x in side]


def test_patches_are_those_of_slicing() -> None:
    described = drawn(3, 2, 5, 4, 4)
    found = cut(described, 16, torch.Generator().manual_seed(0)).reshape(2, 16, 5, SIDE, SIDE)
    for number in range(2):
        expected = torch.tensor(every_patch(described[number]))
        for patch in expected:  # in whatever order they were drawn
            assert (found[number] - patch).abs().amax(dim=(1, 2, 3)).min() == 0


def test_as_many_patches_of_each_image_as_asked() -> None:
    described = drawn(3, 3, 2, 4, 4)
    assert cut(described, 5, torch.Generator()).shape == (15, 2 * SIDE**2)
    assert cut(described, 99, torch.Generator()).shape == (48, 2 * SIDE**2)


def test_distances_equal_the_loops() -> None:
    """With every number of a patch kept, nothing is lost by turning the axes: it is the distance itself."""
    described, other = drawn(4, 6, 2, 4, 4), drawn(5, 2, 2, 4, 4)
    patches = Patches(2)  # 2 numbers x 3 x 3 are fewer than AXES
    mean, variance = described.mean(dim=(0, 2, 3)), described.var(dim=(0, 2, 3), unbiased=False)
    patches.keep(cut(described, 16, torch.Generator().manual_seed(0)), 96, mean, variance)
    assert patches.items.shape == (96, 18)
    spread = variance.sqrt().tolist()
    items = [one for image in described for one in every_patch(image)]
    for number, image in enumerate(other):
        expected = [slow.nearest_patch(one, items, spread) for one in every_patch(image)]
        found = patches(other)[number].flatten()
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=1e-3)


def test_two_patches_by_hand() -> None:
    """One number a cell, spread 2: threes are 9 x ((3 - 1) / 2)^2 = 9 from ones, and 9 x 2^2 from minus ones."""
    flat = torch.cat([torch.full((1, 9), 1.0), torch.full((1, 9), -1.0), torch.eye(9), -torch.eye(9)])
    patches = Patches(1)
    patches.keep(flat, 1, torch.zeros(1), torch.full((1,), 4.0))  # the patch of ones alone
    found = patches(torch.full((1, 1, 3, 3), 3.0))
    torch.testing.assert_close(found, torch.full((1, 1, 3, 3), 9.0), rtol=1e-3, atol=1e-3)
    patches.keep(flat[1:], 1, torch.zeros(1), torch.full((1,), 4.0))
    torch.testing.assert_close(
        patches(torch.full((1, 1, 3, 3), 3.0)), torch.full((1, 1, 3, 3), 36.0), rtol=1e-3, atol=1e-3
    )


def test_the_axes_are_the_first_principal_components() -> None:
    described = describe(drawn(6, 20, 1, 32, 32))
    patches = Patches(length(1))
    some = cut(described, 64, torch.Generator().manual_seed(0))
    mean, variance = described.mean(dim=(0, 2, 3)), described.var(dim=(0, 2, 3), unbiased=False)
    patches.keep(some, len(some), mean, variance)
    assert patches.items.shape == (1280, AXES)
    standard = (some - mean.repeat_interleave(9)) / variance.sqrt().repeat_interleave(9)
    _, sizes, _ = torch.linalg.svd(standard - standard.mean(dim=0), full_matrices=False)
    kept = patches.items.float().square().sum(dim=0)
    torch.testing.assert_close(kept, sizes[:AXES] ** 2, rtol=1e-2, atol=1e-2)


def test_it_knows_what_it_has_seen_wherever_that_is_now() -> None:
    """Moved by whole cells of every scale, the middle of an image is where no seam and no border is near."""
    images = drawn(7, 4, 1, 128, 128)
    bank = learnt(images)
    moved = describe(torch.roll(images, (16, 32), dims=(2, 3)))[..., 12:20, 16:24]
    others = describe(drawn(70, 4, 1, 128, 128))[..., 12:20, 16:24]
    inner = (..., slice(1, -1), slice(1, -1))  # a patch reaches a cell farther
    assert bank.patches(moved)[inner].max() < 0.01 * bank.patches(others)[inner].mean()


@pytest.mark.parametrize("rows", [30, 300])
def test_principal_components_of_few_long_rows_and_of_many(rows: int) -> None:
    values = drawn(11, rows, 60).double()
    values -= values.mean(dim=0)
    found = _principal(values, 5)
    expected = torch.linalg.svd(values, full_matrices=False)[2][:5].T
    torch.testing.assert_close((found * expected).sum(dim=0).abs(), torch.ones(5, dtype=torch.float64))


def test_it_keeps_no_more_than_asked_by_a_seed() -> None:
    images = drawn(8, 6, 1, 32, 32)
    kept = []
    for seed in (0, 0, 1):
        bank = Bank(1, 32, 1_000_000, 50)
        bank.learn([images[:4], images[4:]], 6, seed)
        kept.append(bank.patches.items)
    assert kept[0].shape == (50, AXES)
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])


@pytest.mark.parametrize(("fitting", "items"), [(4, 4), (40, 40), (10_000, 6 * 64)])
def test_where_patches_are_long_fewer_are_cut(monkeypatch, fitting: int, items: int) -> None:
    monkeypatch.setattr("normbank.model.bank.ROOM", fitting * 4 * 9 * length(1))
    bank = learnt(drawn(8, 6, 1, 32, 32))
    assert len(bank.patches.items) == items


@pytest.mark.parametrize(
    ("shares", "places", "patches"), [(Shares(1, 0), 6, 0), (Shares(0.5, 0.5), 6, 50), (Shares(0, 1), 0, 50)]
)
def test_what_does_not_count_is_forgotten_and_the_rest_has_its_unit(shares: Shares, places: int, patches: int) -> None:
    images, others = drawn(9, 6, 1, 32, 32), drawn(10, 4, 1, 32, 32)
    bank = Bank(1, 32, 1_000_000, 50)
    bank.learn([images], 6)
    described = describe(others)
    usual = Shares(bank.places(described).mean().item(), bank.patches(described).mean().item())
    bank.settle(shares, usual)
    assert (bank.places.items.shape[1], bank.patches.items.shape[0]) == (places, patches)
    assert bank(others).mean().item() == pytest.approx(USUAL, rel=1e-4)


def test_a_number_that_never_varies_does_no_harm() -> None:
    bank = learnt(torch.full((4, 1, 16, 16), 0.5))
    assert torch.isfinite(bank(drawn(3, 2, 1, 16, 16))).all()


def test_it_travels_with_the_weights_as_many_as_there_are() -> None:
    torch.manual_seed(0)
    config = tiny_config(model__bank=512, model__patches=40)
    before, after = build(config, 3).eval(), build(config, 3).eval()
    before.bank.learn([drawn(6, 5, 3, 32, 32)], 5)
    before.bank.settle(Shares(0.5, 0.5), Shares(2.0, 3.0))
    buffer = io.BytesIO()
    torch.save(before.state_dict(), buffer)
    buffer.seek(0)
    after.load_state_dict(torch.load(buffer, weights_only=True))
    images = drawn(8, 2, 3, 32, 32)
    assert len(after.bank.patches.items) == 40
    torch.testing.assert_close(after.bank(images), before.bank(images))
