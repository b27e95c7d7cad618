"""Edges of one image [C, H, W] by Prewitt's operator, and their similarity at several scales, pixel by pixel."""

import math


def magnitudes(channel):
    """Length of the gradient at each pixel of [H, W]; a pixel beyond the border is the nearest one inside."""
    height, width = len(channel), len(channel[0])

    def at(y, x):
        return float(channel[min(max(y, 0), height - 1)][min(max(x, 0), width - 1)])

    return [[_length(at, y, x) for x in range(width)] for y in range(height)]


def _length(at, y, x):
    right = sum(at(y + k, x + 1) - at(y + k, x - 1) for k in (-1, 0, 1)) / 3
    below = sum(at(y + 1, x + k) - at(y - 1, x + k) for k in (-1, 0, 1)) / 3
    return math.hypot(right, below)


def similarity(image, other):
    """GMS [H, W], the mean over channels."""
    c, channels = 0.0026, len(image)
    edges = [(magnitudes(a), magnitudes(b)) for a, b in zip(image, other, strict=True)]
    height, width = len(image[0]), len(image[0][0])
    result = [[0.0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            for a, b in edges:
                p, q = a[y][x], b[y][x]
                result[y][x] += (2 * p * q + c) / (p * p + q * q + c) / channels
    return result


def halved(channel):
    """Means of 2 x 2; of an odd number the last row or column counts twice."""
    height, width = len(channel), len(channel[0])
    rows = []
    for y in range(0, height, 2):
        row = []
        for x in range(0, width, 2):
            block = [(y + j, x + i) for j in (0, 1) for i in (0, 1)]
            row.append(sum(float(channel[min(j, height - 1)][min(i, width - 1)]) for j, i in block) / 4)
        rows.append(row)
    return rows


def value_at(small, factor, y, x):
    """`small` at pixel (y, x) of an image `factor` times its size, linearly between the centres of its pixels."""

    def neighbours(position, count):
        place = min(max((position + 0.5) / factor - 0.5, 0.0), count - 1.0)
        low = int(place)
        return low, min(low + 1, count - 1), place - low

    top, bottom, v = neighbours(y, len(small))
    left, right, u = neighbours(x, len(small[0]))
    upper = (1 - u) * small[top][left] + u * small[top][right]
    lower = (1 - u) * small[bottom][left] + u * small[bottom][right]
    return (1 - v) * upper + v * lower


def gradient_error(image, other, scales):
    """[H, W]: the mean over scales of 1 - GMS at full size."""
    height, width = len(image[0]), len(image[0][0])
    result = [[0.0] * width for _ in range(height)]
    for scale in range(scales):
        if scale:
            image, other = [halved(c) for c in image], [halved(c) for c in other]
        found = similarity(image, other)
        for y in range(height):
            for x in range(width):
                result[y][x] += (1 - value_at(found, 2**scale, y, x)) / scales
    return result
