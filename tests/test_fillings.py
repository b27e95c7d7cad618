"""What made defects are filled with, by hand and against slow loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from normbank import fillings


def test_look_turns_mirrors_and_shifts_exactly() -> None:
    image = np.arange(35 * 35 * 2).reshape(35, 35, 2).astype(np.uint16)
    middle = (20.0, 15.0)
    around = image[18:23, 13:18].astype(float)
    quarter = np.pi / 2
    np.testing.assert_array_equal(fillings.look(image, (5, 5), fillings.View(middle)), around)
    np.testing.assert_array_equal(fillings.look(image, (5, 5), fillings.View(middle, mirrored=True)), around[:, ::-1])
    turned = fillings.look(image, (5, 5), fillings.View(middle, quarter))
    assert any(np.array_equal(turned, np.rot90(around, k)) for k in (1, 3))
    back = fillings.look(image, (5, 5), fillings.View(middle, 3 * quarter))
    np.testing.assert_array_equal(np.rot90(turned, 2), back)


@pytest.mark.parametrize("angle", [0.0, np.pi / 2, np.pi, 3 * np.pi / 2])
@pytest.mark.parametrize("centre", [(20.0, 15.0), (20.5, 15.5), (17.3, 20.9)])
def test_quarter_turns_copy_a_whole_window_whatever_the_parity(angle: float, centre: tuple[float, float]) -> None:
    image = np.arange(40 * 40).reshape(40, 40, 1).astype(np.uint16)
    seen = fillings.look(image, (6, 9), fillings.View(centre, angle))
    assert len(np.unique(seen)) == 54
    rows, columns = np.divmod(seen[..., 0].astype(int), 40)
    assert {int(np.ptp(rows)), int(np.ptp(columns))} == {5, 8}


def test_look_beyond_the_border_is_mirrored_and_zoom_enlarges() -> None:
    image = np.array([10, 20, 30, 40], np.uint8).repeat(4).reshape(4, 4, 1)  # rows of one value
    seen = fillings.look(image, (8, 1), fillings.View((0.0, 0.0)))  # rows -3.5..3.5, half-way ones go up
    np.testing.assert_array_equal(seen[:, 0, 0], [40, 30, 20, 10, 20, 30, 40, 30])
    near = fillings.look(image, (3, 1), fillings.View((1.0, 1.0), zoom=4.0))  # rows 0.75, 1, 1.25
    np.testing.assert_allclose(near[:, 0, 0], [17.5, 20, 22.5])
    tilted = fillings.look(image, (1, 3), fillings.View((1.0, 1.0), angle=np.pi / 6))
    np.testing.assert_allclose(tilted[0, :, 0], [15, 20, 25], rtol=1e-5)  # sin 30 degrees is half a row a pixel


def test_blurred_is_a_mean_of_means() -> None:
    values = np.random.default_rng(0).random((7, 5, 2), np.float32)

    def mean(v: NDArray[Any]) -> NDArray[Any]:
        out = np.empty_like(v)
        for i in range(7):
            for j in range(5):
                rows = [min(max(i + d, 0), 6) for d in (-2, -1, 0, 1, 2)]
                columns = [min(max(j + d, 0), 4) for d in (-2, -1, 0, 1, 2)]
                out[i, j] = np.mean([v[r, c] for r in rows for c in columns], axis=0)
        return out

    np.testing.assert_allclose(fillings.blurred(values, 2), mean(mean(values)), atol=1e-5)
    spike = np.zeros((9, 9, 1), np.float32)
    spike[4, 4] = 1
    assert fillings.blurred(spike, 1)[4, 4, 0] == pytest.approx(1 / 9)  # 9 of 81 paths lead back: (3/9) * (3/9)


@pytest.mark.parametrize("mixed", [False, True])
def test_seamless_solves_the_poisson_equation(mixed: bool) -> None:
    rng = np.random.default_rng(4)
    before, source = rng.random((6, 7, 2), np.float32), rng.random((6, 7, 2), np.float32)
    expected = np.empty((4, 5, 2))
    for channel in range(2):
        matrix, right = np.zeros((20, 20)), np.zeros(20)
        for i in range(1, 5):
            for j in range(1, 6):
                here = (i - 1) * 5 + j - 1
                for y, x in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                    theirs = source[i, j, channel] - source[y, x, channel]
                    ours = before[i, j, channel] - before[y, x, channel]
                    matrix[here, here] += 1
                    right[here] += ours if mixed and abs(ours) >= abs(theirs) else theirs
                    if 1 <= y <= 4 and 1 <= x <= 5:
                        matrix[here, (y - 1) * 5 + x - 1] -= 1
                    else:
                        right[here] += before[y, x, channel]
        expected[..., channel] = np.linalg.solve(matrix, right).reshape(4, 5)
    np.testing.assert_allclose(fillings.seamless(before, source, mixed), expected, atol=1e-5)


def test_seamless_by_hand() -> None:
    before = np.zeros((3, 3, 1), np.float32)
    before[0, 1], before[1, 0] = 1, 0.6
    flat = np.zeros_like(before)
    assert fillings.seamless(before, flat)[0, 0, 0] == pytest.approx(0.4)  # the mean of 1, 0.6, 0, 0
    peak = flat.copy()
    peak[1, 1] = 0.5
    assert fillings.seamless(before, peak)[0, 0, 0] == pytest.approx(0.9)  # and half more than its neighbours


def test_recolour_stays_in_range_and_changes() -> None:
    values = np.random.default_rng(1).random((8, 8, 3), np.float32)
    for seed in range(20):
        other = fillings.recolour(np.random.default_rng(seed), values)
        assert other.shape == values.shape
        assert 0 <= other.min() <= other.max() <= 1
        assert np.abs(other - values).mean() > 0.02
