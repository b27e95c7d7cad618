"""Images whose things lie at different places, moved until they lie alike, and their maps moved back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import good_ones, planes, tiny_config

from normbank import detector as detectors
from normbank import fitting, laying
from normbank.fitting import fit
from normbank.laying import lay
from normbank.model.cells import moved, moved_back
from normbank.model.steady import REACH, Steady
from normbank.preparing import prepare
from normbank.telling import about_model

SIZE = 64


def bracket(down: float, right: float, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """A bright angle on a dark, lightly shaded ground, moved by so many pixels, with a little noise: [S, S, 1]."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    shading = 20 * rows / size
    y, x = (rows - down) / size, (columns - right) / size
    shape = ((abs(x) < 0.2) & (abs(y) < 0.04)) | ((abs(x - 0.16) < 0.04) & (abs(y - 0.1) < 0.1))
    noise = np.random.default_rng(seed).normal(0, 3, (size, size))
    return (60 + shading + 120 * shape + noise).clip(0, 255).astype(np.uint8)[..., None]


def brackets(count: int = 24, reach: float = 8, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    moves = np.random.default_rng(5).uniform(-reach, reach, (count, 2)).round()
    return np.stack([bracket(*move, seed, size) for seed, move in enumerate(moves)]), moves


def learnt(pixels: np.ndarray) -> Steady:
    steady = Steady(pixels.shape[3], pixels.shape[1])
    steady.learn(planes(pixels))
    return steady


def moves_of(steady: Steady, images: torch.Tensor) -> torch.Tensor:
    return steady.moves_of(steady.cells_of(images))


@pytest.fixture(scope="module")
def known() -> Steady:
    return learnt(brackets(reach=12)[0])


@pytest.mark.parametrize("size", [SIZE, 70, 96])
def test_each_image_is_moved_to_where_the_others_are(size):
    pixels, moves = brackets(reach=size / 8, size=size)
    steady = learnt(pixels)
    found = moves_of(steady, planes(pixels)).numpy()
    off = found - moves
    assert np.abs(off - np.median(off, axis=0)).max() <= 1
    assert np.abs(np.median(off, axis=0)).max() <= size / 16  # they come to lie in the middle of all


def test_moved_images_lie_alike():
    pixels, _ = brackets()
    steady = learnt(pixels)
    laid = moved(planes(pixels), moves_of(steady, planes(pixels)))
    assert planes(pixels).std(dim=0).mean() > 2 * laid.std(dim=0).mean()


def test_moves_by_hand():
    """At each place stands what stood `moves` from it; beyond the border the mirror, and back there the nearest."""
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    moves = torch.tensor([[1, -2]])
    laid = moved(image, moves)
    rows = [4.0, 8.0, 12.0, 8.0]  # beginning of the rows 1, 2, 3 and the mirrored 2
    expected = torch.tensor([[start + column for column in (2, 1, 0, 1)] for start in rows])
    assert torch.equal(laid[0, 0], expected)
    back = moved_back(laid, moves)
    expected = image[0, 0].clone()  # its first row, and its last two columns, were out of sight
    expected[0], expected[:, 2:] = expected[1], expected[:, 1:2]
    expected[0, 2:] = expected[1, 1]
    assert torch.equal(back[0, 0], expected)


@pytest.mark.slow
def test_the_best_move_is_that_of_the_slow_search():
    """Each cell against what lies beneath it, `common` going on as it ends; what of `common` has no image above it."""
    pixels = np.concatenate([brackets(6)[0], 255 - brackets(6)[0] // 2], axis=3)
    steady = learnt(pixels)
    side, width, common = steady.cells, steady.width, steady.common.double().numpy()
    cells = pixels.reshape(-1, side, width, side, width, 2).astype(float).sum(axis=(2, 4)).transpose(0, 3, 1, 2)
    apart = steady._apart(torch.from_numpy(cells), steady.common)
    reach, known = side // REACH, common - common.mean(axis=(1, 2), keepdims=True)
    places = [(y, x) for y in range(side) for x in range(side)]
    for image, found in zip(cells, apart, strict=True):
        level = image - image.mean(axis=(1, 2), keepdims=True)
        for down in range(-reach, reach + 1, 2):
            for right in range(-reach, reach + 1, 3):
                beneath = {(y, x): (np.clip(y - down, 0, side - 1), np.clip(x - right, 0, side - 1)) for y, x in places}
                slow = sum(((level[:, y, x] - known[:, v, u]) ** 2).sum() for (y, x), (v, u) in beneath.items())
                slow += sum((known[:, v, u] ** 2).sum() for v, u in {*places} - {*beneath.values()})
                share = slow / ((image**2).sum() + 1)
                assert float(found[down + reach, right + reach]) == pytest.approx(share, rel=1e-9)


@pytest.mark.parametrize("where", [np.s_[:10], np.s_[54:], np.s_[:, :10], np.s_[:10, :10]], ids=str)
@pytest.mark.parametrize("value", [0, 255])
def test_a_defect_at_the_border_moves_nothing_out_of_sight(where, value, known):
    """It counts out of sight what it counts in it."""
    for seed, move in enumerate([(0, 0), (8, -5), (-10, 10)]):
        image = bracket(*move, 40 + seed)
        plain = moves_of(known, planes(image[None]))
        image[where] = value
        assert (moves_of(known, planes(image[None])) - plain).abs().max() <= known.width


def test_light_moves_nothing():
    pixels, _ = brackets()
    steady = learnt(pixels)
    assert torch.equal(moves_of(steady, planes(pixels) + 50), moves_of(steady, planes(pixels)))


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_plain_image_stays(value, known):
    """By half a cell at most, as what it is compared with may end otherwise on one side; whatever stands beside it."""
    plain, (pixels, _) = np.full((1, SIZE, SIZE, 1), value, np.uint8), brackets()
    for images in (plain, np.concatenate([pixels[:2], plain])):
        assert moves_of(known, planes(images))[-1].abs().max() <= known.width / 2
    same = learnt(np.repeat(plain, 3, axis=0))
    assert moves_of(same, planes(plain)).tolist() == [[0, 0]]


def test_between_cells_a_parabola_tells():
    """Of 4, 1, 2 at -1, 0, 1 the parabola 1 - x + 2 x^2 is least at 0.25; at the end of a line nothing is told."""
    steady = Steady(1, 256)
    apart = torch.full((1, 13, 13), 9.0, dtype=torch.float64)
    apart[0, 5:8, 4], apart[0, 6, 3:6] = torch.tensor([4.0, 1.0, 2.0]), torch.tensor([4.0, 1.0, 4.0])
    assert steady._pixels(apart).tolist() == [[round(8 * 0.25), 8 * -2]]
    apart[0, 0, 0] = 0
    assert steady._pixels(apart).tolist() == [[8 * -6, 8 * -6]]


def test_auto_moves_what_lies_at_different_places():
    pixels, _ = brackets()
    pose, laid = lay(pixels, tiny_config(data__size=SIZE, model__steady="auto"))
    assert pose.is_moved
    assert not pose.is_turned
    assert laid.dtype == np.uint8
    assert laid.std(axis=0).mean() < pixels.std(axis=0).mean() / 2


def still() -> np.ndarray:
    return np.stack([bracket(0, 0, seed) for seed in range(24)])


def clouds() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (24, SIZE, SIZE, 1)).astype(np.uint8)


def test_round_things_are_moved_to_their_place_not_turned_to_one_side():
    rows, columns = np.mgrid[:SIZE, :SIZE]
    rng = np.random.default_rng(4)
    places = rng.uniform(-7, 7, (30, 2)) + (SIZE - 1) / 2
    rounds = [np.hypot(rows - y, columns - x) for y, x in places]
    noise = rng.normal(0, 3, (30, SIZE, SIZE))
    pixels = (50 + 90.0 * (np.stack(rounds) < 14) + noise).clip(0, 255).astype(np.uint8)[..., None]
    pose, laid = lay(pixels, tiny_config(data__size=SIZE, model__steady="auto", model__upright="auto"))
    assert (pose.is_moved, pose.is_turned) == (True, False)
    assert laid.std(axis=0).mean() < pixels.std(axis=0).mean() / 2


@pytest.mark.parametrize("pixels", [still(), clouds(), brackets(2)[0]], ids=["still", "noise", "two"])
def test_auto_leaves_what_it_would_not_help(pixels):
    pose, left = lay(pixels, tiny_config(data__size=SIZE, model__steady="auto", model__upright="auto"))
    assert not pose.is_moved
    assert not pose.is_turned
    assert left is pixels


def test_always_moves_and_none_does_not():
    pixels = np.random.default_rng(3).integers(0, 256, (9, SIZE, SIZE, 2)).astype(np.uint16) * 200
    pose, laid = lay(pixels, tiny_config(data__size=SIZE, model__steady="always"))
    assert pose.is_moved
    assert laid.dtype == np.uint16
    assert not lay(brackets()[0], tiny_config(data__size=SIZE))[0].is_moved


@pytest.mark.parametrize(
    ("moved", "turned", "both", "expected"),
    [
        (0.30, 0.90, 0.20, (True, False)),  # both leave more than 0.4 of what moving leaves
        (0.23, 0.17, 0.16, (True, False)),  # round things: turning brings them to one side only
        (0.30, 0.20, 0.10, (True, False)),
        (0.30, 0.11, 0.10, (False, True)),
        (0.42, 0.60, 0.39, (False, False)),  # hardly better than moving, which does not help
        (0.45, 0.60, 0.15, (True, True)),
        (0.30, 0.90, 0.11, (True, True)),
        (1.20, 1.10, 0.41, (False, False)),
    ],
)
def test_both_are_done_where_far_better_than_either(moved, turned, both, expected, monkeypatch):
    shares = {(False, False): 1.0, (True, False): moved, (False, True): turned, (True, True): both}
    monkeypatch.setattr(laying._Learner, "pose", lambda self, way: way)
    monkeypatch.setattr(laying._Learner, "share_kept", lambda self, way: shares[way])
    config = tiny_config(data__size=SIZE, model__steady="auto", model__upright="auto")
    learner = laying._Learner(brackets(3)[0], config)
    assert laying._chosen(learner, config.model) == expected
    asked = tiny_config(data__size=SIZE, model__steady="always", model__upright="auto")
    assert laying._chosen(learner, asked.model) == (True, both <= 0.4 * moved)


def test_it_is_kept_with_the_weights():
    pixels, _ = brackets()
    one, other = learnt(pixels), Steady(1, SIZE)
    other.load_state_dict(one.state_dict())
    assert torch.equal(moves_of(one, planes(pixels)), moves_of(other, planes(pixels)))
    other.load_state_dict(Steady(1, SIZE).state_dict())
    assert not other.is_used


@pytest.fixture(scope="module")  # moving takes the exporter long: what needs the graph is slow
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that has learnt 30 brackets at different places, by its bank alone; its network sees half as much."""
    folder = tmp_path_factory.mktemp("brackets")
    pixels, _ = brackets(30)
    dataset = good_ones(folder, pixels[..., 0])
    bank = {"model__bank": 256 * 30, "score__parts": ("bank",), "score__pool": "max", "score__delta_h": 0}
    seen = {"data__size": SIZE, "model__network_size": 32, "model__steady": "auto"}
    return fit(tiny_config(data__held_out_min=5, **seen, **bank), dataset, folder / "run", quiet=True)


@pytest.mark.slow
def test_a_detector_finds_a_defect_where_it_is_at_any_place(model):
    detector = detectors.load(model)
    assert detector.manifest["moved"]
    assert not detector.manifest["turned"]
    good, spoilt, spots = [], [], []
    for number, (down, right) in enumerate([(-8, -8), (8, 3), (0, 7), (-4, 6), (5, -7)]):
        image = bracket(down, right, 100 + number)
        y, x = round(31.5 + down - 12), round(31.5 + right - 8)
        marked = image.copy()
        marked[y - 3 : y + 4, x - 3 : x + 4] = 180
        good.append(image[..., 0])
        spoilt.append(marked[..., 0])
        spots.append((y, x))
    plain, found = detector.predict(good), detector.predict(spoilt)
    assert min(one.score for one in found) > max(one.score for one in plain)
    for one, spot in zip(found, spots, strict=True):
        hottest = np.unravel_index(one.anomaly_map.argmax(), one.anomaly_map.shape)
        assert np.hypot(*np.subtract(hottest, spot)) < 8  # two cells
        assert one.score == one.anomaly_map.max()


@pytest.mark.slow
def test_an_image_is_judged_alike_whatever_stands_beside(model):
    detector = detectors.load(model)
    one, others = bracket(6, -3, 7)[..., 0], [bracket(0, 5, n)[..., 0] for n in (8, 9)]
    alone, beside = detector.predict(one), detector.predict([*others, one])[-1]
    np.testing.assert_allclose(alone.anomaly_map, beside.anomaly_map, atol=1e-5)


@pytest.mark.slow
def test_it_says_that_it_moves(model):
    lines = list(about_model(detectors.load(model), model))
    assert "moved      each image, until it lies where the good ones do" in lines


def test_the_plan_tells_it_and_an_unfinished_run_shares_it(tmp_path, capsys):
    config = tiny_config(data__size=SIZE, data__held_out_min=5, model__steady="auto")
    prepared = prepare(config, good_ones(tmp_path, brackets()[0][..., 0]))
    assert fitting._laying(prepared.pose) == {"images moved": True}
    fitting._say_plan(config, prepared, prepared.train.pixels, tmp_path, False)
    assert "moved   each image, until it lies where the others do (auto); " in capsys.readouterr().err


def test_nine_channels_are_looked_at_as_sums_of_four():
    images = torch.rand(2, 9, 8, 8, generator=torch.Generator().manual_seed(0))
    sums = [images[:, some].sum(dim=1) for some in ([0, 1, 2], [3, 4], [5, 6], [7, 8])]
    torch.testing.assert_close(Steady(9, 8).cells_of(images), torch.stack(sums, dim=1).double())
