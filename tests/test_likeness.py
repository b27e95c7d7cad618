"""Whether images to score are stored as the good ones were: in their shape, colour and depth, and not far smaller."""

from __future__ import annotations

import os

import numpy as np
import pytest
from tiny import save

import normbank
from normbank.headers import Stored, stored_as
from normbank.images import ImageSpec
from normbank.likeness import Likeness, in_colour, stored_record
from normbank.outlets import Target
from normbank.predicting import watching

WIDER = "stretched to a square it looks wider or narrower than they did. Do not rely on its score"
BLURRED = "enlarged to 256 x 256 it lacks the fine detail that they had. Do not rely on its score"


def record_of(sizes, fit="stretch", bits=(8,), coloured=False):
    return stored_record([Stored(size, 3, depth) for size in sizes for depth in bits], fit, coloured)


def likeness(sizes, fit="stretch", size=256, **values):
    """Of a detector that learnt from images of these sizes (width, height)."""
    return Likeness(ImageSpec(size, 3, 8, fit), record_of(sizes, fit, **values))


@pytest.fixture
def image(tmp_path):
    def image(width, height, name="a.png"):
        return save(tmp_path / name, np.zeros((height, width, 3), np.uint8))

    return image


def test_the_record_is_the_range_of_sides_and_shapes():
    sizes = [(640, 480), (500, 500), (700, 560)]
    record = {"width": [500, 700], "height": [480, 560], "ratio": [1, 640 / 480], "side": 500}
    values = {"bits": [8], "coloured": False}
    assert record_of(sizes) == record_of(sizes, "pad") == {**record, **values}
    assert record_of(sizes, "crop") == {**record, "side": 480, **values}
    assert record_of(sizes, bits=(16, 8, 16), coloured=True) == {**record, "bits": [8, 16], "coloured": True}
    assert stored_record([], "stretch") is None


def test_a_detector_keeps_how_its_images_were_stored(tiny_model):
    record = {"width": [48, 48], "height": [48, 48], "ratio": [1, 1], "side": 48, "bits": [8], "coloured": True}
    assert normbank.load(tiny_model).manifest["data"]["stored"] == record


def test_good_images_of_one_shape_and_many_sizes_have_one_shape(image):
    found = likeness([(300, 300), (600, 600)])
    found.see(image(450, 450))
    assert found.told() == []
    found.see(image(600, 300))
    assert len(found.told()) == 1


# Good images of 400 x 200 are twice as wide as high: from 2 / 1.1 = 1.82 to 2 * 1.1 = 2.2 passes.
@pytest.mark.parametrize(
    ("width", "height", "unlike"),
    [
        (400, 200, False),
        (1600, 800, False),
        (439, 200, False),
        (441, 200, True),
        (365, 200, False),
        (363, 200, True),
        (200, 400, True),
    ],
)
def test_another_shape(image, width, height, unlike):
    found = likeness([(400, 200)])
    found.see(image(width, height))
    assert bool(found.told()) == unlike


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ("stretch", WIDER),
        ("pad", "padded to a square it has other bars at its sides than they had. Do not rely on its score"),
        ("crop", "cut to a square it shows another part than they did. Do not rely on its score"),
    ],
)
def test_what_comes_of_another_shape(image, fit, said):
    found, path = likeness([(300, 300), (310, 290)], fit), image(600, 150)
    found.see(path)
    known = "the good images were 300 to 310 wide and 290 to 300 high"
    assert found.told() == [f"{str(path)!r} is 600 x 150, {known}: {said}."]


# Half of 300 is 150: smaller ones count, but for what the model's size does not show anyway.
@pytest.mark.parametrize(
    ("side", "size", "unlike"), [(149, 256, True), (150, 256, False), (149, 149, False), (149, 150, True)]
)
def test_far_smaller_images(image, side, size, unlike):
    found = likeness([(300, 300), (310, 310)], size=size)
    found.see(image(side, side))
    assert bool(found.told()) == unlike


# A strip is cut to the square of its shorter side: 200 of good images, of which half is 100.
@pytest.mark.parametrize(("high", "fit", "unlike"), [(99, "crop", True), (100, "crop", False), (99, "stretch", False)])
def test_the_side_that_counts_is_that_of_the_square(image, high, fit, unlike):
    found = likeness([(600, 200)], fit, size=128)
    found.see(image(3 * high, high))
    assert bool(found.told()) == unlike


def test_those_alike_in_kind_are_counted(image):
    found = likeness([(300, 300)])
    first, small = image(300, 100), image(100, 100, "small.png")
    for path in (first, small, image(300, 300, "same.png"), image(100, 300, "b.png"), image(310, 100, "c.png")):
        found.see(path)
    known = "the good images were 300 wide and 300 high"
    shape = f"{str(first)!r} is 300 x 100, {known}: {WIDER}, nor on those of 2 more like it."
    size = f"{str(small)!r} is 100 x 100, {known}: {BLURRED}."
    assert found.told() == [shape, size]
    assert found.told(least=2) == [shape]


def picture(tmp_path, channels, bits=8, name="a.npy"):
    shape, kind = (48, 48, channels)[: 2 + (channels > 1)], np.uint8 if bits == 8 else np.uint16
    path, values = tmp_path / name, np.full(shape, 7, kind)
    return save(path, values) if path.suffix == ".png" else np.save(path, values) or path


def test_how_a_file_is_stored(tmp_path, image):
    assert stored_as(image(60, 40)) == Stored((60, 40), 3, 8)
    assert stored_as(picture(tmp_path, 5, 16)) == Stored((48, 48), 5, 16)
    assert stored_as(picture(tmp_path, 1, 16, "a.png")) == Stored((48, 48), 1, 16)
    np.save(tmp_path / "real.npy", np.zeros((8, 8)))
    assert stored_as(tmp_path / "real.npy") is None  # floating point: whoever decodes it says so


def test_a_grey_image_among_coloured_ones(tmp_path):
    found, grey = likeness([(48, 48)], coloured=True), picture(tmp_path, 1, name="grey.png")
    said = f"{str(grey)!r} is grey, the good images were in colour: it has no colours to compare with theirs."
    assert found.see(grey) == f"{said} Do not rely on its score."
    assert found.see(picture(tmp_path, 3, name="coloured.png")) is None
    assert likeness([(48, 48)], coloured=False).see(grey) is None


@pytest.mark.parametrize(("wanted", "came"), [(3, 5), (1, 5), (5, 3), (5, 1)])
def test_nothing_is_said_of_the_score_of_what_cannot_be_scored(tmp_path, wanted, came):
    found = Likeness(ImageSpec(256, wanted, 8), record_of([(600, 300)]))
    assert found.see(picture(tmp_path, came)) is None
    assert found.see(picture(tmp_path, wanted, name="b.npy")) is not None


@pytest.mark.parametrize(("known", "bits", "counts"), [(8, 16, (65535, 255)), (16, 8, (255, 65535))])
def test_another_depth(tmp_path, known, bits, counts):
    path = picture(tmp_path, 1, bits, "a.png")
    came = f"{str(path)!r} has {bits} bits a value, the good images had {known}"
    so = f"its {counts[0]} counts as their {counts[1]}. Do not rely on its score, unless both use their whole range."
    found = likeness([(48, 48)], bits=(known,))
    assert found.see(path) == f"{came}: {so}"
    assert found.see(path) is None
    many = so.replace("its score", "its score, nor on those of 1 more like it", 1)
    assert found.told() == [f"{came}: {many}"]
    assert likeness([(48, 48)], bits=(8, 16)).see(path) is None


def test_detectors_of_before_know_neither_colour_nor_depth(tmp_path):
    record = {name: value for name, value in record_of([(48, 48)]).items() if name not in ("bits", "coloured")}
    found = Likeness(ImageSpec(48, 3, 8), record)
    assert found.see(picture(tmp_path, 1, 16)) is None
    assert "is 48 x 12" in found.see(save(tmp_path / "low.png", np.zeros((12, 48, 3), np.uint8)))


# Of 255, 4 are what a JPEG makes of grey: more is colour.
@pytest.mark.parametrize(("blue", "kind", "coloured"), [(4, np.uint8, 0), (5, np.uint8, 1), (257 * 4, np.uint16, 0)])
def test_images_in_colour(blue, kind, coloured):
    image = np.zeros((6, 6, 3), kind)
    image[2, 3, 2] = blue
    other = np.full((6, 6, 3), (90, 20, 50), kind) * kind(1 if kind == np.uint8 else 257)
    assert in_colour([other, image]) == bool(coloured)
    assert in_colour([other])
    assert not in_colour([other[..., :1]])
    assert not in_colour([np.zeros((6, 6, 5), kind)])


def test_a_frame_of_a_file_of_many_is_looked_at(tmp_path):
    axes = b"".join(length.to_bytes(4, "big") for length in (1, 20, 60))
    (tmp_path / "digits").write_bytes(bytes((0, 0, 8, 3)) + axes + bytes(20 * 60))
    assert stored_as(tmp_path / "digits", 0) == Stored((60, 20), 1, 8)
    assert "is 60 x 20" in likeness([(28, 28)]).see(tmp_path / "digits", 0)


def test_what_cannot_be_read_and_what_is_not_known(image, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    np.save(tmp_path / "empty.npy", np.zeros((0, 640, 3), np.uint8))
    os.mkfifo(tmp_path / "pipe.png")
    found = likeness([(300, 300)])
    for name in ("broken.png", "missing.png", "empty.npy", "pipe.png"):
        found.see(tmp_path / name)
    assert found.told() == []
    unknown = Likeness(ImageSpec(256, 3, 8, "stretch"), None)
    unknown.see(image(600, 100))
    assert unknown.told() == []


def test_the_first_of_a_kind_is_told_at_once(image):
    wide, wider = image(300, 100), image(400, 100, "wider.png")
    said, counts = [], []
    watch = watching(likeness([(300, 300)]), said.append)
    for path in (image(300, 300, "same.png"), wide, wider):
        watch(Target(str(path), path))
        counts.append(len(said))
    assert counts == [0, 1, 1]
    assert said == [f"{str(wide)!r} is 300 x 100, the good images were 300 wide and 300 high: {WIDER}."]
