"""What is said before a training: advice from the images, and the plan."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_config, weave

from normbank import remembering
from normbank.advice import CHOSEN_BY, Outlook, advise, contrast, lie_apart, matches, plan, stands_out
from normbank.config import Config
from normbank.images import ImageSpec
from normbank.presets import PRESETS, preset

ROWS, COLUMNS = np.mgrid[:64, :64] - 31.5
PLENTY = np.zeros((50, 8, 8, 1), np.uint8)  # enough images, about which there is nothing to say
SMALL = preset("paper-small")


def part(right: float = 0, down: float = 0, degrees: float = 0, seed: int = 0) -> np.ndarray:
    """A bright bracket on a dark ground, moved in pixels and turned: [64, 64, 3] uint8."""
    angle = np.deg2rad(degrees)
    along = (COLUMNS - right) * np.cos(angle) + (ROWS - down) * np.sin(angle)
    across = (ROWS - down) * np.cos(angle) - (COLUMNS - right) * np.sin(angle)
    long, short = (abs(along) < 18) & (abs(across) < 3), (abs(along - 15) < 3) & (abs(across - 5) < 8)
    noise = np.random.default_rng(seed).normal(0, 4, (64, 64, 3))
    return (40 + 150 * (long | short)[..., None] + noise).clip(0, 255).astype(np.uint8)


def parts(kind: str, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(7)
    turns, moves = rng.uniform(0, 360, count), rng.uniform(-10, 10, (count, 2))
    made = {
        "aligned": lambda n: part(seed=n),
        "a little off": lambda n: part(*moves[n] / 10, degrees=turns[n] / 180, seed=n),
        "moved": lambda n: part(*moves[n], seed=n),
        "turned": lambda n: part(degrees=turns[n], seed=n),
        "both": lambda n: part(*moves[n] / 2, degrees=turns[n], seed=n),
    }
    return np.stack([made[kind](number) for number in range(count)])


def clouds(count: int = 40, blur: int = 6) -> np.ndarray:
    """Smooth noise, another in each image, the same everywhere."""
    noise = np.random.default_rng(1).normal(0, 1, (count, 64 + blur, 64 + blur))
    for axis in (1, 2):
        summed = np.cumsum(noise, axis=axis)
        noise = np.take(summed, range(blur, 64 + blur), axis) - np.take(summed, range(64), axis)
    return (120 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8)[..., None]


def grouted(count: int = 40, period: int = 16) -> np.ndarray:
    """Tiles with dark lines between them, cut out at random: they can be moved onto each other, but are a texture."""
    starts = np.random.default_rng(2).integers(0, period, (count, 2))
    lines = [((ROWS + a) % period < 3) | ((COLUMNS + b) % period < 3) for a, b in starts]
    return np.where(np.stack(lines), 60, 190).astype(np.uint8)[..., None]


# objects that lie apart


@pytest.mark.parametrize("kind", ["moved", "turned", "both"])
def test_objects_at_other_places_or_angles_are_noticed(kind: str) -> None:
    pixels = parts(kind)
    assert lie_apart(pixels)
    assert lie_apart(pixels.astype(np.uint16) * 257)
    assert lie_apart(pixels[..., :1])
    lights = np.random.default_rng(3).integers(0, 40, (40, 1, 1, 1), np.uint8)
    assert lie_apart(pixels + lights)


@pytest.mark.parametrize("kind", ["aligned", "a little off"])
def test_objects_in_their_places_are_not(kind: str) -> None:
    assert not lie_apart(parts(kind))


@pytest.mark.parametrize("light", ["equal", "from all sides"])
def test_textures_are_no_objects(light: str) -> None:
    weaves = np.stack([weave(seed, 64) for seed in range(40)])
    for pixels in (weaves, clouds(), grouted(), np.random.default_rng(4).integers(0, 255, (40, 64, 64, 3), np.uint8)):
        lit = pixels if light == "equal" else pixels * lamps(len(pixels))
        assert not lie_apart(lit.astype(np.uint8))


def lamps(count: int) -> np.ndarray:
    """Light that falls off to one side, another in each image."""
    slopes = np.random.default_rng(5).uniform(-0.004, 0.004, (count, 2, 1, 1))
    return (0.8 + slopes[:, 0] * ROWS + slopes[:, 1] * COLUMNS)[..., None]


def test_what_cannot_be_told_is_not_told() -> None:
    assert not lie_apart(parts("moved")[:2])
    assert not lie_apart(parts("moved")[:, ::8, ::8])  # 8 x 8 pixels
    assert not lie_apart(np.full((40, 64, 64, 1), 9, np.uint8))
    assert lie_apart(parts("moved")[:, ::4, ::4])  # 16 x 16


def test_many_images_take_no_time() -> None:
    many = np.concatenate([parts("moved")] * 20)
    started = time.process_time()
    assert lie_apart(many)
    assert time.process_time() - started < 2


def test_contrast_by_hand() -> None:
    pixels = np.full((1, 32, 32, 2), 10, np.uint8)
    pixels[0, 4:6, 6:8] = (13, 14)  # cell (2, 3)
    pixels[0, 8, 8] = (14, 10)  # a quarter of cell (4, 4)
    expected = np.zeros((1, 16, 16))
    expected[0, 2, 3], expected[0, 4, 4] = 5, 1
    assert contrast(pixels) == pytest.approx(expected)
    assert contrast(pixels + 100) == pytest.approx(expected)


@pytest.mark.parametrize("side", [16, 37, 64])
def test_contrast_cell_by_cell(side: int) -> None:
    pixels = np.random.default_rng(side).integers(0, 65536, (3, side, side, 3)).astype(np.uint16)
    edges = [int(n * side / 16) for n in range(17)]
    for image, found in zip(pixels, contrast(pixels), strict=True):
        cells = {
            (r, c): image[edges[r] : edges[r + 1], edges[c] : edges[c + 1]].reshape(-1, 3).mean(axis=0)
            for r in range(16)
            for c in range(16)
        }
        background = np.median([cell for place, cell in cells.items() if {0, 15} & set(place)], axis=0)
        for place, cell in cells.items():
            assert found[place] == pytest.approx(sum((cell - background) ** 2) ** 0.5)


def planes(rim: float, inside: float) -> np.ndarray:
    made = np.full((3, 16, 16), rim)
    made[:, 1:-1, 1:-1] = inside
    return made


def test_what_stands_out_by_hand() -> None:
    assert stands_out(planes(0.1, 0.2))  # half of the strength of the inside
    assert not stands_out(planes(0.13, 0.2))
    assert not stands_out(planes(0.0, 0.04))  # too faint
    assert not stands_out(planes(0.0, 0.0))


def test_matches_by_hand() -> None:
    square = np.zeros((3, 16, 16))
    square[0, 3:5, 3:5] = square[1, 3:5, 11:13] = square[2, 11:13, 3:5] = 0.7
    as_is, moved = matches(square)
    # 4 of 256 cells each, none in common: (0 - p^2) / (p - p^2) with p = 1/64
    assert as_is == pytest.approx(-(1 / 64) / (1 - 1 / 64))
    assert moved == pytest.approx(1)
    assert matches(square[[0, 0, 0]]) == pytest.approx((1, 1))
    bar = np.zeros((2, 16, 16))
    bar[0, 4:12, 7:9] = bar[1, 7:9, 4:12] = 1  # a quarter turn
    assert matches(bar) == pytest.approx(((4 - 1) / (16 - 1), 1))  # 16 of 256 cells each, 4 in common


@pytest.mark.slow
def test_matches_move_by_move() -> None:
    values = list(np.random.default_rng(6).random((4, 8, 8)))

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    medians = [np.median([alike(a, b) for b in values if b is not a]) for a in values]
    typical = values[int(np.argmax(medians))]

    def best(plane: np.ndarray) -> float:
        found = []
        for angle in range(0, 360, 15):
            turned = np.asarray(Image.fromarray(plane.astype(np.float32)).rotate(angle, Image.Resampling.BILINEAR))
            wide = np.pad(turned, 4)
            moves = ((r, c) for r in range(16) for c in range(16))
            found += [alike(np.roll(wide, move, (0, 1)), np.pad(typical, 4)) for move in moves]
        return max(found)

    expected = max(medians), np.median([best(plane) for plane in values if plane is not typical])
    assert matches(np.stack(values)) == pytest.approx(expected, abs=1e-6)


def test_the_remark_on_places() -> None:
    (remark,) = advise(np.concatenate([parts("moved"), parts("both")]), SMALL, [])
    assert remark == (
        "the objects seem to lie at different places or angles: moved and turned they would match, as they are they do "
        "not. Most of what is learnt here is learnt for its place in the image. Align them before training (crop to "
        "the object, turn it upright), or train on several times as many images, or set model.partitions=1,1,1,1, "
        "which at least does not tie the memory to a height"
    )
    (remark,) = advise(np.concatenate([parts("moved"), parts("both")]), preset("small"), [])
    assert "is learnt for its place in the image, all but the patches of the bank. Align them" in remark
    assert "set model.partitions=1,1,1,1" in remark
    assert "turn it upright), or" in remark  # it is done where it helps
    by_hand = preset("small", {"model.upright": "none"})
    (remark,) = advise(np.concatenate([parts("moved"), parts("both")]), by_hand, [])
    assert "turn it upright; model.upright=auto may do it), or" in remark
    whole = preset("paper-small", {"model.partitions": (1, 1, 1, 1)})
    by_hand = preset("small", {"model.upright": "none", "model.steady": "none"})
    (remark,) = advise(np.concatenate([parts("moved"), parts("both")]), by_hand, [])
    assert "turn it upright; model.upright=auto and model.steady=auto may do it), or" in remark
    for config in (whole, preset("fast"), preset("ae-l2"), preset("memae"), preset("daad")):
        (remark,) = advise(np.concatenate([parts("moved"), parts("both")]), config, [])
        assert remark.endswith("or train on several times as many images")


@pytest.mark.parametrize("texture", ["brick", "gravel", "grass"])
def test_the_demo_s_textures_are_no_objects(texture: str) -> None:
    photographs = pytest.importorskip("skimage.data")
    photograph, rng = getattr(photographs, texture)(), np.random.default_rng(8)
    corners = rng.integers(0, 512 - 128, (60, 2))
    crops = np.stack([photograph[r : r + 128, c : c + 128, None] for r, c in corners])
    assert advise(crops, SMALL, [(128, 128)], 20) == []


def real(folder: Path, pattern: str, count: int = 60) -> Iterator[Image.Image]:
    paths = sorted(folder.glob(pattern))[:count]
    assert len(paths) == count
    for path in paths:
        with Image.open(path) as image:
            yield image.convert("RGB").resize((128, 128), Image.Resampling.BILINEAR)


def moved(image: Image.Image, degrees: float, right: float, down: float) -> np.ndarray:
    """Turned and moved, the border going on outside."""
    wide = Image.fromarray(np.pad(np.asarray(image), ((64, 64), (64, 64), (0, 0)), mode="edge"))
    turned = wide.rotate(degrees, Image.Resampling.BILINEAR, translate=(round(right), round(down)))
    return np.asarray(turned)[64:-64, 64:-64]


@pytest.mark.data
@pytest.mark.parametrize(
    "where", ["mvtec_ad/bottle/train/good/*.png", "mvtec_ad/transistor/train/good/*.png", "magnetic_tile/good/*.jpg"]
)
def test_real_images_that_lie_as_they_should(real_data: Path, where: str) -> None:
    pixels = np.stack([np.asarray(image) for image in real(real_data, where)])
    assert advise(pixels, SMALL, [(384, 384)], 20) == []


@pytest.mark.data
@pytest.mark.parametrize(
    ("category", "degrees", "shift"),
    [("bottle", 0, 26), ("bottle", 180, 26), ("transistor", 180, 0), ("transistor", 0, 26), ("transistor", 180, 13)],
)
def test_real_objects_moved_and_turned_are_noticed(
    real_data: Path, category: str, degrees: float, shift: float
) -> None:
    rng = np.random.default_rng(9)
    images = real(real_data, f"mvtec_ad/{category}/train/good/*.png")
    pixels = [moved(image, rng.uniform(-degrees, degrees), *rng.uniform(-shift, shift, 2)) for image in images]
    assert lie_apart(np.stack(pixels))


@pytest.mark.data
def test_a_turned_bottle_is_the_bottle_it_was(real_data: Path) -> None:
    rng = np.random.default_rng(10)
    images = real(real_data, "mvtec_ad/bottle/train/good/*.png")
    assert not lie_apart(np.stack([moved(image, rng.uniform(0, 360), 0, 0) for image in images]))


# too few images


def test_nothing_is_said_about_ordinary_images() -> None:
    assert advise(PLENTY, SMALL, [(128, 128)] * 20, 20) == []
    assert advise(PLENTY, SMALL, [(512, 512)], 20) == []  # four to one
    assert advise(PLENTY, SMALL, [(128, 86)], 20) == []
    assert advise(PLENTY, SMALL, [(65, 65)], 20) == []
    assert advise(PLENTY, SMALL, [], 20) == []


@pytest.mark.parametrize(
    ("average", "steps", "said"),
    [
        (0.9, 3, "train.average=0.9 over 3 steps: 81% of the network that is kept is as the first step left it. "
         "train.average=0.1 or less keeps next to nothing of that"),
        (0.9999, 201, "train.average=0.9999 over 201 steps: 98% of the network that is kept is as the first step left "
         "it. train.average=0.977 or less"),
        (0.99, 600, ""),
        (0.99, 1, ""),  # there is nothing but the first step
        (0.0, 300, ""),
    ],
)  # fmt: skip
def test_an_average_that_keeps_the_untrained_network_is_told(average: float, steps: int, said: str) -> None:
    found = advise(PLENTY, preset("paper-small", {"train.average": average, "train.steps": steps}), [])
    assert [remark[: len(said)] for remark in found] == ([said] if said else [])


def test_few_images_by_hand() -> None:
    assert advise(PLENTY[:49], SMALL, [], 24) == [
        "only 49 images to train on; 50 are a start, 200 are comfortable. What varies among good parts but not among "
        "these few is unknown to the memory and will be taken for a defect. The 24 good images held out can promise no "
        "less than 4 % false alarms; the threshold is the largest of their scores. A rate of 1 % takes at least 99 "
        "held-out good images."
    ]


@pytest.mark.parametrize(
    ("count", "settings", "said"),
    [(24, {}, True), (25, {}, False), (24, {"model.patches": 0}, False), (24, {"model.bank": 0}, False)],
)
def test_too_few_for_the_bank_to_choose_are_told(count: int, settings: dict[str, int], said: bool) -> None:
    if "model.bank" in settings:
        settings = {**settings, "model.patches": 0, "score.parts": ["head"], "score.weights": [1.0]}
    (remark,) = advise(PLENTY[:count], preset("small", settings), [], 99)
    assert ("Below 25 the bank compares places unasked, which suits parts that lie alike." in remark) is said
    assert remembering.FEWEST == CHOSEN_BY // 5 > (CHOSEN_BY - 1) // 5  # a fifth of the images judge


@pytest.mark.parametrize(
    ("held_out", "rate", "said"),
    [(0, 0.01, "No good images were held out"), (20, 0.01, "no less than 4.76 %"), (99, 0.01, ""), (9, 0.1, "")],
)
def test_what_the_threshold_can_promise(held_out: int, rate: float, said: str) -> None:
    (remark,) = advise(PLENTY[:30], preset("paper-small", {"score.false_alarm_rate": rate}), [], held_out)
    assert said in remark
    assert bool(said) == (not remark.endswith("taken for a defect."))


def test_without_a_memory_none_is_spoken_of() -> None:
    (remark,) = advise(PLENTY[:30], preset("ae-l2"), [], 99)
    assert "is unknown to the network and" in remark
    assert "only 1 image to train on" in advise(PLENTY[:1], SMALL, [], 99)[0]


# the size of the files


def sized(size: int = 128, fit: str = "stretch") -> Config:
    return preset("paper-small", {"data.size": size, "data.fit": fit})


def test_reduction_by_hand() -> None:
    assert advise(PLENTY, sized(fit="pad"), [(4096, 3000)]) == [
        "images of 4096 x 3000 are reduced to 128 x 128: a defect smaller than about 64 pixels of the original (2 "
        "pixels at the model's size) will vanish. data.size=256 shows defects of half that size, in about four times "
        "the time"
    ]
    assert advise(PLENTY, sized(fit="crop"), [(4096, 3000)])[0].startswith(
        "images of 4096 x 3000 are reduced to 128 x 128: a defect smaller than about 47 pixels"
    )


def test_a_larger_image_costs_little_where_the_network_sees_no_more_of_it() -> None:
    (told,) = advise(PLENTY, preset("small"), [(2048, 2048)])
    assert told.endswith("data.size=512 shows defects of half that size, in little more time")
    (told,) = advise(PLENTY, preset("small", {"data.size": 128}), [(2048, 2048)])
    assert told.endswith("data.size=256 shows defects of half that size, in little more time")  # the preset's own
    (told,) = advise(PLENTY, preset("small", {"data.size": 64}), [(2048, 2048)])
    assert told.endswith("data.size=128 shows defects of half that size, in about four times the time")


@pytest.mark.parametrize(("side", "size", "told"), [(512, 128, False), (513, 128, True), (1024, 256, False)])
def test_reduction_to_a_quarter_is_not_worth_a_remark(side: int, size: int, told: bool) -> None:
    assert bool(advise(PLENTY, sized(size), [(side, side)])) == told


@pytest.mark.parametrize("size", [512, 1024])
def test_from_512_on_tiles_are_advised(size: int) -> None:
    (remark,) = advise(PLENTY, sized(size), [(8192, 8192)])
    assert "data.size" not in remark
    assert remark.endswith("Cut the images into tiles, or crop them to what matters, to see smaller ones")


def test_a_size_is_advised_only_if_the_settings_take_it() -> None:
    odd = preset("paper-small", {"data.size": 16 * 17, "model.partitions": (17, 17, 17, 17)})
    assert "Cut the images into tiles" in advise(PLENTY, odd, [(4096, 4096)])[0]  # twice that is beyond 512
    assert "data.size=256 shows" in advise(PLENTY, preset("ae-l2"), [(4096, 4096)])[0]


def test_stretching_by_hand() -> None:
    assert advise(PLENTY, sized(), [(200, 400)]) == [
        "images of 200 x 400 are stretched to a square: one side shows 2.0 times less detail than the other. "
        "Square tiles cut from them keep everything; data.fit=pad keeps their shape, at the cost of detail along the "
        "other side, too, and data.fit=crop their centre alone"
    ]
    for fit in ("pad", "crop"):
        assert advise(PLENTY, sized(fit=fit), [(200, 400)]) == []
    assert advise(PLENTY, sized(), [(200, 300)]) == []
    mixed = advise(PLENTY, sized(), [(200, 400), (400, 200), (300, 300), (100, 400)])
    assert mixed[0].startswith("images of about 250 x 350 are stretched to a square: one side shows 2.0 times")


def test_enlargement_by_hand() -> None:
    assert advise(PLENTY, sized(), [(60, 64)]) == [
        "images of 60 x 64 are enlarged to 128 x 128, which adds nothing: data.size=64 shows as much, in less time"
    ]
    assert advise(PLENTY, sized(), [(64, 65)]) == []  # half the size would show less
    assert advise(PLENTY, sized(fit="crop"), [(128, 64)]) == [  # what is cut out has 64 a side
        "images of 128 x 64 are enlarged to 128 x 128, which adds nothing: data.size=64 shows as much, in less time"
    ]
    assert "data.size=64 shows as much" in advise(PLENTY, sized(), [(28, 28)])[0]  # 32 is not cut in 16, 16, 16, 8
    assert "a smaller data.size would show as much" in advise(PLENTY, sized(64), [(28, 28)])[0]
    assert advise(PLENTY, preset("paper-mnist"), [(28, 28)]) == []


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_advised_without_an_error(name: str) -> None:
    assert len(advise(PLENTY[:20], preset(name), [(6, 12), (6, 12)])) == 3
    assert len(advise(PLENTY[:20], preset(name), [(9000, 3000)])) == 3


# the plan


def outlook(**more: object) -> Outlook:
    told = {"train": 189, "held_out": 20, "device": "A Processor", "precision": "bf16-mixed", "threads": 2, **more}
    return Outlook(ImageSpec(128, 3, 8), **told)  # type: ignore[arg-type]


def test_the_plan_by_hand() -> None:
    assert plan(SMALL, outlook(seconds_per_step=0.75), Path("runs/parts")).splitlines() == [
        "images  189 to train on, 20 held out for the threshold; 128 x 128, 3 channels, 8 bits",
        "steps   400 of 20 images; preset paper-small",
        "memory  pmb at levels 1, 2, 3, 4, hard shrinkage, renormalised",
        "score   absolute, less the estimate of delta_H 0.5, sum",
        "device  A Processor, 2 threads, precision bf16-mixed",
        "time    about 5 minutes for 400 steps of 0.75 s (measured); the file comes on top",
        "writes  model.nbk and run.json into runs/parts",
        "Ctrl-C  loses at most 50 steps; --resume goes on from there",
    ]


def row(config: Config, name: str, **more: object) -> str:
    (found,) = [line for line in plan(config, outlook(**more), Path("out")).splitlines() if line.startswith(name)]
    return found[8:]


def test_the_plan_of_what_is_left() -> None:
    assert row(SMALL, "steps", done=150) == "400 of 20 images, of which 150 are done; preset paper-small"
    assert (
        row(SMALL, "time", done=150, seconds_per_step=1.0)
        == "about 4 minutes for 250 steps of 1 s (measured); the file comes on top"
    )
    assert row(SMALL, "time", done=400) == "no step is left, only the model is to be written"
    assert row(SMALL, "time", done=399) == "not measured for 1 step"


def test_the_plan_says_what_ours_add() -> None:
    small, fast = preset("small"), preset("fast")
    undone = "made on 50% of the images shown: the network learns to undo them"
    assert row(small, "defects") == f"{undone}, the head to mark them"
    assert row(preset("paper-small", {"train.corrupt": 0.5}), "defects") == undone
    assert row(small, "bank") == row(fast, "bank") == "the good images themselves, after the steps"
    assert row(small, "score") == "head + 2 x bank, mean over 5 x 5 pixels, largest value"
    assert row(fast, "score") == "bank, mean over 5 x 5 pixels, largest value"
    assert row(small, "time", seconds_per_step=1.0).endswith("(measured); the bank and the file come on top")
    told = plan(fast, outlook(), Path("out"))
    assert "defects" not in told
    assert "bank  " not in plan(SMALL, outlook(), Path("out"))


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (False, "less the estimate of delta_H 0.5, mean over 3 x 3 pixels"),
        (True, "mean over 3 x 3 pixels, less the estimate of delta_H 0.5"),
    ],
)
def test_the_plan_gives_the_steps_of_the_score_in_their_order(first: bool, told: str) -> None:
    changed = {"score.smooth": 3, "score.smooth_first": first, "score.pool": "top", "score.top_share": 0.02}
    assert row(preset("paper-small", changed), "score") == f"absolute, {told}, mean of the top 2%"


def test_the_plan_says_how_many_are_left_for_testing() -> None:
    assert "20 held out for the threshold, 14 left for testing (data.test_share); 128" in row(
        SMALL, "images", tested=14
    )


def test_the_plan_says_what_the_network_sees() -> None:
    assert "; 256 x 256 (the network sees 128 x 128, the bank all), 3 channels" in row(preset("small"), "images")
    assert "network sees" not in row(preset("small", {"data.size": 128}), "images")


def test_a_long_training_names_the_way_out() -> None:
    lines = plan(preset("small"), outlook(seconds_per_step=3.0), Path("out")).splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("time    about 30 minutes")]
    assert lines[place + 1].startswith("less    --preset fast keeps the bank of good images alone")
    for config, seconds in (("small", 1.0), ("paper-mvtec-object", 30.0), ("fast", 60.0)):
        told = plan(preset(config), outlook(seconds_per_step=seconds), Path("out"))
        assert "--preset fast" not in told, config


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.05, "less than a minute"), (0.15, "1 minute"), (14.8, "99 minutes"), (15, "1.7 hours"), (90, "10.0 hours")],
)
def test_how_long(seconds: float, said: str) -> None:
    assert row(SMALL, "time", seconds_per_step=seconds).startswith(f"about {said} for 400 steps of {seconds:.2g} s")


def test_the_plan_says_which_memory() -> None:
    assert row(preset("paper-mvtec-object"), "memory") == "pmb at levels 1, 2, 3, 4, soft shrinkage"
    assert row(preset("memae"), "memory") == "memae at level 5"
    assert row(preset("ae-skip"), "memory") == "none"
    assert row(preset("ae-l2"), "memory") == "none"


def test_the_plan_without_a_threshold_and_without_a_preset() -> None:
    assert "189 to train on, none held out: no threshold; 128" in row(SMALL, "images", held_out=0)
    assert row(Config(), "steps") == "2000 of 20 images; preset of your own"
    assert row(tiny_config(train__checkpoint_every=1), "Ctrl-C").startswith("loses at most 1 step;")
    assert r"two\nlines" in plan(SMALL, outlook(), Path("two\nlines"))


@pytest.mark.parametrize(
    ("name", "told", "by"),
    [
        ("turned", "each image about its middle, until it lies as the others do (auto); corners", "angle"),
        ("moved", "each image, until it lies where the others do (auto); edges", "place"),
    ],
)
def test_the_plan_says_that_images_are_laid(name: str, told: str, by: str) -> None:
    found = row(preset("small"), name, **{f"is_{name}": True})
    assert found == f"{told} that leave the picture are not judged, but told as the nearest that stay"
    for other in ({"score.pool": "sum"}, {"score.delta_h": 0.5}):
        found = row(preset("small", other), name, **{f"is_{name}": True})
        counted = f"count as the nearest that stay, so that a score depends on the {by}"
        assert found == f"{told} that leave the picture {counted}"
    assert name not in plan(preset("small"), outlook(), Path("out"))


@pytest.mark.parametrize("name", ["mirrors", "shifts"])
@pytest.mark.parametrize(
    ("asked", "found", "told"),
    [
        ("auto", ("left-right", "up-down"), "left-right and up-down (auto)"),
        ("auto", (), None),
        ("up-down", ("up-down",), "up-down (up-down)"),
    ],
)
def test_the_plan_says_which_mirrors_and_shifts(
    name: str, asked: str, found: tuple[str, ...], told: str | None
) -> None:
    setting = {"mirrors": "train.flips", "shifts": "train.shifts"}[name]
    shown = plan(preset("small", {setting: asked}), outlook(train=9, held_out=0, **{name: found}), Path("out"))
    assert f"{name:8}{told}\n" in shown if told else name not in shown
