"""The autoencoder of AE-L2 and AE-SSIM (Bergmann et al. 2018, arXiv 1807.02011, Table 1): no lateral links, no norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .unet import Reading

# Down: (channels, kernel, stride); the last, to the latent values, has a kernel as large as what is left of the image.
LAYERS = ((32, 4, 2), (32, 4, 2), (32, 3, 1), (64, 4, 2), (64, 3, 1), (128, 4, 2), (64, 3, 1), (32, 3, 1))
REDUCTION = 16
SLOPE = 0.2


class ConvolutionalAutoencoder(nn.Module):
    """Encoder to `latent` values and its mirror image; LeakyReLU of slope 0.2 between convolutions.

    Input and output [B, channels, S, S], S a multiple of 16; the output is not bounded.
    """

    def __init__(self, channels: int, size: int, latent: int) -> None:
        super().__init__()
        if size % REDUCTION:
            raise ValueError(f"data.size: expected a multiple of {REDUCTION} for model.trunk=bergmann, got {size}")
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        before = channels
        for width, kernel, stride in LAYERS:
            down += [nn.Conv2d(before, width, kernel, stride, padding=1), nn.LeakyReLU(SLOPE)]
            mirrored = nn.ConvTranspose2d(width, before, kernel, stride, padding=1)
            up = [mirrored, nn.LeakyReLU(SLOPE), *up]
            before = width
        left = size // REDUCTION
        self.encoder = nn.Sequential(*down, nn.Conv2d(before, latent, left))
        self.decoder = nn.Sequential(nn.ConvTranspose2d(latent, before, left), nn.LeakyReLU(SLOPE), *up[:-1])

    def forward(self, images: Tensor) -> Reading:
        """The reconstruction of a batch; there are no memories to ask."""
        values = self.decoder[:-1](self.encoder(images))
        with torch.autocast(images.device.type, enabled=False):
            reconstruction: Tensor = self.decoder[-1](values.float())
        return Reading(reconstruction, (), ())
