"""The HTML report: one file that needs nothing beside it, from an Evaluation and the pictures of a few images."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..bundle import write_atomically
from ..data.samples import Sample
from ..errors import ImageError
from ..evaluation import NOTES, Evaluation, Scored
from . import plots
from .overlays import Layer, Rgb, encode, heat, outline, overlay, resized, to_rgb, top_of_each
from .reading import how_it_judges

SHOWN = 8  # cards a gallery
SKIPS_SHOWN = 200
_LARGE, _SMALL = (256, 384), (192, 256)  # long side of a picture on the page and of a part of the map, pixels
_TINY = 64  # images up to this side are enlarged pixel by pixel

METRICS = {
    "image_AUROC": ("Image AUROC", "how often a defective image scores above a good one"),
    "image_AP": ("Image AP", "average precision over images"),
    "image_F1Max": ("Image F1\u00a0max", "upper bound: threshold picked on this set"),
    "pixel_AUROC": ("Pixel AUROC", "how often a defective pixel is hotter than a good one"),
    "pixel_AP": ("Pixel AP", "average precision over pixels"),
    "AUPRO": ("AUPRO", "share of each defect covered, up to 30 % false-positive area"),
    "brightness_AUROC": ("Brightness AUROC", "control: mean brightness alone"),
}
_FACTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "data_name": ("Data", str),
    "model_name": ("Model", str),
    "preset": ("Preset", str),
    "size": ("Image size", lambda size: f"{size} × {size} pixels" if isinstance(size, int) else str(size)),
    "trained_images": ("Trained on", lambda count: f"{count} good images"),
    "held_out": ("Held out for the threshold", lambda held: _held_out(held)),
    "false_alarm_rate": ("Target false-alarm rate", lambda rate: f"{100 * rate:g}\u00a0%"),
    "seed": ("Seed", str),
    "version": ("normbank version", str),
    "commit": ("Commit", str),
    "created": ("Model made", lambda moment: _moment(moment)),
}


@dataclass(frozen=True)
class Examined:
    """What the detector saw and made of one image, all at the model's size.

    `image` is uint8 or uint16 [H, W, C]; `reconstruction` float [H, W, C] in [0, 1]; `anomaly_map` float [H, W], raw,
    >= 0; `mask` bool [H, W], true where defective, or None; `parts` what the map is the sum of, float [H, W] >= 0 by
    name, empty where that is not known.
    """

    image: NDArray[Any]
    reconstruction: NDArray[np.floating[Any]]
    anomaly_map: NDArray[np.floating[Any]]
    mask: NDArray[np.bool_] | None = None
    parts: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)


Examine = Callable[[Sample], Examined]


@dataclass(frozen=True)
class Card:
    """One image of a gallery, ready to be shown; `trouble` says why it has no pictures."""

    name: str
    kind: str
    label: int
    score: str
    p_value: str
    pictures: tuple[tuple[str, str, str], ...] = ()
    parts: tuple[Layer, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class Gallery:
    """A headed row of cards out of `total` images; `none` is said where there are none."""

    title: str
    about: str
    none: str
    cards: tuple[Card, ...]
    total: int

    @property
    def anchor(self) -> str:
        """The id of its heading."""
        return self.title.lower().replace(" ", "-")


def write_report(evaluation: Evaluation, examine: Examine, out: Path | str, *, scale: float) -> Path:
    """Write `index.html` into the folder `out` and return its path.

    `examine` is called for the images shown; `scale` is the one colour scale of their heat maps, as `colour_scale`
    gives it. An image that cannot be read (ImageError) keeps its card, with the reason. UserError names an `out` that
    cannot be written.
    """
    drawn = _Drawing(examine, scale, _root(evaluation.scored))
    galleries = [drawn.gallery(*spec) for spec in _galleries(evaluation)]
    text = _template().render(
        title=plain(str(evaluation.context.get("data_name", "unnamed data"))),
        subtitle=_subtitle(evaluation.context),
        sentences=summary(evaluation),
        notes=[plain(str(note)) for name in NOTES if (note := evaluation.context.get(name))],
        tiles=_tiles(evaluation),
        figures=_figures(evaluation),
        kinds=_kinds(evaluation),
        galleries=galleries,
        tops=top_of_each(layer for gallery in galleries for card in gallery.cards for layer in card.parts),
        address=data_address,
        number=number,
        legend=_legend(),
        scale=number(scale),
        has_threshold=evaluation.threshold is not None,
        how=how_it_judges(evaluation.context),
        skipped=[(drawn.shown(path), plain(reason)) for path, reason in evaluation.skipped[:SKIPS_SHOWN]],
        skipped_total=len(evaluation.skipped),
        facts=_facts(evaluation.context),
    )
    path = Path(out) / "index.html"
    write_atomically(path, text.encode("utf-8"))
    return path


def summary(evaluation: Evaluation) -> list[str]:
    """One or two plain sentences: what the set holds, how well the ranking does, what the threshold does."""
    good, bad = _split(evaluation.scored)
    if not (good or bad):
        return ["No image could be scored."]
    return [_ranking(evaluation, len(good), len(bad)), _verdicts(evaluation, good, bad)]


def number(value: float | None) -> str:
    """A raw score in at most four digits where that is readable, "–" for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def percent(value: float | None) -> str:
    """A value in [0, 1] as "95.2 %", "–" for None."""
    return "–" if value is None else f"{100 * value:.1f}\u00a0%"


def plain(text: str) -> str:
    """Text on one line: what cannot be printed (newlines, direction marks, undecodable bytes) as escapes."""
    return "".join(c if c.isprintable() or c == "\u00a0" else c.encode("unicode_escape").decode() for c in text)


def _ranking(evaluation: Evaluation, good: int, bad: int) -> str:
    if not (good and bad):
        return f"All {good + bad} images are {'good' if good else 'defective'}, so nothing can be said of the ranking."
    auroc = evaluation.metrics.get("image_AUROC")
    verb = "is" if bad == 1 else "are"
    first = f"{bad} of {good + bad} images {verb} defective"
    if auroc is None:
        return f"{first}."
    return (
        f"{first}; ranked by score, a random defective image is above a random good one in {percent(auroc)} of pairs."
    )


def _verdicts(evaluation: Evaluation, good: Sequence[Scored], bad: Sequence[Scored]) -> str:
    if evaluation.threshold is None:
        return "The detector has no threshold, so no image is called anomalous."
    alarms, missed = len(_flagged(good)), len(bad) - len(_flagged(bad))
    parts = []
    if good:
        parts.append(f"{alarms} of {len(good)} good images {'raises' if alarms == 1 else 'raise'} a false alarm")
    if bad:
        noun = "defective ones" if good else "defective images"
        parts.append(f"{missed} of {len(bad)} {noun} {'is' if missed == 1 else 'are'} missed")
    return f"At the threshold, {' and '.join(parts)}."


def _tiles(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    """(name, value, what it is, why it is missing) of each metric."""
    return [
        (label, percent(value), about, "" if value is not None else evaluation.reasons.get(key, "not measured"))
        for key, (label, about) in METRICS.items()
        for value in [evaluation.metrics.get(key)]
    ]


def _figures(evaluation: Evaluation) -> list[tuple[str, Markup, str]]:
    """(title, SVG, caption) of the figures that the data allow."""
    good, bad = _split(evaluation.scored)
    figures = []
    if good or bad:
        svg = plots.score_histogram([s.score for s in good], [s.score for s in bad], evaluation.threshold)
        figures.append(("Scores", Markup(svg), "Raw scores. The less the two overlap, the better the detector."))
    if rates := evaluation.curves.get("roc"):
        svg = plots.roc_curve(rates, _operating_point(evaluation))
        figures.append(("ROC curve", Markup(svg), "Every possible threshold; the area below is the image AUROC."))
    return figures


def _operating_point(evaluation: Evaluation) -> tuple[float, float] | None:
    good, bad = _split(evaluation.scored)
    if evaluation.threshold is None or not good or not bad:
        return None
    return len(_flagged(good)) / len(good), len(_flagged(bad)) / len(bad)


def _kinds(evaluation: Evaluation) -> dict[str, Any]:
    """Heads and rows of the table of defect kinds: count, how many are found, and the metrics there are."""
    present = [key for key in METRICS if any(key in values for values in evaluation.kinds.values())]
    has_verdicts = evaluation.threshold is not None
    heads = ["Defect", "Images", *(["Found"] if has_verdicts else []), *(METRICS[key][0] for key in present)]
    rows = []
    for kind, values in evaluation.kinds.items():
        found = len(_flagged([s for s in evaluation.scored if s.sample.label and s.sample.kind == kind]))
        cells = [str(values.get("count", "–")), *([str(found)] if has_verdicts else [])]
        rows.append((plain(kind), cells + [percent(values.get(key)) for key in present]))
    return {"heads": heads, "rows": rows}


def _galleries(evaluation: Evaluation) -> list[tuple[str, str, str, list[Scored]]]:
    """(title, about, what is said of none, images in order) of each gallery."""
    good, bad = _split(evaluation.scored)
    no_good, no_bad = "None: the set has no good images.", "None: the set has no defective images."
    highest = _by_score(evaluation.scored)
    most = ("Most anomalous", "The highest scores of the set, good or defective.", "None.", highest)
    if evaluation.threshold is None:
        return [
            most,
            ("Lowest-scored anomalous", "The defective images hardest to tell from good ones.", no_bad,
             _by_score(bad)[::-1]),
            ("Highest-scored good", "The good images most like a defective one.", no_good, _by_score(good)),
        ]  # fmt: skip
    flagged = {id(s) for s in _flagged(bad)}
    missed = [s for s in _by_score(bad)[::-1] if id(s) not in flagged]
    return [
        most,
        ("Missed", "Defective images below the threshold, lowest score first.",
         "None: every defective image is found." if bad else no_bad, missed),
        ("False alarms", "Good images above the threshold, highest score first.",
         "None: no good image is flagged." if good else no_good, _by_score(_flagged(good))),
    ]  # fmt: skip


@dataclass(frozen=True)
class _Drawing:
    """Turns scored images into cards, all on one colour scale; names are shown relative to `root`."""

    examine: Examine
    scale: float
    root: str

    def gallery(self, title: str, about: str, none: str, images: Sequence[Scored]) -> Gallery:
        return Gallery(title, about, none, tuple(self.card(scored) for scored in images[:SHOWN]), len(images))

    def card(self, scored: Scored) -> Card:
        sample = scored.sample
        name = self.shown(sample.name)
        about = (name, plain(sample.kind), sample.label, number(scored.score), _p_value(scored.p_value))
        try:
            seen = self.examine(sample)
        except ImageError as error:
            return Card(*about, trouble=plain(error.reason))
        return Card(*about, self.pictures(seen, name), _layers(seen))

    def pictures(self, seen: Examined, name: str) -> tuple[tuple[str, str, str], ...]:
        """(data address, caption, alternative text) of input, reconstruction and heat map."""
        size = _page_size(*seen.anomaly_map.shape)
        smooth = max(seen.anomaly_map.shape) > _TINY
        image, made = (resized(to_rgb(p), size, smooth) for p in (seen.image, seen.reconstruction))
        hot = overlay(image, resized(seen.anomaly_map, size, smooth), self.scale)
        is_outlined = seen.mask is not None and bool(seen.mask.any())
        if seen.mask is not None:
            hot = outline(hot, resized(seen.mask, size))
        return (
            (data_address(image), "input", f"Input image {name}"),
            (data_address(made), "reconstruction", f"What the model made of {name}"),
            (data_address(hot), "heat map", f"Heat map of {name}" + ", the true defect outlined" * is_outlined),
        )

    def shown(self, path: str) -> str:
        inside = self.root and path.startswith(self.root + os.sep)
        return plain(path[len(self.root) + 1 :] if inside else path)


def _layers(seen: Examined) -> tuple[Layer, ...]:
    """The parts of the map, small: they are kept until the scale of all of them is known."""
    size = _page_size(*seen.anomaly_map.shape, sides=_SMALL)
    smooth = max(seen.anomaly_map.shape) > _TINY
    image = resized(to_rgb(seen.image), size, smooth)
    mask = None if seen.mask is None else resized(seen.mask, size)
    return tuple(
        Layer(name, image, resized(values, size, smooth), mask, float(values.max()))
        for name, values in seen.parts.items()
    )


def data_address(rgb: Rgb) -> str:
    """The picture as a `data:` address, WebP."""
    return f"data:image/webp;base64,{base64.b64encode(encode(rgb)).decode()}"


def _legend() -> str:
    ramp = np.tile(np.linspace(0, 1, 256), (8, 1))
    return f"data:image/png;base64,{base64.b64encode(encode(heat(ramp, 1.0), 'PNG')).decode()}"


def _page_size(height: int, width: int, *, sides: tuple[int, int] = _LARGE) -> tuple[int, int]:
    (smallest, largest), side = sides, max(height, width)
    factor = min(1.0, largest / side) if side >= smallest else float(-(-smallest // side))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _split(scored: Iterable[Scored]) -> tuple[list[Scored], list[Scored]]:
    images = list(scored)
    return [s for s in images if not s.sample.label], [s for s in images if s.sample.label]


def _flagged(images: Iterable[Scored]) -> list[Scored]:
    return [s for s in images if s.is_anomalous]


def _by_score(images: Iterable[Scored]) -> list[Scored]:
    return sorted(images, key=lambda s: (-s.score, s.sample.name))


def _root(images: Sequence[Scored]) -> str:
    """The folder that holds all images, or "" where there is none."""
    try:
        return os.path.commonpath([os.path.dirname(s.sample.path) for s in images]).rstrip(os.sep)
    except ValueError:  # no images, or paths on different drives
        return ""


def _subtitle(context: dict[str, Any]) -> str:
    parts = [str(context[key]) for key in ("model_name", "preset") if context.get(key)]
    if context.get("created"):
        parts.append(_moment(context["created"]))
    return plain(" · ".join(dict.fromkeys(parts)))


def _facts(context: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (label, plain(shown(context[key]))) for key, (label, shown) in _FACTS.items() if context.get(key) is not None
    ]


def _p_value(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _held_out(held: Any) -> str:
    return f"{held if isinstance(held, int) else len(held)} good images"


def _moment(moment: object) -> str:
    return str(moment).replace("T", " ")[:16]


def _template() -> jinja2.Template:
    text = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    strict = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return strict.from_string(text)
