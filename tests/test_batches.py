"""What training is shown: the order of the images, made defects, light, mirrors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_config, weave

from normbank.batches import Batches, StepSampler, batches_of
from normbank.decoding import Pixels
from normbank.defects import VISIBLE, Defects
from normbank.model.objective import Batch
from normbank.symmetry import found, found_shifts, shifted


def images(count: int = 13, channels: int = 3, dtype: type = np.uint8) -> Pixels:
    """[count, 32, 32, channels] of woven texture."""
    woven = np.stack([weave(number, 32) for number in range(count)])
    scaled = woven.astype(np.uint16) * 257 if dtype is np.uint16 else woven
    return np.ascontiguousarray(scaled[..., np.arange(channels) % 3])


# the order of the images


def test_batches_by_hand() -> None:
    order = [np.random.default_rng([5, r]).permutation(3) for r in range(3)]
    row = np.concatenate(order)
    batches = Batches(np.zeros((3, 2, 2, 1), np.uint8), batch_size=4, seed=5)
    assert batches.indices(0).tolist() == row[:4].tolist()
    assert batches.indices(1).tolist() == row[4:8].tolist()


@pytest.mark.parametrize(("count", "batch"), [(1, 1), (1, 5), (7, 7), (7, 3), (7, 20), (20, 7), (13, 4)])
def test_each_image_comes_once_a_round_whatever_the_batch(count: int, batch: int) -> None:
    batches = Batches(np.zeros((count, 2, 2, 1), np.uint8), batch, seed=3)
    row = np.concatenate([batches.indices(step) for step in range(count * 3)])
    for start in range(0, len(row), count):
        assert sorted(row[start : start + count]) == list(range(count))


def test_never_is_no_number_too_large() -> None:
    sampler = StepSampler(lambda: 2, 10**30, 5)
    assert (len(sampler), list(sampler)) == (5, [2, 3, 4])


def test_batches_are_a_function_of_seed_and_step() -> None:
    pixels = images()
    one, other = Batches(pixels, 4, seed=1), Batches(pixels, 4, seed=1)
    late = one[9]
    one[0]
    assert torch.equal(late.inputs, other[9].inputs)
    assert not np.array_equal(one.indices(9), Batches(pixels, 4, seed=2).indices(9))
    assert not np.array_equal(one.indices(0), one.indices(13))  # another round, another order


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_batches_are_images_between_0_and_1(dtype: type, white: int) -> None:
    pixels = np.zeros((1, 2, 2, 3), dtype)
    pixels[0, 0, 1] = (white, 1, 0)
    batch = Batches(pixels, 1, seed=0)[0].inputs
    assert batch.shape == (1, 3, 2, 2)
    assert batch.dtype == torch.float32
    assert batch[0, :, 0, 1].tolist() == pytest.approx([1, 1 / white, 0], rel=1e-6)


# corrupted and brighter or darker images


def restoring(pixels: Pixels | None = None, *, seed: int = 1, batch: int = 6, **more: Any) -> Batches:
    return Batches(images() if pixels is None else pixels, batch, seed, **more)


def assert_same_batch(a: Batch, b: Batch) -> None:
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one, other)


def test_without_corruption_inputs_are_the_targets_and_no_mask_is_set() -> None:
    batch = restoring()[0]
    assert batch.inputs is batch.targets
    assert batch.masks.shape == (6, 1, 32, 32)
    assert (batch.masks == 0).all()
    assert batch.masks.dtype == torch.float32


@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint16), (5, np.uint8)])
def test_inputs_differ_from_targets_where_the_masks_say(channels: int, dtype: type) -> None:
    """By more than VISIBLE of full scale inside, by at most so much outside; the targets are the images themselves."""
    pixels = images(channels=channels, dtype=dtype)
    batches, found = restoring(pixels, corrupt=1.0), 0
    white = float(np.iinfo(dtype).max)
    for step in range(4):
        batch = batches[step]
        clean = torch.from_numpy(pixels[batches.indices(step)].astype(np.float32) / white).permute(0, 3, 1, 2)
        assert torch.equal(batch.targets, clean)
        assert batch.masks.unique().tolist() == [0, 1]
        assert ((batch.inputs >= 0) & (batch.inputs <= 1)).all()
        apart = (batch.inputs - batch.targets).abs().amax(dim=1, keepdim=True)
        assert apart[batch.masks == 1].min() > VISIBLE - 1 / 255
        assert apart[batch.masks == 0].max() <= VISIBLE + 1e-6
        assert (batch.masks.sum(dim=(1, 2, 3)) >= 3).all()
        found += int(batch.masks.sum())
    assert 0.005 < found / (24 * 32 * 32) < 0.4


def test_the_defects_are_those_of_the_maker() -> None:
    pixels, batches = images(), restoring(corrupt=1.0, seed=3)
    batch, maker = batches[5], Defects(images(), 3)
    for row, place in enumerate(batches.indices(5)):
        made = maker.make(int(place), 5)
        assert torch.equal(batch.inputs[row], torch.from_numpy(made.pixels.astype(np.float32) / 255).permute(2, 0, 1))
        assert np.array_equal(batch.masks[row, 0].numpy(), made.mask)
    assert np.array_equal(pixels, images())


def test_copies_of_an_image_in_one_batch_have_defects_of_their_own() -> None:
    batches = restoring(images(3), batch=20, corrupt=1.0)
    assert len({image.numpy().tobytes() for image in batches[0].inputs}) == 20
    first = {int(place): row for row, place in reversed([*enumerate(batches.indices(0))])}
    maker = Defects(images(3), 1)
    for place, row in first.items():  # the first of each is what it is in any batch
        assert np.array_equal(batches[0].masks[row, 0].numpy(), maker.make(place, 0).mask)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_corrupted_images(share: float) -> None:
    batches = restoring(batch=20, corrupt=share)
    corrupted = [bool(mask.any()) for step in range(15) for mask in batches[step].masks]
    first = batches[0]
    changed = [not torch.equal(a, b) for a, b in zip(first.inputs, first.targets, strict=True)]
    assert changed == corrupted[:20]  # the others are shown as they are
    spread = (share * (1 - share) / 300) ** 0.5
    assert abs(np.mean(corrupted) - share) <= 3 * spread  # 300 images, and a seed that is fixed


def test_which_images_are_corrupted_does_not_go_by_their_place_in_the_batch() -> None:
    batches = restoring(images(20), batch=20, corrupt=0.5)
    chosen = np.array([[mask.any() for mask in batches[step].masks] for step in range(30)], float)
    order = np.array([np.argsort(batches.indices(step)) for step in range(30)])
    by_image = np.take_along_axis(chosen, order, axis=1).mean(axis=0)
    for shares in (chosen.mean(axis=0), by_image):
        assert shares.min() > 0.2
        assert shares.max() < 0.8


@pytest.mark.parametrize("more", [{"corrupt": 0.5}, {"jitter": 0.2}, {"corrupt": 0.5, "jitter": 0.2}], ids=str)
def test_such_batches_are_a_function_of_seed_and_step_too(more: dict[str, float]) -> None:
    one, other = restoring(**more), restoring(**more)
    late = one[9]
    one[0]
    assert_same_batch(late, other[9])
    assert_same_batch(late, one[9])
    assert not torch.equal(late.inputs, restoring(seed=2, **more)[9].inputs)
    assert torch.equal(restoring(batch=13, corrupt=0)[0].inputs[0], restoring(batch=13)[0].inputs[0])


def test_another_step_has_other_defects_and_another_light() -> None:
    batches = restoring(images(1), batch=1, corrupt=1.0)
    assert not torch.equal(batches[0].masks, batches[1].masks)
    lit = restoring(images(1), batch=1, jitter=0.2)
    assert len({round(float(lit[step].targets.mean()), 4) for step in range(5)}) == 5


def test_jitter_shifts_input_and_target_by_the_same_within_its_bounds() -> None:
    grey = np.full((10, 8, 8, 3), 128, np.uint8)
    batches = restoring(grey, batch=50, jitter=0.2)
    shifts = []
    for step in range(6):
        batch = batches[step]
        assert batch.inputs is batch.targets
        per_image = batch.targets.amax(dim=(1, 2, 3))
        assert torch.equal(per_image, batch.targets.amin(dim=(1, 2, 3)))  # one shift an image, all channels alike
        shifts += (per_image - 128 / 255).tolist()
    assert -0.2 <= min(shifts) < -0.18
    assert 0.18 < max(shifts) <= 0.2
    assert abs(np.mean(shifts)) < 0.02
    assert np.std(shifts) == pytest.approx(0.2 / 3**0.5, rel=0.1)  # uniform


def test_jitter_goes_by_the_bits_in_use() -> None:
    """A camera of 12 bits fills a sixteenth of 16: a tenth of those would leave it black or cut at nothing."""
    shallow = images(dtype=np.uint16) // 16
    shallow[0, 0, 0] = 4095
    white = 4095 / 65535
    plain, lit = restoring(shallow), restoring(shallow, jitter=0.2)
    deep = restoring(images(dtype=np.uint8), jitter=0.2)
    for step in range(4):
        offset = (lit[step].targets - plain[step].targets).flatten(1).median(dim=1).values
        expected = (deep[step].targets - restoring(images())[step].targets).flatten(1).median(dim=1).values
        torch.testing.assert_close(offset, expected * white, rtol=0.02, atol=1e-4)
        assert lit[step].targets.max() <= np.float32(white)


def test_jitter_of_corrupted_images_shifts_both_alike_and_is_cut_at_black_and_white() -> None:
    plain, jittered = restoring(corrupt=1.0), restoring(corrupt=1.0, jitter=0.3)
    cut = 0
    for step in range(4):
        before, after = plain[step], jittered[step]
        assert torch.equal(before.masks, after.masks)
        for a, b, c, d in zip(before.inputs, after.inputs, before.targets, after.targets, strict=True):
            inside = (d > 0) & (d < 1)
            light = float((d - c)[inside].median())
            assert abs(light) <= 0.3
            torch.testing.assert_close(b, (a + light).clamp(0, 1), rtol=0, atol=1e-6)
            torch.testing.assert_close(d, (c + light).clamp(0, 1), rtol=0, atol=1e-6)
            cut += int(((b == 0) | (b == 1)).sum())
    assert cut > 0


def test_exposure_multiplies_input_and_target_by_the_same_within_its_bounds() -> None:
    grey = np.full((10, 8, 8, 3), 100, np.uint8)
    batches, gains = restoring(grey, batch=50, exposure=0.3), []
    for step in range(6):
        batch = batches[step]
        assert batch.inputs is batch.targets
        per_image = batch.targets.amax(dim=(1, 2, 3))
        assert torch.equal(per_image, batch.targets.amin(dim=(1, 2, 3)))
        gains += (per_image / (100 / 255)).tolist()
    assert 0.7 <= min(gains) < 0.72
    assert 1.28 < max(gains) <= 1.3
    assert np.std(gains) == pytest.approx(0.3 / 3**0.5, rel=0.1)  # uniform
    white = restoring(np.full((10, 8, 8, 3), 250, np.uint8), batch=50, exposure=0.3)[0].targets
    assert white.max() == 1  # cut


def test_both_lights_by_hand_and_jitter_is_what_it_was() -> None:
    pixels, (step, size) = images(), (4, 6)
    rng = np.random.default_rng([1, step, 0, 1])
    offsets, gains = rng.uniform(-0.1, 0.1, size), 1 + rng.uniform(-0.2, 0.2, size)
    batches = restoring(jitter=0.1, exposure=0.2)
    for row, place in enumerate(batches.indices(step)):
        wanted = (pixels[place] / 255 * gains[row] + offsets[row]).clip(0, 1).transpose(2, 0, 1)
        np.testing.assert_allclose(batches[step].targets[row].numpy(), wanted, atol=1e-6)


def test_settings_reach_the_batches() -> None:
    known = tiny_config(train__corrupt=0.4, train__jitter=0.1, train__exposure=0.2, train__seed=7).train
    pixels = images()
    assert_same_batch(batches_of(pixels, known)[3], Batches(pixels, 4, 7, corrupt=0.4, jitter=0.1, exposure=0.2)[3])
    assert batches_of(pixels, tiny_config().train).defects is None


# mirrors


def test_mirrored_images_take_their_defects_along() -> None:
    plain, turned = restoring(corrupt=1.0), restoring(corrupt=1.0, mirrors=["left-right", "up-down"])
    seen = set()
    for step in range(6):
        before, after = plain[step], turned[step]
        for row in range(6):
            sides = [(), (2,), (1,), (1, 2)]
            pairs = [(a[row], b[row]) for a, b in zip(before, after, strict=True)]
            fitting = [side for side in sides if all(torch.equal(a.flip(side), b) for a, b in pairs)]
            assert len(fitting) == 1
            seen.add(fitting[0])
    assert len(seen) == 4


def test_half_of_the_images_are_mirrored() -> None:
    ramp = np.zeros((20, 8, 8, 1), np.uint8)
    ramp[:, :, 4:] = 255
    batches = Batches(ramp, 20, 1, mirrors=["left-right"])
    white_left = [float(image[0, 0, 0]) for step in range(20) for image in batches[step].inputs]
    assert abs(np.mean(white_left) - 0.5) < 0.08  # three standard deviations of 400
    assert torch.equal(batches[3].inputs, Batches(ramp, 20, 1, mirrors=["left-right"])[3].inputs)


def test_flips_of_the_settings_reach_the_batches() -> None:
    pixels = images()
    for asked, wanted in {
        "none": (),
        "both": ("left-right", "up-down"),
        "up-down": ("up-down",),
        "auto": found(pixels),
    }.items():
        assert batches_of(pixels, tiny_config(train__flips=asked).train).mirrors == wanted


# shifts


def test_shifted_images_take_their_defects_along() -> None:
    """Each image, its target and its mask are moved by one and the same number of rows and columns."""
    plain, moved = restoring(corrupt=1.0), restoring(corrupt=1.0, shifts=["left-right", "up-down"])
    seen = set()
    for step in range(3):
        before, after = plain[step], moved[step]
        for row in range(6):
            pairs = [(a[row].numpy(), b[row].numpy()) for a, b in zip(before, after, strict=True)]
            fitting = [
                (down, right)
                for down in range(-16, 17)
                for right in range(-16, 17)
                if all(np.array_equal(shifted(shifted(a, 1, down), 2, right), b) for a, b in pairs)
            ]
            assert len(fitting) == 1
            seen.add(fitting[0])
    assert len(seen) > 10
    assert min(down for down, _ in seen) < 0 < max(down for down, _ in seen)
    assert min(right for _, right in seen) < 0 < max(right for _, right in seen)


def test_a_shift_moves_along_its_own_axis_and_by_up_to_half_a_side() -> None:
    ramp = np.repeat(np.arange(32, dtype=np.uint8)[None, :, None, None], 32, axis=2)
    batches = Batches(np.repeat(ramp, 20, axis=0), 20, 1, shifts=["up-down"])
    inputs = torch.cat([batches[step].inputs for step in range(20)]) * 255
    assert torch.equal(inputs, inputs[..., :1].expand_as(inputs))  # rows stay rows
    tops = inputs[:, 0, 0, 0].round().int()  # row k comes to the top whether moved by k or by -k
    assert set(tops.tolist()) == set(range(17))
    assert torch.equal(batches[3].inputs, Batches(np.repeat(ramp, 20, axis=0), 20, 1, shifts=["up-down"])[3].inputs)


def test_shifts_of_the_settings_reach_the_batches() -> None:
    pixels = images()
    for asked, wanted in {"none": (), "up-down": ("up-down",), "auto": found_shifts(pixels)}.items():
        assert batches_of(pixels, tiny_config(train__shifts=asked).train).shifts == wanted
