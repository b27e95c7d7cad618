"""What a bank is given, and which of its memories it is told to heed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import defective, save, tiny_config, weave

import normbank
from normbank.bundle import read_bundle
from normbank.data.samples import Dataset, Sample
from normbank.detector import Detector
from normbank.fitting import fit
from normbank.model.bank import USUAL, Bank, Shares
from normbank.remembering import _judges, remember
from normbank.rescoring import rescore
from normbank.settings import Train
from normbank.telling import about_model

SIZE = 64
PLACES, PATCHES = Shares(1, 0), Shares(0, 1)


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


def remembered(make, train: int = 60, patches: int = 4_000) -> tuple[Bank, Shares]:
    bank = Bank(1, SIZE, 1_000_000, patches)
    return bank, remember(bank, make(train, 1), Train(seed=0))


def unseen(make, count: int = 8) -> torch.Tensor:
    return torch.from_numpy(make(count, 3)).permute(0, 3, 1, 2) / 255


def test_what_lies_still_is_judged_by_its_places_alone() -> None:
    bank, shares = remembered(plates)
    assert shares == PLACES
    assert not bank.patches.is_used


def test_what_lies_anywhere_is_judged_by_its_patches_too() -> None:
    bank, shares = remembered(bricks)
    assert shares in (PATCHES, Shares(0.5, 0.5))
    assert bank.patches.is_used


@pytest.mark.slow
@pytest.mark.parametrize("make", [plates, bricks])
def test_the_unit_is_what_good_images_reach(make) -> None:
    bank, _ = remembered(make, 150)
    assert bank(unseen(make, 40)).mean().item() == pytest.approx(USUAL, rel=0.2)


def test_in_the_end_all_images_are_remembered() -> None:
    assert remembered(plates)[0].places.items.shape[1] == 60


def test_too_few_judges_choose_nothing() -> None:
    assert remembered(bricks, train=24)[1] == PLACES


def test_places_alone_where_no_patches_are_asked_for() -> None:
    bank, shares = remembered(bricks, patches=0)
    assert shares == PLACES
    assert bank(unseen(bricks)).mean().item() == pytest.approx(USUAL, rel=0.5)


def test_copies_of_judges_do_not_judge_for_themselves() -> None:
    """Every image three times: a judge that finds its copy in the bank would make the unit next to nothing."""
    twice, once = Bank(1, SIZE, 1_000_000), Bank(1, SIZE, 1_000_000)
    images = plates(20, 1)
    remember(twice, np.concatenate([images] * 3), Train(seed=0))
    remember(once, images, Train(seed=0))
    assert twice.places.factor.item() == pytest.approx(once.places.factor.item(), rel=0.5)


def test_copies_are_one_judge() -> None:
    """24 images have four judges, too few to choose, however often each lies there."""
    bank = Bank(1, SIZE, 1_000_000, 4_000)
    assert remember(bank, np.repeat(bricks(24, 1), 2, axis=0), Train(seed=0)) == PLACES
    images = np.concatenate([plates(40, 1), *[plates(1, 1)] * 200])
    others, judges = _judges(images, 0)
    assert len(judges) == len({images[place].tobytes() for place in judges}) == 8
    assert not {images[place].tobytes() for place in judges} & {images[place].tobytes() for place in others}


def test_images_that_hardly_vary_have_a_finite_unit() -> None:
    bank = Bank(1, SIZE, 1_000_000, 100)
    pixels = np.full((10, SIZE, SIZE, 1), 128, np.uint8) + np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    remember(bank, pixels, Train(seed=0))  # nothing but the light differs, which the bank does not see
    assert torch.isfinite(bank(unseen(plates))).all()


def test_the_same_images_and_seed_make_the_same_bank() -> None:
    (one, _), (other, _) = remembered(plates), remembered(plates)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("patches", [0, 30])
def test_a_detector_with_a_bank_from_images_to_verdict(tmp_path, patches: int) -> None:
    """Trained, exported with parity, told of, and scored anew from its file."""
    paths = [save(tmp_path / "parts" / f"{number:02}.png", weave(number)) for number in range(30)]
    dataset = Dataset("parts", "folder", str(tmp_path), tuple(Sample(str(one), 0, "good") for one in paths), ())
    score = {"score__parts": ("bank",), "score__smooth": 5, "score__pool": "max", "score__delta_h": 0}
    config = tiny_config(model__bank=5_000, model__patches=patches, data__held_out_min=5, **score)
    path = fit(config, dataset, tmp_path / "out", quiet=True)
    detector = normbank.load(path)
    shares = detector.manifest["bank"]
    assert shares == {"places": 1.0, "patches": 0.0} or (patches and shares["patches"])
    assert detector.predict(defective(99, "spot")[0]).score > detector.predict(weave(99)).score
    assert any(line.startswith("bank       ") and "%" in line for line in about_model(detector, path))
    again = Detector(rescore(read_bundle(path), {"score.smooth": "3"}))
    assert again.predict(defective(99, "spot")[0]).score > again.predict(weave(99)).score


def test_good_images_that_are_all_alike_are_remembered() -> None:
    """No fifth of them can be judged by the others; the distance is in units of the least that counts."""
    scene = np.repeat(plates(1, 1), 12, axis=0)
    bank = Bank(1, SIZE, 1_000_000, 0)
    assert remember(bank, scene, Train(seed=0)) == PLACES
    assert bank.places.items.shape[1] == 12
    assert bank(torch.from_numpy(scene[:1]).permute(0, 3, 1, 2) / 255).max() < 0.01
