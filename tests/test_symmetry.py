"""Which mirrors and shifts are found in images whose symmetry is known."""

import numpy as np
import pytest

from normbank.data.splits import evenly
from normbank.symmetry import MIRRORS, found, found_shifts, mirrors, shifted, shifts

SIZE = 64


def noise(seed, count=60, channels=1):
    return np.random.default_rng(seed).integers(0, 60, (count, SIZE, SIZE, channels)).astype(np.uint8)


def with_object(pixels, rows, columns):
    """The noise, with a bright rectangle whose brightness varies from image to image."""
    images = pixels.copy()
    for number, image in enumerate(images):
        image[slice(*rows), slice(*columns)] += np.uint8(100 + number)
    return images


@pytest.mark.parametrize("size", [33, 48, 50, 112])
def test_sides_that_the_grid_does_not_divide(size):
    square = np.random.default_rng(1).integers(0, 60, (60, size, size, 1)).astype(np.uint8)
    assert found(square) == ("left-right", "up-down")
    square[:, : size // 3] += 100
    assert found(square) == ("left-right",)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_texture_knows_no_side(channels):
    assert found(noise(1, channels=channels)) == ("left-right", "up-down")


@pytest.mark.parametrize(
    ("rows", "columns", "wanted"),
    [
        ((16, 48), (16, 48), ("left-right", "up-down")),
        ((0, 20), (16, 48), ("left-right",)),
        ((16, 48), (0, 20), ("up-down",)),
        ((0, 20), (0, 20), ()),
    ],
)
def test_an_object_keeps_the_mirrors_it_has(rows, columns, wanted):
    assert found(with_object(noise(2), rows, columns)) == wanted


def test_copies_of_images_are_no_like():
    texture = np.repeat(noise(1), 2, axis=0)
    assert found(texture) == found(noise(1)) == ("left-right", "up-down")
    assert found_shifts(texture) == found_shifts(noise(1)) != ()


def test_a_small_mark_on_one_side_is_enough():
    assert found(with_object(noise(3), (20, 24), (4, 8))) == ()


def test_objects_at_random_places_know_no_side():
    rng, images = np.random.default_rng(4), noise(4, 150)
    for image in images:
        row, column = rng.integers(0, SIZE - 20, 2)
        image[row : row + 20, column : column + 20] += 150
    assert found(images) == ("left-right", "up-down")


def test_copies_and_too_few_images():
    assert found(np.repeat(noise(5, 1), 10, axis=0)) == ()  # its mirror image is not among them
    assert found(np.zeros((10, 8, 8, 1), np.uint8)) == ("left-right", "up-down")
    assert found(noise(6, 2)) == ()


def test_brightness_does_not_count():
    lit = with_object(noise(7), (16, 48), (16, 48)).astype(np.uint16) * 100
    lit += (np.arange(60) * 200).astype(np.uint16)[:, None, None, None]
    assert found(lit) == ("left-right", "up-down")


def test_mirrors_by_hand():
    pixels = np.arange(8, dtype=np.uint8).reshape(1, 2, 4, 1)
    assert MIRRORS["left-right"](pixels)[0, :, :, 0].tolist() == [[3, 2, 1, 0], [7, 6, 5, 4]]
    assert MIRRORS["up-down"](pixels)[0, :, :, 0].tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]


def test_what_is_asked_for():
    texture = noise(8)
    assert mirrors(texture, "none") == ()
    assert mirrors(texture, "left-right") == ("left-right",)
    assert mirrors(texture, "both") == mirrors(texture, "auto") == ("left-right", "up-down")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_texture_may_be_shifted(channels):
    assert found_shifts(noise(1, channels=channels)) == ("left-right", "up-down")


@pytest.mark.parametrize(
    ("rows", "columns", "wanted"),
    [((20, 44), (20, 44), ()), ((0, SIZE), (20, 44), ("up-down",)), ((20, 44), (0, SIZE), ("left-right",))],
)
def test_a_thing_in_its_place_may_not_and_a_band_along_itself(rows, columns, wanted):
    assert found_shifts(with_object(noise(2), rows, columns)) == wanted


def test_shifts_of_copies_of_noise_of_plain_images_and_of_too_few():
    assert found_shifts(np.repeat(noise(5, 1), 10, axis=0)) == ()  # the shifted one is not among them
    assert found_shifts(np.zeros((10, 8, 8, 1), np.uint8)) == ("left-right", "up-down")
    assert found_shifts(noise(6, 2)) == ()


def test_shifts_by_hand():
    pixels = np.arange(8, dtype=np.uint8).reshape(1, 2, 4, 1)
    assert shifted(pixels, 2, 2)[0, :, :, 0].tolist() == [[2, 3, 2, 1], [6, 7, 6, 5]]
    assert shifted(pixels, 2, -1)[0, :, :, 0].tolist() == [[1, 0, 1, 2], [5, 4, 5, 6]]
    assert shifted(pixels, 1, 1)[0, :, :, 0].tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]
    np.testing.assert_array_equal(shifted(pixels, 2, 0), pixels)


def test_which_shifts_are_asked_for():
    texture = noise(8)
    assert shifts(texture, "none") == ()
    assert shifts(texture, "up-down") == ("up-down",)
    assert shifts(texture, "both") == shifts(texture, "auto") == ("left-right", "up-down")


def test_an_even_choice_by_hand():
    assert evenly(11, 3).tolist() == [0, 5, 10]
    assert evenly(3, 9).tolist() == [0, 1, 2]
