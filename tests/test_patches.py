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
from normbank.model.kept import FAINT, NEAR
from normbank.model.network import build
from normbank.model.patches import AXES, SIDE, Patches, _principal, cut, radii, spread_out, squared_distances


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
    generator = torch.Generator().manual_seed(0)
    some, sources = cut(described, 16, generator), torch.arange(6).repeat_interleave(16)
    patches.keep(some, sources, 96, mean, variance, generator)
    assert patches.items.shape == (96, 18)
    spread = variance.sqrt().tolist()
    items = some.reshape(96, 2, SIDE, SIDE).tolist()
    others = [[items[at] for at in range(96) if at // 16 != number] for number in range(6)]
    radii = torch.tensor([slow.nearest_patch(one, others[at // 16], spread) for at, one in enumerate(items)])
    scales = [slow.scale(radius, radii.mean().item(), NEAR, FAINT) for radius in radii.tolist()]
    for number, image in enumerate(other):
        expected = [slow.nearest_patch(one, items, spread, scales) for one in every_patch(image)]
        found = patches(other)[number].flatten()
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=1e-3)


def test_two_patches_by_hand() -> None:
    """One number a cell, spread 2: threes are 9 x ((3 - 1) / 2)^2 = 9 from ones.

    Without those the nearest are zeros with a single one: 8 x (3 / 2)^2 + 1 = 19. All of one image: no radius.
    """
    flat = torch.cat([torch.full((1, 9), 1.0), torch.full((1, 9), -1.0), torch.eye(9), -torch.eye(9)])
    patches = Patches(1)
    known = torch.zeros(20, dtype=torch.int64), 20, torch.zeros(1), torch.full((1,), 4.0), torch.Generator()
    patches.keep(flat, *known)
    found = patches(torch.full((1, 1, 3, 3), 3.0))
    torch.testing.assert_close(found, torch.full((1, 1, 3, 3), 9.0), rtol=1e-3, atol=1e-3)
    assert (patches.scale == 1).all()
    patches.keep(flat[1:], known[0][1:], *known[1:])
    torch.testing.assert_close(
        patches(torch.full((1, 1, 3, 3), 3.0)), torch.full((1, 1, 3, 3), 19.0), rtol=1e-3, atol=1e-3
    )


def test_the_axes_are_the_first_principal_components() -> None:
    described = describe(drawn(6, 20, 1, 32, 32))
    patches = Patches(length(1))
    some = cut(described, 64, torch.Generator().manual_seed(0))
    mean, variance = described.mean(dim=(0, 2, 3)), described.var(dim=(0, 2, 3), unbiased=False)
    patches.keep(some, torch.arange(20).repeat_interleave(64), len(some), mean, variance, torch.Generator())
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


def test_what_is_kept_lies_wherever_there_is_something() -> None:
    """Of a thousand points at one place and ten elsewhere, a hundred by chance would miss most of the ten."""
    dense, rare = 0.01 * drawn(1, 3000, 4), 5 + 10 * drawn(2, 10, 4)
    points = torch.cat([dense, rare])
    chosen = spread_out(points, 1000, torch.Generator().manual_seed(0))
    assert len(chosen.unique()) == 1000
    assert set(range(3000, 3010)) <= set(chosen.tolist())
    assert squared_distances(points, points[chosen]).max() < 1e-4
    again = spread_out(points, 1000, torch.Generator().manual_seed(0))
    assert torch.equal(chosen, again)


def test_copies_are_not_kept_twice() -> None:
    points = drawn(1, 700, 4).repeat(2, 1)
    chosen = spread_out(points, 1300, torch.Generator().manual_seed(0))
    assert len(points[chosen].unique(dim=0)) == 700
    assert len(chosen) < 1300
    assert len(spread_out(points, 1400, torch.Generator())) == 1400  # all there is


def test_distances_and_radii_equal_the_plain_ones() -> None:
    points, sources = drawn(1, 1200, 4), torch.arange(1200) % 7  # more than are looked at at once
    apart = torch.cdist(points.double(), points.double()) ** 2
    found = squared_distances(points, points[:50])
    torch.testing.assert_close(found, apart[:, :50].amin(dim=1).float(), rtol=1e-4, atol=1e-5)
    other = apart.masked_fill(sources[:, None] == sources, torch.inf).amin(dim=1).float()
    chosen = torch.arange(0, 1200, 2)
    torch.testing.assert_close(radii(points, sources, chosen), other[chosen], rtol=1e-4, atol=1e-5)


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


def test_points_are_drawn_by_their_squared_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many at 0, one at 1 and one at 3 the last is drawn nine times as often as the last but one."""
    points = torch.cat([torch.zeros(1200, 1), torch.tensor([[1.0], [3.0]])]) + 1e-3 * drawn(1, 1202, 1)
    given, pick = [], torch.multinomial

    def watched(weights: Tensor, *more: int, **named: torch.Generator) -> Tensor:
        given.append(weights.clone())
        return pick(weights, *more, **named)

    monkeypatch.setattr(torch, "multinomial", watched)
    spread_out(points, 600, torch.Generator().manual_seed(3))
    assert given[0][-1] / given[0][-2] == pytest.approx(9, rel=0.01)
