"""Eq. 7 to 9 over batches [B, C, H, W], as means."""

from .ssim import ssim_map


def mse(x, reconstruction):
    squares = [(float(a) - float(b)) ** 2 for a, b in zip(x.ravel(), reconstruction.ravel(), strict=True)]
    return sum(squares) / len(squares)


def ssim_term(x, reconstruction, *, window, sigma):
    """Eq. 8 for each image and channel, then their mean."""
    terms = []
    for image, other in zip(x, reconstruction, strict=True):
        for channel, other_channel in zip(image, other, strict=True):
            similarity = ssim_map(channel, other_channel, window=window, sigma=sigma)
            height, width = similarity.shape
            total = sum(1 - similarity[i, j] for i in range(height) for j in range(width))
            terms.append(total / (height * width))
    return sum(terms) / len(terms)


def total(x, reconstruction, *, ssim_weight, window, sigma):
    return mse(x, reconstruction) + ssim_weight * ssim_term(x, reconstruction, window=window, sigma=sigma)
