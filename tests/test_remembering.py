"""What a bank is given, and which of its memories it is told to heed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normbank.model.bank import USUAL, Bank, Shares
from normbank.remembering import remember
from normbank.settings import Train

SIZE = 64
STILL, LOOSE = Shares(1, 0), Shares(0, 1)  # what lies still, what lies anywhere


def plates(count: int, seed: int) -> np.ndarray:
    """The same four holes of different sizes at the same places, in the faint noise of a camera."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    plate = np.full((SIZE, SIZE), 180.0)
    for row, column, radius in ((14, 14, 8), (14, 48, 5), (48, 16, 3), (46, 46, 10)):
        plate[(y - row) ** 2 + (x - column) ** 2 < radius**2] = 60
    return np.clip(plate + rng.normal(0, 4, (count, SIZE, SIZE)), 0, 255).astype(np.uint8)[..., None]


def bricks(count: int, seed: int) -> np.ndarray:
    """Bricks of one kind, cut out anywhere: courses of ten pixels, half a brick farther in each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: 2 * SIZE, : 2 * SIZE]
    joint = (y % 10 < 2) | ((x + 11 * (y // 10 % 2)) % 22 < 2)
    whole = np.where(joint, 60.0, 160.0)
    found = []
    for _ in range(count):
        row, column = rng.integers(0, SIZE, 2)
        found.append(whole[row : row + SIZE, column : column + SIZE] + rng.normal(0, 4, (SIZE, SIZE)))
    return np.clip(found, 0, 255).astype(np.uint8)[..., None]


def remembered(make, held_out: int = 8, train: int = 30, patches: int = 4_000) -> tuple[Bank, Shares]:
    bank = Bank(1, SIZE, 1_000_000, patches)
    return bank, remember(bank, make(train, 1), make(held_out, 2), Train(seed=0))


def test_what_lies_still_is_judged_by_its_places_too() -> None:
    bank, shares = remembered(plates, held_out=12)
    assert shares == STILL
    assert not bank.patches.is_used


def test_what_lies_anywhere_is_judged_by_its_patches() -> None:
    bank, shares = remembered(bricks, held_out=12)
    assert shares == LOOSE
    assert not bank.places.is_used


@pytest.mark.parametrize("held_out", [8, 0])
def test_the_unit_is_what_good_images_reach(held_out: int) -> None:
    """Without held-out images a fifth of the others judges, and is not in the bank."""
    bank, _ = remembered(plates, held_out)
    images = torch.from_numpy(plates(8, 3)).permute(0, 3, 1, 2) / 255
    assert bank(images).mean().item() == pytest.approx(USUAL, rel=0.1)
    if bank.places.is_used:
        assert bank.places.items.shape[1] == (30 if held_out else 24)


def test_too_few_judges_choose_nothing() -> None:
    assert remembered(bricks, held_out=4)[1] == STILL


def test_places_alone_where_no_patches_are_asked_for() -> None:
    bank, shares = remembered(bricks, patches=0)
    assert shares == STILL
    images = torch.from_numpy(bricks(8, 3)).permute(0, 3, 1, 2) / 255
    assert bank(images).mean().item() == pytest.approx(USUAL, rel=0.5)


def test_the_same_images_and_seed_make_the_same_bank() -> None:
    (one, _), (other, _) = remembered(plates), remembered(plates)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
