"""What keeps the paper's method from its printed value on MNIST: a row a cause, changed alone or with a sharp read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.ablation import Ingredient

PRESET = "paper-mnist"
SHARP: dict[str, Any] = {"model.shrinkage": "hard", "model.renormalise": True, "model.temperature": 0.02}
BOTTLENECK: dict[str, Any] = {  # a memory where nothing passes it by
    "model.lateral": False,
    "model.memory_levels": 1,
    "model.memory_at": [3],
    "model.partitions": [1],
    "model.items": [10],
}
NO_MEMORY: dict[str, Any] = {
    "model.memory": "none",
    "model.memory_levels": 0,
    "model.partitions": [],
    "model.items": [],
}
NARROW: dict[str, Any] = {"model.widths": [4, 8, 16]}
CODE_NARROW: dict[str, Any] = {"model.widths": [16, 32, 4]}  # a code of 4 numbers a cell passes the memory
SQUARED: dict[str, Any] = {"score.parts": ["squared"]}
SSIM: dict[str, Any] = {"score.parts": ["ssim"]}


def rows() -> Iterator[Ingredient]:
    """As printed; then addressing, place, width, length and loss, which are trained; then the score, which is not."""
    trained: dict[str, dict[str, Any]] = {
        "as printed": {},
        "addressing: hard, renormalised": {**SHARP, "model.temperature": 1},
        "addressing: sharp": SHARP,
        "place: bottleneck alone": BOTTLENECK,
        "place: bottleneck alone, sharp": {**BOTTLENECK, **SHARP},
        "place: bottleneck alone, 4 channels": {**BOTTLENECK, **CODE_NARROW},
        "place: bottleneck alone, 4 channels, sharp": {**BOTTLENECK, **CODE_NARROW, **SHARP},
        "place: no memory": NO_MEMORY,
        "place: no memory, no lateral links": {**NO_MEMORY, "model.lateral": False},
        "width: a quarter": NARROW,
        "width: a quarter, sharp": {**NARROW, **SHARP},
        "length: a third": {"train.steps": 100},
        "loss: SSIM ten times": {"train.ssim_weight": 1},
    }
    for row, overrides in trained.items():
        yield Ingredient(row, PRESET, overrides, {})
    scores: dict[str, dict[str, Any]] = {"no histogram": {"score.delta_h": 0}, "squared": SQUARED, "SSIM": SSIM}
    judged = {
        "as printed": list(scores),
        "addressing: sharp": list(scores),
        "place: bottleneck alone, 4 channels, sharp": ["no histogram", "squared"],  # SSIM in the dark fails parity
    }
    for row, names in judged.items():
        for name in names:
            yield Ingredient(f"{row}, score: {name}", PRESET, trained[row], scores[name])
