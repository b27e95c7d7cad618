"""Things that lie at any angle and any place: moved roughly to the middle, turned, moved into place, and back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import good_ones, planes, tiny_config

from normbank import detector as detectors
from normbank.bundle import read_bundle
from normbank.export import weights_of
from normbank.fitting import fit
from normbank.laying import _Learner, lay
from normbank.model.cells import moved
from normbank.model.middle import ANGLES, RINGS, STEPS, Middle
from normbank.model.network import build
from normbank.model.pose import Pose, _of_least
from normbank.model.upright import Upright

SIZE = 64


def arrow(angle: float, down: float, right: float, seed: int = 0) -> np.ndarray:
    """A thing that has a head, at any angle and place on a dark ground, with a little noise: [S, S, 1]."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    y, x = (rows - down) / SIZE, (columns - right) / SIZE
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    shape = ((abs(along) < 0.25) & (abs(across) < 0.04)) | ((abs(along - 0.15) < 0.08) & (abs(across) < 0.1))
    noise = np.random.default_rng(seed).normal(0, 3, (SIZE, SIZE))
    return (50 + 150 * shape + noise).clip(0, 255).astype(np.uint8)[..., None]


def arrows(count: int = 30, reach: float = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    angles, moves = rng.uniform(0, 2 * math.pi, count), rng.uniform(-reach, reach, (count, 2)).round()
    return np.stack([arrow(a, *m, n) for n, (a, m) in enumerate(zip(angles, moves, strict=True))]), moves


def learnt(pixels: np.ndarray) -> Middle:
    middle = Middle(pixels.shape[3], pixels.shape[1])
    middle.learn(planes(pixels))
    return middle


def test_middles_are_found_to_half_a_step():
    pixels, moves = arrows()
    middle = learnt(pixels)
    off = middle.moves_of(planes(pixels)).numpy() - moves
    assert np.median(np.hypot(*off.T)) <= middle.step * middle.width / math.sqrt(2)
    assert np.median(np.hypot(*off.T)) < np.median(np.hypot(*moves.T)) / 2


def test_the_best_middle_is_that_of_the_slow_search():
    """Every middle and every angle, rings as they are read, each image less its mean about that middle."""
    pixels = np.concatenate([arrows(3)[0], 255 - arrows(3)[0] // 2], axis=3)
    middle = learnt(pixels)
    waves = middle._waves(planes(pixels))
    apart, _ = middle._apart(waves, middle.common)
    weights = middle.weights.double()
    turns = 2 * math.pi * torch.arange(ANGLES).double() / ANGLES

    def drawn(cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
        """The rings [C, RINGS, ANGLES] that have these waves."""
        numbers = torch.arange(cosines.shape[-1]).double()
        scale = torch.where(numbers == 0, 1.0, math.sqrt(2))[:, None]
        return cosines.double() @ (scale * torch.cos(numbers[:, None] * turns)) + sines.double() @ (
            scale * torch.sin(numbers[:, None] * turns)
        )

    common = drawn(*middle.common)
    for n in (0, 2):
        slow = torch.empty(waves.shape[4], dtype=torch.float64)
        for place in range(waves.shape[4]):
            rings = drawn(waves[0, n, :, :, place], waves[1, n, :, :, place])
            slow[place] = min(
                float((weights[:, None] * (rings.roll(-turn, dims=2) - common).square()).sum() / ANGLES)
                for turn in range(ANGLES)
            )
        found = apart[n].flatten()
        torch.testing.assert_close(found / found.mean(), slow / slow.mean(), rtol=1e-6, atol=1e-9)


def test_the_likeliest_middles_come_first_and_once_each():
    pixels, _ = arrows(5)
    middle = learnt(pixels)
    apart, _ = middle._apart(middle._waves(planes(pixels)), middle.common)
    found = middle.likeliest(planes(pixels), 6) // middle.step + STEPS
    assert found.shape == (6, 5, 2)
    for n, of_one in enumerate(apart):
        told = [float(of_one[row, column]) for row, column in found[:, n].tolist()]
        assert told == sorted(of_one.flatten().tolist())[:6]


def test_light_is_no_part_of_the_waves():
    middle = Middle(1, SIZE)
    pixels, _ = arrows(3)
    one, other = middle._waves(planes(pixels)), middle._waves(planes(pixels) + 20)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert one.shape[:4] == (2, 3, 1, RINGS)
    plain = middle._waves(torch.full((1, 1, SIZE, SIZE), 90.0))
    assert plain.abs().max() < 1e-5


def test_nothing_to_choose_by_moves_nothing():
    plain = np.full((3, SIZE, SIZE, 1), 90, np.uint8)
    assert learnt(plain).moves_of(planes(plain)).tolist() == [[0, 0]] * 3


def test_a_ring_has_its_mean_square():
    """Waves are scaled so that their squares add up to a ring's mean square: of one cosine of height 2, 2."""
    middle = Middle(1, SIZE)
    ring = 2 * torch.cos(3 * 2 * math.pi * torch.arange(ANGLES).double() / ANGLES)
    assert float(sum((ring @ one.double()).square().sum() for one in middle.basis)) == pytest.approx(2)


@pytest.mark.parametrize("size", [8, 20, 32, 50])
def test_small_sizes_have_rings_within_the_picture(size):
    middle = Middle(1, size)
    assert int(middle.places.min()) >= 0
    assert int(middle.places.max()) < middle.cells**2
    assert middle.nearest_first.shape == ((2 * STEPS + 1) ** 2,)


def test_auto_moves_and_turns_what_lies_anyhow():
    pixels, _ = arrows()
    config = tiny_config(data__size=SIZE, model__steady="auto", model__upright="auto")
    pose, laid = lay(pixels, config)
    assert pose.is_moved
    assert pose.is_turned
    assert laid.std(axis=0).mean() < pixels.std(axis=0).mean() / 2
    for other in ({"model__steady": "auto"}, {"model__upright": "auto"}):
        _, less = lay(pixels, tiny_config(data__size=SIZE, **other))
        assert less.std(axis=0).mean() > 1.3 * laid.std(axis=0).mean()


def test_what_is_turned_is_moved_to_its_middle_first():
    """What all rings have in common is then nearly as sharp as that of things which lie in the middle."""
    config = tiny_config(data__size=SIZE, model__steady="always", model__upright="always")
    sharp = []
    for reach in (0, 8):
        pose, _ = lay(arrows(reach=reach)[0], config)
        assert Pose(pose.middle).is_moved
        assert pose.upright is not None
        sharp.append(float(pose.upright.common.norm()))
    assert sharp[1] > 0.75 * sharp[0]


def test_what_is_only_turned_or_only_moved_is_no_more_than_that():
    turned, _ = arrows(reach=0)
    moved = np.stack([arrow(0.5, *move, n) for n, move in enumerate(arrows()[1])])
    config = tiny_config(data__size=SIZE, model__steady="auto", model__upright="auto")
    for pixels, expected in ((turned, (True, False)), (moved, (False, True))):
        pose, _ = lay(pixels, config)
        assert (pose.is_turned, pose.is_moved) == expected


def test_of_several_middles_the_first_of_the_least_apart_counts_by_hand():
    moves = torch.tensor([[[1, 1], [2, 2]], [[3, 3], [4, 4]], [[5, 5], [6, 6]]])
    apart = torch.tensor([[0.5, 0.2], [0.3, 0.2 - 1e-12], [0.3, 0.7]], dtype=torch.float64)
    assert _of_least(moves, apart).tolist() == [[3, 3], [2, 2]]  # level but for rounding: the likelier middle


def test_a_move_before_turning_is_that_after_it_turned_by_hand():
    """By a quarter: what stands 3 below in the turned picture stands 3 to the left in the picture."""
    upright, quarter, pixels = Upright(1, SIZE), torch.tensor([60]), planes(arrows(1, reach=0)[0])
    after = torch.tensor([[3, 0]])
    before = upright.before_turning(after, quarter)
    assert before.tolist() == [[0, -3]]
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    turned_first = moved(upright.turn(pixels, quarter), after)
    torch.testing.assert_close(upright.turn(moved(pixels, before), quarter)[inside], turned_first[inside])


def kept_by_laying(pixels: np.ndarray) -> float:
    config = tiny_config(data__size=SIZE, model__steady="always", model__upright="always")
    return _Learner(pixels, config).share_kept(lay(pixels, config)[0])


def test_correcting_the_middle_lays_things_closer(monkeypatch):
    pixels, _ = arrows(40)
    corrected = kept_by_laying(pixels)
    monkeypatch.setattr("normbank.model.pose.CORRECTED", 0)
    assert corrected < 0.9 * kept_by_laying(pixels)


def test_several_middles_are_tried_since_rings_may_mislead(monkeypatch):
    monkeypatch.setattr("normbank.model.pose.CORRECTED", 0)
    pixels, _ = arrows(40, reach=12)
    several = kept_by_laying(pixels)
    monkeypatch.setattr(Pose, "_first", lambda self, middle, images: middle.moves_of(images))
    assert several < 0.8 * kept_by_laying(pixels)


def test_nothing_is_moved_out_of_sight():
    """Noise fits nowhere, and each correction of its middle may lead farther away."""
    pose, _ = lay(arrows()[0], tiny_config(data__size=SIZE, model__steady="always", model__upright="always"))
    noise = np.random.default_rng(0).integers(0, 255, (64, SIZE, SIZE, 1), np.uint8)
    _, how = pose.lay(planes(noise))
    assert how.first.abs().max() == SIZE // 4
    assert how.moves.abs().max() <= SIZE // 5 + 1


def test_laying_back_is_laying_undone():
    pixels, _ = arrows(12)
    config = tiny_config(data__size=SIZE, model__steady="always", model__upright="always")
    pose, _ = lay(pixels, config)
    images = planes(pixels)
    laid, how = pose.lay(images)
    back = pose.lay_back(laid, how)
    inside = (slice(None), slice(None), slice(28, 36), slice(28, 36))
    assert (back - images)[inside].abs().mean() < 0.4 * (laid - images)[inside].abs().mean()
    assert (pose.lay_back(torch.ones_like(images), how) <= 1 + 1e-6).all()
    same, nothing = Pose().lay(images)
    assert same is images
    assert Pose().lay_back(images, nothing) is images


@pytest.fixture(scope="module")  # its graph takes the exporter most of a minute: what needs it is slow
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that has learnt 30 arrows at any angle and place, by its bank alone."""
    folder = tmp_path_factory.mktemp("anyhow")
    pixels, _ = arrows()
    dataset = good_ones(folder, pixels[..., 0])
    bank = {"model__bank": 256 * 30, "score__parts": ("bank",), "score__pool": "max", "score__delta_h": 0}
    seen = {"data__size": SIZE, "model__network_size": 32, "model__upright": "auto", "model__steady": "auto"}
    return fit(tiny_config(data__held_out_min=5, **seen, **bank), dataset, folder / "run", quiet=True)


@pytest.mark.slow
def test_a_detector_finds_a_defect_where_it_is_anyhow(model):
    detector = detectors.load(model)
    assert detector.manifest["moved"]
    assert detector.manifest["turned"]
    good, spoilt, spots = [], [], []
    for number, angle in enumerate(np.linspace(0.1, 6.2, 8)):
        down, right = 6 * math.sin(5 * angle), 6 * math.cos(3 * angle)
        image = arrow(angle, down, right, 100 + number)[..., 0]
        y, x = (round(31.5 + by + 9 * of(angle + 2.0)) for by, of in ((down, math.sin), (right, math.cos)))
        marked = image.copy()
        marked[y - 3 : y + 4, x - 3 : x + 4] = 200
        good.append(image)
        spoilt.append(marked)
        spots.append((y, x))
    plain, found = detector.predict(good), detector.predict(spoilt)
    assert min(one.score for one in found) > max(one.score for one in plain)
    for one, spot in zip(found, spots, strict=True):
        hottest = np.unravel_index(one.anomaly_map.argmax(), one.anomaly_map.shape)
        assert np.hypot(*np.subtract(hottest, spot)) < 8  # two cells


@pytest.mark.slow
@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_plain_images_are_laid_alike_by_network_and_graph(value, model):
    """All angles and places are level but for rounding: the first angle, and no place, whatever stands beside."""
    detector, plain = detectors.load(model), np.full((SIZE, SIZE), value, np.uint8)
    others = [arrow(1.0, 3, 4, number)[..., 0] for number in range(2)]
    alone, beside = detector.predict(plain), detector.predict([*others, plain])[-1]
    np.testing.assert_allclose(alone.anomaly_map, beside.anomaly_map, atol=1e-5)
    weights = weights_of(read_bundle(model), ["middle.common", "upright.common"])
    pose = Pose(Middle(1, SIZE), Upright(1, SIZE))
    for name in ("middle", "upright"):
        getattr(pose, name).load_state_dict({"common": weights[f"{name}.common"]})
    _, how = pose.lay(planes(plain[None, ..., None]))
    assert how.first is not None
    assert how.angles is not None
    assert (how.first.tolist(), how.angles.tolist()) == ([[0, 0]], [0])


@pytest.mark.parametrize("channels", [5, 30])
def test_many_channels_are_looked_at_as_four(channels):
    pixels = np.repeat(arrows(12)[0], channels, axis=3)
    config = tiny_config(data__size=SIZE, model__upright="always", model__steady="always")
    pose, laid = lay(pixels, config)
    assert laid.shape == pixels.shape
    assert pose.steady is not None
    assert pose.steady.common.shape[0] == 4
    assert laid.std(axis=0).mean() < pixels.std(axis=0).mean() / 1.3


@pytest.mark.slow
def test_its_weights_say_how_it_lays(model):
    bundle = read_bundle(model)
    network = build(tiny_config(data__size=SIZE, model__upright="auto", model__steady="auto"), 1)
    weights = weights_of(bundle, network.state_dict())
    for name in ("middle", "upright", "steady"):
        one = getattr(network, name)
        one.load_state_dict({"common": weights[f"{name}.common"]})
        assert one.is_used
