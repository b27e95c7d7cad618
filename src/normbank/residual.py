"""From image and reconstruction to error maps, corrected map and score: pure tensor functions, written once.

The ONNX graph of a detector carries exactly these functions into use; there is no second version to drift.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .settings import Score
from .similarity import gradient_error, ssim_difference

COLOUR_SIDE = 5  # pixels (ours): colours of single pixels are mostly noise


def error_map(images: Tensor, reconstructions: Tensor) -> Tensor:
    """A = |X - X_R| (Eq. 1), the mean over channels: [N, C, H, W] twice -> [N, 1, H, W], >= 0."""
    return (images - reconstructions).abs().mean(dim=1, keepdim=True)


def squared_error(images: Tensor, reconstructions: Tensor) -> Tensor:
    """(X - X_R)^2, the mean over channels: [N, C, H, W] twice -> [N, 1, H, W], >= 0."""
    return ((images - reconstructions) ** 2).mean(dim=1, keepdim=True)


def ssim_error(images: Tensor, reconstructions: Tensor) -> Tensor:
    """1 - SSIM with an 11 x 11 Gaussian window, the mean over channels: [N, C, H, W] twice -> [N, 1, H, W] in [0, 2].

    H and W at least 6. Rounding is cut off at 0.
    """
    return ssim_difference(images, reconstructions).mean(dim=1, keepdim=True).clamp_min(0)


def colour_error(images: Tensor, reconstructions: Tensor) -> Tensor:
    """How far the channels disagree about the error: [N, C, H, W] in [0, 1] twice -> [N, 1, H, W] in [0, 1].

    With d the mean of X - X_R over 5 x 5 pixels: the mean over channels of |d_c - mean of d over channels|. A change by
    the same amount in all channels, brightness that is, gives 0; so does a single channel.
    """
    difference = smooth(images - reconstructions, COLOUR_SIDE)
    return (difference - difference.mean(dim=1, keepdim=True)).abs().mean(dim=1, keepdim=True)


def level_free_error(images: Tensor, reconstructions: Tensor) -> Tensor:
    """|X - X_R - b|, the mean over channels: [N, C, H, W] twice -> [N, 1, H, W], >= 0.

    b is the image's difference in brightness: the median over its pixels of the mean over channels of X - X_R. A
    defect on a small part of the image hardly moves a median.
    """
    difference = images - reconstructions
    level = _median(difference.mean(dim=1).flatten(1))
    return (difference - level[:, None, None, None]).abs().mean(dim=1, keepdim=True)


def _median(flat: Tensor) -> Tensor:
    """[N, P] -> [N]; of an even number the mean of the middle two."""
    pixels = flat.shape[1]
    lower = torch.topk(flat, pixels // 2 + 1, dim=1, largest=False).values
    return lower[:, (pixels - 1) // 2 :].mean(dim=1)


def estimate_exact(errors: Tensor, share: float) -> Tensor:
    """mu: for each image the mean of its smallest `share` of errors, ties included (section III-C).

    errors [N, 1, H, W] >= 0 -> [N, 1, 1, 1]. The smallest ceil(share * H * W) errors are meant; all others equal to the
    largest of them belong to them, so mu does not depend on the order of equal pixels. share 0 gives 0.
    """
    flat = errors.flatten(1)
    count = _share_of(flat.shape[1], share)
    if count == 0:
        return torch.zeros_like(flat[:, :1])[:, :, None, None]
    cutoff = torch.topk(flat, count, dim=1, largest=False).values[:, -1:]
    return _mean_where(flat, flat <= cutoff)


def estimate_by_histogram(errors: Tensor, share: float, bins: int) -> Tensor:
    """mu by a histogram of `bins` equal bins from 0 to the image's largest error.

    Whole bins are taken from the left until they hold at least `share` of the pixels, and the errors in them are
    averaged: pixels of one bin are treated as tied. mu is never below the exact one, and above it by at most
    (right edge of the last bin - exact mu) * (pixels taken beyond the share) / (pixels taken).
    errors [N, 1, H, W] >= 0 -> [N, 1, 1, 1].
    """
    flat = errors.flatten(1)
    count = _share_of(flat.shape[1], share)
    if count == 0:
        return torch.zeros_like(flat[:, :1])[:, :, None, None]
    largest = flat.amax(dim=1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    bin_of = (flat / largest * bins).floor().clamp(0, bins - 1).to(torch.int64)
    counts = torch.zeros_like(flat[:, :1]).expand(-1, bins).scatter_add(1, bin_of, torch.ones_like(flat))
    last = (counts.cumsum(dim=1) < count).sum(dim=1, keepdim=True)
    return _mean_where(flat, bin_of <= last)


def _share_of(pixels: int, share: float) -> int:
    return math.ceil(share * pixels - 1e-6)  # 0.07 of 100 is 7, and 7.000000000000001 in binary


def _mean_where(flat: Tensor, chosen: Tensor) -> Tensor:
    weight = chosen.to(flat.dtype)
    return ((flat * weight).sum(dim=1) / weight.sum(dim=1))[:, None, None, None]


def correct(errors: Tensor, mu: Tensor) -> Tensor:
    """A' = A - mu where A > mu, else 0 (Eq. 6)."""
    return torch.relu(errors - mu)


def subtract_estimate(errors: Tensor, *, delta_h: float, bins: int | None = None) -> Tensor:
    """Histogram error estimation: A' of error maps [N, 1, H, W] >= 0, of the same shape; delta_h 0 changes nothing."""
    mu = estimate_exact(errors, delta_h) if bins is None else estimate_by_histogram(errors, delta_h, bins)
    return correct(errors, mu)


def smooth(maps: Tensor, side: int) -> Tensor:
    """Mean over side x side pixels, side odd: [N, C, H, W] to the same. The border is repeated outwards."""
    if side == 1:
        return maps
    reach = side // 2
    padded = functional.pad(maps, (reach, reach, reach, reach), mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(padded, (side, 1), stride=1), (1, side), stride=1)


def pool(maps: Tensor, how: str, top_share: float = 0.01) -> Tensor:
    """One number an image: [N, 1, H, W] -> [N].

    how: "sum" (the paper's, of A' in section III-C), "mean" or "max" of all pixels, or "top": the mean of the
    ceil(top_share * H * W) largest, one at least.
    Any other word is a ValueError.
    """
    flat = maps.flatten(1)
    if how == "sum":
        return flat.sum(dim=1)
    if how == "mean":
        return flat.mean(dim=1)
    if how == "max":
        return flat.amax(dim=1)
    if how == "top":
        return torch.topk(flat, max(1, _share_of(flat.shape[1], top_share)), dim=1).values.mean(dim=1)
    raise ValueError(f"how: expected sum, mean, max or top, got {how!r}")


def finish(maps: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """From error maps [N, 1, H, W] >= 0 to anomaly map [N, 1, H, W] >= 0 and score [N], both raw.

    Histogram step, mean filter, pooling, as `score` says; `score.smooth_first` puts the filter before the step.
    """
    if score.smooth_first:
        maps = smooth(maps, score.smooth)
    maps = subtract_estimate(maps, delta_h=score.delta_h, bins=score.bins)
    if not score.smooth_first:
        maps = smooth(maps, score.smooth)
    return maps, pool(maps, score.pool, score.top_share)


# [N, C, H, W] in [0, 1] twice -> [N, 1, H, W] >= 0: image, reconstruction.
ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "absolute": error_map,
    "squared": squared_error,
    "ssim": ssim_error,
    "gradient": gradient_error,
    "colour": colour_error,
    "level_free": level_free_error,
}
