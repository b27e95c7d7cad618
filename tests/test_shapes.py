"""The regions of made defects: areas, edges, places."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from normbank import shapes


@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda s: s.__name__)
@pytest.mark.parametrize("area", [30, 300, 4000])
def test_shapes_have_their_area(shape: shapes.Shape, area: float) -> None:
    for seed in range(5):
        cover = shape(np.random.default_rng(seed), area, 1.0)
        assert cover.dtype == np.float32
        assert 0 <= cover.min() <= cover.max() <= 1
        tolerance = 1 + 0.02 * area if shape is shapes.cloud else area**0.5 + 0.02 * area
        assert (cover >= 0.5).sum() == pytest.approx(area, abs=tolerance)


def test_clouds_are_not_cut_off_by_their_box() -> None:
    for seed in range(30):
        cover = shapes.cloud(np.random.default_rng(seed), 600, 2.0 + seed)
        assert max(cover[0].max(), cover[-1].max(), cover[:, 0].max(), cover[:, -1].max()) < 0.1


def test_softer_edges_are_wider() -> None:
    for shape in shapes.SHAPES:
        hard, soft = (shape(np.random.default_rng(0), 900, width) for width in (1.0, 8.0))
        assert ((soft > 0.02) & (soft < 0.98)).sum() > 2 * ((hard > 0.02) & (hard < 0.98)).sum()


@pytest.mark.parametrize("soft", [0.0, 0.5, 1.0])
def test_blobs_are_one_in_the_middle_and_a_half_on_the_outline(soft: float) -> None:
    cover = shapes.blob(np.random.default_rng(0), 800.0, soft)
    assert cover.max() == pytest.approx(1, abs=0.01)
    assert (cover >= 0.5).sum() == pytest.approx(800, rel=0.05)
    assert max(cover[0].max(), cover[:, 0].max()) < 0.03 or soft == 0


def test_place_cuts_at_the_borders() -> None:
    cover = np.arange(20, dtype=np.float32).reshape(4, 5)
    inside = shapes.place(cover, (10.0, 10.5), 32)
    assert (inside.top, inside.left) == (8, 8)
    np.testing.assert_array_equal(inside.cover, cover)
    corner = shapes.place(cover, (0.0, 31.9), 32)  # rows -2..1, columns 29..33
    assert (corner.top, corner.left) == (0, 29)
    np.testing.assert_array_equal(corner.cover, cover[2:, :3])
    whole = shapes.place(np.ones((90, 90), np.float32), (16.0, 16.0), 32)
    assert (whole.top, whole.left, whole.cover.shape) == (0, 0, (32, 32))


@pytest.mark.parametrize("seed", range(12))
def test_a_stroke_is_all_its_points_at_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    size, centre = 40, (float(rng.uniform(-5, 45)), float(rng.uniform(-5, 45)))
    length, width = float(rng.uniform(3, 60)), float(rng.uniform(0.5, 9))
    found = []
    for at_once in (1, 700, 10**9):
        monkeypatch.setattr(shapes, "AT_ONCE", at_once)
        found.append(shapes.stroke(np.random.default_rng(seed), size, centre, length, width, 1.0))
    for one in found[:2]:
        assert one[:2] == found[2][:2]
        np.testing.assert_array_equal(one.cover, found[2].cover)
    points = shapes._path(np.random.default_rng(seed), centre, max(2, round(2 * length)), 1.0)
    share = np.linspace(0, 1, len(points))
    radius = width / 2 * np.minimum(1, 0.3 + 0.7 * np.minimum(share, 1 - share) / 0.15)
    expected = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            near = [
                r + 0.5 - np.hypot(row - y, column - x)
                for (y, x), r in zip(points, radius, strict=True)
                if max(abs(row - np.rint(y)), abs(column - np.rint(x))) <= np.ceil(radius.max() + 0.5)
            ]
            expected[row, column] = min(1.0, max([0.0, *near]))
    drawn = np.zeros((size, size))
    drawn[found[0].box] = found[0].cover
    np.testing.assert_allclose(drawn, expected, atol=1e-6)


def test_a_long_stroke_in_a_large_image_takes_little_memory() -> None:
    tracemalloc.start()
    shapes.stroke(np.random.default_rng(0), 1024, (512.0, 512.0), 700, 12.0, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_strokes_are_as_long_and_wide_as_asked() -> None:
    straight = shapes.stroke(np.random.default_rng(3), 128, (64.0, 64.0), 60, 3.0, 0.0)
    reach = np.hypot(*straight.cover.shape)
    assert 58 <= reach <= 70
    assert straight.cover.sum() == pytest.approx(60 * 3, rel=0.15)
    assert straight.cover.max() == 1
    assert straight.top + straight.cover.shape[0] / 2 == pytest.approx(64, abs=2)
    assert straight.left + straight.cover.shape[1] / 2 == pytest.approx(64, abs=2)
    away = shapes.stroke(np.random.default_rng(3), 32, (0.0, 0.0), 200, 2.0, 1.5)
    assert away.top >= 0
    assert away.left >= 0
    assert away.top + away.cover.shape[0] <= 32
    assert away.left + away.cover.shape[1] <= 32
