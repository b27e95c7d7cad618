"""Whether images to score are stored as the good ones were: in their shape, and not far smaller."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import save

import normbank
from normbank.images import ImageSpec
from normbank.likeness import Likeness, stored_record
from normbank.outlets import Target
from normbank.predicting import watched

WIDER = "Stretched to a square, what they show is wider or narrower than it was in those: their scores say little"
BLURRED = "Enlarged to 256 x 256, they lack the fine detail of those: their scores say little"


def likeness(sizes, fit="stretch", size=256):
    """Of a detector that learnt from images of these sizes (width, height)."""
    manifest = {"data": {"stored": stored_record(sizes)}}
    return Likeness(SimpleNamespace(manifest=manifest, spec=ImageSpec(size, 3, 8, fit)))


@pytest.fixture
def image(tmp_path):
    def image(width, height, name="a.png"):
        return save(tmp_path / name, np.zeros((height, width, 3), np.uint8))

    return image


def test_the_record_is_the_range_of_both_sides():
    assert stored_record([(640, 480), (600, 500), (700, 490)]) == {"width": [600, 700], "height": [480, 500]}
    assert stored_record([]) is None


def test_a_detector_keeps_how_its_images_were_stored(tiny_model):
    assert normbank.load(tiny_model).manifest["data"]["stored"] == {"width": [48, 48], "height": [48, 48]}


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
        ("pad", "Padded to a square, they have other bars at their sides than those: their scores say little"),
        ("crop", "Cut to a square, they show another part than those: their scores say little"),
    ],
)
def test_what_comes_of_another_shape(image, fit, said):
    found, path = likeness([(300, 300), (310, 290)], fit), image(600, 150)
    found.see(path)
    known = "300 to 310 x 290 to 300"
    assert found.told() == [f"not stored as the good images were ({known}): {str(path)!r} (600 x 150). {said}"]


# Half of 300 is 150: smaller ones count, but for what the model's size does not show anyway.
@pytest.mark.parametrize(
    ("side", "size", "unlike"), [(149, 256, True), (150, 256, False), (149, 149, False), (149, 150, True)]
)
def test_far_smaller_images(image, side, size, unlike):
    found = likeness([(300, 300), (310, 310)], size=size)
    found.see(image(side, side))
    assert bool(found.told()) == unlike


def test_those_alike_in_kind_are_counted(image):
    found = likeness([(300, 300)])
    first, small = image(300, 100), image(100, 100, "small.png")
    for path in (first, small, image(300, 300, "same.png"), image(100, 300, "b.png"), image(310, 100, "c.png")):
        found.see(path)
    shape = f"not stored as the good images were (300 x 300): {str(first)!r} (300 x 100) and 2 more. {WIDER}"
    size = f"not stored as the good images were (300 x 300): {str(small)!r} (100 x 100). {BLURRED}"
    assert found.told() == [shape, size]
    assert found.told(least=2) == [shape]


def test_what_cannot_be_read_and_what_is_not_known(image, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    found = likeness([(300, 300)])
    for path in (tmp_path / "broken.png", tmp_path / "missing.png"):
        found.see(path)
    assert found.told() == []
    earlier = Likeness(SimpleNamespace(manifest={"data": {}}, spec=ImageSpec(256, 3, 8, "stretch")))
    unknown = likeness([])
    for one in (earlier, unknown):
        one.see(image(600, 100))
        assert one.told() == []


def test_the_first_of_a_kind_is_told_before_it_is_scored(image):
    wide, wider = image(300, 100), image(400, 100, "wider.png")
    targets = [Target(str(path), path) for path in (image(300, 300, "same.png"), wide, wider)]
    targets.append(Target(str(wide), wide, reason="is no plain file"))
    said, passed = [], []
    for target in watched(likeness([(300, 300)]), targets, said.append):
        passed.append((target, len(said)))
    assert passed == [(target, count) for target, count in zip(targets, (0, 1, 1, 1), strict=True)]
    assert said == [f"not stored as the good images were (300 x 300): {str(wide)!r} (300 x 100). {WIDER}"]
