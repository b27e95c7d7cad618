"""Judging a detector: its raw scores and maps on labelled samples, and the metrics over the whole set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import images, machine, metrics
from .data.cache import Cache, open_cache
from .data.files import all_below, below
from .data.loading import load_each
from .data.samples import Dataset, Sample, Skipped, first_of
from .data.splits import contents_of
from .decoding import Pixels
from .detector import BATCH, Detector
from .errors import DataError, ImageError, MetricError

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]

IMAGE_METRICS: dict[str, Callable[[NDArray[Any], NDArray[Any]], float]] = {
    "image_AUROC": metrics.auroc,
    "image_AP": metrics.average_precision,
    "image_F1Max": metrics.f1_max,
}
PIXEL_METRICS = ("pixel_AUROC", "pixel_AP", "AUPRO")  # those of metrics.over_pixels
MOST = 0.8  # of an image, above which a mask is asked about
METRICS = (*IMAGE_METRICS, *PIXEL_METRICS, "brightness_AUROC")
# Of an evaluation's context: words, or None.
NOTES = ("calibration_note", "threshold_note", "likeness_note", "mask_note")


@dataclass(frozen=True)
class Scored:
    """One test image with the detector's raw verdict; `brightness` is its mean value in [0, 1] (a control)."""

    sample: Sample
    score: float
    p_value: float | None
    is_anomalous: bool | None
    brightness: float


@dataclass(frozen=True)
class Evaluation:
    """What `normbank evaluate` measured.

    `metrics` maps image_AUROC, image_AP, image_F1Max (an upper bound: its threshold is picked on this set),
    pixel_AUROC, pixel_AP, AUPRO and brightness_AUROC to values in [0, 1] or None; `reasons` says why a metric is None.
    `kinds` maps each defect kind to its own {"count": n, metric: value or None}, measured against all good test images.
    `curves` holds "roc" as a pair of lists (false-positive rate, true-positive rate). `threshold` is the detector's, or
    None. `counts` holds good; anomalous; with_mask, the anomalous images that the pixel metrics stand on; and left_out,
    the images that the detector has seen in training.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str]
    kinds: dict[str, dict[str, float | int | None]]
    scored: tuple[Scored, ...]
    skipped: tuple[Skipped, ...]
    threshold: float | None
    counts: dict[str, int]
    curves: dict[str, tuple[list[float], list[float]]]
    context: dict[str, Any]

    def to_dict(self, root: str) -> dict[str, Any]:
        """All of it as JSON values; paths relative to the data set at `root`, so that they mean the same elsewhere."""
        values = asdict(self)
        values["scored"] = [
            {
                "name": below(one.sample.name, root),
                "label": one.sample.label,
                "kind": one.sample.kind,
                "score": one.score,
                "p_value": one.p_value,
                "is_anomalous": one.is_anomalous,
                "brightness": round(one.brightness, 6),
            }
            for one in self.scored
        ]
        values["skipped"] = [[below(path, root), all_below(reason, root)] for path, reason in self.skipped]
        return values


@dataclass
class _Gathered:
    """Raw results, image by image, before any metric.

    `pixels` are the maps and masks of scored images; None of one whose pixels do not count, and of all unless
    `with_pixels`.
    """

    with_pixels: bool
    scored: list[Scored] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    pixels: list[tuple[Maps, Masks] | None] = field(default_factory=list)
    left_out: int = 0
    by_content: dict[str, Sample] = field(default_factory=dict)

    def is_new(self, sample: Sample, image: Pixels, digest: str, seen: frozenset[str]) -> bool:
        """Whether training has not seen it; says where labels contradict each other, or training.

        A picture that was saved anew has another `digest` and the same pixels.
        """
        (content,) = contents_of(image[None])
        first = self.by_content.setdefault(content, sample)
        new = seen.isdisjoint({digest[:16], content[:16]})
        if first.label != sample.label:
            left = " (both are scored)" if new else ""
            self.tell(sample.name, f"is the same image as {first.name!r}, which has the other label{left}")
        if new:
            return True
        self.left_out += 1
        if sample.label:
            self.tell(sample.name, "is labelled anomalous, and was learnt as good (left out)")
        return False

    def tell(self, path: str, reason: str) -> None:
        """What is listed with the skipped files, though its image may be scored."""
        self.skipped.append(Skipped(path, reason))


def evaluate(
    detector: Detector,
    dataset: Dataset,
    *,
    cache: Cache | None = None,
    strict: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score the test samples of `dataset` and measure.

    Images that the detector was trained on or calibrated with are left out, told by their content; where the split of
    a folder is ours, every other good image is tested. Pixels are scored at the model's size. Broken images are skipped
    and listed; with `strict` the first raises. DataError where nothing is left to test.
    """
    started = time.monotonic()
    samples = to_test(dataset)
    cache = cache or open_cache()
    gathered = _gather(detector, samples, cache, strict, progress)
    cache.trim()
    gathered.skipped[:0] = dataset.skipped
    if not gathered.scored:
        raise DataError(
            f"{dataset.root!r}: no image left to test: {len(gathered.skipped)} are broken or not images"
            f"{first_of(gathered.skipped)}, "
            f"{gathered.left_out} were used in training. Give images that the detector has not seen."
        )
    return _measure(detector, dataset, gathered, time.monotonic() - started)


def to_test(dataset: Dataset) -> tuple[Sample, ...]:
    """The samples to look at: the test images, and the good ones too where no one else has set test images apart."""
    return (*dataset.test, *dataset.train) if dataset.split_is_ours or not dataset.test else dataset.test


def seen_by(detector: Detector) -> frozenset[str]:
    """How the digests begin, of files and of pixels, of the images that it was trained on or calibrated with."""
    known = detector.manifest["data"]
    return frozenset([*known["seen"], *known.get("seen_pixels", ())])  # earlier versions kept the first alone


def _gather(
    detector: Detector,
    samples: Sequence[Sample],
    cache: Cache,
    strict: bool,
    progress: Callable[[int], None] | None,
) -> _Gathered:
    found, seen = _Gathered(any(sample.mask for sample in samples if sample.label)), seen_by(detector)
    waiting: list[tuple[Sample, Pixels]] = []
    for done, (sample, result) in enumerate(load_each(samples, detector.spec, cache), start=1):
        if isinstance(result, ImageError):
            if strict:
                raise result
            found.skipped.append(Skipped(sample.name, result.reason))
        elif found.is_new(sample, *result, seen):
            waiting.append((sample, result[0]))
        if len(waiting) == BATCH:
            _score(detector, waiting, found, strict)
            waiting = []
        if progress:
            progress(done)
    _score(detector, waiting, found, strict)
    return found


def _score(detector: Detector, batch: list[tuple[Sample, Pixels]], found: _Gathered, strict: bool) -> None:
    if not batch:
        return
    pixels = np.stack([image for _, image in batch])
    white = float(np.iinfo(pixels.dtype).max)
    for (sample, image), verdict in zip(batch, detector.judge(pixels), strict=True):
        brightness = float(image.mean(dtype=np.float64)) / white
        found.scored.append(Scored(sample, verdict.score, verdict.p_value, verdict.is_anomalous, brightness))
        mask = _mask(sample, detector, found, strict)
        found.pixels.append((verdict.anomaly_map, mask) if found.with_pixels and mask is not None else None)


def _mask(sample: Sample, detector: Detector, found: _Gathered, strict: bool) -> Masks | None:
    """The ground truth at the model's size; None where no pixel of a defective image is marked at that size.

    A good image has no defective pixel, whatever its mask says: that the two contradict each other is told.
    """
    size = detector.spec.size
    mask = _read_mask(sample, detector, found, strict) if sample.mask else None
    if sample.label == 0:
        if mask is not None and mask.any():
            said = f"marks pixels of {sample.name!r}, which is labelled good (the mask is passed over)"
            found.tell(str(sample.mask), said)
        return np.zeros((size, size), bool)
    if mask is not None and not mask.any():
        found.tell(str(sample.mask), f"marks no pixel at {size} x {size} (the image is scored, its pixels are not)")
        return None
    return mask


def _read_mask(sample: Sample, detector: Detector, found: _Gathered, strict: bool) -> Masks | None:
    try:
        return images.read_mask(str(sample.mask), detector.spec.size, detector.spec.fit, sample.path)
    except ImageError as error:
        if strict:
            raise
        left = "the image is scored, its pixels are not" if sample.label else "the image is good without one"
        found.tell(str(sample.mask), f"{error.reason} ({left})")
        return None


def _measure(detector: Detector, dataset: Dataset, found: _Gathered, seconds: float) -> Evaluation:
    everything = np.ones(len(found.scored), bool)
    values, reasons = _metrics(found, everything)
    labels = np.array([scored.sample.label for scored in found.scored])
    return Evaluation(
        metrics=values,
        reasons=reasons,
        kinds=dict(_by_kind(found, labels)),
        scored=tuple(found.scored),
        skipped=tuple(found.skipped),
        threshold=detector.calibration.threshold,
        counts={
            "good": int((labels == 0).sum()),
            "anomalous": int((labels == 1).sum()),
            "with_mask": sum(
                pixels is not None and one.sample.label == 1
                for one, pixels in zip(found.scored, found.pixels, strict=True)
            ),
            "left_out": found.left_out,
        },
        curves=_curves(found, labels),
        context=_context(detector, dataset, found, seconds),
    )


def _by_kind(found: _Gathered, labels: NDArray[Any]) -> Iterator[tuple[str, dict[str, float | int | None]]]:
    kinds = np.array([scored.sample.kind for scored in found.scored])
    for kind in sorted(set(kinds[labels == 1])):
        of_kind = (labels == 1) & (kinds == kind)
        values, _ = _metrics(found, (labels == 0) | of_kind)
        yield str(kind), {"count": int(of_kind.sum()), **values}


def _metrics(found: _Gathered, chosen: NDArray[np.bool_]) -> tuple[dict[str, float | None], dict[str, str]]:
    places = np.flatnonzero(chosen)
    scored = [found.scored[i] for i in places]
    labels = np.array([one.sample.label for one in scored])
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name, metric in IMAGE_METRICS.items():
        _put(name, metric, np.array([one.score for one in scored]), labels, values, reasons)
    _pixel_metrics(found, places, values, reasons)
    _put("brightness_AUROC", metrics.auroc, np.array([one.brightness for one in scored]), labels, values, reasons)
    return values, reasons


def _pixel_metrics(
    found: _Gathered, places: NDArray[Any], values: dict[str, float | None], reasons: dict[str, str]
) -> None:
    known = [pixels for i in places if (pixels := found.pixels[i]) is not None]
    if not any(mask.any() for _, mask in known):
        values.update(dict.fromkeys(PIXEL_METRICS))
        reasons.update(dict.fromkeys(PIXEL_METRICS, "no test image has a ground-truth mask with a marked pixel"))
        return
    try:
        values.update(metrics.over_pixels(np.stack([m for m, _ in known]), np.stack([m for _, m in known])))
    except MetricError as error:
        values.update(dict.fromkeys(PIXEL_METRICS))
        reasons.update(dict.fromkeys(PIXEL_METRICS, str(error)))


def _put(
    name: str,
    metric: Callable[[NDArray[Any], NDArray[Any]], float],
    scores: NDArray[Any],
    labels: NDArray[Any],
    values: dict[str, float | None],
    reasons: dict[str, str],
) -> None:
    try:
        values[name] = metric(scores, labels)
    except MetricError as error:
        values[name], reasons[name] = None, str(error)


def _curves(found: _Gathered, labels: NDArray[Any]) -> dict[str, tuple[list[float], list[float]]]:
    try:
        rising, hit = metrics.roc_curve(np.array([one.score for one in found.scored]), labels)
    except MetricError:
        return {}
    return {"roc": (rising.tolist(), hit.tolist())}


def _context(detector: Detector, dataset: Dataset, found: _Gathered, seconds: float) -> dict[str, Any]:
    """What a figure needs to be believed: which model, which data, which machine."""
    made = detector.manifest
    return {
        "version": machine.versions()["normbank"],
        "data_name": dataset.name,
        "data_format": dataset.format,
        "preset": made["settings"]["preset"],
        "settings": made["settings"],
        "size": detector.spec.size,
        "trained_images": made["data"]["trained_on"],
        "trained_fingerprint": made["data"]["fingerprint"],
        "held_out": len(made["data"]["held_out"]),
        "seed": made["settings"]["train"]["seed"],
        "turned": made.get("turned", False),  # earlier versions turned none, and moved none
        "moved": made.get("moved", False),
        "training_seconds": made["training_seconds"],
        "training_device": made["device"],
        "training_precision": made["precision"],
        "training_commit": made["commit"],
        "created": made["created"],
        "false_alarm_rate": detector.calibration.false_alarm_rate,
        "calibration_note": detector.calibration.note,
        "threshold_note": detector.threshold_note,
        "likeness_note": _likeness(detector, found, dataset.root),
        "mask_note": _on_masks(found, dataset.root),
        "evaluation_seconds": round(seconds, 2),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }


def _likeness(detector: Detector, found: _Gathered, root: str) -> str | None:
    """What there is to tell of scored images that are stored otherwise than the good ones were, by names below root."""
    likeness = detector.likeness()
    for one in found.scored:
        likeness.see(one.sample.path, one.sample.frame, below(one.sample.name, root))
    return " ".join(likeness.told()) or None


def _on_masks(found: _Gathered, root: str) -> str | None:
    """What there is to tell of masks that mark most of their images, as those do where white is what is good."""
    known = zip(found.scored, found.pixels, strict=True)
    shares = {str(one.sample.mask): pixels[1].mean() for one, pixels in known if one.sample.label and pixels}
    large = [name for name, share in shares.items() if share > MOST]
    if not large:
        return None
    return (
        f"{len(large)} of {len(shares)} masks mark more than {MOST:.0%} of their images (first "
        f"{below(large[0], root)!r}): what is not black counts as defective. Where they show what is good instead, the "
        "pixel metrics mean nothing: invert those"
    )
