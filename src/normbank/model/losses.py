"""The training loss (section III-D, Eq. 7 to 9)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_window(size: int, sigma: float) -> Tensor:
    """[size] weights of a Gaussian around the centre, summing to 1."""
    offsets = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def ssim_map(x: Tensor, y: Tensor, *, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity of x and y [B, C, H, W] in [0, 1] at each place and channel: [B, C, H, W] in [-1, 1].

    Wang et al. 2004 with K1 = 0.01, K2 = 0.03 and a Gaussian window; at the border the image is mirrored, so that
    every pixel has a value, as the sum of Eq. 8 over all of h x w asks.
    """
    c1, c2 = 0.01**2, 0.03**2
    channels = x.shape[1]
    moments = torch.cat([x, y, x * x, y * y, x * y], dim=1)
    mean_x, mean_y, xx, yy, xy = torch.split(_blur(moments, window, sigma), channels, dim=1)
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return luminance * structure


def _blur(x: Tensor, window: int, sigma: float) -> Tensor:
    channels, pad = x.shape[1], window // 2
    kernel = gaussian_window(window, sigma).to(x)
    x = functional.pad(x, (pad, pad, pad, pad), mode="reflect")
    x = functional.conv2d(x, kernel.view(1, 1, window, 1).expand(channels, 1, window, 1), groups=channels)
    return functional.conv2d(x, kernel.view(1, 1, 1, window).expand(channels, 1, 1, window), groups=channels)


def mse_loss(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Eq. 7 read as a mean of squares (a bare norm over a batch would drown Eq. 8)."""
    return functional.mse_loss(reconstruction, x)


def ssim_loss(x: Tensor, reconstruction: Tensor, *, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Eq. 8: the mean of 1 - SSIM over all places (and images and channels)."""
    return (1 - ssim_map(x, reconstruction, window=window, sigma=sigma)).mean()


def total_loss(x: Tensor, reconstruction: Tensor, *, ssim_weight: float, window: int, sigma: float) -> Tensor:
    """Eq. 9: L_MSE + lambda_SSIM * L_SSIM, always in 32 bits."""
    with torch.autocast(x.device.type, enabled=False):
        x, reconstruction = x.float(), reconstruction.float()
        loss = mse_loss(x, reconstruction)
        if ssim_weight:
            loss = loss + ssim_weight * ssim_loss(x, reconstruction, window=window, sigma=sigma)
        return loss
