"""How the figures of a report are to be read, in words: what was learnt, what the score is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_DRAWN = "draws each image again as if it were good; where the drawing differs from the input, the heat map is hot"
_KINDS = {
    "bank": "compares each place of an image with what the good images showed; where it finds nothing alike, "
    "the heat map is hot",
    "head": "marks what looks like the defects that were made from the good images in training",
    "marked": "counts a place the more, the more it looks like the defects that were made from the good images in "
    "training",
    "memory": "measures how far its features are from all that its memory holds",
    "latent": "measures how far the drawing is from the image to a second network’s eye",
}
_LAID = {
    "turned": "It turns each image about its middle until it lies as the good ones did, and what it found back. ",
    "moved": "It moves each image until it lies where the good ones did, and what it found back. ",
}
_UNSEEN = "What leaves the picture by it is shown, and counts, as the nearest place that stays. "
_POOLS = {
    "sum": "the sum of the heat map",
    "max": "the hottest point of the heat map",
    "mean": "the mean of the heat map",
    "top": "the mean of the hottest {share} of the heat map",
}


def how_it_judges(context: Mapping[str, Any]) -> str:
    """Sentences on the detector of an evaluation's `context`; general ones where that does not hold its settings."""
    score = context.get("settings", {}).get("score")
    if not score:
        return f"The model has learnt from good images alone. It {_DRAWN}. Higher scores are more anomalous."
    parts = list(score["parts"])
    told = list(dict.fromkeys(_KINDS.get(part, _DRAWN) for part in parts))
    pool = _POOLS[score["pool"]].format(share=f"{100 * score['top_share']:g}\u00a0%")
    laid = "".join(text for name, text in _LAID.items() if context.get(name))
    about = f"{laid}{_UNSEEN if laid else ''}{_sentences(told)}{_sketch(parts)}"
    return f"The model has learnt from good images alone. {about} The score is {pool}: higher is more anomalous."


def _sentences(told: Sequence[str]) -> str:
    return " ".join(f"It {'also ' if place else ''}{text}." for place, text in enumerate(told))


def _sketch(parts: Sequence[str]) -> str:
    """The reconstruction is shown in any case; of a network that has no part in the score it may be of any quality."""
    if any(part not in _KINDS or part == "latent" for part in parts):
        return ""
    if {"head", "marked", "memory"} & {*parts}:
        return " The reconstruction shows what the network expected to see; it is not what is measured."
    return " The reconstruction is a sketch by a network that has no part in this, and may be far from right."
