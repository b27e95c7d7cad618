"""What a report says of how its detector judges."""

from __future__ import annotations

import pytest

from normbank.presets import PRESETS, preset
from normbank.report.reading import how_it_judges

LEARNT = "The model has learnt from good images alone. "
SKETCH = "The reconstruction shows what the network expected to see; it is not what is measured."


APART = "The reconstruction is a sketch by a network that has no part in this, and may be far from right."


def told(name: str, **score: object) -> str:
    settings = preset(name, {f"score.{field}": value for field, value in score.items()}).model_dump(mode="json")
    return how_it_judges({"settings": settings})


def test_a_bank_is_not_told_as_a_drawing() -> None:
    assert told("fast") == (
        f"{LEARNT}It compares each place of an image with what the good images showed; where it finds nothing alike, "
        f"the heat map is hot. {APART} The score is the hottest point of the heat map: higher is more anomalous."
    )


def test_turning_is_told_where_images_are_turned() -> None:
    settings = preset("fast").model_dump(mode="json")
    text = how_it_judges({"settings": settings, "turned": True})
    assert text.startswith(f"{LEARNT}It turns each image about its middle until it lies as the good ones did, and what")
    assert "it found back. What leaves the picture by it is shown, and counts, as the nearest place" in text
    assert "turns" not in how_it_judges({"settings": settings, "turned": False})


def test_moving_is_told_where_images_are_moved() -> None:
    settings = preset("fast").model_dump(mode="json")
    text = how_it_judges({"settings": settings, "moved": True})
    assert text.startswith(
        f"{LEARNT}It moves each image until it lies where the good ones did, and what it found back."
    )
    both = how_it_judges({"settings": settings, "turned": True, "moved": True})
    assert both.index("It turns each image") < both.index("It moves each image") < both.index("It compares each place")
    assert "moves" not in how_it_judges({"settings": settings, "turned": True})


def test_each_part_is_told_once_and_in_order() -> None:
    text = told("small")
    assert "It marks what looks like the defects that were made" in text
    assert "It also compares each place" in text
    assert SKETCH in text


def test_a_product_is_told_beside_what_it_is_made_of() -> None:
    text = told("small", parts=["bank", "marked"], weights=[2.0, 8.0])
    assert "It compares each place" in text
    assert "It also counts a place the more, the more it looks like the defects" in text
    assert SKETCH in text


def test_the_papers_score_is_a_drawing_and_a_sum() -> None:
    assert told("paper-small") == (
        f"{LEARNT}It draws each image again as if it were good; where the drawing differs from the input, the heat map "
        f"is hot. The score is the sum of the heat map: higher is more anomalous."
    )
    twice = told("paper-small", parts=["absolute", "ssim"], weights=[1.0, 1.0])
    assert twice.count("draws each image again") == 1


def test_the_top_share_is_said() -> None:
    assert "the mean of the hottest 2\u00a0% of the heat map" in told("fast", pool="top", top_share=0.02)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_told(name: str) -> None:
    assert told(name).startswith(f"{LEARNT}It ")


@pytest.mark.parametrize("context", [{}, {"settings": {}}])
def test_without_settings_it_is_told_in_general(context: dict[str, object]) -> None:
    assert "draws each image again" in how_it_judges(context)
