"""From image and reconstruction to error map, corrected map and score: pure tensor functions, written once.

The ONNX graph of a detector carries exactly these functions into use; there is no second version to drift.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def error_map(images: Tensor, reconstructions: Tensor) -> Tensor:
    """A = |X - X_R| (Eq. 1), the mean over channels: [N, C, H, W] twice -> [N, 1, H, W], >= 0."""
    return (images - reconstructions).abs().mean(dim=1, keepdim=True)


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


def anomaly_map(images: Tensor, reconstructions: Tensor, *, delta_h: float, bins: int | None = None) -> Tensor:
    """A' of a batch: [N, C, H, W] twice -> [N, 1, H, W], >= 0, raw."""
    errors = error_map(images, reconstructions)
    mu = estimate_exact(errors, delta_h) if bins is None else estimate_by_histogram(errors, delta_h, bins)
    return correct(errors, mu)


def image_score(anomaly_maps: Tensor) -> Tensor:
    """The score of an image: the sum of A' over its pixels (section III-C): [N, 1, H, W] -> [N]."""
    return anomaly_maps.flatten(1).sum(dim=1)
