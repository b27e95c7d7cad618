"""Rank metrics over whole sets of raw scores: AUROC, average precision, F1-max, ROC curve, AUPRO.

Scores may be of any range and are never rescaled; equal scores are one threshold, and every distinct score is used.
So each metric depends on the order of the scores alone. All raise MetricError for empty input, lengths that differ,
scores that are not finite numbers, labels other than 0 and 1, and input of one class only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import MetricError, problem

Array = NDArray[Any]


class _Counts(NamedTuple):
    """How many positives and negatives lie at or above each distinct positive score, highest first.

    Between two of these thresholds only negatives are added: recall stands still, so nothing else needs a threshold.
    """

    tp: Array
    fp: Array
    fp_before: Array  # negatives strictly above the threshold
    positives: int
    negatives: int


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve, in [0, 1]: the chance that a positive scores above a negative, a tie counting one half.

    scores [n] finite; labels [n] 0 or 1.
    """
    return _auroc(_count(*_split("auroc", scores, labels)))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Sum of precision times the gain in recall over all thresholds, in [0, 1]; no interpolation.

    scores [n] finite; labels [n] 0 or 1.
    """
    return _average_precision(_count(*_split("average_precision", scores, labels)))


def f1_max(scores: ArrayLike, labels: ArrayLike) -> float:
    """The best F1 over all thresholds, in [0, 1].

    An upper bound: the threshold is picked on the very data it is judged on. scores [n] finite; labels [n] 0 or 1.
    """
    counts = _count(*_split("f1_max", scores, labels))
    return float(np.max(2 * counts.tp / (counts.tp + counts.fp + counts.positives)))


def roc_curve(scores: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """False- and true-positive rates at the d distinct scores from the highest, after (0, 0): float64 [d + 1] each.

    scores [n] finite; labels [n] 0 or 1.
    """
    positives, negatives = _split("roc_curve", scores, labels)
    thresholds = np.unique(np.concatenate([positives, negatives]))[::-1]
    fpr = _at_least(negatives, thresholds) / negatives.size
    tpr = _at_least(positives, thresholds) / positives.size
    return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr])


def aupro(maps: ArrayLike, masks: ArrayLike, limit: float = 0.3) -> float:
    """Area under the per-region-overlap curve up to the false-positive rate `limit`, divided by it: in [0, 1].

    maps [N, H, W] finite anomaly maps, good images among them; masks [N, H, W] bool, True where defective. At each
    distinct value as threshold (a pixel is found where map >= threshold) the overlap is the found share of a
    ground-truth region, averaged over the 8-connected regions of all images; the false-positive rate is the found share
    of all defect-free pixels of all images. The curve is linear between neighbouring thresholds, and at `limit`.
    """
    if not 0 < limit <= 1:
        raise MetricError(problem("aupro: limit", expected="a rate in (0, 1]", came=f"{limit}", do="Usual is 0.3."))
    values, truth = _checked_maps("aupro", maps, masks)
    return _aupro(_count(*_parted(values, truth)), values, truth, limit)


def over_pixels(maps: ArrayLike, masks: ArrayLike) -> dict[str, float]:
    """pixel_AUROC, pixel_AP and AUPRO (to 0.3) of one set, each in [0, 1]; its millions of pixels are sorted once.

    maps [N, H, W] finite anomaly maps, good images among them; masks [N, H, W] bool, True where defective.
    """
    values, truth = _checked_maps("pixel metrics", maps, masks)
    counts = _count(*_parted(values, truth))
    found = {"pixel_AUROC": _auroc(counts), "pixel_AP": _average_precision(counts)}
    return found | {"AUPRO": _aupro(counts, values, truth)}


def _auroc(counts: _Counts) -> float:
    gained = np.diff(counts.tp, prepend=0)
    below = 2 * counts.negatives - counts.fp - counts.fp_before  # twice the negatives below, tied ones once
    return float(np.sum(gained * below)) / (2 * counts.positives * counts.negatives)


def _average_precision(counts: _Counts) -> float:
    gained = np.diff(counts.tp, prepend=0)
    return float(np.sum(gained * (counts.tp / (counts.tp + counts.fp)))) / counts.positives


def _aupro(counts: _Counts, values: Array, truth: Array, limit: float = 0.3) -> float:
    _, index = np.unique(values[truth], return_inverse=True)
    covered = np.cumsum(np.bincount(index, weights=_region_shares(truth))[::-1])
    fpr, overlap = _stairs(counts.fp_before / counts.negatives, counts.fp / counts.negatives, covered / covered[-1])
    return _area_up_to(limit, fpr, overlap) / limit


def _region_shares(truth: Array) -> Array:
    """For each defective pixel, in the order of `maps[truth]`, 1 / (area of its region): float64."""
    from scipy import ndimage

    shares = []
    for mask in truth:
        if mask.any():
            regions, _ = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
            shares.append(1 / np.bincount(regions.ravel())[regions[mask]])
    return np.concatenate(shares)


def _stairs(before: Array, at: Array, level: Array) -> tuple[Array, Array]:
    """The curve's vertices, from (0, 0) to (1, 1).

    At each threshold it runs level to `before`, then straight to (`at`, `level`): a rise if no negative ties.
    """
    x = np.stack([before, at], axis=1).ravel()
    y = np.repeat(np.concatenate([[0.0], level]), 2)[1:-1]
    return np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]])


def _area_up_to(limit: float, x: Array, y: Array) -> float:
    """Area under the vertices (x ascending from 0 to 1) from 0 to `limit`, interpolated there."""
    end = int(np.searchsorted(x, limit, side="left"))
    slope = (y[end] - y[end - 1]) / (x[end] - x[end - 1])
    last = y[end - 1] + slope * (limit - x[end - 1])
    x, y = np.append(x[:end], limit), np.append(y[:end], last)
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]))) / 2


def _count(positives: Array, negatives: Array) -> _Counts:
    """Of scores that ascend."""
    thresholds = np.unique(positives)[::-1]
    return _Counts(
        tp=_at_least(positives, thresholds),
        fp=_at_least(negatives, thresholds),
        fp_before=_above(negatives, thresholds),
        positives=positives.size,
        negatives=negatives.size,
    )


def _at_least(ascending: Array, thresholds: Array) -> Array:
    return ascending.size - np.searchsorted(ascending, thresholds, side="left")


def _above(ascending: Array, thresholds: Array) -> Array:
    return ascending.size - np.searchsorted(ascending, thresholds, side="right")


def _split(metric: str, scores: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """The scores of positives and of negatives, each ascending."""
    values = _checked_values(f"{metric}: scores", scores)
    positive = _checked_truth(f"{metric}: labels", labels)
    if values.ndim != 1 or values.shape != positive.shape:
        came = f"shapes {values.shape} and {positive.shape}"
        expected = "two lists of one length"
        raise MetricError(problem(f"{metric}: scores and labels", expected=expected, came=came, do="Pair them."))
    found = int(positive.sum())
    if found in (0, positive.size):
        raise MetricError(
            problem(
                f"{metric}: labels",
                expected="both good (0) and anomalous (1)",
                came=f"{positive.size - found} good and {found} anomalous",
                do="One class alone cannot be ranked: give images of both.",
            )
        )
    return _parted(values, positive)


def _parted(values: Array, positive: Array) -> tuple[Array, Array]:
    positives, negatives = values[positive], values[~positive]
    positives.sort()  # in place: of a test set's pixels each copy is a gigabyte
    negatives.sort()
    return positives, negatives


def _checked_maps(metric: str, maps: ArrayLike, masks: ArrayLike) -> tuple[Array, Array]:
    values, truth = _checked_values(f"{metric}: maps", maps), _checked_truth(f"{metric}: masks", masks)
    if values.ndim != 3 or values.shape != truth.shape:
        came = f"shapes {values.shape} and {truth.shape}"
        do = "Give one mask an image, all False for a good one."
        raise MetricError(problem(f"{metric}: maps and masks", expected="two arrays [N, H, W]", came=came, do=do))
    defective = int(truth.sum())
    if defective in (0, truth.size):
        raise MetricError(
            problem(
                f"{metric}: masks",
                expected="both defective and defect-free pixels",
                came=f"{defective} defective of {truth.size}",
                do="Regions cannot be ranked against nothing: give images with both.",
            )
        )
    return values, truth


def _checked_values(subject: str, given: ArrayLike) -> Array:
    values = np.asarray(given)
    if values.size == 0:
        raise MetricError(problem(subject, expected="at least one", came="none", do="Give the whole test set."))
    if values.dtype.kind not in "biuf":
        raise MetricError(problem(subject, expected="numbers", came=f"{values.dtype}", do="Give raw scores."))
    finite = np.isfinite(values)
    if not finite.all():
        came = f"{values.size - int(finite.sum())} of {values.size} NaN or infinite"
        do = "Find out where they come from: they cannot be ranked."
        raise MetricError(problem(subject, expected="finite numbers", came=came, do=do))
    return values


def _checked_truth(subject: str, given: ArrayLike) -> Array:
    truth = np.asarray(given)
    if truth.dtype == bool:
        return truth
    if truth.dtype.kind not in "iuf" or not np.isin(truth, (0, 1)).all():
        came = f"{truth.dtype} with other values"
        do = "Use 0 or False for good, 1 or True for anomalous."
        raise MetricError(problem(subject, expected="0 and 1, or False and True", came=came, do=do))
    return truth.astype(bool)
