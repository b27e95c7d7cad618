"""Images that lie at any angle, turned until they lie alike, and their maps turned back."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import good_ones, planes, tiny_config

from normbank import detector as detectors
from normbank import fitting
from normbank.advice import lie_apart
from normbank.bundle import read_bundle, write_bundle
from normbank.fitting import fit
from normbank.laying import Way, _Learner, lay
from normbank.model.upright import ANGLES, Upright
from normbank.preparing import prepare
from normbank.rescoring import rescore
from normbank.telling import about_model

SIZE, COUNT = 32, 30


def arrow(angle: float, seed: int, size: int = SIZE) -> np.ndarray:
    """A thing that has a head, turned by `angle` (of the image's x towards its y), with a little noise: [S, S, 1]."""
    line = np.arange(size) - (size - 1) / 2
    x, y = np.meshgrid(line, line)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    unit = size / 32
    shaft = (abs(across) < 3 * unit) & (abs(along) < 12 * unit)
    head = (along > 4 * unit) & (abs(across) < (13 * unit - along))
    noise = np.random.default_rng(seed).normal(0, 4, (size, size))
    return (60 + 120.0 * (shaft | head) + noise).clip(0, 255).astype(np.uint8)[..., None]


def ball(seed: int) -> np.ndarray:
    """A thing that looks the same from every side: [S, S, 1]."""
    line = np.arange(SIZE) - (SIZE - 1) / 2
    noise = np.random.default_rng(seed).normal(0, 4, (SIZE, SIZE))
    return (60 + 120.0 * (np.hypot(*np.meshgrid(line, line)) < 10) + noise).clip(0, 255).astype(np.uint8)[..., None]


def arrows(seed: int = 0, size: int = SIZE, count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    angles = np.random.default_rng(seed).uniform(0, 2 * math.pi, count)
    return np.stack([arrow(angle, seed + n, size) for n, angle in enumerate(angles)]), angles


def learnt(pixels: np.ndarray) -> Upright:
    upright = Upright(pixels.shape[3], pixels.shape[1])
    upright.learn(planes(pixels))
    return upright


def angles_of(upright: Upright, images: torch.Tensor) -> torch.Tensor:
    return upright.angles_of(upright.cells_of(images))


def apart(one: np.ndarray, other: float) -> np.ndarray:
    """The angle between, 0 to pi."""
    return abs((one - other + math.pi) % (2 * math.pi) - math.pi)


@pytest.mark.parametrize("size", [32, 37, 48, 74, 96, 100])
def test_each_image_is_turned_by_its_own_angle(size):
    pixels, angles = arrows(size=size)
    turns = angles_of(learnt(pixels), planes(pixels)).numpy() * 2 * math.pi / ANGLES
    common = np.angle(np.exp(1j * (angles - turns)).mean())  # where all of them point afterwards
    assert apart(angles - turns, common).max() < math.radians(4)


def test_turned_images_lie_alike():
    pixels, _ = arrows()
    upright = learnt(pixels)
    turned = upright.turn(planes(pixels), angles_of(upright, planes(pixels)))
    assert planes(pixels).std(dim=0).mean() > 3 * turned.std(dim=0).mean()


def test_by_hand_a_quarter():
    """A quarter turn: what is below comes to the right, and goes back where it was."""
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    upright, quarter = Upright(1, 4), torch.tensor([ANGLES // 4])
    turned = upright.turn(image, quarter)
    # The turned image shows at p what is at p turned, x towards y: on the right, (1, 0), what is below, (0, 1).
    torch.testing.assert_close(turned, torch.rot90(image, 1, dims=(2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(upright.turn_back(turned, quarter), image, atol=1e-5, rtol=0)


def slow_fits(upright: Upright, rings: torch.Tensor) -> torch.Tensor:
    """How well each image fits at every angle, tried one by one on the rings themselves: [N, angles]."""
    common = torch.zeros(rings.shape[1], ANGLES, dtype=torch.float64)
    turns = 2 * math.pi * torch.arange(ANGLES, dtype=torch.float64) / ANGLES
    for wave in range(1, upright.common.shape[2] + 1):
        cosines, sines = upright.common[:, :, wave - 1].double()
        common += cosines[:, None] * torch.cos(wave * turns) + sines[:, None] * torch.sin(wave * turns)
    common *= (torch.arange(upright.rings).double() + 0.5).repeat(len(common) // upright.rings)[:, None]  # the radii
    fits = [[float((ring.roll(-turn, dims=1) * common).sum()) for turn in range(ANGLES)] for ring in rings]
    return torch.tensor(fits, dtype=torch.float64)


def test_the_best_angle_is_that_of_the_slow_search():
    pixels, _ = arrows()
    upright = learnt(pixels)
    rings = upright.rings_of(upright.cells_of(planes(pixels)))
    assert slow_fits(upright, rings).argmax(dim=1).tolist() == angles_of(upright, planes(pixels)).tolist()


def test_rings_of_several_channels_weigh_by_their_radii():
    pixels = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 2)).astype(np.uint8)
    pixels[..., 1] //= 3  # another weight of the channels would show
    upright = learnt(pixels)
    rings = upright.rings_of(upright.cells_of(planes(pixels)))
    found, expected = upright._fits(upright._waves(rings), upright.common), slow_fits(upright, rings)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("kind", ["square", "cross"])
def test_of_angles_that_are_level_the_first_is_taken(kind):
    """What looks alike at four angles is turned by one and the same, whatever is computed beside it."""
    line = np.arange(SIZE)
    across, down = (abs(line - 15.5) < 8)[None, :], (abs(line - 15.5) < 8)[:, None]
    image = planes((200 * (across & down if kind == "square" else across | down)).astype(np.uint8)[None, ..., None])
    upright = Upright(1, SIZE)
    upright.learn(image)
    alone, beside = angles_of(upright, image), angles_of(upright, torch.cat([planes(arrows()[0]), image]))
    assert int(alone) == int(beside[-1]) < ANGLES // 4


def test_rings_by_hand():
    """Two by two cells have one ring, through no cell's middle: at 45 degrees it is nearest to the lower right."""
    upright = Upright(1, 2)
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    (ring,) = upright.rings_of(upright.cells_of(image))[0].tolist()
    assert ring[0] == pytest.approx(3)  # (0.5, 0): half of 2 and half of 4
    assert ring[ANGLES // 4] == pytest.approx(3.5)  # (0, 0.5), downwards: half of 3 and half of 4
    assert ring[ANGLES // 2] == pytest.approx(2)
    assert ring[3 * ANGLES // 4] == pytest.approx(1.5)


def test_corners_turned_out_of_sight_are_as_the_nearest_place_in_it():
    """By an eighth of a circle: the corner's nearest place is the middle of a side, half of which each end of it is."""
    upright, eighth = Upright(1, SIZE), torch.tensor([ANGLES // 8])
    found = torch.zeros(1, 1, SIZE, SIZE)
    found[..., 0] = 1  # the left side, a row of ones
    back = upright.turn_back(found, eighth)[0, 0]
    corners = [back[row, column].item() for row in (0, -1) for column in (0, -1)]
    assert sorted(corners) == [0, 0, 0, 1]
    assert back[SIZE // 2, SIZE // 2] == 0
    mirrored = upright.turn(torch.ones(1, 1, SIZE, SIZE), eighth)
    assert mirrored.min() > 0.999  # no black corners are shown to the network


@pytest.mark.parametrize("count", [5, 30, 200])
def test_auto_turns_what_lies_at_any_angle(count):
    pixels, _ = arrows(count=count)
    pose, turned = lay(pixels, tiny_config(data__size=SIZE, model__upright="auto"))
    assert pose.is_turned
    assert turned.dtype == np.uint8
    assert turned.shape == pixels.shape
    assert turned.std(axis=0).mean() < pixels.std(axis=0).mean() / 3


def test_neither_pairs_nor_light_hide_that_things_lie_at_any_angle():
    pixels, _ = arrows()
    lights = np.random.default_rng(1).integers(-50, 50, (COUNT, 1, 1, 1))
    lit = (pixels.astype(int) + lights).clip(0, 255).astype(np.uint8)
    for other in (np.repeat(pixels, 2, axis=0), lit):
        assert lay(other, tiny_config(data__size=SIZE, model__upright="auto"))[0].is_turned


@pytest.mark.parametrize("kind", ["as they lie", "noise", "two images", "copies", "plain", "round"])
def test_auto_leaves_everything_else(kind):
    rng = np.random.default_rng(3)
    pixels = {
        "as they lie": np.stack([arrow(0.3 + rng.normal(0, 0.02), n) for n in range(COUNT)]),
        "noise": rng.integers(0, 256, (COUNT, SIZE, SIZE, 1)).astype(np.uint8),
        "two images": np.stack([arrow(0.3, 0), arrow(2.0, 0)]),
        "copies": np.stack([arrow(0.3, 0)] * 9),
        "plain": np.full((COUNT, SIZE, SIZE, 1), 7, np.uint8),
        "round": np.stack([ball(n) for n in range(COUNT)]),
    }[kind]
    pose, left = lay(pixels, tiny_config(data__size=SIZE, model__upright="auto"))
    assert not pose.is_turned
    assert left is pixels


def test_smoother_images_are_not_taken_for_images_that_lie_alike():
    """Reading between pixels smooths; small images of fine noise are no nearer to their like for being turned."""
    pixels = np.random.default_rng(4).integers(0, 256, (30, 32, 32, 1)).astype(np.uint8)
    learner = _Learner(pixels, tiny_config(data__size=32))
    assert 0.85 < learner.share_kept(learner.pose(Way(moved=False, turned=True))) < 1.1


def test_what_is_turned_lies_apart_no_more():
    """The advice to align images by hand looks at them as they are shown, turned."""
    pixels, _ = arrows(size=64)
    assert lie_apart(pixels)
    _, turned = lay(pixels, tiny_config(data__size=64, model__upright="auto"))
    assert not lie_apart(turned)


def test_asked_for_always_and_not_at_all():
    pixels = np.random.default_rng(3).integers(0, 256, (9, SIZE, SIZE, 2)).astype(np.uint16) * 200
    pose, turned = lay(pixels, tiny_config(data__size=SIZE, model__upright="always"))
    assert pose.is_turned
    assert turned.dtype == np.uint16
    assert not lay(pixels, tiny_config(data__size=SIZE))[0].is_turned


def test_it_is_kept_with_the_weights():
    pixels, _ = arrows()
    one, other = learnt(pixels), Upright(1, SIZE)
    other.load_state_dict(one.state_dict())
    assert torch.equal(angles_of(one, planes(pixels)), angles_of(other, planes(pixels)))
    other.load_state_dict(Upright(1, SIZE).state_dict())
    assert not other.is_used


def coloured(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image, image // 2, 255 - image], axis=2)


@pytest.fixture(scope="module")  # turning takes the exporter long: what needs the graph is slow
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that has learnt 30 coloured arrows at any angle, by its bank alone; its network sees half as much."""
    folder = tmp_path_factory.mktemp("arrows")
    pixels, _ = arrows(size=64)
    dataset = good_ones(folder, map(coloured, pixels))
    bank = {"model__bank": 256 * 30, "score__parts": ("bank",), "score__pool": "max", "score__delta_h": 0}
    seen = {"data__size": 64, "model__network_size": 32, "model__upright": "auto"}
    config = tiny_config(data__held_out_min=5, **seen, **bank)
    return fit(config, dataset, folder / "run", quiet=True)


@pytest.mark.slow
def test_a_detector_finds_a_defect_where_it_is_at_any_angle(model):
    detector = detectors.load(model)
    assert detector.manifest["turned"]
    good, spoilt, spots = [], [], []
    for number, angle in enumerate(np.linspace(0.1, 6.2, 8)):
        image = coloured(arrow(angle, 100 + number, 64))
        x, y = (round(31.5 + 10 * of(angle + 2.2)) for of in (math.cos, math.sin))  # beside the shaft
        marked = image.copy()
        marked[y - 3 : y + 4, x - 3 : x + 4] = 0
        good.append(image)
        spoilt.append(marked)
        spots.append((y, x))
    plain, found = detector.predict(good), detector.predict(spoilt)
    assert min(one.score for one in found) > max(one.score for one in plain)
    for one, spot in zip(found, spots, strict=True):
        hottest = np.unravel_index(one.anomaly_map.argmax(), one.anomaly_map.shape)
        assert np.hypot(*np.subtract(hottest, spot)) < 8  # two cells
        assert one.score == one.anomaly_map.max()


@pytest.mark.slow
def test_the_graph_takes_the_first_of_level_angles_whatever_stands_beside(model):
    square = np.full((64, 64, 3), 60, np.uint8)
    square[16:48, 16:48] = 180
    detector = detectors.load(model)
    others = [coloured(arrow(1.0, number, 64)) for number in range(2)]
    alone, beside = detector.predict(square), detector.predict([square, *others])[0]
    np.testing.assert_allclose(alone.anomaly_map, beside.anomaly_map, atol=1e-5)


@pytest.mark.slow
def test_it_says_that_it_turns(model):
    lines = list(about_model(detectors.load(model), model))
    assert "turned     each image about its middle, until it lies as the good ones do" in lines


def test_the_plan_tells_it_and_an_unfinished_run_shares_it(tmp_path, capsys):
    pixels, _ = arrows()
    dataset = good_ones(tmp_path, pixels[..., 0])
    config = tiny_config(data__held_out_min=5, model__upright="auto")
    prepared = prepare(config, dataset)
    assert fitting._laying(prepared.pose) == {"images turned upright": True}
    fitting._say_plan(config, prepared, prepared.train.pixels, tmp_path, False)
    assert "turned  each image about its middle, until it lies as the others do (auto); " in capsys.readouterr().err


@pytest.mark.slow
def test_another_score_turns_as_before(model, tmp_path):
    write_bundle(tmp_path / "other.nbk", rescore(read_bundle(model), {"score.smooth": 3}))
    image = coloured(arrow(1.0, 100, 64))
    before, after = (detectors.load(path).predict(image).anomaly_map for path in (model, tmp_path / "other.nbk"))
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.95
