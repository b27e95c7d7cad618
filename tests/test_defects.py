"""Made defects: whole images by their promises, each kind by what it must leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from normbank.defects import KINDS, LEAST_MASK, VISIBLE, Defects, Scene, _areas
from normbank.errors import ConfigError

Stored = NDArray[Any]


def textures(
    count: int = 5, size: int = 32, channels: int = 3, dtype: type[np.unsignedinteger[Any]] = np.uint8
) -> Stored:
    """Grain over slow waves: structure everywhere, and room below and above."""
    rng = np.random.default_rng(7)
    waves = np.sin(np.arange(size) / 3)[:, None] + np.cos(np.arange(size) / 4)
    values = 0.5 + 0.15 * waves[None, ..., None] + rng.normal(0, 0.04, (count, size, size, channels))
    scaled: Stored = np.rint(values.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
    return scaled


def scene(images: Stored, area: float, place: int = 0, at: int | None = None) -> Scene:
    """A scene on a copy of image `place`; centres fall in cell `at` of as many cells as pixels, or anywhere."""
    size = images.shape[1]
    chances = np.ones(1) if at is None else (np.arange(size * size) >= at).astype(float)
    return Scene(images, place, images[place].copy(), float(np.iinfo(images.dtype).max), chances, area)


def drawn(kind: str, images: Stored, area: float, seed: int) -> tuple[Stored, Stored]:
    """The image before and after one defect, in whole numbers that do not wrap."""
    here = scene(images, area)
    KINDS[kind](here, np.random.default_rng(seed))
    return images[0].astype(int), here.canvas.astype(int)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_made_image_keeps_its_promises(channels: int, dtype: type[np.unsignedinteger[Any]]) -> None:
    images = textures(channels=channels, dtype=dtype)
    before, full = images.copy(), np.iinfo(dtype).max
    maker = Defects(images, seed=3)
    for number in range(60):
        place = number % len(images)
        made = maker.make(place, number)
        assert made.pixels.shape == images.shape[1:]
        assert made.pixels.dtype == dtype
        assert made.mask.shape == images.shape[1:3]
        assert made.mask.dtype == np.bool_
        assert made.kind in KINDS
        apart = np.abs(made.pixels.astype(int) - images[place].astype(int)).max(axis=-1)
        assert (apart[made.mask] > VISIBLE * full).all()
        assert (apart[~made.mask] <= VISIBLE * full).all()
        assert made.mask.sum() >= max(3, LEAST_MASK * made.mask.size)
    np.testing.assert_array_equal(images, before)


def test_the_same_numbers_make_the_same_image_in_any_order_and_others_another() -> None:
    images = textures()
    one, two = Defects(images, seed=1), Defects(images, seed=1)
    wanted = [(place, number) for place in range(3) for number in range(4)]
    first = {key: one.make(*key) for key in wanted}
    for key in reversed(wanted):
        again = two.make(*key)
        np.testing.assert_array_equal(again.pixels, first[key].pixels)
        np.testing.assert_array_equal(again.mask, first[key].mask)
        assert again.kind == first[key].kind
    assert len({first[key].pixels.tobytes() for key in wanted}) == len(wanted)
    assert (Defects(images, seed=2).make(0, 0).pixels != first[0, 0].pixels).any()


def test_areas_run_from_small_to_large_and_no_further_and_contrasts_too() -> None:
    images = textures(size=64)
    maker = Defects(images, seed=0)
    made = [(number % 5, maker.make(number % 5, number)) for number in range(300)]
    shares = np.array([m.mask.mean() for _, m in made])
    assert shares.min() < 0.002
    assert 0.15 < shares.max() < 0.45
    assert 0.005 < np.median(shares) < 0.05
    contrasts = [np.abs(m.pixels.astype(int) - images[p])[m.mask].max(axis=-1).mean() / 255 for p, m in made]
    assert np.quantile(contrasts, 0.1) < 0.08
    assert np.quantile(contrasts, 0.9) > 0.2
    assert {m.kind for _, m in made} == set(KINDS)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_single_kind_is_made_where_it_can_be(kind: str) -> None:
    maker = Defects(textures(), seed=5, kinds=(kind,))
    kinds = [maker.make(0, number).kind for number in range(20)]
    assert set(kinds) <= {kind, "plain"}
    assert kinds.count(kind) >= 19


@pytest.mark.parametrize("kind", ["swap", "poisson", "erase"])
def test_what_shows_as_specks_alone_gives_way(kind: str) -> None:
    """Grain whose changes are mostly below VISIBLE: another piece of it, or none, is no defect that one could learn."""
    grain = np.random.default_rng(0).normal(128, 4, (4, 64, 64, 1)).clip(0, 255).astype(np.uint8)
    made = [Defects(grain, seed=1, kinds=(kind,)).make(number % 4, number) for number in range(30)]
    changed = [int((one.pixels != grain[number % 4]).sum()) for number, one in enumerate(made)]
    assert all(one.mask.sum() >= 0.4 * count for one, count in zip(made, changed, strict=True))
    assert [one.kind for one in made].count("plain") > 25


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_images_are_enough(count: int) -> None:
    maker = Defects(textures(count=count), seed=0)
    assert all(maker.make(number % count, number).mask.any() for number in range(40))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_where_a_kind_can_change_nothing_a_contrasting_spot_is_made(level: int) -> None:
    images = np.full((2, 32, 32, 1), level, np.uint8)
    for kind in ("paste", "swap", "poisson", "erase"):
        made = Defects(images, seed=0, kinds=(kind,)).make(1, 0)
        if made.kind == "plain":
            assert set(np.unique(made.pixels[made.mask])) & {0, 255}
        assert made.mask.sum() >= 3
    assert Defects(images, seed=0, kinds=("swap",)).make(1, 0).kind == "plain"


@pytest.mark.parametrize("size", [8, 9, 28, 50])
def test_small_and_odd_sizes_work(size: int) -> None:
    maker = Defects(textures(size=size, channels=1), seed=0)
    assert all(maker.make(0, number).mask.sum() >= 3 for number in range(60))


def test_cameras_that_fill_16_bits_partly_are_measured_by_the_bits_in_use() -> None:
    images = (textures(dtype=np.uint16) // 16).astype(np.uint16)  # 12 bits
    maker = Defects(images, seed=0)
    assert maker.full == 4095
    for number in range(40):
        made = maker.make(0, number)
        assert made.pixels.max() <= 4095
        apart = np.abs(made.pixels.astype(int) - images[0].astype(int)).max(axis=-1)
        assert (apart[made.mask] > VISIBLE * 4095).all()


def objects(count: int = 4, size: int = 64) -> Stored:
    """Grainy discs, each elsewhere, on plain white: [N, S, S, 1]."""
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[:size, :size]
    images = np.full((count, size, size, 1), 250, np.uint8)
    for image, (y, x) in zip(images, rng.integers(18, size - 18, (count, 2)), strict=True):
        disc = (rows - y) ** 2 + (columns - x) ** 2 < 12**2
        image[disc] = rng.integers(60, 120, (disc.sum(), 1))
    return images


def test_defects_keep_to_the_object_where_there_is_one() -> None:
    images = objects()
    rng = np.random.default_rng(0)

    def hits(background: bool) -> float:
        maker = Defects(images, seed=0, background=background)
        found = []
        for place in range(len(images)):
            here = Scene(images, place, images[place], 255.0, maker._chances(images[place]), 1)
            centres = np.array([here.centre(rng) for _ in range(200)]).astype(int)
            found.append((images[place][centres[:, 0], centres[:, 1], 0] < 200).mean())
        return float(np.mean(found))

    assert hits(background=True) > 0.4
    assert hits(background=False) < 0.2  # the disc's share of the image is 0.11


@pytest.mark.parametrize("images", [textures(), np.full((3, 16, 16, 3), 9, np.uint8)], ids=["texture", "nothing"])
def test_without_an_object_defects_lie_anywhere(images: Stored) -> None:
    assert len(Defects(images, seed=0)._chances(images[0])) == 1


def test_cells_are_means_also_where_the_size_does_not_divide() -> None:
    from normbank.defects import _cells

    image = textures(count=1, size=50)[0]
    cells = _cells(image, 255.0)
    edges = [i * 50 // 32 for i in range(33)]
    for row in (0, 7, 31):
        for column in (0, 16, 31):
            block = image[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
            np.testing.assert_allclose(cells[row, column], block.mean(axis=(0, 1)) / 255, rtol=1e-5)


def test_wrong_requests_are_named() -> None:
    images = textures()
    with pytest.raises(ConfigError, match=r"unknown kind of defect 'scrach': the nearest there is is 'scratch'"):
        Defects(images, 0, kinds=("paste", "scrach"))
    with pytest.raises(ConfigError, match=r"kinds of defects: expected one at least, got none\. Choose from paste"):
        Defects(images, 0, kinds=())
    with pytest.raises(ValueError, match=r"expected \[N, S, S, C\] .* got \(32, 32, 3\)"):
        Defects(images[0], 0)
    with pytest.raises(ValueError, match=r"expected \[N, S, S, C\] .* got \(5, 32, 20, 3\)"):
        Defects(images[:, :, :20], 0)
    with pytest.raises(ValueError, match="expected uint8 or uint16, got float64"):
        Defects(images / 255, 0)
    with pytest.raises(IndexError):
        Defects(images, 0).make(5, 0)


# Each kind.


@pytest.mark.parametrize("seed", range(6))
def test_plain_has_one_colour_inside(seed: int) -> None:
    images = textures(size=64)
    before, after = drawn("plain", images, area=500, seed=seed)
    changed = after[(after != before).any(axis=-1)]
    _, counts = np.unique(changed, axis=0, return_counts=True)
    assert np.sort(counts)[-2] < 0.05 * len(changed)  # one colour, and an edge where each pixel has its own
    assert counts.max() > 0.4 * len(changed)


@pytest.mark.parametrize("seed", range(6))
def test_paste_and_swap_bring_pixels_of_the_images_alone(seed: int) -> None:
    images = np.stack([np.full((48, 48, 1), 50 + 5 * n, np.uint8) for n in range(3)])
    images[0, :, 24:] = 90
    for kind in ("paste", "swap"):
        _, after = drawn(kind, images, area=300, seed=seed)
        low, high = (50, 90) if kind == "swap" else (0.7 * 50 - 25.5, 1.3 * 90 + 25.5)
        assert low <= after.min()
        assert after.max() <= high


def test_swap_knows_its_own_image_only() -> None:
    images = textures()
    others = images.copy()
    others[1:] = 0
    for seed in range(6):
        np.testing.assert_array_equal(drawn("swap", images, 100, seed)[1], drawn("swap", others, 100, seed)[1])


def test_blend_is_made_of_another_image() -> None:
    images = np.stack([np.full((48, 48, 3), 100, np.uint8), textures(count=1, size=48)[0]])
    changed = 0
    for seed in range(6):
        before, after = drawn("blend", images, area=300, seed=seed)
        inside = (after != before).any(axis=-1)
        changed += int(after[inside].std(axis=0).max() > 3)  # its structure is the other's
    assert changed >= 4


def test_stains_are_soft() -> None:
    images = np.full((1, 64, 64, 1), 120, np.uint8)
    strong = 0
    for seed in range(20):
        before, after = drawn("stain", images, area=1500, seed=seed)
        change = np.abs(after - before)[..., 0]
        if change.max() > 15:  # fainter ones have steps of a grey level or two
            strong += 1
            assert max(np.abs(np.diff(change, axis=axis)).max() for axis in (0, 1)) <= 0.6 * change.max()
    assert strong >= 8


def test_scratches_are_thin_and_long() -> None:
    images = np.full((1, 128, 128, 1), 120, np.uint8)
    images[0, :, ::2] = 130  # no line has the colour of all it crosses
    for seed in range(12):
        here = scene(images, 50, at=64 * 128 + 64)
        KINDS["scratch"](here, np.random.default_rng(seed))
        inside = (here.canvas != images[0])[..., 0]
        rows, columns = np.nonzero(inside)
        longest = np.hypot(np.ptp(rows), np.ptp(columns))
        assert inside.sum() <= 7 * (longest + 5)
        assert longest >= 8


@pytest.mark.parametrize("seed", range(6))
def test_poisson_of_a_brighter_copy_changes_nothing(seed: int) -> None:
    """Differences between pixels are what is pasted: a constant offset is lost, and so is a plain image's seam."""
    images = np.full((2, 48, 48, 1), 100, np.uint8)
    images[1] = 180
    before, after = drawn("poisson", images, area=200, seed=seed)
    np.testing.assert_allclose(after, before, atol=1)


def test_erase_takes_structure_away() -> None:
    images = np.full((1, 48, 48, 1), 100, np.uint8)
    images[0, ::2] = 140
    for seed in range(8):
        here = scene(images, 300, at=24 * 48 + 24)
        KINDS["erase"](here, np.random.default_rng(seed))
        change = here.canvas.astype(int) - images[0]
        assert change[::2].max() <= 0  # the bright lines only get darker, the dark ones brighter
        assert change[1::2].min() >= 0
        assert np.abs(change).max() >= 10


@pytest.mark.data
def test_real_images_get_defects_on_the_object(real_data: Path) -> None:
    files = sorted((real_data / "mvtec_ad" / "bottle" / "train" / "good").glob("*"))[:8]
    images = np.stack([np.asarray(Image.open(f).convert("RGB").resize((64, 64))) for f in files])
    maker = Defects(images, seed=0)
    assert maker._tolerance is not None
    assert all(maker.make(number % 8, number).mask.any() for number in range(40))


def test_another_image_is_any_but_the_scenes_own() -> None:
    images = np.stack([np.full((8, 8, 1), number, np.uint8) for number in range(3)])
    here, rng = scene(images, 4, place=1), np.random.default_rng(0)
    assert {int(here.other(rng)[0, 0, 0]) for _ in range(50)} == {0, 2}


def test_how_many_defects_an_image_gets() -> None:
    """One in 10 is of one large defect; of the others 60, 25 and 15 of 100 are of one, two and three."""
    rng = np.random.default_rng(0)
    counts = np.bincount([len(_areas(rng, 64)) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(counts, [0, 0.1 + 0.9 * 0.6, 0.9 * 0.25, 0.9 * 0.15], atol=0.03)
