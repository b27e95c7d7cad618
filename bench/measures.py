"""What is measured in one way of our detectors and of the peer: the metrics, and a change of light before them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normbank import images
from normbank.data.cache import open_cache
from normbank.data.loading import Loaded, load_all
from normbank.data.samples import Dataset, Sample
from normbank.data.splits import contents_of
from normbank.detector import BATCH, Detector
from normbank.errors import ImageError
from normbank.evaluation import IMAGE_METRICS, PIXEL_METRICS, seen_by, to_test
from normbank.images import ImageSpec
from normbank.metrics import over_pixels

Array = NDArray[Any]
SHIFT = 0.05  # of full scale
ALL = (*IMAGE_METRICS, *PIXEL_METRICS)


def shifted(pixels: Array, seed: int = 0) -> Array:
    """The images [N, ...] uint8 or uint16, each brighter or darker as a whole by up to 5 % of full scale, cut to it."""
    white = np.iinfo(pixels.dtype).max
    shifts = np.random.default_rng(seed).uniform(-SHIFT, SHIFT, len(pixels)) * white
    moved = np.rint(pixels + shifts.reshape(-1, *[1] * (pixels.ndim - 1)))
    return np.asarray(np.clip(moved, 0, white).astype(pixels.dtype))


def mask_of(sample: Sample, spec: ImageSpec) -> Array | None:
    """As `normbank evaluate` has it: None where no pixel of a defective image is marked, or none can be read."""
    if not sample.label:
        return np.zeros((spec.size, spec.size), bool)
    try:
        mask = images.read_mask(sample.mask, spec.size, spec.fit, sample.path) if sample.mask else None
    except ImageError:  # `normbank evaluate` lists it
        return None
    return mask if mask is not None and mask.any() else None


def measure(
    scores: Array, maps: Array, labels: Array, masks: Sequence[Array | None], names: Sequence[str] = ALL
) -> dict[str, float | None]:
    """The metrics of these names, in [0, 1]; those of pixels are None where no image has a mask with a marked pixel.

    scores [N], maps [N, S, S], labels [N] 0 or 1, masks bool [S, S], or None for an image whose pixels do not count.
    MetricError where there is one class only.
    """
    found: dict[str, float | None] = {n: metric(scores, labels) for n, metric in IMAGE_METRICS.items() if n in names}
    asked = [name for name in PIXEL_METRICS if name in names]
    known = [place for place, mask in enumerate(masks) if mask is not None]
    if not asked or not any(labels[known]):
        return found | dict.fromkeys(asked)
    measured = over_pixels(maps[known], np.array([masks[place] for place in known]))
    return found | {name: measured[name] for name in asked}


def judge(detector: Detector, pixels: Array) -> tuple[Array, Array]:
    """Raw scores [N] and maps [N, S, S] of images [N, S, S, C], by the detector's graph; N at least 1."""
    batches = (detector.run(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH))
    scores, maps = zip(*((one.scores, one.anomaly_maps) for one in batches), strict=True)
    return np.concatenate(scores), np.concatenate(maps)


def under_shift(detector: Detector, dataset: Dataset, names: Sequence[str]) -> dict[str, float | None]:
    """The metrics of these names on the images that `normbank evaluate` tests, each `shifted`; "_shifted" is appended.

    MetricError where one of them cannot be measured.
    """
    loaded = without(load_all(to_test(dataset), detector.spec, open_cache()), seen_by(detector))
    scores, maps = judge(detector, shifted(loaded.pixels))
    labels = np.array([sample.label for sample in loaded.samples])
    masks = [mask_of(sample, detector.spec) for sample in loaded.samples]
    return {f"{name}_shifted": value for name, value in measure(scores, maps, labels, masks, names).items()}


def without(loaded: Loaded, seen: Collection[str]) -> Loaded:
    """Those whose content is not among the `seen`, which are starts of digests of files or pixels, as long all."""
    known, length = frozenset(seen), min((len(one) for one in seen), default=0)
    each = zip(loaded.digests, contents_of(loaded.pixels), strict=True)
    places = [place for place, both in enumerate(each) if known.isdisjoint(one[:length] for one in both)]
    samples = tuple(loaded.samples[place] for place in places)
    return Loaded(loaded.pixels[places], samples, tuple(loaded.digests[place] for place in places), loaded.skipped)
