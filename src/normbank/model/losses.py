"""The training loss (section III-D, Eq. 7 to 9)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..settings import SSIM_WINDOW, Train
from ..similarity import gradient_error, ssim_difference


def mse_loss(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Eq. 7 read as a mean of squares (a bare norm over a batch would drown Eq. 8)."""
    return functional.mse_loss(reconstruction, x)


def ssim_loss(x: Tensor, reconstruction: Tensor, *, window: int = SSIM_WINDOW, sigma: float = 1.5) -> Tensor:
    """Eq. 8: the mean of 1 - SSIM over all places (and images and channels)."""
    return ssim_difference(x, reconstruction, window=window, sigma=sigma).mean()


def total_loss(x: Tensor, reconstruction: Tensor, known: Train) -> Tensor:
    """Eq. 9, L_MSE + lambda_SSIM * L_SSIM, and where they are weighted the gradient term; always in 32 bits."""
    with torch.autocast(x.device.type, enabled=False):
        x, reconstruction = x.float(), reconstruction.float()
        loss = known.mse_weight * mse_loss(x, reconstruction)
        if known.ssim_weight:
            difference = ssim_loss(x, reconstruction, window=known.ssim_window, sigma=known.ssim_sigma)
            loss = loss + known.ssim_weight * difference
        if known.gradient_weight:
            loss = loss + known.gradient_weight * gradient_error(x, reconstruction).mean()
        return loss
