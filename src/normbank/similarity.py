"""How alike two images are at each place: structural similarity, and similarity of edges at several scales.

Pure tensor functions, for the loss as well as for the anomaly map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .settings import SSIM_WINDOW

GRADIENT_C = 0.0026  # Xue et al. 2014: 170 for grey levels to 255, 170 / 255^2 for values in [0, 1]
GRADIENT_EPS = 1e-12  # under the root, where its slope would be infinite; a flat place gets 1e-6
EDGE_GAIN = 2.0  # a step of half the range is the strongest edge told apart from stronger ones


def gaussian_window(size: int, sigma: float) -> Tensor:
    """[size] weights of a Gaussian around the centre, summing to 1."""
    offsets = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def ssim_difference(x: Tensor, y: Tensor, *, window: int = SSIM_WINDOW, sigma: float = 1.5) -> Tensor:
    """1 - SSIM of x and y [B, C, H, W] in [0, 1] at each place and channel: [B, C, H, W] in [0, 2].

    SSIM, the structural similarity, is that of Wang et al. 2004 with K1 = 0.01, K2 = 0.03 and a Gaussian window; at the
    border the image is mirrored, so that every pixel has a value, as the sum of Eq. 8 over all of h x w asks.
    With l = (m_x - m_y)^2 / (m_x^2 + m_y^2 + C1) and s = var(x - y) / (var x + var y + C2), SSIM is (1 - l) (1 - s).
    In bright flat regions the usual form loses four digits of 32 bits more: enough for two machines to differ visibly.
    """
    c1, c2 = 0.01**2, 0.03**2
    x, y = x - 0.5, y - 0.5  # variances do not change, and squares near white get four times smaller
    moments = torch.cat([x, y, x * x + y * y, (x - y) ** 2], dim=1)
    mean_x, mean_y, squares, distance = torch.split(_blur(moments, window, sigma), x.shape[1], dim=1)
    apart = (mean_x - mean_y) ** 2
    luminance = apart / ((mean_x + 0.5) ** 2 + (mean_y + 0.5) ** 2 + c1)
    structure = (distance - apart) / (squares - mean_x**2 - mean_y**2 + c2)
    return luminance + structure - luminance * structure


def _blur(x: Tensor, window: int, sigma: float) -> Tensor:
    channels, pad = x.shape[1], window // 2
    kernel = gaussian_window(window, sigma).to(x)
    x = functional.pad(x, (pad, pad, pad, pad), mode="reflect")
    x = functional.conv2d(x, kernel.view(1, 1, window, 1).expand(channels, 1, window, 1), groups=channels)
    return functional.conv2d(x, kernel.view(1, 1, 1, window).expand(channels, 1, 1, window), groups=channels)


def gradient_magnitude(x: Tensor) -> Tensor:
    """Strength of the edge at each place and channel, by Prewitt's operator: [B, C, H, W] to the same, > 0.

    The difference of right and left neighbours, the mean of three rows, and that of lower and upper ones, as one
    length: a straight step of height s gives s on both its sides. Border pixels are repeated outwards, so the border
    is no edge. Values in [0, 1] give at most sqrt(10) / 3.
    """
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[..., :, 2:] - padded[..., :, :-2]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    # Sums of shifted views: a pooling of three by one gives the same bits in four times the time.
    across = (across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]) / 3
    down = (down[..., :-2] + down[..., 1:-1] + down[..., 2:]) / 3
    return torch.sqrt(across**2 + down**2 + GRADIENT_EPS)


def gradient_error(x: Tensor, y: Tensor, *, scales: int = 3) -> Tensor:
    """1 - gradient magnitude similarity, the mean of the scales (Zavrtanik et al. 2021).

    x, y [B, C, H, W] in [0, 1] -> [B, 1, H, W] in [0, 1], 0 where the edges are equally strong at all scales. The
    smaller maps are brought to full size by linear interpolation.
    """
    height, width = x.shape[-2:]
    maps = gradient_differences(x, y, scales)
    return torch.stack([_enlarge(part, 2**s, height, width) for s, part in enumerate(maps)]).mean(dim=0)


def edge_image(x: Tensor) -> Tensor:
    """What the network sees in place of the image: min(1, 2 * gradient magnitude) of each channel.

    [B, C, H, W] in [0, 1] -> [B, C, H, W] in [0, 1]: 1 from a step of half the range on; 2e-6 at a flat place.
    """
    return (EDGE_GAIN * gradient_magnitude(x)).clamp(max=1)


def gradient_differences(x: Tensor, y: Tensor, scales: int) -> list[Tensor]:
    """1 - gradient magnitude similarity (Xue et al. 2014) at full size, half, quarter and so on.

    x, y [B, C, H, W] in [0, 1] -> `scales` (>= 1) maps [B, 1, ceil(H / 2^s), ceil(W / 2^s)] in [0, 1), 0 where the
    edges are equally strong; the similarity is (2 g_x g_y + c) / (g_x^2 + g_y^2 + c) with c = 0.0026, the mean over
    channels.
    """
    maps = []
    for scale in range(scales):
        if scale:
            x, y = _halve(x), _halve(y)
        a, b = gradient_magnitude(x), gradient_magnitude(y)
        # 1 - (2ab + c) / (a^2 + b^2 + c), written so that equal edges give 0 and nothing falls below it
        maps.append(((a - b) ** 2 / (a**2 + b**2 + GRADIENT_C)).mean(dim=1, keepdim=True))
    return maps


def _halve(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; the last row or column of an odd number is repeated."""
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        x = functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    return functional.avg_pool2d(x, 2)


def _enlarge(maps: Tensor, factor: int, height: int, width: int) -> Tensor:
    """Each value becomes factor x factor pixels, linearly interpolated; what `_halve` repeated is cut off."""
    if factor == 1:
        return maps
    size = (maps.shape[-2] * factor, maps.shape[-1] * factor)
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)[..., :height, :width]
