"""Error maps of one image and its reconstruction [C, H, W], smoothing of one map [H, W] and its pooling."""

import statistics

from .histogram import binned_mu, corrected, count_of, error_map, exact_mu
from .similarity import gradient_error
from .ssim import ssim_map


def _each(image, reconstruction, function):
    """function(values of the pixel, values of its reconstruction) at every pixel."""
    _, height, width = image.shape
    return [
        [function(image[:, y, x].tolist(), reconstruction[:, y, x].tolist()) for x in range(width)]
        for y in range(height)
    ]


def squared(image, reconstruction):
    return _each(image, reconstruction, lambda a, b: statistics.fmean((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def ssim(image, reconstruction):
    maps = [ssim_map(a.numpy(), b.numpy(), window=11, sigma=1.5) for a, b in zip(image, reconstruction, strict=True)]
    return 1 - sum(maps) / len(maps)


def colour(image, reconstruction):
    blurred = [smoothed((a - b).tolist(), 5) for a, b in zip(image, reconstruction, strict=True)]
    height, width = len(blurred[0]), len(blurred[0][0])
    result = [[0.0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            values = [channel[y][x] for channel in blurred]
            middle = statistics.fmean(values)
            result[y][x] = statistics.fmean(abs(v - middle) for v in values)
    return result


def level_free(image, reconstruction):
    differences = _each(image, reconstruction, lambda a, b: statistics.fmean(a) - statistics.fmean(b))
    level = statistics.median(v for row in differences for v in row)
    return _each(
        image, reconstruction, lambda a, b: statistics.fmean(abs(p - q - level) for p, q in zip(a, b, strict=True))
    )


MAPS = {
    "absolute": error_map,
    "squared": squared,
    "ssim": ssim,
    "gradient": lambda a, b: gradient_error(a.tolist(), b.tolist(), 3),
    "colour": colour,
    "level_free": level_free,
}


def smoothed(values, side):
    """Mean of side x side; a pixel beyond the border is the nearest one inside."""
    height, width, reach = len(values), len(values[0]), side // 2
    result = [[0.0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            for j in range(y - reach, y + reach + 1):
                for i in range(x - reach, x + reach + 1):
                    inside = min(max(j, 0), height - 1), min(max(i, 0), width - 1)
                    result[y][x] += float(values[inside[0]][inside[1]]) / side**2
    return result


def pooled(values, how, top_share):
    flat = sorted((float(v) for row in values for v in row), reverse=True)
    if how == "top":
        flat = flat[: max(1, count_of(top_share, len(flat)))]
        return sum(flat) / len(flat)
    return {"sum": sum(flat), "mean": sum(flat) / len(flat), "max": flat[0]}[how]


def finished(values, score):
    """Map and score of error map [H, W]."""
    if score.smooth_first:
        values = smoothed(values, score.smooth)
    mu = exact_mu(values, score.delta_h) if score.bins is None else binned_mu(values, score.delta_h, score.bins)[0]
    values, _ = corrected(values, mu)
    if not score.smooth_first:
        values = smoothed(values, score.smooth)
    return values, pooled(values, score.pool, score.top_share)
