"""What the preset `small` is made of: one row an ingredient, added to the paper's method or taken from the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from normbank.config import Config
from normbank.presets import preset

WHOLE, PAPER = "small", "paper-small"
ROW_OF_THE_PAPER = "the paper's method at this width"
WEIGHED: dict[str, Any] = {"score.parts": ["bank", "marked"], "score.weights": [1.0, 1.0]}
AS_THEY_LIE: dict[str, Any] = {"model.upright": "none", "model.steady": "none"}
SOFT: dict[str, Any] = {"model.shrinkage": "soft", "model.renormalise": False}


class Ingredient(NamedTuple):
    """A row: a preset, what is trained otherwise, and what is scored otherwise without new training."""

    row: str
    preset: str
    overrides: Mapping[str, Any]
    score: Mapping[str, Any]


def rows() -> Iterator[Ingredient]:
    """From the paper's method to `small` and on: added, the whole, taken away, and scored otherwise."""
    yield from _added()
    yield Ingredient("small", WHOLE, {}, {})
    yield from _trained_otherwise()
    yield from _scored_otherwise()


def _added() -> Iterator[Ingredient]:
    own = preset(WHOLE)
    rest = {f"score.{name}": getattr(own.score, name) for name in ("smooth", "pool", "delta_h")}
    gradient, head, bank = ({**parts(own, [name]), **rest} for name in ("gradient", "head", "bank"))
    spoilt = {"train.corrupt": own.train.corrupt}
    held = {f"model.{name}": getattr(own.model, name) for name in ("bank", "patches")}
    yield Ingredient(f"{ROW_OF_THE_PAPER}, soft read", PAPER, SOFT, {})
    yield Ingredient(ROW_OF_THE_PAPER, PAPER, {}, {})
    yield Ingredient("+ gradient score", PAPER, {}, gradient)
    yield Ingredient("+ gradient score, sharp read", PAPER, {"model.temperature": own.model.temperature}, gradient)
    yield Ingredient(
        "+ gradient score, gradient term in the loss",
        PAPER,
        {"train.gradient_weight": own.train.gradient_weight},
        gradient,
    )
    yield Ingredient("+ gradient score, made defects", PAPER, spoilt, gradient)
    yield Ingredient("+ made defects, head alone", PAPER, {**spoilt, "model.head_width": own.model.head_width}, head)
    yield Ingredient("+ bank alone, 128 pixels", PAPER, held, bank)


def _trained_otherwise() -> Iterator[Ingredient]:
    own = preset(WHOLE)
    others = ["gradient" if name == "head" else name for name in own.score.parts]  # the bank alone needs no training
    headless = {"model.head_width": 0, "score.parts": others}
    changes: dict[str, dict[str, Any]] = {
        "no made defects, the gradient in the head's place": {**headless, "train.corrupt": 0},
        "no gradient term in the loss": {"train.gradient_weight": 0},
        "no head, the gradient in its place": headless,
        "no jitter": {"train.jitter": 0},
        "soft read": {**SOFT, "model.temperature": 1},
        "temperature 1": {"model.temperature": 1},
        "no memory": {"model.memory": "none"},
        "learnt temperature": {"model.learn_temperature": True},
        "partitions in both directions": {"model.partitions": [4, 4, 4, 4], "model.columns": [4, 4, 4, 2]},
        "finer partitions above, whole below": {"model.partitions": [32, 16, 4, 1]},
        "gate": {"model.gate": True},
        "exposure": {"train.exposure": 0.3},
        "averaged weights": {"train.average": 0.99},
        "edges input": {"model.edges": True},
        "128 pixels": {"data.size": 128, "model.network_size": 0},
        "twice the steps": {"train.steps": 2 * preset(WHOLE).train.steps},
    }
    for row, overrides in changes.items():
        yield Ingredient(row, WHOLE, overrides, {})


def _scored_otherwise() -> Iterator[Ingredient]:
    own = preset(WHOLE)
    changes: dict[str, dict[str, Any]] = {
        "with gradient": parts(own, [*own.score.parts, "gradient"], 0.3),
        "with absolute error": parts(own, [*own.score.parts, "absolute"]),
        "with colour": parts(own, [*own.score.parts, "colour"]),
        "head alone": parts(own, ["head"]),
        "gradient alone": parts(own, ["gradient"]),
        "bank alone": parts(own, ["bank"]),
        "the head weighs the bank": WEIGHED,
        "with memory distance": parts(own, [*own.score.parts, "memory"]),
        "smoothing 1": {"score.smooth": 1},
        "smoothing 11": {"score.smooth": 11},
        "smoothing 21": {"score.smooth": 21},
        "pool top": {"score.pool": "top"},
        "pool sum": {"score.pool": "sum"},
        "pool sum with histogram": {"score.pool": "sum", "score.delta_h": 0.5},
        "histogram before smoothing": {"score.delta_h": 0.5, "score.smooth_first": False},
        "histogram after smoothing": {"score.delta_h": 0.5, "score.smooth_first": True},
    }
    for row, score in changes.items():
        yield Ingredient(row, WHOLE, {}, score)


def on_textures() -> Iterator[Ingredient]:
    """`small` on textures: shown shifted and mirrored, as it finds that it may; as they are; and scored otherwise."""
    own = preset(WHOLE)
    as_they_are = {"train.flips": "none", "train.shifts": "none"}
    yield Ingredient(WHOLE, WHOLE, {}, {})
    yield Ingredient("head alone", WHOLE, {}, parts(own, ["head"]))
    yield Ingredient("bank alone", WHOLE, {}, parts(own, ["bank"]))
    yield Ingredient("the head weighs the bank", WHOLE, {}, WEIGHED)
    yield Ingredient("neither shifts nor mirrors", WHOLE, as_they_are, {})
    yield Ingredient("neither shifts nor mirrors, head alone", WHOLE, as_they_are, parts(own, ["head"]))
    yield Ingredient("neither shifts nor mirrors, the head weighs the bank", WHOLE, as_they_are, WEIGHED)
    yield Ingredient("fast", "fast", {}, {})


def on_displaced() -> Iterator[Ingredient]:
    """`small` and `fast` on things at any angle or place: turned and moved, as they find to help, and as they lie."""
    for name in (WHOLE, "fast"):
        yield Ingredient(name, name, {}, {})
        yield Ingredient(f"{name}, as they lie", name, AS_THEY_LIE, {})


def parts(config: Config, names: Sequence[str], otherwise: float = 1.0) -> dict[str, Any]:
    """The settings of a score of these parts, with the preset's weights, `otherwise` for what it has not; 1 alone."""
    known: dict[str, float] = dict(zip(config.score.parts, config.score.weights, strict=True))
    chosen = list(dict.fromkeys(names))
    weights = [known.get(name, otherwise) for name in chosen] if len(chosen) > 1 else [1.0]
    return {"score.parts": chosen, "score.weights": weights}
